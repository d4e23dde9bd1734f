package usernet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a network device in a container, with its addresses.
type Device struct {
	// Name is the device's, such as "eth0"; at most 15 bytes.
	Name string
	// MAC is its hardware address.
	MAC net.HardwareAddr
	// IPv4 and IPv6 are its addresses within their networks, at most one of which may be the zero Prefix.
	IPv4, IPv6 netip.Prefix
	// Gateway4 and Gateway6 are where the network's helper is: the way to everywhere else, and the resolver.
	Gateway4, Gateway6 netip.Addr
}

// gatewayMAC is the hardware address at the other end of the cable: locally administered, and in no other network.
func gatewayMAC() net.HardwareAddr { return net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd} }

// Plug makes the device in the network namespace that the caller is in, whose owner it has to be root of, and gives the
// other end of its cable, for [Network.Serve]. When that file is closed everywhere, the device is gone. An ordinary user's
// /dev/net/tun may be closed to them, or missing; then the device is one end of a veth pair, whose other end is in a
// namespace of its own with a packet socket on it.
func Plug(d Device) (*os.File, error) {
	w, err := openRoutes()
	if err != nil {
		return nil, err
	}
	defer w.file.Close()
	return d.plug(w, func() (*os.File, error) { return device(d.Name) })
}

// PlugFrom makes the device by files that were opened elsewhere, see [Files]. Their namespace has to be one that the caller has
// rights in, too. Tun or Packet is the result, or closed if there is an error; the others are the caller's.
func PlugFrom(d Device, f Files) (*os.File, error) {
	return d.plug(&rtnl{file: f.Route}, func() (*os.File, error) {
		if f.Tun != nil {
			return f.Tun, tap(int(f.Tun.Fd()), d.Name)
		}
		return f.Packet, pair(&rtnl{file: f.FarRoute}, f.Namespace, f.Packet, d.Name)
	})
}

// Files are a socket of family NETLINK_ROUTE and /dev/net/tun, both opened in the network namespace of the device; or, where there
// is no such file, that namespace and two sockets in another, of family NETLINK_ROUTE and AF_PACKET.
type Files struct{ Route, Tun, Namespace, FarRoute, Packet *os.File }

func (d *Device) plug(w *rtnl, device func() (*os.File, error)) (*os.File, error) {
	file, err := device()
	// The kernel takes away what a killed helper has left, but not before that is gone.
	for end := time.Now().Add(2 * time.Second); isTaken(err) && time.Now().Before(end); file, err = device() {
		time.Sleep(2 * time.Millisecond)
	}
	if err == nil {
		err = d.configure(w)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, fmt.Errorf("network device %s: %w", d.Name, err)
	}
	return file, nil
}

// ErrUnavailable says that nothing makes a device here: there is no /dev/net/tun for the user, nor does the kernel have pairs
// of veth with packet sockets.
var ErrUnavailable = errors.New("networks cannot be made here")

// device makes the device as it can.
func device(name string) (*os.File, error) {
	file, err := newTap(name)
	if err == nil || !isAny(err, unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENODEV, unix.ENXIO) {
		return file, err
	}
	if file, second := veth(name); second == nil || isTaken(second) {
		return file, second
	} else if isAny(second, unix.EOPNOTSUPP, unix.EPERM, unix.EAFNOSUPPORT, unix.ENOSPC) {
		err = fmt.Errorf("%w (%w, %w)", ErrUnavailable, err, second)
	} else {
		err = second
	}
	return nil, err
}

func isAny(err error, list ...unix.Errno) bool {
	return slices.ContainsFunc(list, func(e unix.Errno) bool { return errors.Is(err, e) })
}

// isTaken says whether a device of that name is there: the kernel's words for a pair of veth, and for a tap device that somebody
// else has open.
func isTaken(err error) bool { return errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) }

// newTap makes a tap device.
func newTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	if err := tap(fd, name); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tap"), nil
}

// tap makes fd, /dev/net/tun, a tap device whose frames carry their checksums as an offer, see link.
func tap(fd int, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	return os.NewSyscallError("ioctl TUNSETOFFLOAD", unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads))
}

// veth makes a pair whose other end lies in a new namespace, which lasts as long as the socket.
func veth(name string) (*os.File, error) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer here.Close()
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and has left its namespace
		file, err := vethFrom(here, name)
		made <- result{file, err}
	}()
	r := <-made
	return r.file, r.err
}

func vethFrom(there *os.File, name string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	w, err := openRoutes()
	if err != nil {
		return nil, err
	}
	defer w.file.Close()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	packet := os.NewFile(uintptr(fd), "packet")
	if err := pair(w, there, packet, name); err != nil {
		packet.Close()
		return nil, err
	}
	return packet, nil
}

// pair makes a pair of devices in the namespace of w, whose other one is in the namespace there, and opens the packet socket
// for all that comes in here, with the same header as a tap device's.
func pair(w *rtnl, there, packet *os.File, name string) error {
	const here = "cable"
	add, err := addPair(here, name, there)
	if err != nil {
		return err
	}
	if err := w.ask(add); err != nil {
		return err
	}
	index, err := w.index(here)
	if err != nil {
		return err
	}
	fd := int(packet.Fd())
	for _, o := range []struct {
		name   string
		option int
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR}, {"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING},
		{"PACKET_QDISC_BYPASS", unix.PACKET_QDISC_BYPASS}, // a queue drops all until the kernel has noticed, some time later, that the cable is in
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.option, 1); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20) // as much as there is to be had
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<20)
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: int(index)}))
}
