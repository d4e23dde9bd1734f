package usernet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxConnecting is how many connections of the container may wait for the other side at once. Whose turn does not come asks
// again a second later, as TCP does.
const maxConnecting = 4096

// tcpHandler gives the stack what to do with a connection that the container begins: first make our own, and only then accept
// its.
func (n *Network) tcpHandler() func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	syns := &beginnings{}
	f := tcp.NewForwarder(n.stack, 0, maxConnecting, func(r *tcp.ForwarderRequest) {
		id := r.ID()
		defer syns.drop(id)
		n.connectTCP(r, syns.get(id))
	})
	return func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if h := header.TCP(pkt.TransportHeader().Slice()); len(h) >= header.TCPMinimumSize && h.Flags().Contains(header.TCPFlagSyn) {
			syns.note(id, pkt)
		}
		return f.HandlePacket(id, pkt)
	}
}

// connectTCP makes the host's connection and joins the two.
func (n *Network) connectTCP(r *tcp.ForwarderRequest, syn *origin) {
	to := netip.AddrPortFrom(addrOf(r.ID().LocalAddress), r.ID().LocalPort)
	v := n.policy.connect("tcp", to)
	if !v.pass {
		r.Complete(true)
		return
	}
	life := n.lifeOf(addrOf(r.ID().RemoteAddress))
	out, err := n.dialTCP(life, to)
	if err != nil {
		// Only a refusal is a reset. The rest is for ICMP to tell, and silence is passed on as silence.
		r.Complete(errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET))
		n.unreachable(syn, err)
		return
	}
	in := &inside{wq: new(waiter.Queue)}
	ep, e := r.CreateEndpoint(in.wq)
	if r.Complete(false); e != nil { // the container has thought better of it
		_ = out.SetLinger(0)
		out.Close()
		return
	}
	in.ep = ep
	ep.SocketOptions().SetDelayOption(false)
	var check func(*inside) error
	if v.byName {
		check = func(in *inside) error { return n.policy.checkServerName(in, to) }
	}
	defer endWith(life, func() { ep.Abort(); out.Close() })()
	relay(in, out, check)
}

// dialTCP connects to where the container wanted to.
func (n *Network) dialTCP(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1}
	var last error = unix.EHOSTUNREACH
	for _, a := range n.outside(to.Addr()) {
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, to.Port()).String())
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		last = err
	}
	return nil, last
}

// outside are the host's names for an address, to be tried in this order: its own, except that the gateway is the host.
func (n *Network) outside(a netip.Addr) []netip.Addr {
	if !n.isGateway(a) {
		return []netip.Addr{a}
	}
	var list []netip.Addr
	if n.config.Loopback {
		list = append(list, netip.MustParseAddr(map[bool]string{true: "127.0.0.1", false: "::1"}[a.Is4()]))
	}
	return append(list, hostAddresses(a.Is4())...)
}

// isGateway says whether an address is the network's own.
func (n *Network) isGateway(a netip.Addr) bool {
	return a == n.config.Gateway4.Addr() || a == n.config.Gateway6.Addr()
}

// hostAddresses are the host's own that others reach it by, most often one.
func hostAddresses(four bool) []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().Is4() != four || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		list = append(list, p.Addr())
	}
	return list
}

// origin is a packet's beginning, for an ICMP error to quote, see RFC 792: its IP header and eight bytes, which have the ports
// and a sequence number.
type origin struct {
	from, to netip.Addr
	bytes    []byte
}

func originOf(pkt *stack.PacketBuffer) *origin {
	net := pkt.Network()
	o := &origin{from: addrOf(net.SourceAddress()), to: addrOf(net.DestinationAddress())}
	o.bytes = append(o.bytes, pkt.NetworkHeader().Slice()...)
	transport := pkt.TransportHeader().Slice()
	o.bytes = append(o.bytes, transport[:min(8, len(transport))]...)
	return o
}

// beginnings are the first packets of connections that are being made.
type beginnings struct {
	mu sync.Mutex
	m  map[stack.TransportEndpointID]*origin
}

func (b *beginnings) note(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = map[stack.TransportEndpointID]*origin{}
	}
	if len(b.m) < maxConnecting {
		b.m[id] = originOf(pkt)
	}
}

func (b *beginnings) get(id stack.TransportEndpointID) *origin {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m[id]
}

func (b *beginnings) drop(id stack.TransportEndpointID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, id)
}
