package usernet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

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

// ask sends all wishes at once, which the kernel grants in their order, and gives an error for each, nil if it was granted.
func (w *rtnl) ask(wishes ...wish) ([]error, error) {
	var all []byte
	for i, x := range wishes {
		m, err := x.bytes(w.seq+1+uint32(i), netlink.Request|netlink.Acknowledge)
		if err != nil {
			return nil, err
		}
		all = append(all, m...)
	}
	first := w.seq + 1
	w.seq += uint32(len(wishes))
	errs := make([]error, len(wishes))
	granted := 0
	err := w.exchange(all, func(m netlink.Message) bool {
		i := m.Header.Sequence - first
		if m.Header.Type == netlink.Error && i < uint32(len(wishes)) && len(m.Data) >= 4 {
			granted++
			if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				errs[i] = fmt.Errorf("%s: %w", wishes[i].what, unix.Errno(errno))
			}
		}
		return granted == len(wishes)
	})
	return errs, err
}

// kindOfRoute is how what is for an address goes: RTN_LOCAL if the kernel takes it in.
func (w *rtnl) kindOfRoute(a netip.Addr) (kind byte, err error) {
	fixed := make([]byte, unix.SizeofRtMsg)
	fixed[0], fixed[1] = family(a), byte(a.BitLen())
	w.seq++
	m, err := wish{"find route", unix.RTM_GETROUTE, 0, fixed, []netlink.Attribute{{Type: unix.RTA_DST, Data: a.AsSlice()}}}.bytes(w.seq, netlink.Request)
	if err != nil {
		return 0, err
	}
	var refused error
	err = w.exchange(m, func(m netlink.Message) bool {
		switch {
		case m.Header.Sequence != w.seq:
			return false
		case m.Header.Type == netlink.Error && len(m.Data) >= 4:
			refused = unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
		case len(m.Data) >= unix.SizeofRtMsg:
			kind = m.Data[7] // rtm_type
		}
		return true
	})
	return kind, errors.Join(err, refused)
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

// exchange sends messages and hands the answers over until done.
func (w *rtnl) exchange(messages []byte, done func(netlink.Message) bool) error {
	fd := int(w.file.Fd())
	if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := (int(binary.NativeEndian.Uint32(rest)) + 3) &^ 3
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				return fmt.Errorf("netlink: a message of %d bytes in %d", size, len(rest))
			}
			var m netlink.Message
			if err := m.UnmarshalBinary(rest[:size]); err != nil {
				return err
			}
			if done(m) {
				return nil
			}
			rest = rest[size:]
		}
	}
}

// family is the address family's number.
func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
