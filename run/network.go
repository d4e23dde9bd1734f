package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/usernet"
)

// NetworkWish is a network that a container is to be attached to. Addresses are text, "" for any.
type NetworkWish struct {
	Name    string
	Aliases []string `json:",omitempty"`
	IP      string   `json:",omitempty"`
	IP6     string   `json:",omitempty"`
	MAC     string   `json:",omitempty"`
}

// NetworkEnd is what a container has got on a network at its last start. Addresses are text, those of its own with the length
// of their prefix.
type NetworkEnd struct {
	Name, NetworkID, EndpointID string
	IP, IP6, Gateway, Gateway6  string
	MAC                         string
	Ports                       []PublishedPort `json:",omitempty"`
	// Device is the interface inside, and Helper the process that is the network, where that is one; HelperStart tells it
	// from others of the same number.
	Device      string `json:",omitempty"`
	Helper      int    `json:",omitempty"`
	HelperStart uint64 `json:",omitempty"`
	// Resolver is the network's own, "" for the host's.
	Resolver string `json:",omitempty"`
}

// modeContainer begins the Mode of a container that shares another's network.
const modeContainer = "container:"

// named says whether the container is attached to networks, rather than to nothing or to somebody else's.
func (n *NetworkConfig) named() bool {
	return n.Mode != "" && n.Mode != network.None && n.Mode != network.Host && !n.joins()
}

// joins says whether it shares the network of another container.
func (n *NetworkConfig) joins() bool { return strings.HasPrefix(n.Mode, modeContainer) }

// Networks are those below the root directory.
func (h *Host) Networks() *network.Networks {
	return &network.Networks{Dir: filepath.Join(h.Root, "networks"), UserSpace: h.rootless, Warn: h.Warn, StartNames: h.startNames}
}

// checkNetworks refuses networks that there are not, and calls those that there are by their names. Another container whose
// network is to be shared is noted by its ID: it may be renamed.
func (h *Host) checkNetworks(n *NetworkConfig) error {
	if h.usesHelper(n) {
		return h.checkHelper(n)
	}
	if ref, joins := strings.CutPrefix(n.Mode, modeContainer); joins {
		other, err := h.Find(ref)
		if err == nil {
			n.Mode = modeContainer + other.ID
		}
		return err
	}
	return h.nameNetworks(n)
}

// nameNetworks notes networks by their names, which somebody may have given by ID. The mode stays as it was given, as in Docker.
func (h *Host) nameNetworks(n *NetworkConfig) error {
	for i := range n.Networks {
		found, err := h.network(n.Networks[i].Name)
		if err != nil {
			return err
		}
		n.Networks[i].Name = found.Name
	}
	return n.checkWishes() // two words may name one network
}

// network finds a network that containers can be attached to.
func (h *Host) network(ref string) (*network.Network, error) {
	n, err := h.Networks().Find(ref)
	if err == nil && n.Driver != "bridge" {
		err = fmt.Errorf("network %s: conflicting options: a container on it has no other network", n.Name)
	}
	return n, err
}

// reserve finds addresses and ports before the container is born, so that its files can tell of them.
func (s *start) reserve(ctx context.Context) error {
	n := &s.Config.Network
	if !n.named() {
		return nil
	}
	if s.host.usesHelper(n) {
		return s.reserveHelper(ctx)
	}
	if err := s.host.checkNetworks(n); err != nil {
		return err
	}
	ports, by, err := s.toPublish()
	if err != nil {
		return err
	}
	before := s.Ends
	s.Ends = nil
	for i, w := range n.Networks {
		e, err := s.endpoint(w, before)
		if err != nil {
			return err
		}
		if i == by {
			e.Ports = ports
		}
		if err := s.host.Networks().Reserve(ctx, e); err != nil {
			return err
		}
		s.endpoints = append(s.endpoints, e)
		s.Ends = append(s.Ends, endOf(e))
	}
	if n.wantsNames() {
		s.Ends[0].Resolver = network.Resolver
	}
	return nil
}

// outward is the first of a container's ends that leads out of its network, by which the container reaches everybody else, and is
// reached by its published ports; nil for none.
func outward(ends []NetworkEnd) *NetworkEnd {
	return firstEnd(ends, func(e *NetworkEnd) bool { return e.Gateway != "" })
}

// outward6 is the first that does by IPv6.
func outward6(ends []NetworkEnd) *NetworkEnd {
	return firstEnd(ends, func(e *NetworkEnd) bool { return e.Gateway6 != "" })
}

func firstEnd(ends []NetworkEnd, is func(*NetworkEnd) bool) *NetworkEnd {
	for i := range ends {
		if is(&ends[i]) {
			return &ends[i]
		}
	}
	return nil
}

// endpoint turns a wish into what network asks for. A container that starts again gets the addresses it had, if they are free.
func (c *Container) endpoint(w NetworkWish, before []NetworkEnd) (*network.Endpoint, error) {
	e := &network.Endpoint{Container: c.ID, Name: c.Name, Network: w.Name, Aliases: w.Aliases, MAC: w.MAC}
	for _, a := range []struct {
		text string
		to   *netip.Addr
	}{{w.IP, &e.IP}, {w.IP6, &e.IP6}} {
		if a.text == "" {
			continue
		}
		ip, err := netip.ParseAddr(a.text)
		if err != nil {
			return nil, fmt.Errorf("invalid IP address: %q", a.text)
		}
		*a.to = ip
	}
	for _, b := range before {
		if b.Name == w.Name {
			e.LastIP, e.LastIP6 = addressOf(b.IP), addressOf(b.IP6)
		}
	}
	return e, nil
}

// addressOf is the address of a prefix, the zero value for none.
func addressOf(text string) netip.Addr {
	p, _ := netip.ParsePrefix(text)
	return p.Addr()
}

func endOf(e *network.Endpoint) NetworkEnd {
	text := func(valid bool, s fmt.Stringer) string {
		if !valid {
			return ""
		}
		return s.String()
	}
	end := NetworkEnd{Name: e.Network, NetworkID: e.NetworkID, EndpointID: e.ID, MAC: e.MAC,
		IP: text(e.Address.IsValid(), e.Address), IP6: text(e.Address6.IsValid(), e.Address6),
		Gateway: text(e.Gateway.IsValid(), e.Gateway), Gateway6: text(e.Gateway6.IsValid(), e.Gateway6)}
	for _, p := range e.Published {
		end.Ports = append(end.Ports, PublishedPort{HostIP: text(p.HostIP.IsValid(), p.HostIP), HostPort: p.HostPort, Port: p.Port, Protocol: p.Protocol})
	}
	return end
}

// plugIn ends what layCables has begun, whose error is given, in a container whose world stands and whose program waits. Where
// there can be no network, and nobody has asked for one, it does without: a program that only computes is to start anywhere.
func (s *start) plugIn(ctx context.Context, err error) error {
	if err == nil && s.Config.Network.pasta() { // whose addresses are known only now
		before := s.State
		before.Ends = []NetworkEnd{{Resolver: s.Ends[0].Resolver}}
		return s.renewFiles(ctx, &before)
	}
	if err == nil && !s.host.usesHelper(&s.Config.Network) {
		return s.askNames()
	}
	if !errors.Is(err, network.ErrUnavailable) && !errors.Is(err, usernet.ErrUnavailable) {
		return err
	}
	if n := &s.Config.Network; !n.Default || len(n.Networks) > 1 {
		return fmt.Errorf("%w\n--network none needs nothing, --network host shares the host's", err)
	}
	s.host.warn("no network but the loopback: %v (with --network none nobody says so)", err)
	before := s.State
	s.endpoints, s.Ends = nil, nil
	err = s.change(func(now *State) error {
		now.Ends = nil
		return nil
	})
	return errors.Join(err, s.host.Networks().Detach(ctx, s.ID), s.renewFiles(ctx, &before))
}

// layAhead begins to lay the container's cables while it is still being thought of what else it shall be, if the process that it
// becomes is there already, and gives the function that waits for the end of that; else nil.
func (s *start) layAhead() (wait func() error) {
	pid := s.cmd.Child()
	if pid == 0 || len(s.endpoints) == 0 || s.host.usesHelper(&s.Config.Network) {
		return nil
	}
	done := make(chan error)
	go func() { done <- s.layCables(pid) }()
	return sync.OnceValue(func() error { return <-done })
}

// layCables attaches the container, whose process has this pid, to its networks, while it prepares its world.
//
// The network namespace is held in the foreground until the container has left them: once nobody has it the kernel takes it
// down, and keeps whoever changes interfaces waiting meanwhile (cleanup_net).
func (s *start) layCables(pid int) error {
	if !s.Config.Network.named() {
		return nil
	}
	if err := awaitNetns(pid); err != nil {
		return err
	}
	ctx := context.Background()
	if s.host.usesHelper(&s.Config.Network) {
		return s.plugInHelpers(ctx)
	}
	var err error
	if s.netns, err = os.Open(netnsOf(pid)); err != nil {
		return err
	}
	for _, e := range s.endpoints {
		if err := s.host.Networks().Attach(ctx, netnsOf(pid), e); err != nil {
			return err
		}
		s.host.noteNetwork("connect", e.Network, e.NetworkID, s.ID)
	}
	return nil
}

// awaitNetns waits until a child has made its network namespace, which is among the first things that it does. Until then it
// is in ours.
func awaitNetns(pid int) error {
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(netnsPatience); ; time.Sleep(50 * time.Microsecond) {
		theirs, err := os.Readlink(netnsOf(pid))
		if err != nil || theirs != ours {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the container has made no network namespace")
		}
	}
}

// netnsPatience is longer than the kernel takes on any machine.
const netnsPatience = 20 * time.Second

func netnsOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/ns/net" }

// leaveNetworks takes the container off its networks, wherever it is killed while it does.
func (c *Container) leaveNetworks() error {
	if !c.Config.Network.named() {
		return nil
	}
	if c.host.usesHelper(&c.Config.Network) {
		c.leaveHelpers()
		if c.Config.Network.alone() {
			return nil
		}
	}
	return c.host.Networks().Detach(context.Background(), c.ID)
}

// NetworkUsers gives the containers that are to be attached to each network when they start, or are, by its name, or by
// its ID where somebody has called it so.
func (h *Host) NetworkUsers() (map[string][]string, error) {
	ids, err := entries(h.containers())
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, id := range ids {
		s, err := h.read(id)
		if err != nil {
			continue
		}
		for _, w := range s.Config.Network.Networks {
			users[w.Name] = append(users[w.Name], s.ID)
		}
	}
	return users, nil
}

// noteLeft appends the events that the container, whose program has ended, has left the networks that it was on by then.
func (c *Container) noteLeft() {
	if n := &c.Config.Network; !n.named() || n.alone() {
		return
	}
	var now struct { // not the whole State, see findGroup
		Ends []struct{ Name, NetworkID string }
	}
	if c.host.readInto(c.ID, &now) != nil {
		return
	}
	for _, e := range now.Ends {
		c.host.noteNetwork("disconnect", e.Name, e.NetworkID, c.ID)
	}
}

// noteNetwork appends an event about a network, with the container that it happens to.
func (h *Host) noteNetwork(action, name, id, container string) {
	a := map[string]string{"name": name, "type": "bridge"}
	if container != "" {
		a["container"] = container
	}
	h.note(Event{Type: "network", Action: action, ID: id, Attributes: a})
}

// leftNetworks looks for bridges, rules and addresses of containers that are gone.
func (h *Host) leftNetworks() (list []problem, err error) {
	if h.rootless {
		return nil, nil
	}
	names, err := h.Networks().Left()
	for _, name := range names {
		list = append(list, problem{"network " + name + ": its bridge serves a container that is gone", h.Networks().Mend})
	}
	return list, err
}

// describeNetwork is how the container is reached.
func describeNetwork(s *State, exposed map[string]struct{}) DocNetworkSettings {
	d := DocNetworkSettings{Ports: publicPorts(s, exposed), Networks: map[string]DocNetwork{}}
	n := &s.Config.Network
	if !n.named() {
		if !n.joins() {
			d.Networks[cmp.Or(n.Mode, network.None)] = DocNetwork{}
		}
		return d
	}
	if n.alone() {
		net := DocNetwork{}
		if len(s.Ends) > 0 && s.Status.Alive() {
			net.take(&s.Ends[0])
		}
		d.Networks[n.Mode] = net
	}
	for _, w := range n.Networks {
		net := DocNetwork{Aliases: w.Aliases, DNSNames: append([]string{s.Name}, append(slices.Clone(w.Aliases), ShortID(s.ID))...)}
		if w.IP+w.IP6 != "" {
			net.IPAMConfig = &DocIPAM{w.IP, w.IP6}
		}
		for _, e := range s.Ends {
			if e.Name == w.Name && s.Status.Alive() {
				net.take(&e)
			}
		}
		d.Networks[w.Name] = net
		if w.Name == network.Bridge { // Docker tells these of the default network alone
			d.Gateway, d.IPAddress, d.IPPrefixLen, d.MacAddress, d.EndpointID = net.Gateway, net.IPAddress, net.IPPrefixLen, net.MacAddress, net.EndpointID
			d.GlobalIPv6Address, d.GlobalIPv6PrefixLen, d.IPv6Gateway = net.GlobalIPv6Address, net.GlobalIPv6PrefixLen, net.IPv6Gateway
		}
	}
	if s.Status.Alive() {
		d.SandboxID, d.SandboxKey = s.ID, netnsOf(s.Pid)
	}
	return d
}

// take tells of an end of the container's.
func (d *DocNetwork) take(e *NetworkEnd) {
	d.NetworkID, d.EndpointID, d.MacAddress, d.Gateway, d.IPv6Gateway = e.NetworkID, e.EndpointID, e.MAC, e.Gateway, e.Gateway6
	d.IPAddress, d.IPPrefixLen = splitPrefix(e.IP)
	d.GlobalIPv6Address, d.GlobalIPv6PrefixLen = splitPrefix(e.IP6)
}

func splitPrefix(text string) (string, int) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return "", 0
	}
	return p.Addr().String(), p.Bits()
}
