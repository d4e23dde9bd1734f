package seccomp

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// allCaps are the capabilities that some rule of the profile asks for, and a few that none does.
func allCaps() []string {
	list := slices.Clone(dockerCaps)
	for _, r := range moby.DefaultProfile().Syscalls {
		for _, f := range []*moby.Filter{r.Includes, r.Excludes} {
			if f != nil {
				list = append(list, f.Caps...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// capSets are none, each alone, all but each, all, and 50 random ones.
func capSets() [][]string {
	all := allCaps()
	sets := [][]string{nil, all, dockerCaps}
	for i, c := range all {
		sets = append(sets, []string{c}, slices.Delete(slices.Clone(all), i, i+1))
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var set []string
		for _, c := range all {
			if r.IntN(2) == 0 {
				set = append(set, c)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// TestDefaultIsMobys compares with the profile that moby's own package resolves for this machine.
func TestDefaultIsMobys(t *testing.T) {
	for _, caps := range capSets() {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
		want, err := moby.GetDefaultProfile(spec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Default(caps, "")
		if err != nil {
			t.Fatal(err)
		}
		if a, b := text(t, got), text(t, want); a != b {
			t.Fatalf("%v:\n%s\nwant\n%s", caps, a, b)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%v: %+v differs from %+v", caps, got, want)
		}
	}
}

func text(t *testing.T, p *specs.LinuxSeccomp) string {
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDefaultElsewhere compares with moby's data for the other architecture and for old kernels, for which its package
// can only be asked on such a machine.
func TestDefaultElsewhere(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, k := range []release{{3, 10}, {4, 7}, {4, 8}, {6, 18}} {
			for _, caps := range capSets() {
				got, want := defaultFor(host{arch: arch, caps: caps, kernel: k}), resolve(moby.DefaultProfile(), arch, caps, k)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("%s, %v, %v: %+v differs from %+v", arch, k, caps, got, want)
				}
			}
		}
	}
}

// resolve reads the conditions of moby's profile, one after the other.
func resolve(p *moby.Seccomp, arch string, caps []string, k release) *specs.LinuxSeccomp {
	out := p.LinuxSeccomp
	for _, a := range p.ArchMap {
		if a.Arch == map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[arch] {
			out.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
		}
	}
	reached := func(m *moby.KernelVersion) bool {
		return uint64(k.version)<<32|uint64(k.major) >= m.Kernel<<32|m.Major
	}
	for _, r := range p.Syscalls {
		keep := true
		if f := r.Excludes; f != nil {
			for _, c := range f.Caps {
				keep = keep && !slices.Contains(caps, c)
			}
			keep = keep && !slices.Contains(f.Arches, arch) && (f.MinKernel == nil || !reached(f.MinKernel))
		}
		if f := r.Includes; f != nil {
			for _, c := range f.Caps {
				keep = keep && slices.Contains(caps, c)
			}
			keep = keep && (len(f.Arches) == 0 || slices.Contains(f.Arches, arch)) &&
				(f.MinKernel == nil || reached(f.MinKernel))
		}
		if keep {
			out.Syscalls = append(out.Syscalls, r.LinuxSyscall)
		}
	}
	return &out
}

// TestLoadDefault reads the default profile from the file that moby publishes beside its code.
func TestLoadDefault(t *testing.T) {
	b, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	for _, caps := range capSets()[:20] {
		got, err := Load(strings.NewReader(string(b)), caps, "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := Default(caps, "")
		if err != nil {
			t.Fatal(err)
		}
		if a, b := text(t, got), text(t, want); a != b {
			t.Fatalf("%v:\n%s\nwant\n%s", caps, a, b)
		}
	}
}

func TestLoad(t *testing.T) {
	arch, other := runtime.GOARCH, "s390x"
	for _, c := range []struct{ in, want string }{
		{`{}`, `null`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"], "syscalls": null}`,
			`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ARM"]}`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "comment": "old style", "syscalls": [
			{"name": "read", "action": "SCMP_ACT_ALLOW", "args": []}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
			{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X"]}},
			{"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X", "CAP_Y"]}},
			{"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_Y", "CAP_X"]}},
			{"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_Y"], "arches": ["` + other + `"]}},
			{"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["` + other + `"]}},
			{"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["` + other + `", "` + arch + `"]}},
			{"names": ["g"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
			{"names": ["h"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
			{"names": ["i"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.11"}},
			{"names": ["j"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.0"}},
			{"names": ["k"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "includes": {}, "excludes": {"minKernel": ""},
			 "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[` +
				`{"names":["a"],"action":"SCMP_ACT_ALLOW"},{"names":["d"],"action":"SCMP_ACT_ALLOW"},` +
				`{"names":["f"],"action":"SCMP_ACT_ALLOW"},{"names":["g"],"action":"SCMP_ACT_ALLOW"},` +
				`{"names":["i"],"action":"SCMP_ACT_ALLOW"},{"names":["k"],"action":"SCMP_ACT_ERRNO","errnoRet":5,` +
				`"args":[{"index":1,"value":2,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}`},
	} {
		p, err := Load(strings.NewReader(c.in), []string{"CAP_X"}, "5.10.0-9-amd64")
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if got := text(t, p); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.in, got, c.want)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "unexpected end of JSON input"},
		{"{\n  \"defaultAction\": SCMP\n}", "line 2, column 20: invalid character 'S'"},
		{"{\n  \"defaultAction\": 5\n}", "line 2, column 20: json: cannot unmarshal number"},
		{`{"defaultAction": "SCMP_ACT_ALLOW"} x`, "line 1, column 37: invalid character 'x' after top-level value"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["a"], "archMap": [{"architecture": "a"}]}`,
			"both architectures and archMap"},
		{`{"defaultAction": "A", "syscalls": [{"names": ["a"]}, {"name": "a", "names": ["b"]}]}`, "rule 1: both name and names"},
		{`{"defaultAction": "A", "syscalls": [{"action": "A"}]}`, "rule 0: it has no names"},
		{`{"defaultAction": "A", "syscalls": [null]}`, "rule 0: it has no names"},
		{`{"defaultAction": "A", "syscalls": [{"name": "a", "includes": {"minKernel": "5"}}]}`, `minKernel "5": want VERSION.MAJOR`},
		{`{"defaultAction": "A", "syscalls": [{"name": "a", "includes": {"minKernel": "5.1.2"}}]}`, `minKernel "5.1.2"`},
		{`{"defaultAction": "A", "syscalls": [{"name": "a", "includes": {"minKernel": "0.0"}}]}`, `minKernel "0.0"`},
		{`{"defaultAction": "A", "syscalls": [{"name": "a", "includes": {"minKernel": 5}}]}`, `minKernel 5`},
		{strings.Repeat(" ", maxProfile+1), "more than 4194304 bytes"},
	} {
		_, err := Load(strings.NewReader(c.in), nil, "6.1")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "read seccomp profile: ") {
			t.Errorf("%.60q: error %v, want one with %q", c.in, err, c.want)
		}
	}
	if _, err := Default(nil, "next"); err == nil || !strings.Contains(err.Error(), `kernel release "next"`) {
		t.Errorf("a release that is none: %v", err)
	}
}

// FuzzLoad reads whatever comes, and holds what is accepted against the naive reading.
func FuzzLoad(f *testing.F) {
	f.Add(`{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_ARM"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
		{"names":["read"],"action":"SCMP_ACT_KILL_PROCESS","excludes":{"caps":["CAP_X"],"minKernel":"9.1"}}]}`, uint32(3), uint64(1))
	f.Add(`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["read","socket"],"action":"SCMP_ACT_ALLOW",
		"args":[{"index":0,"value":4294967296,"op":"SCMP_CMP_GE"},{"index":1,"value":7,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
		uint32(0), uint64(1<<32))
	f.Add(`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
		"syscalls":[{"name":"connect","action":"SCMP_ACT_ALLOW"}]}`, uint32(102), uint64(3))
	f.Fuzz(func(t *testing.T, in string, nr uint32, arg uint64) {
		p, err := Load(strings.NewReader(in), dockerCaps, "6.1")
		if err != nil || p == nil {
			return
		}
		code, _, err := Compile(p, Options{})
		if err != nil {
			return
		}
		m, naive := newMachine(t, code), newReader(p)
		for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM} {
			e := entry{audit, nr, [6]uint64{arg, arg >> 1, ^arg, arg << 32, 0, 1}}
			if got, want := m.run(t, e), naive.judge(e); got != want {
				t.Fatalf("architecture %#x, call %#x %x: filter answers %#x, the profile says %#x", audit, nr, e.args, got, want)
			}
		}
	})
}

// TestCalls checks that the table is sorted, as the search needs it, and knows what the kernel's headers know.
func TestCalls(t *testing.T) {
	for i := 1; i < len(calls); i++ {
		if calls[i-1].name >= calls[i].name {
			t.Errorf("%s stands before %s", calls[i-1].name, calls[i].name)
		}
	}
	for _, c := range []struct {
		arch specs.Arch
		name string
		want uint32
	}{
		{specs.ArchX86_64, "read", 0}, {specs.ArchX86_64, "clone3", 435}, {specs.ArchX86, "socketcall", 102},
		{specs.ArchX86, "_llseek", 140}, {specs.ArchX32, "read", x32Bit}, {specs.ArchX32, "execve", x32Bit + 520},
		{specs.ArchAARCH64, "openat", 56}, {specs.ArchARM, "set_tls", 0xf0005}, {specs.ArchARM, "sync_file_range2", 341},
	} {
		if got, ok := Number(c.arch, c.name); got != c.want || !ok {
			t.Errorf("%s on %s: %d, %v, want %d", c.name, c.arch, got, ok, c.want)
		}
	}
	for _, c := range []struct {
		arch specs.Arch
		name string
	}{{specs.ArchX32, "uselib"}, {specs.ArchAARCH64, "open"}, {specs.ArchX86_64, "no such call"}, {"no such arch", "read"},
		{specs.ArchX86_64, ""}} {
		if got, ok := Number(c.arch, c.name); ok {
			t.Errorf("%s on %s: %d, want none", c.name, c.arch, got)
		}
	}
}

// TestSearch finds every name from every place where the search before may have ended.
func TestSearch(t *testing.T) {
	for at := 0; at <= len(calls); at++ {
		for i := range calls {
			s := search{next: at}
			if c := s.find(calls[i].name); c != &calls[i] {
				t.Fatalf("%s is not found from %d", calls[i].name, at)
			}
			s = search{next: at}
			if c := s.find(calls[i].name + "!"); c != nil {
				t.Fatalf("%s! is found from %d", calls[i].name, at)
			}
		}
	}
}

// TestHeaders compares the table with the headers of this machine, which are older than the table.
func TestHeaders(t *testing.T) {
	dir := "/usr/include/x86_64-linux-gnu/asm/"
	for file, arch := range map[string]specs.Arch{"unistd_64.h": specs.ArchX86_64, "unistd_32.h": specs.ArchX86,
		"unistd_x32.h": specs.ArchX32} {
		b, err := os.ReadFile(dir + file)
		if err != nil {
			t.Skip("needs the headers of the kernel")
		}
		for _, l := range strings.Split(string(b), "\n") {
			f := strings.Fields(strings.NewReplacer("(__X32_SYSCALL_BIT + ", "0x4000000", ")", "").Replace(l))
			if len(f) != 3 || !strings.HasPrefix(f[1], "__NR_") {
				continue
			}
			name := strings.TrimPrefix(f[1], "__NR_")
			var want uint32
			for _, d := range strings.TrimPrefix(f[2], "0x4000000") {
				want = 10*want + uint32(d-'0')
			}
			if arch == specs.ArchX32 {
				want += x32Bit
			}
			if got, ok := Number(arch, name); !ok || got != want {
				t.Errorf("%s: %s is %d, %v, want %d", file, name, got, ok, want)
			}
		}
	}
}

// TestGenerated runs the generator again: its files must be those of the modules in go.mod.
func TestGenerated(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	if _, err := os.Stat("mktables.go"); err != nil {
		t.Skip("needs the source of the package")
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "mktables.go", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"zcalls.go", "zdefault.go"} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run go generate ./ns/seccomp", name)
		}
	}
}
