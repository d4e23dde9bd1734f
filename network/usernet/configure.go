package usernet

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// configure gives the device its addresses and makes the gateway the way to everywhere.
func (d *Device) configure(w *rtnl) error {
	index, err := w.index(d.Name)
	if err != nil {
		return err
	}
	const loopback = 1      // the first device of each namespace
	_ = w.ask(up(loopback)) // it is up already, if the container wants it
	if err := w.ask(slices.Concat([]wish{d.shape(index)}, d.address(index, d.IPv4), []wish{up(index)}, d.route(index, d.Gateway4))...); err != nil {
		return err
	}
	err = w.ask(append(d.address(index, d.IPv6), d.route(index, d.Gateway6)...)...)
	if isAny(err, unix.EACCES, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPERM) {
		return nil // the kernel has IPv6 switched off
	}
	if err == nil && d.IPv6.IsValid() {
		awaitLocal(w, d.IPv6.Addr())
	}
	return err
}

// awaitLocal waits until the kernel takes in what is for an IPv6 address. A worker of its does that a little later than the
// address is there to be sent from, and an answer that is quicker would be lost.
func awaitLocal(w *rtnl, a netip.Addr) {
	for range 400 {
		kind, err := w.kindOfRoute(a)
		if err != nil && !errors.Is(err, unix.ENETUNREACH) || kind == unix.RTN_LOCAL {
			return
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// shape sets the hardware address and the largest size of a packet.
func (d *Device) shape(index uint32) wish {
	list := []netlink.Attribute{{Type: unix.IFLA_MTU, Data: binary.NativeEndian.AppendUint32(nil, MTU)}}
	if len(d.MAC) > 0 {
		list = append(list, netlink.Attribute{Type: unix.IFLA_ADDRESS, Data: d.MAC})
	}
	return wish{"set hardware address " + d.MAC.String() + " and mtu", unix.RTM_NEWLINK, 0, linkMessage(index, 0), list}
}

// up sets a device up.
func up(index uint32) wish {
	return wish{"set up", unix.RTM_NEWLINK, 0, linkMessage(index, unix.IFF_UP), nil}
}

// linkMessage is a struct ifinfomsg, rtnetlink(7), that sets flags.
func linkMessage(index, flags uint32) []byte {
	m := binary.NativeEndian.AppendUint32(make([]byte, 4, unix.SizeofIfInfomsg), index)
	m = binary.NativeEndian.AppendUint32(m, flags)
	return binary.NativeEndian.AppendUint32(m, flags) // and no others
}

// address adds an address to the device, if there is one. The fixed part is a struct ifaddrmsg.
func (d *Device) address(index uint32, p netip.Prefix) []wish {
	if !p.IsValid() {
		return nil
	}
	a := p.Addr().AsSlice()
	list := []netlink.Attribute{{Type: unix.IFA_LOCAL, Data: a}, {Type: unix.IFA_ADDRESS, Data: a}}
	fixed := []byte{family(p.Addr()), byte(p.Bits()), 0, 0}
	if p.Addr().Is6() {
		fixed[2] = unix.IFA_F_NODAD // there is nobody else on the cable
	} else if p.Bits() < 31 {
		list = append(list, netlink.Attribute{Type: unix.IFA_BROADCAST, Data: broadcast(p)})
	}
	return []wish{{"add address " + p.String(), unix.RTM_NEWADDR, netlink.Create | netlink.Excl, binary.NativeEndian.AppendUint32(fixed, index), list}}
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) []byte {
	a, mask := p.Addr().AsSlice(), net.CIDRMask(p.Bits(), 32)
	for i := range a {
		a[i] |= ^mask[i]
	}
	return a
}

// route goes by the gateway, if there is one, whose hardware address is known beforehand: nobody has to ask for it. The fixed
// parts are a struct ndmsg and a struct rtmsg.
func (d *Device) route(index uint32, gateway netip.Addr) []wish {
	if !gateway.IsValid() {
		return nil
	}
	what, ip, number := "add route by "+gateway.String(), gateway.AsSlice(), binary.NativeEndian.AppendUint32(nil, index)
	neighbour := append([]byte{family(gateway), 0, 0, 0}, number...)
	neighbour = append(binary.NativeEndian.AppendUint16(neighbour, unix.NUD_PERMANENT), 0, 0)
	way := []byte{family(gateway), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	return []wish{
		{what, unix.RTM_NEWNEIGH, netlink.Create | netlink.Replace, neighbour, []netlink.Attribute{
			{Type: unix.NDA_DST, Data: ip}, {Type: unix.NDA_LLADDR, Data: gatewayMAC()},
		}},
		{what, unix.RTM_NEWROUTE, netlink.Create | netlink.Replace, way, []netlink.Attribute{
			{Type: unix.RTA_GATEWAY, Data: ip}, {Type: unix.RTA_OIF, Data: number},
		}},
	}
}

// addPair makes a pair of veth: here, which is up, and there, in another namespace.
func addPair(here, there string, namespace *os.File) (wish, error) {
	word := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	var err error
	nested := func(list ...netlink.Attribute) []byte {
		b, e := netlink.MarshalAttributes(list)
		err = errors.Join(err, e)
		return b
	}
	const peer = 1 // VETH_INFO_PEER, linux/veth.h
	other := append(make([]byte, unix.SizeofIfInfomsg), nested(
		netlink.Attribute{Type: unix.IFLA_IFNAME, Data: append([]byte(there), 0)},
		netlink.Attribute{Type: unix.IFLA_MTU, Data: word(MTU)},
		netlink.Attribute{Type: unix.IFLA_NET_NS_FD, Data: word(uint32(namespace.Fd()))})...)
	return wish{"add veth", unix.RTM_NEWLINK, netlink.Create | netlink.Excl, linkMessage(0, unix.IFF_UP), []netlink.Attribute{
		{Type: unix.IFLA_IFNAME, Data: append([]byte(here), 0)},
		{Type: unix.IFLA_MTU, Data: word(MTU)},
		{Type: unix.IFLA_ADDRESS, Data: gatewayMAC()},
		{Type: unix.IFLA_LINKINFO, Data: nested(
			netlink.Attribute{Type: unix.IFLA_INFO_KIND, Data: []byte("veth")},
			netlink.Attribute{Type: unix.IFLA_INFO_DATA, Data: nested(netlink.Attribute{Type: peer, Data: other})})},
	}}, err
}
