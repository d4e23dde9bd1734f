package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// publisher is a published port's socket on the host.
type publisher struct {
	port   Port // with its number
	listen net.Listener
	packet *net.UDPConn
}

// publish takes a port, the first that is free where several will do.
func publish(p Port) (pub publisher, err error) {
	for {
		pub, err = publishOne(p)
		if !errors.Is(err, unix.EADDRINUSE) || p.Host.Port() >= p.Last {
			return pub, err
		}
		p.Host = netip.AddrPortFrom(p.Host.Addr(), p.Host.Port()+1)
	}
}

func publishOne(p Port) (publisher, error) {
	pub := publisher{port: p}
	var err error
	family, at := map[bool]string{true: "4", false: "6"}[p.Host.Addr().Is4()], p.Host.String()
	if p.Host.Addr() == netip.IPv6Unspecified() {
		family, at = "", fmt.Sprintf(":%d", p.Host.Port())
	}
	switch p.Proto {
	case "tcp":
		if pub.listen, err = net.Listen("tcp"+family, at); err == nil {
			pub.port.Host = pub.listen.Addr().(*net.TCPAddr).AddrPort()
		}
	case "udp":
		if pub.packet, err = listenUDP("udp"+family, at); err == nil {
			pub.port.Host = pub.packet.LocalAddr().(*net.UDPAddr).AddrPort()
		}
	default:
		err = errors.New("unknown protocol: want tcp or udp")
	}
	if err != nil {
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			err = errno
		}
		return pub, fmt.Errorf("publish port %s/%s: %w%s", p.Host, p.Proto, err, hintFor(p, err))
	}
	return pub, nil
}

func listenUDP(network, at string) (*net.UDPConn, error) {
	c, err := net.ListenPacket(network, at)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func hintFor(p Port, err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return ": port is already allocated" // Docker's words, which scripts look for
	case errors.Is(err, unix.EACCES) && p.Host.Port() < 1024:
		return ": ports below net.ipv4.ip_unprivileged_port_start are root's"
	}
	return ""
}

func (p *publisher) close() {
	if p.listen != nil {
		p.listen.Close()
	}
	if p.packet != nil {
		p.packet.Close()
	}
}

// serve lets in who comes, until the port is closed.
func (p *publisher) serve(m *member) {
	if p.packet != nil {
		p.serveUDP(m)
		return
	}
	for {
		c, err := p.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go m.letIn(c.(*net.TCPConn), p.port.Container)
	}
}

// arrival is how long a container may take to accept.
const arrival = 30 * time.Second

// letIn connects to the container, as the client if that can be. The client's connection is there already, for the host's
// kernel has accepted it; if the container does not, a reset is what is left to say so.
func (m *member) letIn(out *net.TCPConn, port uint16) {
	_ = out.SetKeepAlive(false)
	client := out.RemoteAddr().(*net.TCPAddr).AddrPort()
	in, err := m.dialInside(client, port)
	if err != nil {
		_ = out.SetLinger(0)
		out.Close()
		return
	}
	defer endWith(m.ctx, func() { in.ep.Abort(); out.Close() })()
	relay(in, out, nil)
}

// ends are where a port is in the container, and who the client is there: itself, unless the container could not answer it.
func (m *member) ends(client netip.AddrPort, port uint16) (from, to netip.AddrPort) {
	d, c := &m.Device, &m.network.config
	a := client.Addr().Unmap().WithZone("")
	own, gateway, answers := d.IPv4, c.Gateway4, d.Gateway4.IsValid()
	if !own.IsValid() || a.Is6() && d.IPv6.IsValid() {
		own, gateway, answers = d.IPv6, c.Gateway6, d.Gateway6.IsValid()
	}
	to = netip.AddrPortFrom(own.Addr(), port)
	if !answers || a.Is4() != own.Addr().Is4() || own.Contains(a) || a.IsLoopback() || a.IsLinkLocalUnicast() || isHost(a) {
		return netip.AddrPortFrom(gateway.Addr(), 0), to
	}
	return netip.AddrPortFrom(a, client.Port()), to
}

// isHost says whether an address is the host's own. The container knows it as the gateway.
func isHost(a netip.Addr) bool {
	for _, h := range hostAddresses(a.Is4()) {
		if h == a {
			return true
		}
	}
	return false
}

// dialInside connects to a port of the container.
func (m *member) dialInside(client netip.AddrPort, port uint16) (*inside, error) {
	from, to := m.ends(client, port)
	in, err := m.network.dialFrom(from, to)
	if err != nil && from.Port() != 0 { // an older connection of theirs may have that port still
		from = netip.AddrPortFrom(from.Addr(), 0)
		in, err = m.network.dialFrom(from, to)
	}
	return in, err
}

func (n *Network) dialFrom(from, to netip.AddrPort) (*inside, error) {
	in := &inside{wq: new(waiter.Queue)}
	ep, e := n.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), in.wq)
	if e != nil {
		return nil, errors.New(e.String())
	}
	in.ep = ep
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	in.wq.EventRegister(&entry)
	defer in.wq.EventUnregister(&entry)
	e = ep.Bind(fullAddress(from))
	if e == nil {
		e = ep.Connect(fullAddress(to))
	}
	if _, started := e.(*tcpip.ErrConnectStarted); started {
		ctx, cancel := context.WithTimeout(n.ctx, arrival)
		defer cancel()
		select {
		case <-ready:
			e = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return nil, os.ErrDeadlineExceeded
		}
	}
	if e != nil {
		ep.Close()
		return nil, fmt.Errorf("connect to %s: %s", to, e)
	}
	ep.SocketOptions().SetDelayOption(false)
	return in, nil
}

// serveUDP joins each client with a socket of its own in the stack.
func (p *publisher) serveUDP(m *member) {
	clients := &udpClients{m: map[netip.AddrPort]*udpInside{}}
	buf := make([]byte, maxDatagram)
	for {
		k, from, err := p.packet.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		c, err := clients.of(m, p, from)
		if err == nil {
			_, err = c.Write(buf[:k])
		}
		if err != nil {
			continue // a datagram is lost
		}
	}
}

// udpClients are who sends to a published port.
type udpClients struct {
	mu sync.Mutex
	m  map[netip.AddrPort]*udpInside
}

func (u *udpClients) of(m *member, p *publisher, client netip.AddrPort) (*udpInside, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.m[client]; c != nil {
		return c, nil
	}
	n := m.network
	if !n.flows.begin() {
		return nil, unix.ENOBUFS
	}
	from, to := m.ends(client, p.port.Container)
	c, err := n.datagramsFrom(from, to)
	if err != nil {
		n.flows.end()
		return nil, err
	}
	u.m[client] = c
	go func() {
		defer endWith(m.ctx, func() { c.Close() })()
		u.answer(p, c, client)
		n.flows.end()
	}()
	return c, nil
}

// datagramsFrom is a socket in the stack that sends to the container.
func (n *Network) datagramsFrom(from, to netip.AddrPort) (*udpInside, error) {
	wq := new(waiter.Queue)
	ep, e := n.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(to.Addr()), wq)
	if e == nil {
		if e = ep.Bind(fullAddress(from)); e == nil {
			e = ep.Connect(fullAddress(to))
		}
		if e != nil {
			ep.Close()
		}
	}
	if e != nil {
		return nil, fmt.Errorf("send to %s: %s", to, e)
	}
	return &udpInside{gonet.NewUDPConn(wq, ep), ep, wq}, nil
}

// answer passes on what the container says to a client, until it is silent.
func (u *udpClients) answer(p *publisher, c *udpInside, client netip.AddrPort) {
	for {
		err := c.read(silence, func(b []byte) { _, _ = p.packet.WriteToUDPAddrPort(b, client) })
		if err != nil {
			break
		}
	}
	u.mu.Lock()
	delete(u.m, client)
	u.mu.Unlock()
	c.Close()
}
