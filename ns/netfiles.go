package ns

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// NetworkFiles are what a device in the network of a container is made with: it is at the end of Tun, or, where that is not to be
// had, the end of a pair whose other one is in a namespace of its own. Each belongs for good to the namespace that it was opened
// in, and its use takes the right of who opened it as well as of who uses it (netlink(7); tun_chr_open and tun_set_iff in
// drivers/net/tun.c, Linux 6.18).
type NetworkFiles struct {
	Route *os.File // a socket of family NETLINK_ROUTE in the container's network namespace
	Tun   *os.File // /dev/net/tun opened in there, or nil, and then:

	Namespace *os.File // the container's network namespace
	FarRoute  *os.File // a socket of family NETLINK_ROUTE in a new network namespace, which lasts as long as it and the next
	Packet    *os.File // a socket of family AF_PACKET in that one, which takes nothing yet
}

// Close closes those files that are there and still open.
func (f *NetworkFiles) Close() {
	for _, file := range []*os.File{f.Route, f.Tun, f.Namespace, f.FarRoute, f.Packet} {
		file.Close() // nil is none
	}
}

// OpenNetwork opens the files in the user and network namespace of the process that the pidfd target stands for. The owner of
// a user namespace has the rights in it (user_namespaces(7)), but the threads of a Go program cannot enter it: so a child does,
// which works in the caller's memory and with its open files. That spares all copies, and the start of a program. The error names
// the system call that was refused.
//
// Nobody may be in the user namespace yet whom the caller does not trust: who has CAP_SYS_PTRACE there, and sees the child, by
// the host's pids or a mount of its /proc, could write to the caller's memory. In the namespaces of a program that runs, a process
// works that joining has made safe, see join.go.
func OpenNetwork(target *os.File) (*NetworkFiles, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	var f NetworkFiles
	b := &birth{program: program{data: make([]byte, 8)}} // place 0 stays unused: a Store of 0 means none
	found := map[slot]**os.File{}
	into := func(file **os.File) slot { s := b.slot(); found[s] = file; return s }
	netlink := []arg{num(unix.AF_NETLINK), num(unix.SOCK_RAW | unix.SOCK_CLOEXEC), num(unix.NETLINK_ROUTE)}
	b.call("join the network of the container", "", unix.SYS_SETNS, num(target.Fd()), num(unix.CLONE_NEWUSER|unix.CLONE_NEWNET))
	b.call("open", "a netlink socket", unix.SYS_SOCKET, netlink...).into(into(&f.Route))
	b.call("open", "/dev/net/tun", unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str("/dev/net/tun"),
		num(unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK), num(0)).into(into(&f.Tun)).orGoOn().thenSkip(4)
	const self = "/proc/thread-self/ns/net"
	b.call("open", self, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(self), num(unix.O_RDONLY|unix.O_CLOEXEC), num(0)).into(into(&f.Namespace))
	b.call("make a network namespace", "", unix.SYS_UNSHARE, num(unix.CLONE_NEWNET))
	b.call("open", "a netlink socket", unix.SYS_SOCKET, netlink...).into(into(&f.FarRoute))
	b.call("open", "a packet socket", unix.SYS_SOCKET, num(unix.AF_PACKET), num(unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK), num(0)).into(into(&f.Packet))
	b.call("exit", "", unix.SYS_EXIT_GROUP, num(0))
	b.blob = b.finish(0, pipe[1])
	err := b.lend(pipe)
	for s, file := range found {
		if fd := *b.blob.word(s); fd != 0 {
			*file = os.NewFile(fd, "network file")
		}
	}
	if err == nil && f.Tun == nil && f.Packet == nil {
		err = errors.New("open the files of a network: the child ended without a word")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &f, nil
}

// lend has a child perform the program with the open files of this process, and waits for its end. The child writes to the pipe
// which call failed. The pipe's second end is closed.
func (b *birth) lend(pipe [2]int) error {
	pid, w, err := spawn(b, unix.CLONE_FILES)
	if err == nil {
		for {
			if _, err = unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		runtime.KeepAlive(w)
		err = os.NewSyscallError("wait4", err)
	}
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	var msg [unsafe.Sizeof(early.Report{})]byte
	n, err := unix.Read(pipe[0], msg[:])
	if errors.Is(err, unix.EAGAIN) || err == nil && n != len(msg) {
		return nil // no word, though another child of ours may still have a copy of the pipe
	}
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	r := (*early.Report)(unsafe.Pointer(&msg[0]))
	return b.error(int(r.Index), syscall.Errno(r.Errno))
}
