package run

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/hullrun/hull/network/usernet"
)

// Modes of a container whose connections are looked at one by one, see package usernet.
const (
	modeAllow = "allow"
	modeLog   = "log"
)

// watched says whether each connection is looked at.
func (n *NetworkConfig) watched() bool { return n.Mode == modeAllow || n.Mode == modeLog }

// alone says whether nobody else can be on the container's network, which is none of those that have a name.
func (n *NetworkConfig) alone() bool { return n.watched() || n.pasta() }

// usesHelper says whether the container's network is a process: what an ordinary user's is, one with an allow-list, and pasta.
func (h *Host) usesHelper(n *NetworkConfig) bool {
	return n.alone() || h.rootless && n.named()
}

// checkHelper is checkNetworks for those that are a process; it refuses a list that is none, too.
func (h *Host) checkHelper(n *NetworkConfig) error {
	if n.pasta() {
		return findPasta()
	}
	if err := h.nameNetworks(n); err != nil {
		return err
	}
	if n.Mode == modeAllow {
		_, err := usernet.ParseAllow(n.Allow)
		return err
	}
	return nil
}

// watchedDevice is the device of a container whose connections are watched. Nobody else is on its network, so that all have
// the same addresses; they are those that other user-space networks use too.
func watchedDevice() usernet.Device {
	return usernet.Device{
		Name: "eth0", MAC: net.HardwareAddr{0x02, 0x42, 0x0a, 0x00, 0x02, 0x64},
		IPv4: netip.MustParsePrefix("10.0.2.100/24"), Gateway4: netip.MustParseAddr("10.0.2.2"),
		IPv6: netip.MustParsePrefix("fd00:a00:2::100/64"), Gateway6: netip.MustParseAddr("fd00:a00:2::2"),
	}
}

// reserveHelper finds the container's addresses and writes down what it is going to have.
func (s *start) reserveHelper(ctx context.Context) error {
	n := &s.Config.Network
	if err := s.host.checkHelper(n); err != nil {
		return err
	}
	ports, by, err := s.toPublish()
	if err != nil {
		return err
	}
	if n.pasta() {
		return s.reservePasta(ports)
	}
	before := s.Ends
	s.Ends = nil
	if n.watched() {
		d := watchedDevice()
		s.Ends = []NetworkEnd{{
			Name: n.Mode, MAC: d.MAC.String(), IP: d.IPv4.String(), IP6: d.IPv6.String(), Gateway: d.Gateway4.String(), Gateway6: d.Gateway6.String(),
			Resolver: d.Gateway4.String(), Device: d.Name,
		}}
	}
	for i, w := range n.Networks {
		e, err := s.endpoint(w, before)
		if err == nil {
			err = s.host.Networks().Reserve(ctx, e)
		}
		if err != nil {
			return err
		}
		end := endOf(e)
		end.Device = "eth" + strconv.Itoa(i)
		if end.Resolver, err = s.host.resolverOf(e.Network); err != nil {
			return err
		}
		s.endpoints, s.Ends = append(s.endpoints, e), append(s.Ends, end)
	}
	for _, p := range ports {
		s.Ends[by].Ports = append(s.Ends[by].Ports, publishedPort(p))
	}
	return os.RemoveAll(s.path(reportFile))
}

// resolverOf is the address in a network where its helper answers questions: the gateway's, also if that leads nowhere.
func (h *Host) resolverOf(name string) (string, error) {
	n, err := h.Networks().Find(name)
	if err != nil {
		return "", err
	}
	return n.Subnets[0].Gateway.String(), nil
}

// orderFor tells the helper of a network what the container's end there is like.
func (c *Container) orderFor(end *NetworkEnd) (o usernet.Order, err error) {
	n := &c.Config.Network
	if n.watched() {
		d := watchedDevice()
		o.Network = usernet.Config{
			Gateway4: netip.PrefixFrom(d.Gateway4, d.IPv4.Bits()), Gateway6: netip.PrefixFrom(d.Gateway6, d.IPv6.Bits()),
			Mode: usernet.Mode(n.Mode), Report: c.path(reportFile),
		}
		o.Member.Device = d
	} else if err := c.orderNamed(&o, end); err != nil {
		return o, err
	}
	o.Member.ID = c.ID
	if n.Mode == modeAllow {
		if o.Network.Allow, err = usernet.ParseAllow(n.Allow); err != nil {
			return o, err
		}
	}
	for _, text := range n.DNS {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return o, fmt.Errorf("dns %q: %w", text, err)
		}
		o.Member.DNS = append(o.Member.DNS, netip.AddrPortFrom(ip, 53))
	}
	if o.Network.Internal {
		return o, nil
	}
	for _, p := range end.Ports {
		ip := netip.IPv6Unspecified() // all, IPv4's too
		if p.HostIP != "" {
			ip = netip.MustParseAddr(p.HostIP)
		}
		o.Member.Ports = append(o.Member.Ports, usernet.Port{Proto: p.Protocol, Host: netip.AddrPortFrom(ip, p.HostPort), Last: p.HostLast, Container: p.Port})
	}
	return o, nil
}

// orderNamed is for a network that has a name. The first of the container's ends that leads out is its way to everywhere, for each
// kind of address.
func (c *Container) orderNamed(o *usernet.Order, end *NetworkEnd) error {
	n, err := c.host.Networks().Find(end.NetworkID)
	if err != nil {
		return err
	}
	o.Socket, o.Network.Internal = filepath.Base(c.host.helperSocket(n.ID)), n.Internal
	for _, p := range n.Allowed() {
		o.Network.Allow = append(o.Network.Allow, usernet.Rule{Net: p})
	}
	d := &o.Member.Device
	for _, u := range n.Subnets {
		gateway := netip.PrefixFrom(u.Gateway, u.Prefix.Bits())
		if u.Prefix.Addr().Is4() {
			o.Network.Gateway4 = gateway
		} else {
			o.Network.Gateway6 = gateway
		}
	}
	d.Name = end.Device
	if d.MAC, err = net.ParseMAC(end.MAC); err != nil {
		return err
	}
	d.IPv4, _ = netip.ParsePrefix(end.IP)
	d.IPv6, _ = netip.ParsePrefix(end.IP6)
	first := func(gateway func(NetworkEnd) string) bool {
		out := slices.IndexFunc(c.Ends, func(e NetworkEnd) bool { return gateway(e) != "" })
		return out < 0 || c.Ends[out].NetworkID == end.NetworkID
	}
	if first(func(e NetworkEnd) string { return e.Gateway }) {
		d.Gateway4, _ = netip.ParseAddr(end.Gateway)
	}
	if first(func(e NetworkEnd) string { return e.Gateway6 }) {
		d.Gateway6, _ = netip.ParseAddr(end.Gateway6)
	}
	return nil
}

// reportFile is what the helper writes down about refused connections, in the container's directory.
const reportFile = "network.json"

// NetworkReport is what the container's network has refused, or with --network log seen, at its last run; nil for nothing.
func (c *Container) NetworkReport() *usernet.Report { return readReport(c.dir()) }

func readReport(dir string) *usernet.Report {
	data, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		return nil
	}
	var r usernet.Report
	if json.Unmarshal(data, &r) != nil {
		return nil
	}
	return &r
}

// shownRefusals is how many refused destinations are told of one by one.
const shownRefusals = 20

// tellReport tells whoever runs the container in the foreground what its network has refused or seen.
func (s *start) tellReport() {
	n := &s.Config.Network
	if !n.watched() {
		return
	}
	r := s.NetworkReport()
	if r == nil {
		return
	}
	left := 0
	for i, e := range slices.DeleteFunc(slices.Clone(r.Entries), func(e usernet.Entry) bool { return !e.Refused }) {
		if i >= shownRefusals {
			left++
			continue
		}
		s.host.warn("network: refused %s to %s%s: %s", e.What, e.To, times(e.Count), e.Why)
	}
	if left += r.Omitted; left > 0 {
		s.host.warn("network: refused %d more: hull inspect %s shows them while the container is there", left, cmp.Or(s.Name, s.ID))
	}
	if list := r.List(); n.Mode == modeLog && list != "" {
		s.host.warn("network: this was reached; to allow no more: --network allow=%s", list)
	}
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return ", " + strconv.Itoa(n) + " times"
}
