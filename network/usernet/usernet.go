// Package usernet gives a container a network without any right on the host: a network stack in a process of the user's own
// (gVisor's), whose far side are plain sockets. The device inside is real, and so are the container's addresses and routes;
// every connection ends in this process, which makes one of its own to the same place, or refuses to.
//
//	container's namespaces                 the host's
//	program - kernel - eth0 ====cable==== link - stack - relay - sockets
//	                                             resolver, policy
//
// [Plug] makes the device, in the container's namespaces; [Open] and [Network.Serve] are the other end, and [Help] all of a
// process that is nothing else. What happens to a connection outside happens inside too: one that is refused there is refused
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
	"os"
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
)

// Config is what a network is to be like. It survives JSON.
type Config struct {
	// Device is the container's, which Plug makes.
	Device Device
	// Ports are published on the host.
	Ports []Port `json:",omitempty"`
	// DNS are the resolvers to ask, instead of the host's own, which are read from /etc/resolv.conf as often as that changes.
	DNS []netip.AddrPort `json:",omitempty"`
	// Loopback lets the gateway's address lead to the host's loopback, beside its other addresses.
	Loopback bool `json:",omitempty"`
	// Mode and Allow say what the container may reach.
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

// Network is the far end of a container's cable.
type Network struct {
	config Config
	policy *policy
	ports  []publisher
	dns    *resolver
	stack  *stack.Stack
	link   *link
	ctx    context.Context
	flows  flows
	pings  pings
}

const nicID tcpip.NICID = 1

// Open checks the configuration and takes the published ports, so that one which is taken is known before anything starts.
func Open(c Config) (*Network, error) {
	if !c.Device.IPv4.IsValid() && !c.Device.IPv6.IsValid() {
		return nil, errors.New("network: no address")
	}
	n := &Network{config: c, policy: &policy{mode: c.Mode, rules: c.Allow, now: time.Now}}
	for _, g := range []netip.Addr{c.Device.Gateway4, c.Device.Gateway6} {
		if g.IsValid() {
			n.policy.gateways = append(n.policy.gateways, g)
		}
	}
	n.policy.report.changed = make(chan struct{}, 1)
	n.dns = &resolver{policy: n.policy, fixed: c.DNS}
	for _, p := range c.Ports {
		pub, err := publish(p)
		if err != nil {
			n.Close()
			return nil, err
		}
		n.ports = append(n.ports, pub)
	}
	return n, nil
}

// Ports are the published ones, with the numbers that were chosen for those left open.
func (n *Network) Ports() []Port {
	var ports []Port
	for i := range n.ports {
		ports = append(ports, n.ports[i].port)
	}
	return ports
}

// Report is what has been refused or seen until now.
func (n *Network) Report() Report { return n.policy.snapshot() }

// Close gives up the published ports of a network that is not served.
func (n *Network) Close() {
	for i := range n.ports {
		n.ports[i].close()
	}
}

// Serve is the network until the context ends or the device is gone; started, if not nil, is called when it works. It closes
// the cable's end, and the ports.
func (n *Network) Serve(ctx context.Context, cable *os.File, started func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer n.Close()
	n.ctx = ctx
	if err := n.build(cable); err != nil {
		cable.Close()
		return fmt.Errorf("network: %w", err)
	}
	for i := range n.ports {
		go n.ports[i].serve(n)
	}
	if n.config.Report != "" {
		defer n.keepReport(ctx)()
		defer cancel() // before
	}
	if started != nil {
		started()
	}
	select {
	case <-ctx.Done():
	case <-n.link.done:
	}
	n.stack.RemoveNIC(nicID)
	n.stack.Close()
	return nil
}

// build makes the stack and has it listen to the cable.
func (n *Network) build(cable *os.File) (err error) {
	if n.link, err = newLink(cable, tcpip.LinkAddress(gatewayMAC())); err != nil {
		return err
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	n.stack = s
	n.tune()
	if e := s.CreateNIC(nicID, n.link); e != nil {
		return fmt.Errorf("add device: %s", e)
	}
	// Whatever address the container writes to is ours, and whoever it hears from is us.
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
	d := &n.config.Device
	if err := n.address(d.Gateway4, d.IPv4); err != nil {
		return err
	}
	if err := n.address(d.Gateway6, d.IPv6); err != nil {
		return err
	}
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, n.tcpHandler())
	s.SetTransportProtocolHandler(udp.ProtocolNumber, n.udpHandler())
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, n.echo)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, n.echo)
	return n.dns.listen(n)
}

// address takes a gateway's address, and notes the hardware address of the container's, which nobody need ask for then.
func (n *Network) address(gateway netip.Addr, container netip.Prefix) error {
	if !gateway.IsValid() || !container.IsValid() {
		return nil
	}
	e := n.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          protocolOf(gateway),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(gateway), PrefixLen: container.Bits()},
	}, stack.AddressProperties{})
	if e == nil && len(n.config.Device.MAC) > 0 {
		e = n.stack.AddStaticNeighbor(nicID, protocolOf(gateway), addressOf(container.Addr()), tcpip.LinkAddress(n.config.Device.MAC))
	}
	if e != nil {
		return fmt.Errorf("take address %s: %s", gateway, e)
	}
	return nil
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
}

func ptr[T any](v T) *T { return &v }
