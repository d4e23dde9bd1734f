package ns

import (
	"errors"
	"os"
	"runtime"
	"sync"
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

// script is a part of a program: the calls from number first up to n, and the socket for a report.
type script struct {
	calls            *early.Call
	first, n, socket uintptr
}

// fork makes the child, which performs a script and never comes back. In memory that it shares with this process it
// performs p.womb.next as well.
func (p *Process) fork(c *Cmd, b *birth) error {
	// The kernel writes to an address that is but a number here, so it lies in b: a stack may move meanwhile.
	var args cloneArgs
	if !c.entersUsers() { // else this is the go-between
		args = b.bornWith()
		if err := p.joinPIDNamespace(c.Spec); err != nil {
			return err
		}
	}
	args.flags |= unix.CLONE_PIDFD
	args.pidfd, args.exitSignal = uint64(uintptr(unsafe.Pointer(&b.pidfd))), uint64(unix.SIGCHLD)
	var pid uintptr
	var errno syscall.Errno
	if c.mayShareMemory() {
		if c.knownAhead() {
			args.flags |= unix.CLONE_FILES
		}
		p.share(b)
		if c.Detach {
			if err := p.forkFostered(&args); err != nil {
				p.separated()
				if errors.As(err, &errno) {
					return explain(errno, b.cloneFlags())
				}
				return err
			}
			p.Pid, p.pidfd = int(p.foster.born), int(b.pidfd)
			return nil
		}
		pid, errno = p.womb.fork(&args)
	} else {
		s := b.script(0)
		syscall.ForkLock.Lock()
		pid, errno = forkAndPerform(&args, &s)
		syscall.ForkLock.Unlock()
		runtime.KeepAlive(b)
	}
	if errno != 0 {
		p.separated()
		if c.Join != nil {
			return os.NewSyscallError("clone3", errno)
		}
		return explain(errno, b.cloneFlags())
	}
	p.Pid, p.pidfd = int(pid), int(b.pidfd)
	return nil
}

// bornWith are the namespaces and the cgroup that the child is cloned into.
func (b *birth) bornWith() (args cloneArgs) {
	if b.Join == nil {
		args.flags = b.cloneFlags() & bornInto
	}
	if b.Cgroup != nil { // 0.1 ms; to join afterwards takes 10 ms
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(b.Cgroup.Fd())
	}
	return args
}

// mayShareMemory says whether the child may work in this process's memory until it executes something. Not where it
// joins the namespaces of others, who could trace it there, and with it this process; with Join only a container that has
// no pid namespace of its own sees the child at all. Nor where its out-of-memory score is set: the kernel gives the same one
// to all that share a memory (proc_pid_oom_score_adj(5) does not say so, __set_oom_adj in fs/proc/base.c does). Nor where
// root makes a user namespace: there the memory is made dumpable, and another child of root's that has become somebody on
// the host, and shares it too, must not be traced by him.
func (c *Cmd) mayShareMemory() bool {
	if p := c.Spec.Process; p != nil && p.OOMScoreAdj != nil {
		return false
	}
	own := false
	for _, n := range c.Spec.Linux.Namespaces {
		if n.Path != "" || n.Type == specs.UserNamespace && os.Geteuid() == 0 {
			return false
		}
		own = own || n.Type == specs.PIDNamespace
	}
	return c.Join == nil || own
}

// womb is what a child in this process's memory works with until it has a memory of its own: its scripts, all that they
// point to, and its stack. Nothing is copied, neither at once nor when one of the two writes to a page for the first time
// (1 ms of 9 in all), and the second script may be written while the child performs the first.
type womb struct {
	first, next script
	births      []*birth
	stack       []uint64
}

func newWomb(b *birth) *womb {
	return &womb{first: b.script(0), births: []*birth{b}, stack: newStack()}
}

// newStack is large enough: early.Perform and what it calls take less than 1 kB, see the linker's nosplit check.
func newStack() []uint64 { return make([]uint64, 1<<10) }

// share makes the child one that works in this process's memory, on a stack of its own.
func (a *cloneArgs) share(stack []uint64) {
	a.flags |= unix.CLONE_VM | unix.CLONE_CLEAR_SIGHAND
	a.stack, a.stackSize = uint64(uintptr(unsafe.Pointer(&stack[0])))&^15, uint64(8*len(stack)-16)
}

// fork makes a child in this process's memory.
func (w *womb) fork(args *cloneArgs) (pid uintptr, errno syscall.Errno) {
	args.share(w.stack)
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	return spawnAndPerform(args, &w.first, &w.next)
}

// spawn has a child, cloned with these flags as well, perform a program that executes something, or ends. The womb is needed
// until it has.
func spawn(b *birth, flags uint64) (pid int, w *womb, err error) {
	w = newWomb(b)
	n, errno := w.fork(&cloneArgs{flags: flags, exitSignal: uint64(unix.SIGCHLD)})
	if errno != 0 {
		return 0, nil, os.NewSyscallError("clone3", errno)
	}
	return int(n), w, nil
}

// sharers are the children that share this process's memory, and its dumpable flag (prctl(2)), which becomes what it was
// when the last one is gone.
var sharers struct {
	sync.Mutex
	n, dumpable int
}

func (p *Process) share(b *birth) {
	p.womb = newWomb(b)
	sharers.Lock()
	defer sharers.Unlock()
	if sharers.n++; sharers.n == 1 {
		sharers.dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	}
}

// separated is for when the child has a memory of its own, or is gone. It may have made the common memory undumpable
// meanwhile; a change of ids does.
func (p *Process) separated() {
	if p.womb == nil {
		return
	}
	p.womb = nil
	sharers.Lock()
	defer sharers.Unlock()
	if sharers.n--; sharers.n == 0 {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(sharers.dumpable), 0, 0, 0)
	}
}

// joinPIDNamespace makes the children of this thread members of an existing pid namespace, if the specification names
// one: a process cannot change its own. The thread is locked, and stays so, see unlockThread.
func (p *Process) joinPIDNamespace(spec *specs.Spec) error {
	for _, n := range spec.Linux.Namespaces {
		if n.Type != specs.PIDNamespace || n.Path == "" {
			continue
		}
		f, err := os.Open(n.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		p.strayed = true
		return os.NewSyscallError("setns", unix.Setns(int(f.Fd()), unix.CLONE_NEWPID))
	}
	return nil
}

// unlockThread gives the thread back, unless its children would go on to be born into another pid namespace: then it ends with
// the goroutine, and nobody else gets it.
func (p *Process) unlockThread() {
	if !p.strayed {
		runtime.UnlockOSThread()
	}
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
func forkAndPerform(args *cloneArgs, s *script) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	early.Perform(s.calls, s.first, s.n, s.socket)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
}

// spawnAndPerform does the same with a child that shares this process's memory, and this process goes on meanwhile. The
// child is born with all signals blocked and all handlers gone (CLONE_CLEAR_SIGHAND), and so never runs any code of Go's
// but early.Perform.
//
//go:noinline
//go:norace
func spawnAndPerform(args *cloneArgs, first, next *script) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, e := clone3(args, unsafe.Sizeof(*args), first, next)
	afterFork()
	return pid, syscall.Errno(e)
}

// clone3 is clone3(2), whose child calls performBoth on the stack that args names, and never returns.
func clone3(args *cloneArgs, size uintptr, first, next *script) (pid, errno uintptr)

// performBoth is the child of clone3, which knows it by its name.
//
//lint:ignore U1000 called from clone_*.s
//go:nosplit
//go:norace
func performBoth(first, next *script) {
	early.Perform(first.calls, first.first, first.n, first.socket)
	early.Perform(next.calls, next.first, next.n, next.socket)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
}
