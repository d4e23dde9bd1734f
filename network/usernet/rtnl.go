package usernet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnl talks to the kernel about the devices of one network namespace, rtnetlink(7): that in which its socket of family
// NETLINK_ROUTE was opened.
type rtnl struct {
	file *os.File
	seq  uint32
}

// openRoutes opens one for the namespace that the caller is in.
func openRoutes() (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &rtnl{file: os.NewFile(uintptr(fd), "netlink")}, nil
}

// index is the number of a device.
func (w *rtnl) index(name string) (uint32, error) {
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = os.NewSyscallError("ioctl SIOCGIFINDEX", unix.IoctlIfreq(int(w.file.Fd()), unix.SIOCGIFINDEX, req))
	}
	if err != nil {
		return 0, err
	}
	return req.Uint32(), nil
}

// wish is a change that the kernel is asked for.
type wish struct {
	what       string // for the error
	message    netlink.HeaderType
	flags      netlink.HeaderFlags
	fixed      []byte // the structure that the attributes follow
	attributes []netlink.Attribute
}

// ask sends all wishes at once, which the kernel grants in their order, and gives the first error.
func (w *rtnl) ask(wishes ...wish) error {
	var all []byte
	before := w.seq
	for _, x := range wishes {
		w.seq++
		m, err := x.bytes(w.seq, netlink.Request|netlink.Acknowledge)
		if err != nil {
			return err
		}
		all = append(all, m...)
	}
	var first error
	for answered := 0; answered < len(wishes); {
		messages, err := w.exchange(all)
		if err != nil {
			return err
		}
		all = nil
		for _, m := range messages {
			i := m.Header.Seq - before - 1
			if m.Header.Type != unix.NLMSG_ERROR || i >= uint32(len(wishes)) {
				continue
			}
			answered++
			if errno := errorIn(m); errno != 0 && first == nil {
				first = fmt.Errorf("%s: %w", wishes[i].what, errno)
			}
		}
	}
	return first
}

// errorIn is what a message of type NLMSG_ERROR says, 0 for success.
func errorIn(m syscall.NetlinkMessage) syscall.Errno {
	if len(m.Data) < 4 {
		return unix.EBADMSG
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
}

// kindOfRoute is how what is for an address goes: RTN_LOCAL if the kernel takes it in.
func (w *rtnl) kindOfRoute(a netip.Addr) (kind byte, err error) {
	fixed := make([]byte, unix.SizeofRtMsg)
	fixed[0], fixed[1] = family(a), byte(a.BitLen())
	w.seq++
	m, err := wish{"find route", unix.RTM_GETROUTE, 0, fixed, []netlink.Attribute{{Type: unix.RTA_DST, Data: a.AsSlice()}}}.bytes(w.seq, netlink.Request)
	for err == nil {
		var messages []syscall.NetlinkMessage
		messages, err = w.exchange(m)
		m = nil
		for _, a := range messages {
			switch {
			case a.Header.Seq != w.seq:
			case a.Header.Type == unix.NLMSG_ERROR:
				return 0, errorIn(a)
			case len(a.Data) >= unix.SizeofRtMsg:
				return a.Data[7], nil // rtm_type
			}
		}
	}
	return 0, err
}

func (x wish) bytes(seq uint32, flags netlink.HeaderFlags) ([]byte, error) {
	attributes, err := netlink.MarshalAttributes(x.attributes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.what, err)
	}
	data := append(x.fixed, attributes...)
	size := (unix.SizeofNlMsghdr + len(data) + 3) &^ 3
	m := netlink.Message{Header: netlink.Header{Length: uint32(size), Type: x.message, Flags: flags | x.flags, Sequence: seq}, Data: data}
	return m.MarshalBinary()
}

// exchange sends messages, if there are any, and waits for answers, of which there may be more.
func (w *rtnl) exchange(messages []byte) ([]syscall.NetlinkMessage, error) {
	fd := int(w.file.Fd())
	if len(messages) > 0 {
		if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, os.NewSyscallError("sendto", err)
		}
	}
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		return syscall.ParseNetlinkMessage(buf[:n])
	}
}

// family is the address family's number.
func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
