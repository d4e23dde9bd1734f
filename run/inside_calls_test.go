package run

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// It takes a moment. Who waits for ever for an answer shows where: a Go program prints its stacks at this signal.
	config.Lifetime.Timeout, config.Lifetime.TimeoutGrace, config.Lifetime.StopSignal = 3*time.Minute, 10*time.Second, "SIGQUIT"
	if change != nil {
		change(&config)
	}
	out, errs, res := printed(t, config, nil)
	if err := json.Unmarshal([]byte(out), &list); err != nil || res.Code != 0 || len(list) != len(orders) {
		t.Fatalf("status %d, timed out %v, %v, %s%s", res.Code, res.TimedOut, err, out, errs)
	}
	return list
}

// notMade is what the refuser answers to a call that the container's filter lets pass. No call answers so itself.
const notMade = unix.EXFULL

// A gate is a page of code that makes system calls, and nothing else of the program does from there. A filter knows them by
// that: by a mark in an argument it would take the runtime's own calls for them, whenever the mark is left in a register.
type gate []byte

func newGate() (gate, error) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	copy(page[copy(page, nativeCode):], compatCode)
	return page, os.NewSyscallError("mprotect", unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC))
}

// call makes a call, of which the runtime does not know: it takes the thread for one that computes.
func (g gate) call(o order) unix.Errno {
	entry := &g[0]
	if o.Compat {
		entry = &g[len(nativeCode)]
	}
	function := &entry // a func value is a pointer to a word that holds the entry
	code := *(*func(nr, a, b, c uintptr) uintptr)(unsafe.Pointer(&function))
	result := int32(code(uintptr(o.Number), uintptr(o.Args[0]), uintptr(o.Args[1]), uintptr(o.Args[2])))
	if result < 0 && result > -4096 {
		return unix.Errno(-result)
	}
	return 0
}

// compatVerb ends by a fault where the kernel has no calls of 32-bit programs.
func compatVerb() error {
	g, err := newGate()
	if err == nil {
		g.call(order{Number: 20, Compat: true}) // getpid
	}
	return err
}

// callsVerb tries the calls of $CALLS, and prints an errno for each, 0 for one that would have been made.
func callsVerb() error {
	var orders []order
	if err := json.Unmarshal([]byte(os.Getenv("CALLS")), &orders); err != nil {
		return err
	}
	g, err := newGate()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	listener, err := g.catch()
	if err != nil {
		return err
	}
	// A process of its own, which ends with the container's first. A goroutine would wait for a processor, or for the end of
	// a pause for garbage, while this thread holds either up: by waiting for it in a call of which the runtime does not know.
	refuser := exec.Command("/proc/self/exe")
	refuser.Env, refuser.ExtraFiles, refuser.Stderr = []string{verbEnv + "=refuse"}, []*os.File{listener}, os.Stderr
	if err := refuser.Start(); err != nil {
		return err
	}
	list := make([]unix.Errno, len(orders))
	for i, o := range orders {
		switch errno := g.call(o); errno {
		case 0:
			return fmt.Errorf("call %d was made", o.Number)
		case notMade:
		default:
			list[i] = errno
		}
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

// catch installs a filter below the container's that hands the gate's calls to a listener. Of two filters the kernel takes
// the stricter answer, and an error is stricter than that (seccomp(2)): what the listener sees, the other one allows.
func (g gate) catch() (listener *os.File, err error) {
	const offset = 8 // instruction_pointer of struct seccomp_data, its lower half first
	place := uint64(uintptr(unsafe.Pointer(&g[0])))
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset + 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(place >> 32), Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ^uint32(4095)},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(place), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return nil, os.NewSyscallError("seccomp", errno)
	}
	return os.NewFile(fd, "listener"), nil
}

// refuseVerb answers to every call that comes to the listener that it has inherited. A call that a signal interrupts comes
// again.
func refuseVerb() error {
	const listener = 3
	for {
		call := make([]uint64, 10)                                                       // struct seccomp_notif
		if _, err := ioctl(listener, 0xc0502100, unsafe.Pointer(&call[0])); err != nil { // SECCOMP_IOCTL_NOTIF_RECV
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
				continue
			}
			return os.NewSyscallError("receive a call", err)
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
