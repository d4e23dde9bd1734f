package ns

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// cloneArgs is struct clone_args, clone(2).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// fork makes the child, which performs b and never comes back.
func (p *Process) fork(c *Cmd, b *birth, socket int) error {
	pidfd := int32(-1)
	args := cloneArgs{
		flags: b.cloneFlags() | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&pidfd))), exitSignal: uint64(unix.SIGCHLD),
	}
	if c.Cgroup != nil { // 0.1 ms; to join afterwards takes 10 ms
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(c.Cgroup.Fd())
	}
	if b.memory != nil {
		if _, err := b.memory.WriteAt(b.blob.bytes(), 0); err != nil {
			return err
		}
	}
	if err := joinPIDNamespace(c.Spec); err != nil {
		return err
	}
	calls := b.blob.place()
	syscall.ForkLock.Lock()
	pid, errno := forkAndPerform(&args, calls, uintptr(b.blob.head.NCalls), uintptr(socket))
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(b.blob.mem)
	runtime.KeepAlive(b.files)
	if errno != 0 {
		return explain(errno, args.flags)
	}
	p.Pid, p.pidfd = int(pid), int(pidfd)
	return nil
}

// joinPIDNamespace makes the children of this thread members of an existing pid namespace, if the specification names
// one: a process cannot change its own. The thread is locked, and given up after Wait.
func joinPIDNamespace(spec *specs.Spec) error {
	for _, n := range spec.Linux.Namespaces {
		if n.Type != specs.PIDNamespace || n.Path == "" {
			continue
		}
		f, err := os.Open(n.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		return os.NewSyscallError("setns", unix.Setns(int(f.Fd()), unix.CLONE_NEWPID))
	}
	return nil
}

// The runtime's own preparations for a fork: they block signals meanwhile, and give the child default handlers.
//
//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// forkAndPerform clones this process. The child is a copy with one thread and must not call what may allocate, grow the
// stack or lock: only early.Perform, whose last call is an execve.
//
//go:noinline
//go:norace
func forkAndPerform(args *cloneArgs, calls *early.Call, n, socket uintptr) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	early.Perform(calls, 0, n, socket)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
}
