package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// commit has the kernel do what fill asks for, all of it or nothing, in the network namespace of the thread. [nftables.Conn]
// would have each message acknowledged and each rule said again, which takes as long as the work does. So it only writes the
// messages, for a connection that is meant for tests, and they are sent here.
func commit(fill func(*nftables.Conn)) error {
	var sent error
	conn, err := nftables.New(nftables.WithTestDial(func(batch []netlink.Message) ([]netlink.Message, error) {
		if len(batch) > 0 { // else it asks for answers
			sent = sendBatch(batch)
		}
		return nil, io.EOF // there are none
	}))
	if err == nil {
		fill(conn)
		err = conn.Flush()
	}
	return errors.Join(err, sent)
}

// sendBatch sends a batch of which the last message but its end alone is acknowledged. Kernels before 6.10 acknowledge no end.
func sendBatch(batch []netlink.Message) error {
	var data []byte
	for i, m := range batch {
		m.Header.PID = 0
		m.Header.Flags &^= netlink.Acknowledge | netlink.Echo
		if i == len(batch)-2 {
			m.Header.Flags |= netlink.Acknowledge
		}
		b, err := m.MarshalBinary()
		if err != nil {
			return err
		}
		data = append(data, b...)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(data)+room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, len(data)+room)
	}
	if err := unix.Sendto(fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sendto: %w", err)
	}
	return firstError(fd)
}

// room is more than the kernel takes for a message beside what is in it, in bytes.
const room = 4 << 10

// firstError reads what the kernel has answered to a batch before it took it from us: the first error of those that there are, or
// that all is done.
func firstError(fd int) (first error) {
	done := false
	buf := make([]byte, 64<<10) // an error quotes what it is about
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // there were more than fit: the first are there
			continue
		case errors.Is(err, unix.EAGAIN):
			if first == nil && !done {
				first = errors.New("the kernel has not answered")
			}
			return first
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			errno := -int32(binary.NativeEndian.Uint32(m.Data))
			if done = true; errno != 0 && first == nil {
				first = syscall.Errno(errno)
			}
		}
	}
}
