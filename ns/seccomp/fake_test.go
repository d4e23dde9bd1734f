package seccomp

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	allow = unix.SECCOMP_RET_ALLOW
	zero  = unix.SECCOMP_RET_ERRNO
)

// TestFakes asks for each call with ids that can work and ids that cannot, on every ABI that has it.
func TestFakes(t *testing.T) {
	p, err := Default(dockerCaps, "")
	if err != nil {
		t.Fatal(err)
	}
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM}
	m := compiled(t, p, Options{FakeIDs: true})
	const leave = 0xffffffff
	for _, c := range []struct {
		names string
		args  [6]uint64
		want  uint32
	}{
		{"chown lchown fchown", [6]uint64{7, 0, 0}, allow},
		{"chown lchown fchown", [6]uint64{7, leave, leave}, allow},
		{"chown lchown fchown", [6]uint64{7, 0, leave | 1<<40}, allow},
		{"chown lchown fchown", [6]uint64{7, 0, 5}, zero},
		{"chown lchown fchown", [6]uint64{7, 5, leave}, zero},
		{"fchownat", [6]uint64{7, 7, 0, leave, 0x1000}, allow},
		{"fchownat", [6]uint64{7, 7, 100, 101, 0x1000}, zero},
		{"setuid setgid setfsuid setfsgid", [6]uint64{0}, allow},
		{"setuid setgid setfsuid setfsgid", [6]uint64{leave}, allow},
		{"setuid setgid setfsuid setfsgid", [6]uint64{100}, zero},
		{"setreuid setregid", [6]uint64{leave, 0, 9}, allow},
		{"setreuid setregid", [6]uint64{0, 100}, zero},
		{"setresuid setresgid", [6]uint64{leave, 0, leave}, allow},
		{"setresuid setresgid", [6]uint64{0, 0, 100}, zero},
		{"setresuid setresgid", [6]uint64{100, 0, 0}, zero},
		{"setgroups", [6]uint64{0, 0}, zero},
		{"mknod", [6]uint64{7, unix.S_IFREG | 0o644, 9}, allow},
		{"mknod", [6]uint64{7, 0o644, 9}, allow},
		{"mknod", [6]uint64{7, unix.S_IFIFO | 0o644, 9}, allow},
		{"mknod", [6]uint64{7, unix.S_IFSOCK | 0o644, 9}, allow},
		{"mknod", [6]uint64{7, unix.S_IFCHR | 0o666, 0x103}, zero},
		{"mknod", [6]uint64{7, unix.S_IFBLK | 0o660, 0x800}, zero},
		{"mknod", [6]uint64{7, unix.S_IFCHR, 0}, allow},
		{"mknodat", [6]uint64{7, 7, unix.S_IFCHR | 0o666, 0x103}, zero},
		{"mknodat", [6]uint64{7, 7, unix.S_IFIFO | 0o666, 0x103}, allow},
		{"capset getuid fchmodat", [6]uint64{100, 100, 100}, allow},
		{"mount", [6]uint64{100, 100, 100}, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	} {
		for _, name := range strings.Fields(c.names) {
			for _, suffix := range []string{"", "32"} {
				for _, a := range abis {
					if nr, ok := Number(a.arch, name+suffix); ok {
						if got := m.run(t, entry{a.audit, nr, c.args}); got != c.want {
							t.Errorf("%s %s%s %x: %#x, want %#x", a.arch, name, suffix, c.args, got, c.want)
						}
					}
				}
			}
		}
	}
	// The old calls of x86 and arm have ids of 16 bits, so 0xffff means -1 there, and 0x10000 is 0.
	for _, id := range []uint64{0xffff, 0x10000, 0x1ffff} {
		if got := m.run(t, entry{unix.AUDIT_ARCH_I386, 182, [6]uint64{7, id, 0}}); got != allow {
			t.Errorf("old chown to %#x: %#x", id, got)
		}
		if got := m.run(t, entry{unix.AUDIT_ARCH_I386, 212, [6]uint64{7, id, 0}}); got != zero {
			t.Errorf("chown32 to %#x: %#x", id, got)
		}
	}
}

// TestFakesObeyProfile: what the profile forbids, or tests by itself, is not faked.
func TestFakesObeyProfile(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"fchown"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo}}},
		{Names: []string{"setuid", "statx"}, Action: specs.ActLog},
	}}
	m := compiled(t, p, Options{FakeIDs: true})
	for _, c := range []struct {
		name string
		want uint32
	}{{"fchownat", unix.SECCOMP_RET_ERRNO | 1}, {"fchown", unix.SECCOMP_RET_ERRNO | 1}, {"setuid", zero}} {
		e := entry{abis[native()].audit, uint32(nr(t, c.name)), [6]uint64{100, 100, 100, 100}}
		if got := m.run(t, e); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	free := compiled(t, nil, Options{FakeIDs: true})
	e := entry{abis[native()].audit, uint32(nr(t, "fchown")), [6]uint64{0, 100, 100}}
	if got := free.run(t, e); got != zero {
		t.Errorf("fchown without a profile: %#x", got)
	}
	e = entry{abis[native()].audit, 9999, [6]uint64{}}
	if got := free.run(t, e); got != allow {
		t.Errorf("unknown call without a profile: %#x", got)
	}
}

// oneID gives the attributes of a process in a user namespace that maps one id only.
func oneID(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	return attr
}

// TestFakesInstalled makes the calls where only one id is mapped, without the fakes and with them.
func TestFakesInstalled(t *testing.T) {
	attr := oneID(t)
	p, err := Default(dockerCaps, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, fifo, device := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "device")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	at := uint64(0xffffffffffffff9c) // AT_FDCWD
	list := [][7]uint64{
		{nr(t, "fchownat"), at, path, 100, 100},
		{nr(t, "fchownat"), at, path, 0, 0},
		{nr(t, "setgroups"), 0, 0},
		{nr(t, "setresgid"), 100, 100, 100},
		{nr(t, "setresuid"), 100, 100, 100},
		{nr(t, "setresuid"), 0, 0, 0},
	}
	plain := []int{int(unix.EINVAL), 0, int(unix.EPERM), int(unix.EINVAL), int(unix.EINVAL), 0}
	probeAll(t, probe{Profile: p, Path: file, Calls: list}, attr, plain)
	probeAll(t, probe{Profile: p, Options: Options{FakeIDs: true}, Path: file, Calls: list}, attr, make([]int, 6))

	node := [][7]uint64{{nr(t, "mknodat"), at, path, unix.S_IFCHR | 0o666, 0x103}}
	probeAll(t, probe{Profile: p, Path: device, Calls: node}, attr, []int{int(unix.EPERM)})
	probeAll(t, probe{Profile: p, Options: Options{FakeIDs: true}, Path: device, Calls: node}, attr, []int{0})
	if _, err := os.Lstat(device); err == nil {
		t.Error("the device was really made")
	}
	node[0][3], node[0][4] = unix.S_IFIFO|0o600, 0
	probeAll(t, probe{Profile: p, Options: Options{FakeIDs: true}, Path: fifo, Calls: node}, attr, []int{0})
	if _, err := os.Lstat(fifo); err != nil {
		t.Errorf("the FIFO was not made: %v", err)
	}
}

// TestFakesForTar has the system's own tar unpack files of other owners, as root of one id.
func TestFakesForTar(t *testing.T) {
	attr := oneID(t)
	program, err := exec.LookPath("tar")
	if err != nil {
		t.Skipf("needs tar: %v", err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "a.tar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for _, h := range []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 6, Gid: 12},
		{Name: "d/f", Mode: 0o4755, Uid: 33, Gid: 33}, {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "f", Uid: 5}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p, _ := Default(dockerCaps, "")
	pr := probe{Profile: p, Run: []string{program, "-xf", archive, "-C", dir}}
	if _, err := do(t, pr, attr); err == nil {
		t.Skip("needs a tar that minds owners, unlike BusyBox's")
	}
	pr.Options.FakeIDs = true
	if _, err := do(t, pr, attr); err != nil {
		t.Error(err)
	}
	if s, err := os.Stat(filepath.Join(dir, "d/f")); err != nil || s.Mode()&os.ModeSetuid == 0 {
		t.Errorf("unpacked file: %v, %v", s, err)
	}
}
