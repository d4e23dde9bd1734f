package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// raise makes the bridge, if it is not there, and gives it the gateways' addresses.
func (n *Network) raise() error {
	name := n.Interface()
	if linkExists(name) {
		return nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = name, n.group()
	attrs.HardwareAddr, _ = net.ParseMAC(macFor(n.Subnets[0].Gateway))
	attrs.MTU, _ = mtuOf(n.Options)
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s: %w", name, needs(err, "bridges (module bridge)"))
	}
	err := n.setUp(bridge)
	if err != nil {
		err = errors.Join(fmt.Errorf("set up bridge %s: %w", name, err), removeLink(name, 0))
	}
	return err
}

func (n *Network) setUp(bridge *netlink.Bridge) error {
	name := n.Interface()
	// A container that tells of routers must not become the host's.
	setSysctl("ipv6", name, "accept_ra", "0")
	if !n.IPv6 {
		setSysctl("ipv6", name, "disable_ipv6", "1")
	}
	for _, u := range n.Subnets {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(u.Gateway, u.Prefix.Bits())), Flags: unix.IFA_F_NODAD}
		if u.Gateway.Is4() {
			addr.Flags = 0
		}
		if err := netlink.AddrAdd(bridge, addr); err != nil {
			return fmt.Errorf("address %s: %w", u.Gateway, err)
		}
	}
	return netlink.LinkSetUp(bridge)
}

// MTUOption is the driver's option of how long a packet may be, Docker's name for it. In a network that is a process it has no
// meaning: what leaves that are the host's own packets.
const MTUOption = "com.docker.network.driver.mtu"

// mtuOf is what the option says in bytes, 0 for the kernel's own choice.
func mtuOf(options map[string]string) (int, error) {
	text, ok := options[MTUOption]
	if !ok {
		return 0, nil
	}
	mtu, err := strconv.Atoi(text)
	if err != nil || mtu != 0 && (mtu < 68 || mtu > 65535) {
		return 0, fmt.Errorf("opt %s=%s: want 68 to 65535 bytes", MTUOption, text)
	}
	return mtu, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// lower takes the bridge and the rules away, and gives back what was changed on the host for them.
func (s *Networks) lower(n *Network) error {
	if n.Driver != "bridge" {
		return nil
	}
	// First: these settings take the lock that removing the interface holds for a long time, see unlink.
	err := s.giveBack(n)
	removed := aside(func() error { return removeTable(n.table()) })
	return errors.Join(err, removeLink(n.Interface(), n.group()), removed())
}

// insideOf opens the network namespace that path refers to. Both results are to be closed.
func insideOf(path string) (ns netns.NsHandle, inside *netlink.Handle, err error) {
	if ns, err = netns.GetFromPath(path); err != nil {
		return ns, nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	if inside, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		ns.Close()
		return ns, nil, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return ns, inside, nil
}

// plug lays a cable from the bridge into a network namespace. Its end in there is the first of eth0, eth1 … that is free.
func (n *Network) plug(path string, e *Endpoint) error {
	ns, inside, err := insideOf(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer inside.Close()
	name, err := freeName(inside)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return fmt.Errorf("mac-address %q: %w", e.MAC, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group, attrs.MasterIndex, attrs.Flags = e.Interface, n.group(), int(index(n.Interface())), net.FlagUp
	attrs.MTU, _ = mtuOf(n.Options) // of both ends
	// Both ends at once, each where it belongs: whoever is killed in between leaves nothing behind that is not the container's.
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s: %w", e.Interface, needs(err, "cables (module veth)"))
	}
	setSysctl("ipv6", e.Interface, "disable_ipv6", "1")
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("bring up %s: %w", e.Interface, err)
	}
	if data, _ := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); len(data) > 0 && data[0] == '1' {
		// br_netfilter changes destinations while a frame is still in the bridge, which sends none back to where it came from:
		// a container would not reach itself through a port of the host's.
		if err := netlink.LinkSetHairpin(veth, true); err != nil {
			return fmt.Errorf("hairpin mode of %s: %w", e.Interface, err)
		}
	}
	err = within(ns, func() error {
		setSysctl("ipv6", name, "accept_ra", "0") // neighbours are no routers
		if !e.Address6.IsValid() {
			setSysctl("ipv6", name, "disable_ipv6", "1")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return equip(inside, name, e)
}

// signalPatience is how long a cable may take to have a signal.
const signalPatience = 200 * time.Millisecond

// awaitSignal waits until the bridge forwards what comes by a cable whose other end has just been brought up. The kernel notices
// its signal in a work of its own (net/core/link_watch.c), a moment later, and what is sent meanwhile is lost: the question for
// the gateway's address, say, which is repeated after a second.
func awaitSignal(name string) {
	for deadline := time.Now().Add(signalPatience); time.Now().Before(deadline); time.Sleep(200 * time.Microsecond) {
		if link, err := netlink.LinkByName(name); err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// whole asks the kernel for a list until nobody has changed it meanwhile: in one that was interrupted something may be missing.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 1000 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// freeName is the first of eth0, eth1 … that there is not.
func freeName(h *netlink.Handle) (string, error) {
	links, err := whole(h.LinkList)
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	for i := 0; ; i++ {
		name := "eth" + strconv.Itoa(i)
		if !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name }) {
			return name, nil
		}
	}
}

// equip gives the container's end its addresses, and default routes to where there is none yet.
func equip(h *netlink.Handle, name string, e *Endpoint) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	for _, a := range []netip.Prefix{e.Address, e.Address6} {
		if !a.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else has it, and nobody shall wait
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give %s address %s: %w", name, a, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return e.route(h)
}

// route gives the container default routes by the gateways to where there is none yet.
func (e *Endpoint) route(h *netlink.Handle) error {
	for _, gw := range []netip.Addr{e.Gateway, e.Gateway6} {
		if !gw.IsValid() {
			continue
		}
		err := h.RouteAdd(&netlink.Route{Gw: gw.AsSlice()}) // which the kernel finds by the address
		if err != nil && !errors.Is(err, unix.EEXIST) {     // another network's goes first
			return fmt.Errorf("route by %s: %w", gw, err)
		}
	}
	return nil
}

// within runs f on a thread in a network namespace. A thread that does not find back ends.
func within(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer own.Close()
		away := !own.Equal(ns) // to stay takes no rights
		if away {
			if err := unix.Setns(int(ns), unix.CLONE_NEWNET); err != nil {
				done <- os.NewSyscallError("setns", err)
				return
			}
		}
		err = f()
		if !away || unix.Setns(int(own), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// aside runs f at the same time, on a thread in the network namespace that the caller's is in, and gives the function that waits
// for its end.
func aside(f func() error) (wait func() error) {
	here, err := netns.Get()
	if err != nil {
		return func() error { return err }
	}
	done := make(chan error, 1)
	go func() {
		defer here.Close()
		done <- within(here, f)
	}()
	return func() error { return <-done }
}

func linkExists(name string) bool { return index(name) != 0 }

// removeLink removes an interface, and with it the other end of a cable, and all others of its group where that is not 0. It
// is no error if there is none.
func removeLink(name string, group uint32) error {
	if name == "" || unlink(name, group) {
		return nil
	}
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// forget makes the kernel forget the connections to an address.
func forget(a netip.Addr, family netlink.InetFamily) {
	if !a.IsValid() {
		return
	}
	f := &netlink.ConntrackFilter{}
	if f.AddIP(netlink.ConntrackReplySrcIP, a.AsSlice()) == nil {
		_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f) // without conntrack there is nothing to forget
	}
}

// sysctlPath is a setting of one interface, in the network namespace of the thread that opens it.
func sysctlPath(family, link, name string) string {
	return "/proc/sys/net/" + family + "/conf/" + link + "/" + name
}

func sysctl(family, link, name string) string {
	data, _ := os.ReadFile(sysctlPath(family, link, name))
	return strings.TrimSpace(string(data))
}

// setSysctl changes a setting, and says whether it could. One that is as wanted is left alone.
func setSysctl(family, link, name, value string) bool {
	if sysctl(family, link, name) == value {
		return true
	}
	return os.WriteFile(sysctlPath(family, link, name), []byte(value), 0) == nil
}
