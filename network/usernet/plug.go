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

	"github.com/vishvananda/netlink"
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
	file, err := device(d.Name)
	// The kernel takes away what a killed helper has left, but not before that is gone.
	for end := time.Now().Add(2 * time.Second); isTaken(err) && time.Now().Before(end); file, err = device(d.Name) {
		time.Sleep(2 * time.Millisecond)
	}
	if err == nil {
		err = d.configure()
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
	file, err := tap(name)
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

// tap makes a tap device whose frames carry their checksums as an offer, see link.
func tap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = os.NewSyscallError("ioctl TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	}
	if err == nil {
		const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		err = os.NewSyscallError("ioctl TUNSETOFFLOAD", unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tap"), nil
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
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: "cable", MTU: MTU, HardwareAddr: gatewayMAC()})
	pair.PeerName, pair.PeerNamespace, pair.PeerMTU = name, netlink.NsFd(there.Fd()), MTU
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("add veth: %w", err)
	}
	ours, err := netlink.LinkByName("cable")
	if err == nil {
		err = netlink.LinkSetUp(ours)
	}
	if err != nil {
		return nil, fmt.Errorf("set veth up: %w", err)
	}
	return packetSocket(ours.Attrs().Index)
}

// packetSocket takes all that comes in by a device, with the same header as a tap device's.
func packetSocket(index int) (*os.File, error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("setsockopt PACKET_VNET_HDR", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	if err == nil {
		err = os.NewSyscallError("setsockopt PACKET_IGNORE_OUTGOING", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	}
	if err == nil { // the device's queue drops all until the kernel has noticed, some time later, that the cable is in
		err = os.NewSyscallError("setsockopt PACKET_QDISC_BYPASS", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20) // as much as there is to be had
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<20)
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

// configure gives the device its addresses and makes the gateway the way to everywhere.
func (d *Device) configure() error {
	l, err := netlink.LinkByName(d.Name)
	if err != nil {
		return err
	}
	if len(d.MAC) > 0 {
		if err := netlink.LinkSetHardwareAddr(l, d.MAC); err != nil {
			return fmt.Errorf("set address %s: %w", d.MAC, err)
		}
	}
	if err := netlink.LinkSetMTU(l, MTU); err != nil {
		return fmt.Errorf("set mtu %d: %w", MTU, err)
	}
	if err := d.address(l, d.IPv4); err != nil {
		return err
	}
	six := d.address(l, d.IPv6)
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := d.route(l, d.Gateway4); err != nil {
		return err
	}
	if six == nil {
		six = d.route(l, d.Gateway6)
	}
	if six == nil && d.IPv6.IsValid() {
		awaitLocal(d.IPv6.Addr())
	}
	if errors.Is(six, unix.EACCES) || errors.Is(six, unix.EOPNOTSUPP) || errors.Is(six, unix.EAFNOSUPPORT) || errors.Is(six, unix.EPERM) {
		return nil // the kernel has IPv6 switched off
	}
	return six
}

// awaitLocal waits until the kernel takes in what is for an IPv6 address. A worker of its does that a little later than the
// address is there to be sent from, and an answer that is quicker would be lost.
func awaitLocal(a netip.Addr) {
	for range 400 {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err != nil || len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func (d *Device) address(l netlink.Link, p netip.Prefix) error {
	if !p.IsValid() {
		return nil
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // there is nobody else on the cable
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add address %s: %w", p, err)
	}
	return nil
}

// route goes by the gateway, whose hardware address is known beforehand: nobody has to ask for it.
func (d *Device) route(l netlink.Link, gateway netip.Addr) error {
	if !gateway.IsValid() {
		return nil
	}
	family := unix.AF_INET
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC()})
	if err == nil {
		err = netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()})
	}
	if err != nil {
		return fmt.Errorf("add route by %s: %w", gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
