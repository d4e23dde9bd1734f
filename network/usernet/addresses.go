package usernet

import (
	"net"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/hullrun/hull/network"
)

// specialNet is a network that nobody is let into who was not allowed to by its name.
type specialNet struct {
	net  netip.Prefix
	what string
}

// special are the host's own addresses that never leave it, and those of a cloud's metadata.
func special() []specialNet {
	p := netip.MustParsePrefix
	list := []specialNet{
		{p("127.0.0.0/8"), "loopback of the host"},
		{p("::1/128"), "loopback of the host"},
		{p("0.0.0.0/8"), "no address"},
		{p("::/128"), "no address"},
		{p("fe80::/10"), "link-local"},
		{p("224.0.0.0/4"), "multicast"},
		{p("ff00::/8"), "multicast"},
		{p("255.255.255.255/32"), "broadcast"},
	}
	for _, m := range network.Metadata() {
		what := "metadata"
		if m.Addr().IsLinkLocalUnicast() {
			what = "metadata or link-local"
		}
		list = append(list, specialNet{m, what})
	}
	return list
}

// isOwn says whether an address is one of somebody's own network, where no name of the outside should lead (RFC 1918, 4193,
// 6598; and what was set apart once or for the future, 2544, 3879, 1112, which some use as if it were their own).
func isOwn(a netip.Addr) bool {
	return a.IsPrivate() || slices.ContainsFunc([]string{"100.64.0.0/10", "198.18.0.0/15", "192.0.0.0/24", "240.0.0.0/4", "fec0::/10"},
		func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
}

// isMine says whether an address is the host's: what goes there does not leave it, nor pass what guards it from outside.
func isMine(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addrs, func(mine net.Addr) bool {
		p, err := netip.ParsePrefix(mine.String())
		return err == nil && p.Addr() == a
	})
}

// inner is the IPv4 address that an IPv6 address stands for, where it is one of those that the host or its NAT64 would take
// for it (RFC 4291 2.5.5, 2765, 6052, 8215), so that no rule can be gone around by another spelling.
func inner(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	b := a.As16()
	compatible := a.Compare(netip.MustParseAddr("::1:0")) >= 0 && netip.MustParsePrefix("::/96").Contains(a)
	translated := slices.ContainsFunc([]string{"64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96"},
		func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
	if compatible || translated {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	if netip.MustParsePrefix("2002::/16").Contains(a) { // 6to4, RFC 3056
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// The stack's words for addresses.

func addrOf(a tcpip.Address) netip.Addr {
	n, _ := netip.AddrFromSlice(a.AsSlice())
	return n
}

func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: addressOf(a.Addr()), Port: a.Port()}
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
