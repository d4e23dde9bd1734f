// Package usernet gives containers a network without any right on the host: a network stack in a process of the user's own
// (gVisor's), whose far side are plain sockets. The devices inside are real, and so are the containers' addresses and routes.
// What one container of the network sends to another is passed on as it is, see link; every connection to somewhere else ends
// in this process, which makes one of its own to the same place, or refuses to.
//
//	container's namespaces                 the host's
//	program - kernel - eth0 ====cable==== link - stack - relay - sockets
//	program - kernel - eth0 ====cable==== as a    resolver, policy
//	                                      switch
//
// [Plug] makes a device, in a container's namespaces; [Network] is where the cables end, and [Help] all of a process that is
// nothing else. What happens to a connection outside happens inside too: one that is refused there is refused
// here, one that nobody answers is not answered here, an end of data and a reset are passed on.
//
// Where there are rights, bridges and the kernel's own forwarding are faster: this is for where there are none, and for the
// allow-list (policy), which wants to see the names that are looked up and asked for.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/hullrun/hull/network/dns"
)

// Config is what a network is to be like. It survives JSON.
type Config struct {
	// Gateway4 and Gateway6 are the network's own addresses, each with the length of its subnet; at most one may be the zero
	// Prefix. They are the way to everywhere else, and the resolver.
	Gateway4, Gateway6 netip.Prefix
	// Internal networks lead nowhere.
	Internal bool `json:",omitempty"`
	// Loopback lets the gateway's address lead to the host's loopback, beside its other addresses.
	Loopback bool `json:",omitempty"`
	// Mode and Allow say what may be reached from the network.
	Mode  Mode   `json:",omitempty"`
	Allow []Rule `json:",omitempty"`
	// Report is a file that a [Report] is kept in as JSON, if there is anything to report; empty for none.
	Report string `json:",omitempty"`
}

// Port is a published one: what reaches the host there reaches the container.
type Port struct {
	Proto string // "tcp" or "udp"
	// Host is the address and port on the host; port 0 for any that is free. The unspecified address of IPv6 stands for all
	// addresses, IPv4's too, and that of IPv4 for all of IPv4's.
	Host netip.AddrPort
	// Last, if not 0, lets the port on the host be the first that is free from Host's up to this one.
	Last uint16 `json:",omitempty"`
	// Container is the port in the container.
	Container uint16
}

// Network is the far end of its members' cables, which meet in it.
type Network struct {
	config Config
	policy *policy
	dns    *resolver
	stack  *stack.Stack
	link   *link
	ctx    context.Context
	cancel context.CancelFunc
	flows  flows
	pings  pings

	mu      sync.RWMutex
	members map[netip.Addr]*member // by each of their addresses
	saved   func()                 // writes the report for the last time
}

const nicID tcpip.NICID = 1

// Names gives the names that a member, given by its ID, finds others by, before the outside is asked; nil for none.
type Names func(member string) *dns.Table

// Open makes a network that nobody is on yet. Its resolver asks names first, unless that is nil.
func Open(c Config, names Names) (*Network, error) {
	if !c.Gateway4.IsValid() && !c.Gateway6.IsValid() {
		return nil, errors.New("network: no address")
	}
	n := &Network{config: c, policy: &policy{mode: c.Mode, rules: c.Allow, internal: c.Internal, now: time.Now, mine: isMine}, members: map[netip.Addr]*member{}}
	for _, g := range []netip.Prefix{c.Gateway4, c.Gateway6} {
		if g.IsValid() {
			n.policy.gateways = append(n.policy.gateways, g.Addr())
		}
	}
	n.policy.report.changed = make(chan struct{}, 1)
	n.dns = &resolver{policy: n.policy, network: n, names: names}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.build(); err != nil {
		n.Close()
		return nil, fmt.Errorf("network: %w", err)
	}
	if c.Report != "" {
		n.saved = n.keepReport(n.ctx)
	}
	return n, nil
}

// Report is what has been refused or seen until now.
func (n *Network) Report() Report { return n.policy.snapshot() }

// Close ends the network, and with it all connections.
func (n *Network) Close() {
	n.mu.RLock()
	var all []*member
	for _, m := range n.members {
		all = append(all, m)
	}
	n.mu.RUnlock()
	for _, m := range all {
		m.leave()
	}
	n.cancel()
	if n.saved != nil {
		n.saved()
	}
	if n.stack != nil {
		n.stack.RemoveNIC(nicID)
		n.stack.Close()
	}
}

// build makes the stack.
func (n *Network) build() error {
	n.link = newLink(n, tcpip.LinkAddress(gatewayMAC()))
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	n.stack = s
	n.tune()
	if e := s.CreateNIC(nicID, n.link); e != nil {
		return fmt.Errorf("add device: %s", e)
	}
	// Whatever address a member writes to is ours, and whoever it hears from is us.
	if e := s.SetPromiscuousMode(nicID, true); e != nil {
		return fmt.Errorf("listen to all addresses: %s", e)
	}
	if e := s.SetSpoofing(nicID, true); e != nil {
		return fmt.Errorf("speak for all addresses: %s", e)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID, Gateway: tcpip.Address{}},
		{Destination: header.IPv6EmptySubnet, NIC: nicID, Gateway: tcpip.Address{}},
	})
	for _, g := range []netip.Prefix{n.config.Gateway4, n.config.Gateway6} {
		if !g.IsValid() {
			continue
		}
		e := s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          protocolOf(g.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(g.Addr()), PrefixLen: g.Bits()},
		}, stack.AddressProperties{})
		if e != nil {
			return fmt.Errorf("take address %s: %s", g, e)
		}
	}
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, n.tcpHandler())
	s.SetTransportProtocolHandler(udp.ProtocolNumber, n.udpHandler())
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, n.echo)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, n.echo)
	return n.dns.listen(n)
}

// Sizes of buffers in bytes, a connection's and each way's. The cable has hardly any delay, so that little is on its way at
// once; what counts is that a few of the largest packets fit.
const (
	minBuffer = 4 << 10
	buffered  = 512 << 10
	maxBuffer = 1 << 20
)

func (n *Network) tune() {
	set := func(o tcpip.SettableTransportProtocolOption) {
		_ = n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o) // they are of gVisor's, and known to be settable
	}
	set(ptr(tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: buffered, Max: maxBuffer}))
	set(ptr(tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: buffered, Max: maxBuffer}))
	set(ptr(tcpip.TCPSACKEnabled(true)))
	set(ptr(tcpip.TCPModerateReceiveBufferOption(false)))
	set(ptr(tcpip.TCPDelayEnabled(false)))
	set(ptr(tcpip.CongestionControlOption("reno"))) // there is no congestion on a cable
	// Nor is anything late there, so that TIME-WAIT (RFC 9293, 3.3.2) would protect from nothing. For its time the stack answers no
	// beginning from the same port, which the container may have free already: it waits only itself where it ends first.
	set(ptr(tcpip.TCPTimeWaitTimeoutOption(0)))
}

func ptr[T any](v T) *T { return &v }
