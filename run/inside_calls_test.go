package run

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/seccomp"
)

// A trial is a system call that a program in a container tries, without its being made: see tryCalls.
type trial struct {
	name string
	args [3]uint64
	want unix.Errno // 0 where it would be made
}

// allowed stands for a call that no filter objects to.
const allowed = unix.Errno(0)

// trials are what could be dangerous, and Docker's answers for a container with its own capabilities (moby/profiles,
// default.json; docs.docker.com, "Seccomp security profiles"), on Linux 4.8 or later. They hold for every architecture that
// the machine's kernel may run. What an architecture lacks is passed over.
func trials() []trial {
	list := []trial{
		{"clone3", [3]uint64{}, unix.ENOSYS}, {"clone", [3]uint64{uint64(unix.SIGCHLD)}, allowed},
		{"getpid", [3]uint64{}, allowed}, {"chroot", [3]uint64{}, allowed}, {"seccomp", [3]uint64{}, allowed},
		{"ptrace", [3]uint64{}, allowed}, {"process_vm_readv", [3]uint64{}, allowed}, {"process_vm_writev", [3]uint64{}, allowed},
		{"name_to_handle_at", [3]uint64{}, allowed}, {"mknodat", [3]uint64{}, allowed}, {"setuid", [3]uint64{}, allowed},
	}
	for _, name := range []string{
		"acct", "add_key", "bpf", "clock_settime", "clock_settime64", "create_module", "delete_module", "fanotify_init",
		"finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "get_mempolicy", "init_module",
		"io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
		"lookup_dcookie", "mbind", "migrate_pages", "mount", "mount_setattr", "move_mount", "move_pages", "nfsservctl",
		"open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise", "query_module",
		"quotactl", "quotactl_fd", "reboot", "request_key", "set_mempolicy", "setdomainname", "sethostname", "setns",
		"settimeofday", "stime", "swapoff", "swapon", "sysfs", "_sysctl", "syslog", "umount", "umount2", "unshare", "uselib",
		"userfaultfd", "ustat", "vhangup", "vm86", "vm86old",
	} {
		list = append(list, trial{name, [3]uint64{}, unix.EPERM})
	}
	for _, flag := range []uint64{unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER,
		unix.CLONE_NEWPID, unix.CLONE_NEWNET} {
		list = append(list, trial{"clone", [3]uint64{flag | uint64(unix.SIGCHLD)}, unix.EPERM})
	}
	for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET} {
		list = append(list, trial{"socket", [3]uint64{family}, allowed})
	}
	for _, family := range []uint64{unix.AF_ALG, unix.AF_VSOCK, unix.AF_AX25, unix.AF_MAX} {
		list = append(list, trial{"socket", [3]uint64{family}, unix.EPERM})
	}
	for _, persona := range []uint64{0, 8, 0x20000, 0x20008, 0xffffffff} { // PER_LINUX, PER_LINUX32, UNAME26, to ask
		list = append(list, trial{"personality", [3]uint64{persona}, allowed})
	}
	for _, persona := range []uint64{0x40000 /* ADDR_NO_RANDOMIZE */, 0x400000 /* READ_IMPLIES_EXEC */, 6 /* PER_BSD */} {
		list = append(list, trial{"personality", [3]uint64{persona}, unix.EPERM})
	}
	return list
}

// An order is a call as tryCalls takes it; Compat makes it one of a 32-bit program's.
type order struct {
	Number uint64
	Args   [3]uint64
	Compat bool
}

// ordersFor spells trials in the numbers of an architecture, and names those that it has.
func ordersFor(arch specs.Arch) (orders []order, has []trial) {
	for _, try := range trials() {
		if n, ok := seccomp.Number(arch, try.name); ok {
			orders = append(orders, order{Number: uint64(n), Args: try.args, Compat: arch == specs.ArchX86})
			has = append(has, try)
		}
	}
	return orders, has
}

// TestInsideCalls asks for the exact answer of the filter to each dangerous call, from inside, in every way of calling.
func TestInsideCalls(t *testing.T) {
	arches := map[string][]specs.Arch{"amd64": {specs.ArchX86_64, specs.ArchX32, specs.ArchX86}, "arm64": {specs.ArchAARCH64}}
	for _, arch := range arches[runtime.GOARCH] {
		t.Run(string(arch), func(t *testing.T) {
			if arch == specs.ArchX86 {
				// Some hypervisors and kernels (ia32_emulation=0) answer interrupt 0x80 with a fault: nobody gets in by it there.
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), verbEnv+"=compat")
				if err := cmd.Run(); err != nil {
					t.Skip("this machine has no calls of 32-bit programs: ", err)
				}
			}
			orders, has := ordersFor(arch)
			if len(has) < 60 {
				t.Fatalf("only %d calls have a number", len(has))
			}
			for i, got := range answers(t, orders, nil) {
				if got != has[i].want {
					t.Errorf("%s(%#x): %v, want %v", has[i].name, has[i].args, verdict(got), verdict(has[i].want))
				}
			}
		})
	}
}

// TestInsideCallsGranted: what a capability brings with it, a profile of one's own, and none.
func TestInsideCallsGranted(t *testing.T) {
	arch := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[runtime.GOARCH]
	number := func(name string) order {
		n, ok := seccomp.Number(arch, name)
		if !ok {
			t.Fatal(name)
		}
		return order{Number: uint64(n)}
	}
	orders := []order{number("mount"), number("syslog"), number("keyctl"), number("clone3"), number("mkdirat")}
	profile := t.TempDir() + "/profile.json"
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		change func(*Config)
		want   [5]unix.Errno
	}{
		"SYS_ADMIN":  {func(c *Config) { c.Isolation.CapAdd = []string{"CAP_SYS_ADMIN"} }, [5]unix.Errno{0, 0, unix.EPERM, 0, 0}},
		"SYSLOG":     {func(c *Config) { c.Isolation.CapAdd = []string{"CAP_SYSLOG"} }, [5]unix.Errno{unix.EPERM, 0, unix.EPERM, unix.ENOSYS, 0}},
		"none":       {func(c *Config) { c.Isolation.CapDrop = []string{"ALL"} }, [5]unix.Errno{unix.EPERM, unix.EPERM, unix.EPERM, unix.ENOSYS, 0}},
		"unconfined": {func(c *Config) { c.Isolation.Security.Seccomp = "unconfined" }, [5]unix.Errno{}},
		"builtin":    {func(c *Config) { c.Isolation.Security.Seccomp = "builtin" }, [5]unix.Errno{unix.EPERM, unix.EPERM, unix.EPERM, unix.ENOSYS, 0}},
		"a file":     {func(c *Config) { c.Isolation.Security.Seccomp = profile }, [5]unix.Errno{0, 0, 0, 0, unix.ENOSPC}},
		"privileged": {func(c *Config) { c.Isolation.Privileged = true }, [5]unix.Errno{}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, got := range answers(t, orders, row.change) {
				if got != row.want[i] {
					t.Errorf("call %d: %v, want %v", orders[i].Number, verdict(got), verdict(row.want[i]))
				}
			}
		})
	}
}

func verdict(e unix.Errno) string {
	if e == allowed {
		return "allowed"
	}
	return unix.ErrnoName(e)
}

// answers has a program in a container try calls.
func answers(t *testing.T, orders []order, change func(*Config)) (list []unix.Errno) {
	t.Helper()
	text, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	config := verbConfig(t, "calls", "CALLS="+string(text))
	if change != nil {
		change(&config)
	}
	out, errs, res := printed(t, config, nil)
	if res.Code == 77 {
		t.Skip(errs)
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || res.Code != 0 || len(list) != len(orders) {
		t.Fatalf("status %d, %v, %s%s", res.Code, err, out, errs)
	}
	return list
}

// notMade is what the filter of tryCalls answers to a call that the container's own lets pass. No call answers so itself.
const notMade = unix.EXFULL

// mark in the sixth argument makes a call one that is not to be made.
const mark = 0x5ec0de

// callsVerb tries the calls of $CALLS, and prints an errno for each, 0 for one that would have been made.
func callsVerb() error {
	var orders []order
	if err := json.Unmarshal([]byte(os.Getenv("CALLS")), &orders); err != nil {
		return err
	}
	runtime.LockOSThread()
	listener, err := catchMarked()
	if err != nil {
		return err
	}
	go refuseAll(listener)
	list := make([]unix.Errno, len(orders))
	for i, o := range orders {
		errno := unix.Errno(0)
		if o.Compat {
			errno, err = compatCall(o)
		} else {
			_, _, errno = unix.Syscall6(uintptr(o.Number), uintptr(o.Args[0]), uintptr(o.Args[1]), uintptr(o.Args[2]), 0, 0, mark)
		}
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(77)
		case err != nil:
			return err
		case errno == 0:
			return errors.New("a call was made")
		case errno != notMade:
			list[i] = errno
		}
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

// catchMarked installs a filter below the container's that hands marked calls to a listener. Of two filters the kernel takes
// the stricter answer, and an error is stricter than that (seccomp(2)): what the listener sees, the other one allows.
func catchMarked() (listener int, err error) {
	const offset = 16 + 8*5 // args[5] of struct seccomp_data
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: mark, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// refuseAll answers to every call that comes.
func refuseAll(listener int) {
	for {
		call := make([]uint64, 10)                                                       // struct seccomp_notif
		if _, err := ioctl(listener, 0xc0502100, unsafe.Pointer(&call[0])); err != nil { // SECCOMP_IOCTL_NOTIF_RECV
			time.Sleep(time.Millisecond)
			continue
		}
		answer := struct { // struct seccomp_notif_resp
			id    uint64
			value int64
			errno int32
			flags uint32
		}{id: call[0], errno: -int32(notMade)}
		_, _ = ioctl(listener, 0xc0182101, unsafe.Pointer(&answer)) // SECCOMP_IOCTL_NOTIF_SEND
	}
}

func ioctl(fd int, request uintptr, p unsafe.Pointer) (uintptr, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p))
	if errno != 0 {
		return n, errno
	}
	return n, nil
}
