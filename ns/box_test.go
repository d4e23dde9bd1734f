package ns

import (
	"bytes"
	"cmp"
	elffile "debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// shared is a folder for all tests of this process: layers/base is a root file system that holds this very binary as /t.
var (
	shared     string
	sharedOnce sync.Once
)

func layersDir(t testing.TB) string {
	t.Helper()
	needStatic(t)
	sharedOnce.Do(func() {
		dir, err := os.MkdirTemp("", "hull-ns-")
		if err != nil {
			t.Fatal(err)
		}
		shared = dir
		for _, d := range []string{"layers/base/proc", "layers/base/sys", "layers/base/dev", "layers/base/etc", "layers/base/tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		copySelf(t, filepath.Join(dir, "layers/base/t"))
	})
	return filepath.Join(shared, "layers")
}

func copySelf(t testing.TB, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// box is a container that a test is about to run: everything is there, the test changes what it is about.
type box struct {
	*Cmd
	t   *testing.T
	dir string // a folder of its own, with the root file system's upper directory
}

// newBox makes a container whose program is this binary as verb. Whoever is not root gets a user namespace with one id.
func newBox(t *testing.T, verb string, args ...string) *box {
	t.Helper()
	b := &box{t: t, dir: t.TempDir(), Cmd: &Cmd{}}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.Spec = &specs.Spec{
		Hostname: "box", Domainname: "example.org",
		Root: &specs.Root{Path: b.dir},
		Process: &specs.Process{
			Args: append([]string{"/t"}, args...), Cwd: "/", Env: []string{verbEnv + "=" + verb, "PATH=/bin:/"},
		},
		Mounts: []specs.Mount{
			{Destination: "/", Type: "overlay", Source: layersDir(t), Options: []string{"lowerdir=base", "upperdir=" + b.upper(), "workdir=" + b.dir + "/work"}},
			{Destination: "/proc", Type: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Options: []string{"nosuid", "nodev", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys", Type: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=1m"}},
		},
		Linux: &specs.Linux{},
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.NetworkNamespace, specs.CgroupNamespace} {
		b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	if os.Geteuid() != 0 {
		b.oneID(0)
	}
	return b
}

func (b *box) upper() string { return filepath.Join(b.dir, "upper") }

// oneID gives the container a user namespace in which the caller is id and nobody else is there.
func (b *box) oneID(id uint32) {
	l := b.Spec.Linux
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{ContainerID: id, HostID: uint32(os.Geteuid()), Size: 1}}
	l.GIDMappings = []specs.LinuxIDMapping{{ContainerID: id, HostID: uint32(os.Getegid()), Size: 1}}
	b.Spec.Mounts[0].Options = append(b.Spec.Mounts[0].Options, "userxattr")
}

// put lays a file or, with a name that ends in a slash, a directory into the root file system.
func (b *box) put(name, text string, mode os.FileMode) {
	b.t.Helper()
	path := filepath.Join(b.upper(), name)
	dir := strings.HasSuffix(name, "/")
	if dir {
		name += "."
	}
	err := os.MkdirAll(filepath.Join(b.upper(), filepath.Dir(name)), 0o755)
	if err == nil && !dir {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) link(to, name string) {
	b.t.Helper()
	if err := os.Symlink(to, filepath.Join(b.upper(), name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) mount(m specs.Mount) { b.Spec.Mounts = append(b.Spec.Mounts, m) }

// env adds a variable.
func (b *box) env(kv string) { b.Spec.Process.Env = append(b.Spec.Process.Env, kv) }

// outcome is how a container ended.
type outcome struct {
	Status
	out, err string
	failure  error // of Create or Start
}

// run runs the container to its end, with what it prints kept in files.
func (b *box) run() outcome {
	b.t.Helper()
	out, errs := b.file("out"), b.file("err")
	b.Stdout, b.Stderr = cmp.Or(b.Stdout, out), errs
	var o outcome
	p, err := b.Create()
	if err != nil {
		o.failure = err
		return o
	}
	if err := p.Start(); err != nil {
		o.failure = err
		if _, err := p.Wait(); err != nil {
			b.t.Error(err)
		}
		return o
	}
	if o.Status, err = p.Wait(); err != nil {
		b.t.Fatal(err)
	}
	o.out, o.err = b.read(out), b.read(errs)
	return o
}

func (b *box) file(name string) *os.File {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dir, name), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	return f
}

func (b *box) read(f *os.File) string {
	b.t.Helper()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		b.t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

// good runs the container and gives what it printed; any failure ends the test.
func (b *box) good() string {
	b.t.Helper()
	o := b.run()
	if o.failure != nil || o.Code() != 0 {
		b.t.Fatalf("status %d, %v\n%s%s", o.Code(), o.failure, o.out, o.err)
	}
	return o.out
}

// look runs a container of the verb look.
func (b *box) look() (v view) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.good()), &v); err != nil {
		b.t.Fatal(err)
	}
	return v
}

// tries runs a container of the verb try and gives the outcomes.
func (b *box) tries() []string {
	b.t.Helper()
	return strings.Split(strings.TrimSuffix(b.good(), "\n"), "\n")
}

// want runs attempts, given as pairs of attempt and outcome.
func want(b *box, pairs ...string) {
	b.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		b.Spec.Process.Args = append(b.Spec.Process.Args, pairs[i])
	}
	for i, got := range b.tries() {
		if got != pairs[2*i+1] {
			b.t.Errorf("%s: %q, want %q", pairs[2*i], got, pairs[2*i+1])
		}
	}
}

// both runs a test with a forked and with a re-executed child.
func both(t *testing.T, test func(t *testing.T, reexec bool)) {
	t.Helper()
	for _, reexec := range []bool{false, true} {
		t.Run(map[bool]string{false: "fork", true: "reexec"}[reexec], func(t *testing.T) { test(t, reexec) })
	}
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

// waitFor reads lines from r until one is word.
func waitFor(r io.Reader, word string) error {
	var got bytes.Buffer
	buf := make([]byte, 1)
	for {
		if _, err := r.Read(buf); err != nil {
			return fmt.Errorf("wait for %q, after %q: %w", word, got.String(), err)
		}
		got.Write(buf)
		if slices.Contains(strings.FieldsFunc(got.String(), func(r rune) bool { return r == '\n' || r == '\r' }), word) && buf[0] == '\n' {
			return nil
		}
	}
}

// needStatic skips a test where this binary needs a shared library, which no container of these tests has.
func needStatic(t testing.TB) {
	t.Helper()
	f, err := elffile.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elffile.PT_INTERP {
			t.Skip("needs a static test binary: CGO_ENABLED=0")
		}
	}
}
