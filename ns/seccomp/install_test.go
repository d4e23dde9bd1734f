package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A probe is what a process under a filter shall do: make these calls, or run this program instead.
type probe struct {
	Profile *specs.LinuxSeccomp
	Options Options
	Calls   [][7]uint64 // number and arguments; an argument of path means the address of Path
	Path    string
	Run     []string
	Times   int  // install that often, and report the times in ns
	Linear  bool // install a list instead of a tree
}

const path = 0xabcdef0123456789

// A report has an errno for each call, 0 for success.
type report struct {
	Errnos []int
	Times  []int64
	Fd     int
}

const probeEnv = "HULL_SECCOMP_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(coldEnv) != "" {
		cold()
		return
	}
	if os.Getenv(probeEnv) != "" {
		if err := carryOut(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// carryOut is the life of the process under test.
func carryOut() error {
	var p probe
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	runtime.LockOSThread()
	code, flags, err := Compile(p.Profile, p.Options)
	if err != nil {
		return err
	}
	if p.Linear {
		code = linear(p.Profile)
	}
	var r report
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for range max(1, p.Times) {
		begin := time.Now()
		if r.Fd, err = install(code, flags); err != nil {
			return err
		}
		r.Times = append(r.Times, int64(time.Since(begin)))
	}
	if len(p.Run) > 0 {
		return syscall.Exec(p.Run[0], p.Run, os.Environ())
	}
	name, _ := unix.BytePtrFromString(p.Path)
	for _, c := range p.Calls {
		for i := range c {
			if c[i] == path {
				c[i] = uint64(uintptr(unsafe.Pointer(name)))
			}
		}
		_, _, errno := unix.RawSyscall6(uintptr(c[0]), uintptr(c[1]), uintptr(c[2]), uintptr(c[3]), uintptr(c[4]),
			uintptr(c[5]), uintptr(c[6]))
		r.Errnos = append(r.Errnos, int(errno))
	}
	runtime.KeepAlive(name)
	return json.NewEncoder(os.Stdout).Encode(r)
}

func install(code []unix.SockFilter, flags uint) (int, error) {
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags),
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// do has a fresh process carry out a probe. attr may be nil.
func do(t testing.TB, p probe, attr *syscall.SysProcAttr) (report, error) {
	t.Helper()
	in, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), probeEnv+"=1")
	cmd.Stdin = bytes.NewReader(in)
	cmd.SysProcAttr = attr
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	err = cmd.Run()
	if err != nil {
		return report{}, fmt.Errorf("%w: %s", err, text.Bytes())
	}
	var r report
	if len(p.Run) == 0 {
		err = json.Unmarshal(out.Bytes(), &r)
	}
	return r, err
}

// probeAll makes calls under a profile and compares the errors.
func probeAll(t *testing.T, p probe, attr *syscall.SysProcAttr, want []int) {
	t.Helper()
	r, err := do(t, p, attr)
	if err != nil {
		t.Fatal(err)
	}
	for i, errno := range r.Errnos {
		if errno != want[i] {
			t.Errorf("call %v: %v, want %v", p.Calls[i], syscall.Errno(errno), syscall.Errno(want[i]))
		}
	}
}

func nr(t testing.TB, name string) uint64 {
	n, ok := Number(abis[native()].arch, name)
	if !ok {
		t.Fatalf("no number for %s", name)
	}
	return uint64(n)
}

// TestInstalledDefault asks the real kernel about Docker's profile.
func TestInstalledDefault(t *testing.T) {
	p, err := Default(dockerCaps, "")
	if err != nil {
		t.Fatal(err)
	}
	probeAll(t, probe{Profile: p, Calls: [][7]uint64{
		{nr(t, "getpid")},
		{nr(t, "unshare"), unix.CLONE_NEWUTS},
		{nr(t, "mount")},
		{nr(t, "clone3"), 0, 0},
		{nr(t, "clone"), unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)},
		{nr(t, "personality"), 0xffffffff},
		{nr(t, "personality"), 0x1ffffffff},
		{nr(t, "socket"), unix.AF_UNIX, unix.SOCK_STREAM},
		{nr(t, "socket"), unix.AF_VSOCK, unix.SOCK_STREAM},
		{nr(t, "keyctl"), 0},
		{600}, {1 << 20}, {uint64(x32Bit) - 1},
	}}, nil, []int{0, int(unix.EPERM), int(unix.EPERM), int(unix.ENOSYS), int(unix.EPERM), 0, int(unix.EPERM), 0,
		int(unix.EPERM), int(unix.EPERM), int(unix.ENOSYS), int(unix.ENOSYS), int(unix.ENOSYS)})
}

// TestInstalledActions has each action done by the kernel.
func TestInstalledActions(t *testing.T) {
	for _, c := range []struct {
		action specs.LinuxSeccompAction
		signal syscall.Signal
		errno  syscall.Errno
	}{
		{specs.ActErrno, 0, unix.EPERM}, {specs.ActTrace, 0, unix.ENOSYS}, {specs.ActLog, 0, 0}, {specs.ActAllow, 0, 0},
		{specs.ActKillProcess, unix.SIGSYS, 0},
	} {
		p := specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"getsid"}, Action: c.action}}}
		r, err := do(t, probe{Profile: &p, Calls: [][7]uint64{{nr(t, "getsid")}}}, nil)
		if c.signal != 0 {
			wantSignal(t, err, c.signal)
		} else if err != nil || r.Errnos[0] != int(c.errno) {
			t.Errorf("%s: %v, %v", c.action, r.Errnos, err)
		}
	}
}

func wantSignal(t *testing.T, err error, want syscall.Signal) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the process ended by %v, want signal %v", err, want)
	}
	if s := exit.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != want {
		t.Errorf("the process ended by %v, want signal %v", err, want)
	}
}

// TestInstalledFlags tries the flags, and that a notify action yields a listener.
func TestInstalledFlags(t *testing.T) {
	p := specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC",
		specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"getsid"}, Action: specs.ActErrno}}}
	if _, err := do(t, probe{Profile: &p}, nil); err != nil {
		t.Error(err)
	}
	p.Flags = append(p.Flags, specs.LinuxSeccompFlagWaitKillableRecv)
	p.Syscalls[0].Action = specs.ActNotify
	if r, err := do(t, probe{Profile: &p}, nil); err != nil || r.Fd < 3 {
		t.Errorf("listener %d, %v", r.Fd, err)
	}
}

// TestForeignEntry enters the kernel as x32 and as i386, both where the profile lists them and where it does not.
func TestForeignEntry(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64, whose kernel has several entries")
	}
	p, _ := Default(dockerCaps, "")
	probeAll(t, probe{Profile: p, Calls: [][7]uint64{{x32Bit + 165}, {x32Bit + 600}}}, nil,
		[]int{int(unix.EPERM), int(unix.ENOSYS)})
	only := *p
	only.Architectures = only.Architectures[:1]
	_, err := do(t, probe{Profile: &only, Calls: [][7]uint64{{x32Bit + 39}}}, nil)
	wantSignal(t, err, unix.SIGSYS)

	t.Run("i386", func(t *testing.T) {
		if err := exec.Command(int80(t, 20, 0)).Run(); err != nil {
			// Some hypervisors and kernels (ia32_emulation=0) answer interrupt 0x80 with a fault: nobody gets in by it there.
			t.Skip("this machine has no calls of 32-bit programs: ", err)
		}
		for _, c := range []struct{ nr, arg, errno uint32 }{
			{20, 0, 0},                     // getpid
			{21, 0, uint32(unix.EPERM)},    // mount
			{359, 40, uint32(unix.EPERM)},  // socket(AF_VSOCK)
			{435, 0, uint32(unix.ENOSYS)},  // clone3
			{136, 1, uint32(unix.EPERM)},   // personality(1)
			{9999, 0, uint32(unix.ENOSYS)}, // a call of the future
			{102, 99, uint32(unix.EINVAL)}, // socketcall is allowed and judges by itself
			{217, 0, uint32(unix.EPERM)},   // pivot_root
		} {
			file := int80(t, c.nr, c.arg)
			_, err := do(t, probe{Profile: p, Run: []string{file}}, nil)
			var exit *exec.ExitError
			switch {
			case c.errno == 0 && err == nil:
			case !errors.As(err, &exit) || exit.ExitCode() != int(c.errno):
				t.Errorf("i386 call %d: %v, want exit status %d", c.nr, err, c.errno)
			}
		}
		_, err := do(t, probe{Profile: &only, Run: []string{int80(t, 20, 0)}}, nil)
		wantSignal(t, err, unix.SIGSYS)
	})
}

// int80 writes a program of one i386 system call; its exit status is the errno, 0 for success.
func int80(t *testing.T, nr, arg uint32) string {
	t.Helper()
	le := func(n uint32) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)} }
	var code []byte
	for _, part := range [][]byte{
		{0xb8}, le(nr), // mov eax, nr
		{0xbb}, le(arg), // mov ebx, arg
		{0x31, 0xc9, 0x31, 0xd2}, // xor ecx, ecx; xor edx, edx
		{0xcd, 0x80},             // int 0x80
		{0xf7, 0xd8},             // neg eax
		{0x79, 0x02, 0x31, 0xc0}, // jns over; xor eax, eax
		{0x89, 0xc7},             // mov edi, eax
		{0xb8}, le(unix.SYS_EXIT_GROUP),
		{0x0f, 0x05}, // syscall
	} {
		code = append(code, part...)
	}
	const base, head = 0x400000, 64 + 56
	elf := make([]byte, head)
	copy(elf, "\x7fELF\x02\x01\x01")
	put := func(at int, n uint64, size int) {
		for i := range size {
			elf[at+i] = byte(n >> (8 * i))
		}
	}
	put(16, 2, 2)         // ET_EXEC
	put(18, 62, 2)        // EM_X86_64
	put(20, 1, 4)         // EV_CURRENT
	put(24, base+head, 8) // entry
	put(32, 64, 8)        // program headers
	put(52, 64, 2)
	put(54, 56, 2)
	put(56, 1, 2)
	put(64, 1, 4) // PT_LOAD
	put(68, 5, 4) // readable, executable
	put(80, base, 8)
	put(88, base, 8)
	put(96, uint64(head+len(code)), 8)
	put(104, uint64(head+len(code)), 8)
	put(112, 0x1000, 8)
	file := filepath.Join(t.TempDir(), "int80")
	if err := os.WriteFile(file, append(elf, code...), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}
