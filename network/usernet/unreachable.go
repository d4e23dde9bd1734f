package usernet

import (
	"errors"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// reason is why something is not reachable, in the numbers of ICMP and ICMPv6 (RFC 792, 1812, 4443).
type reason struct{ code4, code6 uint8 }

var (
	noPort     = reason{3, 4}
	noHost     = reason{1, 3}
	noNetwork  = reason{0, 0}
	prohibited = reason{13, 1}
)

// unreachable tells the container what the host's kernel said of a place, if that is something that ICMP has a word for.
func (n *Network) unreachable(o *origin, err error) {
	switch {
	case o == nil:
	case errors.Is(err, unix.EHOSTUNREACH):
		n.tell(o, noHost)
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
		n.tell(o, noNetwork)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		n.tell(o, prohibited)
	}
}

// tell sends an ICMP error about a packet, as from where it was for.
func (n *Network) tell(o *origin, why reason) {
	if o.to.IsMulticast() || !o.from.IsValid() {
		return
	}
	if o.from.Is4() {
		icmp := make([]byte, header.ICMPv4MinimumSize+len(o.bytes))
		copy(icmp[header.ICMPv4MinimumSize:], o.bytes)
		h := header.ICMPv4(icmp)
		h.SetType(header.ICMPv4DstUnreachable)
		h.SetCode(header.ICMPv4Code(why.code4))
		h.SetChecksum(^checksum.Checksum(icmp, 0))
		n.inject(o, header.ICMPv4ProtocolNumber, icmp)
		return
	}
	icmp := make([]byte, header.ICMPv6DstUnreachableMinimumSize+len(o.bytes))
	copy(icmp[header.ICMPv6DstUnreachableMinimumSize:], o.bytes)
	h := header.ICMPv6(icmp)
	h.SetType(header.ICMPv6DstUnreachable)
	h.SetCode(header.ICMPv6Code(why.code6))
	n.sum6(o, icmp)
	n.inject(o, header.ICMPv6ProtocolNumber, icmp)
}

// sum6 fills in the checksum of ICMPv6, which is over the addresses too.
func (n *Network) sum6(o *origin, icmp []byte) {
	h := header.ICMPv6(icmp)
	h.SetChecksum(0)
	h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: addressOf(o.to), Dst: addressOf(o.from)}))
}

// inject sends a member a packet as from where another was for.
func (n *Network) inject(o *origin, proto tcpip.TransportProtocolNumber, payload []byte) {
	m := n.member(o.from)
	if m == nil {
		return
	}
	var ip []byte
	if o.from.Is4() {
		ip = make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(ip)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(ip) + len(payload)), TTL: 64, Protocol: uint8(proto),
			SrcAddr: addressOf(o.to), DstAddr: addressOf(o.from),
		})
		h.SetChecksum(^h.CalculateChecksum())
	} else {
		ip = make([]byte, header.IPv6MinimumSize)
		header.IPv6(ip).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(payload)), HopLimit: 64, TransportProtocol: proto,
			SrcAddr: addressOf(o.to), DstAddr: addressOf(o.from),
		})
	}
	_ = n.stack.WritePacketToRemote(nicID, tcpip.LinkAddress(m.Device.MAC), protocolOf(o.from), buffer.MakeWithData(append(ip, payload...)))
}

// udpOrigin makes up the beginning of a datagram between two, for the error that comes much later than the datagram.
func (n *Network) udpOrigin(id stack.TransportEndpointID) *origin {
	o := &origin{from: addrOf(id.RemoteAddress), to: addrOf(id.LocalAddress)}
	udp := make([]byte, header.UDPMinimumSize)
	header.UDP(udp).Encode(&header.UDPFields{SrcPort: id.RemotePort, DstPort: id.LocalPort, Length: header.UDPMinimumSize})
	if o.from.Is4() {
		o.bytes = make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(o.bytes)
		h.Encode(&header.IPv4Fields{
			TotalLength: header.IPv4MinimumSize + header.UDPMinimumSize, TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
			SrcAddr: id.RemoteAddress, DstAddr: id.LocalAddress,
		})
		h.SetChecksum(^h.CalculateChecksum())
	} else {
		o.bytes = make([]byte, header.IPv6MinimumSize)
		header.IPv6(o.bytes).Encode(&header.IPv6Fields{
			PayloadLength: header.UDPMinimumSize, HopLimit: 64, TransportProtocol: header.UDPProtocolNumber,
			SrcAddr: id.RemoteAddress, DstAddr: id.LocalAddress,
		})
	}
	o.bytes = append(o.bytes, udp...)
	return o
}
