package seccomp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dockerCaps are the capabilities of a container that asked for none.
var dockerCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE"}

// numbers are all that can make a difference, and some around them.
func numbers() []uint32 {
	var list []uint32
	for nr := range uint32(columns + 2) {
		list = append(list, nr, x32Bit+nr)
	}
	for nr := range uint32(16) {
		list = append(list, 0xf0000+nr, 0x80000000+nr)
	}
	return append(list, 0x3ff, 0x400, 0xefff0, x32Bit-1, 0x7fffffff, 0xbfffffff, 0xc0000000, 0xfffffffe, 0xffffffff)
}

// values are arguments around those that the profile compares with.
func values(p *specs.LinuxSeccomp) []uint64 {
	list := []uint64{0, 1, 1 << 31, 1 << 32, 1<<32 + 1, ^uint64(0), 0xffffffff}
	seen := map[uint64]bool{}
	for _, r := range p.Syscalls {
		for _, a := range r.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo} {
				if !seen[v] {
					seen[v] = true
					list = append(list, v, v-1, v+1, ^v, v^1<<32, v|1<<40, v<<32)
				}
			}
		}
	}
	return list
}

// compare runs the compiled profile and the naive reading side by side for every system call number.
func compare(t *testing.T, p *specs.LinuxSeccomp) {
	t.Helper()
	m, naive := compiled(t, p, Options{}), newReader(p)
	tested := map[string]bool{}
	for _, r := range p.Syscalls {
		for _, name := range r.Names {
			tested[name] = tested[name] || len(r.Args) > 0
		}
	}
	vals := values(p)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64,
		unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_PPC64LE} {
		for _, nr := range numbers() {
			e := entry{audit: audit, nr: nr}
			check(t, m, naive, e)
			for range 2 {
				for i := range e.args {
					e.args[i] = vals[rnd.IntN(len(vals))]
				}
				check(t, m, naive, e)
			}
		}
		for _, a := range abis {
			for name, yes := range tested {
				if nr, ok := Number(a.arch, name); ok && yes && a.audit == audit {
					compareArgs(t, m, naive, entry{audit: audit, nr: nr}, vals, rnd)
				}
			}
		}
	}
}

// compareArgs tries every value at every argument, alone and among random ones.
func compareArgs(t *testing.T, m machine, naive *reader, e entry, vals []uint64, rnd *rand.Rand) {
	t.Helper()
	for i := range e.args {
		for _, v := range vals {
			e.args = [6]uint64{}
			e.args[i] = v
			check(t, m, naive, e)
			for k := range e.args {
				if k != i {
					e.args[k] = vals[rnd.IntN(len(vals))]
				}
			}
			check(t, m, naive, e)
		}
	}
}

func check(t *testing.T, m machine, naive *reader, e entry) {
	t.Helper()
	if got, want := m.run(t, e), naive.judge(e); got != want {
		t.Fatalf("architecture %#x, call %#x %x: filter answers %#x, the profile says %#x", e.audit, e.nr, e.args, got, want)
	}
}

func TestDefaultProfileAsFilter(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, caps := range [][]string{nil, dockerCaps, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"}} {
			compare(t, defaultFor(host{arch: arch, caps: caps, kernel: release{6, 1}}))
		}
	}
}

// TestEveryKindOfTest compares profiles with all operators, for values whose halves matter.
func TestEveryKindOfTest(t *testing.T) {
	vals := []uint64{0, 1, 5, 0xffffffff, 1 << 32, 5<<32 | 7, 1<<63 | 1, ^uint64(0), 0xffffffff00000000}
	var p specs.LinuxSeccomp
	p.DefaultAction = specs.ActErrno
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM}
	at := 0
	for _, op := range []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual} {
		for i, v := range vals {
			for calls[at].nr[amd64] == none {
				at++
			}
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{calls[at].name}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: uint(i % 6), Value: v, ValueTwo: vals[(i+3)%len(vals)], Op: op}}})
			at++
		}
	}
	compare(t, &p)
}

// TestManyRules gives random profiles, with all that can overlap in them.
func TestManyRules(t *testing.T) {
	rounds := uint64(6)
	if testing.Short() {
		rounds = 3
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { compare(t, randomProfile(rand.New(rand.NewPCG(seed, 7)))) })
	}
}

func randomProfile(r *rand.Rand) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess,
		specs.ActKillThread, specs.ActTrap, specs.ActLog, specs.ActTrace, specs.ActNotify}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpEqualTo, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	lists := [][]specs.Arch{{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, {specs.ArchX86_64}, {specs.ArchX32},
		{specs.ArchX86, specs.ArchX86_64}, {specs.ArchAARCH64, specs.ArchARM}, {specs.ArchARM},
		{specs.ArchPPC64LE, specs.ArchX86_64, specs.ArchAARCH64, specs.ArchARM, specs.ArchX86, specs.ArchX32}}
	p := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(len(actions)-1)], Architectures: lists[r.IntN(len(lists))]}
	names := make([]string, 5+r.IntN(60)) // few, so that rules meet
	for i := range names {
		names[i] = calls[r.IntN(len(calls))].name
	}
	for range r.IntN(60) {
		s := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))]}
		if errno := uint(r.IntN(200)); s.Action == specs.ActErrno && r.IntN(2) == 0 {
			s.ErrnoRet = &errno
		}
		for range 1 + r.IntN(5) {
			s.Names = append(s.Names, names[r.IntN(len(names))])
		}
		for range r.IntN(4) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(4)), Op: ops[r.IntN(len(ops))],
				Value: uint64(r.IntN(4))<<32 | uint64(r.IntN(8)), ValueTwo: uint64(r.IntN(8))})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

// TestFarJumps makes a program in which many targets lie beyond the reach of a conditional jump.
func TestFarJumps(t *testing.T) {
	p := specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86}}
	for i, c := range calls[:400] {
		errno := uint(i + 1)
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{c.name}, Action: specs.ActErrno, ErrnoRet: &errno,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: uint64(i), Op: specs.OpEqualTo}}})
	}
	long := p.Syscalls[0]
	for i := range 80 {
		long.Args = []specs.LinuxSeccompArg{{Index: uint(i % 6), Value: uint64(i), Op: specs.OpGreaterThan}}
		long.Names = []string{"read"}
		p.Syscalls = append(p.Syscalls, long)
	}
	m, naive := compiled(t, &p, Options{}), newReader(&p)
	for i, c := range calls[:400] {
		for _, a := range abis[:2] {
			if nr, ok := Number(a.arch, c.name); ok {
				check(t, m, naive, entry{audit: a.audit, nr: nr, args: [6]uint64{uint64(i)}})
				check(t, m, naive, entry{audit: a.audit, nr: nr, args: [6]uint64{uint64(i) + 1}})
			}
		}
	}
	for i := range uint64(500) {
		check(t, m, naive, entry{audit: unix.AUDIT_ARCH_X86_64, args: [6]uint64{i & 7, i & 31, i & 63, i & 127, i & 15, i}})
	}
}

func TestTooLong(t *testing.T) {
	p := specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range 2000 {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: uint64(i), Op: specs.OpNotEqual}}})
	}
	wantError(t, &p, "the kernel takes 4096")
}

func wantError(t *testing.T, p *specs.LinuxSeccomp, want string) {
	t.Helper()
	_, _, err := Compile(p, Options{})
	if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "compile seccomp profile: ") {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestErrors(t *testing.T) {
	big, small := uint(4096), uint(1)
	with := func(r specs.LinuxSyscall) *specs.LinuxSeccomp {
		r.Names = []string{"read"}
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{r}}
	}
	for _, c := range []struct {
		p    *specs.LinuxSeccomp
		want string
	}{
		{&specs.LinuxSeccomp{}, "default action: the action is missing"},
		{&specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_NO"}, `default action: unknown action "SCMP_ACT_NO"`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "nobody could answer"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"x"}}, `unknown architecture "x"`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"F"}}, `unknown flag "F"`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{
			specs.LinuxSeccompFlagWaitKillableRecv}}, "needs a rule with action SCMP_ACT_NOTIFY"},
		{with(specs.LinuxSyscall{}), "rule 0 (read): the action is missing"},
		{with(specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: &big}), "errnoRet 4096 is over 4095"},
		{with(specs.LinuxSyscall{Action: specs.ActKill, ErrnoRet: &small}), "makes no sense with action SCMP_ACT_KILL"},
		{with(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6}}}), "argument 6: "},
		{with(specs.LinuxSyscall{Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_XX"}}}),
			`argument 0: unknown operator "SCMP_CMP_XX"`},
	} {
		wantError(t, c.p, c.want)
	}
}

func TestFlags(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC",
		specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}}
	_, flags, err := Compile(p, Options{})
	if err != nil || flags != 1|2|4 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	p.Flags = append(p.Flags, specs.LinuxSeccompFlagWaitKillableRecv)
	p.Syscalls = []specs.LinuxSyscall{{Names: []string{"uname"}, Action: specs.ActNotify}}
	_, flags, err = Compile(p, Options{})
	if err != nil || flags != 1|2|4|8|16|32 {
		t.Errorf("flags with notify %#x, %v", flags, err)
	}
}

func TestNoProfile(t *testing.T) {
	if code, flags, err := Compile(nil, Options{}); code != nil || flags != 0 || err != nil {
		t.Errorf("nil profile gives %v, %v, %v", code, flags, err)
	}
}
