package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
)

// Endpoint is a container's end of one network: first what is wished, then what it has got.
type Endpoint struct {
	Container string // the container's ID
	Name      string // and its name, for people
	Network   string // the network's name; Reserve also takes an ID
	Aliases   []string
	// IP and IP6 are the addresses that it must have, zero for any; LastIP and LastIP6 those that it shall have if they are free.
	IP, IP6, LastIP, LastIP6 netip.Addr
	MAC                      string // "" for one that follows from the address
	Ports                    []Port // to be published

	// What it has got, by Reserve:
	NetworkID, ID     string
	Address, Address6 netip.Prefix
	Gateway, Gateway6 netip.Addr // zero in a network that leads nowhere
	// Published are the ports with those of the host that were found for them.
	Published []Port
	// By Attach: the host's end of the cable.
	Interface string
	// Until then this process answers for it, which began at Start (field 22 of /proc/PID/stat).
	Pid   int
	Start string
}

// Reserve finds a place on a network: the addresses that the container is going to have, and the ports of the host. They are
// its own until Attach, or until this process ends. The bridge does not wait for it, nor does anything else of the host's.
func (s *Networks) Reserve(_ context.Context, e *Endpoint) error {
	n, err := s.Find(e.Network)
	if err != nil {
		return err
	}
	if n.Driver != "bridge" {
		return fmt.Errorf("network %s: has no endpoints", n.Name)
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if n, err = s.again(n, e.Network); err != nil {
		return err
	}
	if len(n.Subnets) == 0 { // the one that is always there, for the first time
		n.IPv6 = s.UserSpace
		list, err := s.List()
		if err != nil {
			return err
		}
		if err := n.complete(list); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	if err := s.settle(n); err != nil {
		return err
	}
	if old := n.Endpoints[e.Container]; old != nil && old.ID != e.ID {
		return fmt.Errorf("endpoint with name %s already exists in network %s", e.Name, n.Name)
	}
	if err := n.place(e); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	if !s.UserSpace {
		if err := e.checkPorts(); err != nil {
			return err
		}
	}
	if err := s.choosePorts(e); err != nil {
		return err
	}
	e.Pid, e.Start = os.Getpid(), started(os.Getpid())
	if n.Endpoints == nil {
		n.Endpoints = map[string]*Endpoint{}
	}
	n.Endpoints[e.Container] = e
	return s.write(n)
}

// checkPorts refuses ports of the host from which no rule leads to the endpoint.
func (e *Endpoint) checkPorts() error {
	for _, p := range e.Ports {
		at := netip.AddrPortFrom(p.HostIP, p.HostPort)
		switch {
		case p.HostIP == netip.IPv6Loopback():
			return fmt.Errorf("publish %s: the kernel leads nothing from there to a bridge: publish 127.0.0.1:%d", at, p.HostPort)
		case p.HostIP.Is6() && !e.Address6.IsValid():
			return fmt.Errorf("publish %s: network %s has no IPv6: publish 0.0.0.0:%d, or make a network by hull network create --ipv6", at, e.Network, p.HostPort)
		}
	}
	return nil
}

// place gives the endpoint its addresses.
func (n *Network) place(e *Endpoint) error {
	e.Network, e.NetworkID, e.ID, e.Interface = n.Name, n.ID, newID(), ""
	e.Address, e.Address6, e.Gateway, e.Gateway6 = netip.Prefix{}, netip.Prefix{}, netip.Addr{}, netip.Addr{}
	n.Last = slices.Clone(n.Last)
	for i := range n.Subnets {
		u := &n.Subnets[i]
		want, prefer, address, gateway := e.IP, e.LastIP, &e.Address, &e.Gateway
		if u.Prefix.Addr().Is6() {
			want, prefer, address, gateway = e.IP6, e.LastIP6, &e.Address6, &e.Gateway6
		}
		a, err := n.free(u, want, prefer)
		if err != nil {
			return err
		}
		if *address = netip.PrefixFrom(a, u.Prefix.Bits()); !n.Internal {
			*gateway = u.Gateway
		}
		if a != want && a != prefer {
			n.Last = append(slices.DeleteFunc(n.Last, u.Prefix.Contains), a)
		}
	}
	switch {
	case e.IP.IsValid() && !e.Address.IsValid(), e.IP6.IsValid() && !e.Address6.IsValid():
		return errors.New("invalid endpoint settings: the network has no subnet for the address that was asked for")
	case e.MAC == "":
		e.MAC = macFor(e.Address.Addr())
	}
	return nil
}

// macFor is a hardware address of one's own that follows from the IPv4 address, as Docker's did for long: then nobody who
// remembers it for that address is wrong.
func macFor(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// Attach lays the cable: an interface in the network namespace that netns refers to ("/proc/PID/ns/net"), which is given the
// addresses that Reserve has found, and routes; the network's bridge, if this is the first; and the ways of its ports.
func (s *Networks) Attach(_ context.Context, netns string, e *Endpoint) (err error) {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := s.read(e.Network)
	if err != nil {
		return err
	}
	if mine := n.Endpoints[e.Container]; mine == nil || mine.ID != e.ID {
		return fmt.Errorf("network %s: the place of %s is gone", n.Name, e.Name)
	}
	n.Endpoints[e.Container] = e
	e.Interface = "hv" + e.ID[:12]
	if err := s.connect(n, netns, e); err != nil {
		delete(n.Endpoints, e.Container)
		return errors.Join(fmt.Errorf("network %s: %w", n.Name, err), s.unplug(n, e))
	}
	return nil
}

// connect lays the cable, and at the same time writes the rules: nobody is in there yet who could send anything past rules that do
// not stand.
func (s *Networks) connect(n *Network, netns string, e *Endpoint) error {
	first := !linkExists(n.Interface())
	ruled := aside(func() error {
		if first {
			s.warnOfForeign(n)
		}
		return s.apply(n)
	})
	err := n.raise()
	if err == nil {
		s.open(n)
		err = n.plug(netns, e)
	}
	if err == nil {
		err = s.write(n) // before there is a cable it would be a dead one's
	}
	if rules := ruled(); err == nil {
		err = rules
	}
	if err == nil {
		awaitSignal(e.Interface)
	}
	return err
}

// Lead makes a network that a container is attached to its way to everybody else, after it has been detached from the one that was:
// it gets the default routes that it has no more in its network namespace, which netns refers to, and its ports are published.
func (s *Networks) Lead(_ context.Context, netns, container, network string, ports []Port) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := s.read(network)
	if err != nil {
		return err
	}
	e := n.Endpoints[container]
	if e == nil {
		return fmt.Errorf("container %s is not connected to network %s", container, n.Name)
	}
	ns, inside, err := insideOf(netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer inside.Close()
	if err := e.route(inside); err != nil || len(ports) == 0 {
		return err
	}
	e.Ports = ports
	if err := e.checkPorts(); err != nil {
		return err
	}
	if err := s.choosePorts(e); err != nil {
		return err
	}
	s.open(n)
	if err := s.apply(n); err != nil {
		return err
	}
	return s.write(n)
}

// Detach takes the container off a network, or off all where none is named, and the network's bridge and rules away if it was
// the last. It is no error if it was not attached.
func (s *Networks) Detach(_ context.Context, container string, networks ...string) error {
	if _, err := os.Stat(s.Dir); err != nil {
		return nil
	}
	if len(networks) == 0 {
		defer s.leaveNames(container) // without the lock
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	list, err := s.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range list {
		e := n.Endpoints[container]
		if e == nil || len(networks) > 0 && !slices.Contains(networks, n.Name) {
			continue
		}
		delete(n.Endpoints, container)
		errs = append(errs, s.unplug(n, e))
	}
	return errors.Join(errs...)
}

// unplug removes an endpoint's cable and writes the network, which does not list it any more, down.
func (s *Networks) unplug(n *Network, e *Endpoint) error {
	n.prune()
	var err error
	if len(n.Endpoints) > 0 || !linkExists(n.Interface()) { // else it goes with the bridge
		err = removeLink(e.Interface, 0)
	}
	cut(e)
	return errors.Join(err, s.refresh(n), s.write(n))
}

// cut removes what the kernel remembers of connections through an endpoint's published ports: who sends on by UDP would be led
// to an address that is nobody's, or another container's.
func cut(e *Endpoint) {
	if slices.ContainsFunc(e.Published, func(p Port) bool { return p.Protocol == "udp" }) {
		forget(e.Address.Addr(), netlink.FAMILY_V4)
		forget(e.Address6.Addr(), netlink.FAMILY_V6)
	}
}

// prune drops the endpoints that are dead.
func (n *Network) prune() (changed bool) {
	for id, e := range n.Endpoints {
		if !e.alive() {
			delete(n.Endpoints, id)
			changed = true
		}
	}
	return changed
}

// alive says whether the cable is there, or is being laid by a process that lives.
func (e *Endpoint) alive() bool {
	if e.Interface != "" {
		return linkExists(e.Interface)
	}
	return e.Start != "" && started(e.Pid) == e.Start
}

// settle drops the dead endpoints of a network and takes down what was there for them.
func (s *Networks) settle(n *Network) error {
	if !n.prune() {
		return nil
	}
	return errors.Join(s.refresh(n), s.write(n))
}

// refresh makes the host fit the endpoints: rules for those that there are, or nothing at all.
func (s *Networks) refresh(n *Network) error {
	if s.UserSpace {
		return nil
	}
	if slices.ContainsFunc(n.list(), func(e *Endpoint) bool { return e.Interface != "" }) {
		s.open(n)
		return s.apply(n)
	}
	return s.lower(n)
}

// list are the endpoints in a firm order.
func (n *Network) list() (list []*Endpoint) {
	for _, e := range n.Endpoints {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *Endpoint) int { return bytes.Compare([]byte(a.Container), []byte(b.Container)) })
	return list
}

// Left tells of each network that something of it is there although nobody is attached any more, because processes were killed.
// Mend takes that away.
func (s *Networks) Left() (names []string, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		before := len(n.Endpoints)
		if n.prune(); len(n.Endpoints) < before || len(n.Endpoints) == 0 && n.Driver == "bridge" && linkExists(n.Interface()) {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

// Mend sets right what Left tells of.
func (s *Networks) Mend() error {
	left, err := s.Left()
	if err != nil || len(left) == 0 {
		return err
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	var errs []error
	for _, name := range left {
		n, err := s.read(name)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n.prune()
		errs = append(errs, s.refresh(n))
		if len(n.Subnets) > 0 {
			errs = append(errs, s.write(n))
		}
	}
	return errors.Join(errs...)
}

// started is when a process began, "" if there is none (proc_pid_stat(5)).
func started(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return ""
	}
	return string(f[19])
}
