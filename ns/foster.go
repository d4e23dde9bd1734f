package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// A program dies with its parent, so one that is to outlive hull needs another. That is its foster parent: a process between
// the two that is forked first, in this process's memory like the program's, and that forks the program's process itself. All
// that it does is a list of system calls, so it costs no start of a Go runtime; the program is prepared and started from here
// as ever. Once it runs, the foster parent executes something that looks after it.
//
//	parent                     foster parent                      child
//	fork --------------------> starts a session, forks ---------> makes namespaces
//	       <-------------- 'p' (its pid is in the common memory)
//	Create, Start as ever <-------------------------------------> see midwife
//	HandOver: 'g' -----------> copies the descriptors
//	       <-------------- 'r'
//	       <----------- closed executes what looks after the child
//
// If this process ends before, or gives up, the foster parent ends the child, collects it and ends as well.
type foster struct {
	pid, pidfd    int
	self          int     // pidfd of this process; the line's is closed long before the foster parent has looked at it for the last time
	ours, its     int     // the ends of the socket
	first, next   *script // the child's
	wait, then    script  // its own
	waiting, heir blob    // what those lie in
	stack         []uint64
	args          cloneArgs // for the child's fork, whose result born and errno are
	born, errno   uintptr
	child         *uintptr // where wait finds the child's pid
	descriptor    int32    // pidfd, see clone(2)
}

// CanDetach says whether Detach may be set. What Conceive needs must be there.
func (c *Cmd) CanDetach() bool { return c.knownAhead() }

// Parent is the process that stays with the program if Detach is set, from Conceive on; else 0.
func (c *Cmd) Parent() int { return c.parent }

// forkFostered makes the foster parent, and has it fork the child with these arguments.
func (p *Process) forkFostered(args *cloneArgs) error {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	f := &foster{
		pidfd: -1, self: -1, ours: sockets[0], its: sockets[1], args: *args, first: &p.womb.first, next: &p.womb.next, stack: newStack(),
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		f.close()
		return os.NewSyscallError("pidfd_open", err)
	}
	f.self = self
	f.args.share(p.womb.stack)
	f.await()
	own := cloneArgs{
		flags: unix.CLONE_FILES | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&f.descriptor))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	own.share(f.stack)
	syscall.ForkLock.Lock()
	pid, errno := fosterAndPerform(&own, f)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		f.close()
		return os.NewSyscallError("clone3", errno)
	}
	f.pid, f.pidfd = int(pid), int(f.descriptor)
	msg, err := f.hear()
	switch {
	case err == nil && f.errno != 0:
		err = syscall.Errno(f.errno)
	case err == nil && len(msg) == 0:
		err = errOrphaned
	}
	if err != nil {
		f.end()
		return err
	}
	p.foster, p.child = f, f.pid
	return nil
}

var errOrphaned = errors.New("the process that stays with the program has ended: was it killed?")

// await writes what the foster parent does once it has forked: it says so, and waits for the word to go on. If this process
// ends or hangs up, it ends the child.
func (f *foster) await() {
	b := &birth{program: program{data: make([]byte, 8, 256)}}
	child := b.slot()
	b.call("tell", "", unix.SYS_WRITE, num(f.its), b.bytes([]byte{early.KindBorn}), num(1)).orGoOn()
	b.call("wait", "", unix.SYS_PPOLL, b.polls(f.its, f.self), num(2), num(0), num(0), num(0))
	b.call("wait", "", unix.SYS_RECVFROM, num(f.its), b.bytes(make([]byte, 8)), num(1), num(unix.MSG_DONTWAIT), num(0), num(0)).
		nonzero().orGoOn().thenSkip(3)
	b.call("kill", "", unix.SYS_KILL, child.value(), num(unix.SIGKILL)).orGoOn()
	b.call("collect", "", unix.SYS_WAIT4, child.value(), num(0), num(unix.WALL), num(0)).orGoOn()
	b.call("end", "", unix.SYS_EXIT_GROUP, num(125))
	b.blob = b.finish(0, f.its)
	f.wait, f.waiting = b.script(0), b.blob
	f.child = f.waiting.word(child)
}

// HandOver makes another program of the parent of one that has been started with Detach: this executable itself, with args and
// env, an empty standard input, nowhere to write to, and the descriptors in keep. When it returns the program no longer
// depends on this process, and p is of no more use. After an error Wait must be called.
func (p *Process) HandOver(args, env []string, keep []int) error {
	f := p.foster
	b := &birth{program: program{data: make([]byte, 8, 16<<10)}}
	b.call("copy descriptors", "", unix.SYS_UNSHARE, num(unix.CLONE_FILES))
	b.call("tell", "", unix.SYS_WRITE, num(f.its), b.bytes([]byte{early.KindReady}), num(1))
	// What hull was given open by its caller, a lock of a shell script's say, is none of its business.
	b.call("close descriptors", "", unix.SYS_CLOSE_RANGE, num(3), num(^uint32(0)), num(unix.CLOSE_RANGE_CLOEXEC))
	for _, fd := range keep {
		b.keepOnExec(num(fd))
	}
	null := b.slot()
	b.call("open", os.DevNull, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(os.DevNull), num(unix.O_RDWR|unix.O_CLOEXEC)).into(null)
	for fd := range 3 {
		b.call("place stream", "", unix.SYS_DUP3, null.value(), num(fd), num(0))
	}
	b.call("enter", "/", unix.SYS_CHDIR, b.str("/"))
	b.call("unblock signals", "", unix.SYS_RT_SIGPROCMASK, num(2 /* SIG_SETMASK */), b.bytes(make([]byte, 8)), num(0), num(8))
	const self = "/proc/self/exe" // even if its file has been replaced or removed since
	b.call("execute", self, unix.SYS_EXECVE, b.str(self), b.strs(args), b.strs(env))
	b.blob = b.finish(0, f.its)
	f.then, f.heir = b.script(0), b.blob
	if err := unix.Send(f.ours, []byte{'g'}, unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("send to the program's parent", err)
	}
	if err := f.leaves(&b.program); err != nil {
		return err
	}
	go func() { _, _ = unix.Wait4(f.pid, nil, 0, nil) }()
	f.close()
	p.foster = nil
	p.mu.Lock()
	unix.Close(p.pidfd)
	p.pidfd = -1
	p.mu.Unlock()
	p.unlockThread()
	return nil
}

// leaves waits until the foster parent has become something else; b is how it does that.
func (f *foster) leaves(b *program) error {
	for {
		msg, err := f.hear()
		switch {
		case err != nil:
			return err
		case len(msg) == 1: // the socket is its own now, and what we have of that end would hide its close
			unix.Close(f.its)
			f.its = -1
		case len(msg) == int(unsafe.Sizeof(early.Report{})):
			r := (*early.Report)(unsafe.Pointer(&msg[0]))
			return fmt.Errorf("leave the program to another parent: %w", b.error(int(r.Index), syscall.Errno(r.Errno)))
		case f.its >= 0:
			return errOrphaned
		default:
			runtime.KeepAlive(f) // it has worked in our memory until now
			return nil
		}
	}
}

// hear waits for the foster parent's next word; it is empty if there will be none.
func (f *foster) hear() ([]byte, error) {
	fds := []unix.PollFd{{Fd: int32(f.ours), Events: unix.POLLIN}, {Fd: int32(f.pidfd), Events: unix.POLLIN}}
	msg := make([]byte, 8)
	for {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return nil, os.NewSyscallError("poll", err)
		}
		n, _, err := unix.Recvfrom(f.ours, msg, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ECONNRESET): // it has ended
			return nil, nil
		default:
			return msg[:max(n, 0)], os.NewSyscallError("receive from the program's parent", err)
		}
	}
}

// dismiss lets the foster parent end the child, and itself.
func (f *foster) dismiss() {
	if f != nil {
		_ = unix.Shutdown(f.ours, unix.SHUT_RDWR)
	}
}

// end is for one whose child has not come to life.
func (f *foster) end() {
	f.dismiss()
	for {
		if _, err := unix.Wait4(f.pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	f.close()
}

func (f *foster) close() {
	for _, fd := range []*int{&f.ours, &f.its, &f.pidfd, &f.self} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// fosterAndPerform is spawnAndPerform with a process between.
//
//go:noinline
//go:norace
func fosterAndPerform(args *cloneArgs, f *foster) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, e := cloneFoster(args, unsafe.Sizeof(*args), f)
	afterFork()
	return pid, syscall.Errno(e)
}

// cloneFoster is clone3(2), whose child calls performFoster on the stack that args names, and never returns.
func cloneFoster(args *cloneArgs, size uintptr, f *foster) (pid, errno uintptr)

// performFoster is the child of cloneFoster, which knows it by its name. It lives under the rules of early.Perform.
//
//lint:ignore U1000 called from clone_*.s
//go:nosplit
//go:norace
func performFoster(f *foster) {
	syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	f.born, f.errno = clone3(&f.args, unsafe.Sizeof(f.args), f.first, f.next)
	if f.errno != 0 { // nobody to stay with
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
	*f.child = f.born
	early.Perform(f.wait.calls, f.wait.first, f.wait.n, f.wait.socket)
	early.Perform(f.then.calls, f.then.first, f.then.n, f.then.socket)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
}
