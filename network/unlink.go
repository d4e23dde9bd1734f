package network

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Removing an interface takes the kernel three steps: it takes it off its lists, from when on nobody finds it; it waits until
// no processor has it in hand; and it waits for that once more (netdev_run_todo). The first is done at once, but whoever asks
// stays in the kernel for all of them, 20 to 70 ms, and cannot be killed. That is too long for somebody who waits for the
// exit status of a program. So a child asks, which does nothing else, and this process goes on when the interface is not to be
// found any more.

// group is the number of a network's interfaces (ip-link(8), group), which are removed all at once by it. Nobody else uses one
// like it: the numbers that people give are small.
func (n *Network) group() uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.ID))
	return h.Sum32() | groupMark
}

// groupMark is set in the numbers of all networks' groups.
const groupMark = 1 << 30

// index is the number of an interface by its name, 0 if there is none. Unlike netlink it does not wait for those who change
// others.
func index(name string) uint32 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) != nil {
		return 0
	}
	return req.Uint32()
}

// unlink removes the interface of a name, and with a group that is not 0 all others of the group. It reports whether it is
// gone, which it is not if nobody may remove it, or if another process has to be waited for.
func unlink(name string, group uint32) bool {
	number := index(name)
	if number == 0 {
		return true
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	if req.AddData(msg); group == 0 {
		msg.Index = int32(number)
	} else {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, binary.NativeEndian.AppendUint32(nil, group)))
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	m := newMail(fd, req.Serialize())
	child, err := m.sendByChild()
	if err != nil {
		return false
	}
	ended := make(chan struct{})
	go func() {
		_, _ = wait(child)
		runtime.KeepAlive(m)
		close(ended)
	}()
	for pause := 50 * time.Microsecond; index(name) == number; pause = min(2*pause, time.Millisecond) {
		select {
		case <-ended:
			return index(name) != number
		case <-time.After(pause):
		}
	}
	return true
}

func wait(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

// mail is a message for a child to send on a socket. The child works in this process's memory, of which to make a copy would take
// 5 ms: here is its stack, too. So it is needed until the child has ended.
type mail struct {
	fd    uintptr
	data  []byte
	stack []uint64
}

// newMail has a stack that is large enough: sendAndEnd and what it calls take less than 1 kB, see the linker's nosplit check.
func newMail(fd int, data []byte) *mail {
	return &mail{fd: uintptr(fd), data: data, stack: make([]uint64, 1<<9)}
}

// sendByChild has a new child send the message, and end.
func (m *mail) sendByChild() (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What comes for the child it cannot deal with, for there is no Go in it.
	const size = 8 // of the kernel's sigset_t
	all, before := ^uint64(0), uint64(0)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), size, 0, 0); e != 0 {
		return 0, os.NewSyscallError("rt_sigprocmask", e)
	}
	top := uintptr(unsafe.Pointer(&m.stack[len(m.stack)-2])) &^ 15
	child, errno := cloneToSend(unix.CLONE_VM|uintptr(unix.SIGCHLD), top, m)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, size, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("clone", unix.Errno(errno))
	}
	return int(child), nil
}

// cloneToSend is clone(2), whose child calls sendAndEnd on that stack, and never returns.
func cloneToSend(flags, stack uintptr, m *mail) (pid, errno uintptr)

// sendAndEnd is the child of cloneToSend, which knows it by its name. It has no runtime: it may do nothing but these calls. It
// has none of our files but the socket, so that who waits for the end of a pipe does not wait for it.
//
//lint:ignore U1000 called from clone_*.s
//go:norace
//go:nosplit
func sendAndEnd(m *mail) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE_RANGE, m.fd+1, 1<<31-1, 0)
	if m.fd > 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE_RANGE, 0, m.fd-1, 0)
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, m.fd, uintptr(unsafe.Pointer(unsafe.SliceData(m.data))), uintptr(len(m.data)), 0, 0, 0)
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
