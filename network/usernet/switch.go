package usernet

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// isGroup says whether a hardware address is that of several (IEEE 802: the first bit on the wire).
func isGroup(mac tcpip.LinkAddress) bool { return len(mac) > 0 && mac[0]&1 != 0 }

func (l *link) port(mac tcpip.LinkAddress) *port {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.ports[mac]
}

// pass sends a member's frame to the others that it is for, and says whether the stack is to have it. No member speaks for
// another: each has one hardware address, and answers for its own IPv4 address only.
func (p *port) pass(vnet, frame []byte) (stack bool) {
	l := p.link
	eth := header.Ethernet(frame)
	if eth.SourceAddress() != p.mac {
		return false
	}
	if to := eth.DestinationAddress(); to == l.mac {
		return true
	} else if !isGroup(to) {
		if other := l.port(to); other != nil && !p.lies(frame) {
			other.writeFrame([][]byte{vnet, frame})
		}
		return false
	}
	if p.lies(frame) {
		return false
	}
	wanted, asks := wantedAddress(frame)
	if asks && l.network.isGateway(wanted) {
		return true
	}
	if m := l.network.member(wanted); m != nil {
		if other := l.port(tcpip.LinkAddress(m.Device.MAC)); other != nil && other != p {
			other.writeFrame([][]byte{vnet, frame})
		}
		return false
	}
	l.flood(p, [][]byte{vnet, frame})
	return !asks // the stack, which speaks for all addresses, would answer
}

// flood sends a frame to all but one.
func (l *link) flood(from *port, pieces [][]byte) {
	l.mu.RLock()
	var list []*port
	for _, p := range l.ports {
		if p != from {
			list = append(list, p)
		}
	}
	l.mu.RUnlock()
	for _, p := range list {
		p.writeFrame(pieces)
	}
}

// Where things are in a frame: after Ethernet's header of 14 bytes ARP's (RFC 826) or IPv6's of 40 with ICMPv6's (RFC 4861
// 4.3) behind it.
const (
	arpSize, arpSender, arpTarget     = 42, 28, 38
	nextHeader, icmpType, solicitSize = 20, 54, 78
	solicited                         = 62
)

// lies says whether a frame gives another's IPv4 address out as the sender's.
func (p *port) lies(frame []byte) bool {
	if binary.BigEndian.Uint16(frame[12:]) != uint16(header.ARPProtocolNumber) {
		return false
	}
	if len(frame) < arpSize {
		return true
	}
	sender := netip.AddrFrom4([4]byte(frame[arpSender:]))
	return !sender.IsUnspecified() && sender != p.member.Device.IPv4.Addr()
}

// wantedAddress is the address whose owner's hardware address a frame asks for, if it does.
func wantedAddress(frame []byte) (a netip.Addr, asks bool) {
	switch kind := tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])); {
	case kind == header.ARPProtocolNumber && len(frame) >= arpSize:
		return netip.AddrFrom4([4]byte(frame[arpTarget:])), true
	case kind == header.IPv6ProtocolNumber && len(frame) >= solicitSize && frame[nextHeader] == uint8(header.ICMPv6ProtocolNumber) &&
		frame[icmpType] == uint8(header.ICMPv6NeighborSolicit):
		return netip.AddrFrom16([16]byte(frame[solicited:])), true
	}
	return netip.Addr{}, false
}
