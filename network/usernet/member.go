package usernet

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Member is a container on a network. It survives JSON.
type Member struct {
	// ID is the container's, for who knows its names.
	ID string
	// Device is the container's, which Plug makes.
	Device Device
	// Ports are published on the host.
	Ports []Port `json:",omitempty"`
	// DNS are the resolvers to ask, instead of the host's own, which are read from /etc/resolv.conf as often as that changes.
	DNS []netip.AddrPort `json:",omitempty"`
}

// member is one of a network's.
type member struct {
	Member
	network *Network
	ports   []publisher
	ctx     context.Context // ends with its membership, and so do its connections
	cancel  context.CancelFunc
	once    sync.Once

	mu   sync.Mutex
	port *port
	gone bool
	// departs says that nobody waits for the end of the device.
	departs bool
}

// add takes the published ports, so that one which is taken is known before anything starts, and the member's addresses.
func (n *Network) add(c Member) (*member, error) {
	m := &member{Member: c, network: n}
	m.ctx, m.cancel = context.WithCancel(n.ctx)
	for _, p := range c.Ports {
		pub, err := publish(p)
		if err != nil {
			m.closePorts()
			return nil, err
		}
		m.ports = append(m.ports, pub)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range m.addresses() {
		if other := n.members[a]; other != nil {
			m.closePorts()
			return nil, fmt.Errorf("network: address %s is that of container %s", a, other.ID)
		}
	}
	for _, a := range m.addresses() {
		n.members[a] = m
	}
	return m, nil
}

func (m *member) addresses() (list []netip.Addr) {
	for _, p := range []netip.Prefix{m.Device.IPv4, m.Device.IPv6} {
		if p.IsValid() {
			list = append(list, p.Addr())
		}
	}
	return list
}

// plug connects the member by its cable, which is closed when the member leaves, or when this fails. The member leaves when
// its device has gone.
func (m *member) plug(cable *os.File) error {
	p, err := m.network.link.open(cable, m)
	if err != nil {
		cable.Close()
		return fmt.Errorf("network: %w", err)
	}
	m.mu.Lock()
	if m.port = p; m.gone {
		p.close()
	}
	m.mu.Unlock()
	// Its hardware address is known, so that nobody need ask for it.
	for _, a := range m.addresses() {
		if e := m.network.stack.AddStaticNeighbor(nicID, protocolOf(a), addressOf(a), tcpip.LinkAddress(m.Device.MAC)); e != nil {
			return fmt.Errorf("network: note address %s: %s", a, e)
		}
	}
	for i := range m.ports {
		go m.ports[i].serve(m)
	}
	return nil
}

// published are the published ports, with the numbers that were chosen for those left open.
func (m *member) published() (ports []Port) {
	for i := range m.ports {
		ports = append(ports, m.ports[i].port)
	}
	return ports
}

func (m *member) closePorts() {
	for i := range m.ports {
		m.ports[i].close()
	}
}

// depart is leave for a member whose process has ended: nobody waits until its device is gone.
func (m *member) depart() {
	m.mu.Lock()
	m.departs = true
	m.mu.Unlock()
	m.leave()
}

// leave ends the member's connections, and gives up its ports and addresses.
func (m *member) leave() {
	m.once.Do(func() {
		m.closePorts()
		m.cancel()
		m.mu.Lock()
		switch m.gone = true; {
		case m.port == nil:
		case m.departs:
			m.port.closeAside()
		default:
			m.port.close()
		}
		m.mu.Unlock()
		n := m.network
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, a := range m.addresses() {
			delete(n.members, a)
			_ = n.stack.RemoveNeighbor(nicID, protocolOf(a), addressOf(a))
		}
	})
}

// member is who has an address, nil for nobody.
func (n *Network) member(a netip.Addr) *member {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.members[a]
}

// lifeOf is the time for which the owner of an address is a member; that of the network for who uses another address.
func (n *Network) lifeOf(a netip.Addr) context.Context {
	if m := n.member(a); m != nil {
		return m.ctx
	}
	return n.ctx
}

// endWith has f called if the life ends before the result is.
func endWith(life context.Context, f func()) (forget func() bool) { return context.AfterFunc(life, f) }
