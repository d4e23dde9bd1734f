package ns

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard sees to it that the program does not outlive this process, even if it has changed its user since: the kernel
// then forgets the parent-death signal (prctl(2)), as it does with every su and gosu, and where an execution gives the
// program an AppArmor profile. A child of ours waits for our end on a pipe, kills the program, and ends. The result ends that
// child.
//
// The child works in this process's memory, which costs next to nothing, unless apart is set: then it is a copy, which takes a
// millisecond or more, but outlives the kernel's choice of this process to end a lack of memory, which ends all that share it.
// A program that has joined a container has a guard from the beginning.
func (p *Process) Guard(apart bool) (release func(), err error) {
	if p.child != 0 {
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	g := &program{data: make([]byte, 8)}
	g.call("block signals", "", unix.SYS_RT_SIGPROCMASK, num(0 /* SIG_BLOCK */), g.bytes(everySignal()), num(0), num(8))
	g.call("start a session", "", unix.SYS_SETSID)
	// It keeps nothing open but these two: else the program's input would never end.
	low, high := min(r.Fd(), uintptr(p.pidfd)), max(r.Fd(), uintptr(p.pidfd))
	for _, gap := range [][2]uintptr{{0, low - 1}, {low + 1, high - 1}, {high + 1, uintptr(^uint32(0))}} {
		if gap[0] <= gap[1] && gap[1] != ^uintptr(0) {
			g.call("close descriptors", "", unix.SYS_CLOSE_RANGE, num(gap[0]), num(gap[1]), num(0))
		}
	}
	g.call("wait for the end", "", unix.SYS_READ, num(r.Fd()), g.bytes(make([]byte, 8)), num(1))
	g.call("kill", "", unix.SYS_PIDFD_SEND_SIGNAL, num(p.pidfd), num(unix.SIGKILL), num(0), num(0)).orGoOn()
	g.call("end", "", unix.SYS_EXIT_GROUP, num(0))
	b := g.finish(0, -1)
	s := script{b.place(), 0, uintptr(b.head.NCalls), ^uintptr(0)}
	args, stack := cloneArgs{exitSignal: uint64(unix.SIGCHLD)}, []uint64(nil)
	var pid uintptr
	var errno syscall.Errno
	syscall.ForkLock.Lock()
	if apart {
		pid, errno = forkAndPerform(&args, &s)
	} else {
		stack = newStack()
		args.share(stack)
		pid, errno = spawnAndPerform(&args, &s, &script{})
	}
	syscall.ForkLock.Unlock()
	if errno != 0 {
		w.Close()
		return nil, os.NewSyscallError("fork a guard", errno)
	}
	return func() {
		_ = unix.Kill(int(pid), unix.SIGKILL) // not reaped yet, so nobody else has its number
		for {
			if _, err := unix.Wait4(int(pid), nil, 0, nil); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		w.Close()
		runtime.KeepAlive(b.mem) // it has worked in our memory until now
		runtime.KeepAlive(stack)
	}, nil
}

func everySignal() []byte {
	all := ^uint64(0)
	return (*[8]byte)(unsafe.Pointer(&all))[:]
}
