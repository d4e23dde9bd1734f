package usernet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// pings are the sockets of programs that ping somebody.
type pings struct {
	mu sync.Mutex
	m  map[pingKey]*ping
}

type pingKey struct {
	from, to netip.Addr
	id       uint16
}

// ping is one such socket: a ping socket, which net.ipv4.ping_group_range has to allow, or a raw one.
type ping struct {
	file *os.File
	raw  bool
	id   uint16 // ours, of a raw socket
}

// The numbers of an echo and its answer (RFC 792, 4443).
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// echo takes a ping of somebody outside. The stack answers those of the gateway by itself.
func (n *Network) echo(_ stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	o := originOf(pkt)
	msg := append(append([]byte(nil), pkt.TransportHeader().Slice()...), pkt.Data().AsRange().ToSlice()...)
	if len(msg) < 8 || msg[0] != map[bool]byte{true: echo4, false: echo6}[o.from.Is4()] {
		return false
	}
	if n.isGateway(o.to) {
		return false
	}
	if !n.policy.connect("icmp", netip.AddrPortFrom(o.to, 0)).pass {
		n.tell(o, prohibited)
		return true
	}
	key := pingKey{o.from, o.to, binary.BigEndian.Uint16(msg[4:])}
	p, err := n.pinging(key)
	if err == nil {
		_, err = p.file.Write(p.outgoing(msg, o.to.Is4()))
	}
	if err != nil {
		n.unreachable(o, err)
	}
	return true
}

// pinging finds the socket, or makes it.
func (n *Network) pinging(key pingKey) (*ping, error) {
	n.pings.mu.Lock()
	defer n.pings.mu.Unlock()
	if p := n.pings.m[key]; p != nil {
		return p, nil
	}
	if !n.flows.begin() {
		return nil, unix.EHOSTUNREACH
	}
	p, err := openPing(key)
	if err != nil {
		n.flows.end()
		return nil, err
	}
	if n.pings.m == nil {
		n.pings.m = map[pingKey]*ping{}
	}
	n.pings.m[key] = p
	forget := endWith(n.lifeOf(key.from), func() { p.file.Close() })
	go func() {
		n.answers(p, key)
		n.pings.mu.Lock()
		delete(n.pings.m, key)
		n.pings.mu.Unlock()
		n.flows.end()
		if forget() {
			p.file.Close()
		}
	}()
	return p, nil
}

// openPing connects a socket that sends and receives ICMP.
func openPing(key pingKey) (*ping, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var to unix.Sockaddr
	if key.to.Is4() {
		to = &unix.SockaddrInet4{Addr: key.to.As4()}
	} else {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		to = &unix.SockaddrInet6{Addr: key.to.As16()}
	}
	p := &ping{id: key.id}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		p.raw = true
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	p.file = os.NewFile(uintptr(fd), "ping")
	return p, nil
}

// outgoing is the message as this socket wants it: a raw one computes no checksum for IPv4.
func (p *ping) outgoing(msg []byte, four bool) []byte {
	if p.raw && four {
		binary.BigEndian.PutUint16(msg[2:], 0)
		binary.BigEndian.PutUint16(msg[2:], ^checksum.Checksum(msg, 0))
	}
	return msg
}

// pingSilence is after how long nobody waits for an answer any more.
const pingSilence = 30 * time.Second

// answers passes answers on until there are none any more.
func (n *Network) answers(p *ping, key pingKey) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	o := &origin{from: key.from, to: key.to}
	for {
		_ = p.file.SetReadDeadline(time.Now().Add(pingSilence))
		err := readDatagram(raw, func(b []byte) { n.answer(p, o, key, b) })
		if errno := syscall.Errno(0); errors.As(err, &errno) && transient(errno) {
			continue // the answer of somebody on the way, for which a ping socket has no room; the program sees a loss
		}
		if err != nil {
			return
		}
	}
}

func (n *Network) answer(p *ping, o *origin, key pingKey, msg []byte) {
	four := key.to.Is4()
	if p.raw && four { // which gives the IP header too
		if len(msg) < header.IPv4MinimumSize || len(msg) < int(header.IPv4(msg).HeaderLength()) {
			return
		}
		msg = msg[header.IPv4(msg).HeaderLength():]
	}
	if len(msg) < 8 || msg[0] != map[bool]byte{true: reply4, false: reply6}[four] {
		return
	}
	if p.raw && binary.BigEndian.Uint16(msg[4:]) != p.id {
		return
	}
	msg = append([]byte(nil), msg...)
	binary.BigEndian.PutUint16(msg[4:], key.id)
	if four {
		binary.BigEndian.PutUint16(msg[2:], 0)
		binary.BigEndian.PutUint16(msg[2:], ^checksum.Checksum(msg, 0))
		n.inject(o, header.ICMPv4ProtocolNumber, msg)
		return
	}
	n.sum6(o, msg)
	n.inject(o, header.ICMPv6ProtocolNumber, msg)
}
