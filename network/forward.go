package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/hullrun/hull/internal/jsononce"
)

// setting is something of the host's that was changed, and what it was.
type setting struct{ Family, Link, Name, Was, Is string }

// forwardFile lists what was changed, for when the last container leaves.
const forwardFile = ".forwarding.json"

// Packets are to pass between the bridge and the host's other interfaces. IPv4 asks the interface that a packet comes in by
// (ip_route_input_slow: IN_DEV_FORWARD), and answers come in by those others, so that theirs has to be on too; what does not
// concern hull is kept from passing by a rule, see guard. The switch for all, ip_forward, stays as it is.
//
// IPv6 asks the switch for all, since 6.17 or force_forwarding of the interface. On an older kernel there is no other way than
// the switch; an interface whose address the routers give it then needs accept_ra=2 to go on listening to them.

// open has the bridge's own settings let packets pass. They go with it.
func (s *Networks) open(n *Network) {
	bridge := n.Interface()
	ok := setSysctl("ipv4", bridge, "forwarding", "1")
	// 127.0.0.1 on the host leads to published ports, if there are any: what containers send there is dropped, see rules, but only
	// as long as nobody throws those away.
	localnet := "0"
	if n.publishesOnLoopback() {
		localnet = "1"
	}
	ok = setSysctl("ipv4", bridge, "route_localnet", localnet) && ok
	if n.IPv6 && sysctl("ipv6", "all", "forwarding") != "1" {
		setSysctl("ipv6", bridge, "force_forwarding", "1") // an older kernel has none
	}
	if !ok {
		s.warn("network %s: forwarding cannot be switched on: /proc/sys/net is not writable: containers reach nobody outside", n.Name)
	}
}

// closed lists what of the host's others keeps packets from passing, and what it is to be. With the settings of a family is the
// switch for all, also where it stays as it is: who changes that later has changed the others, see overruled.
func (n *Network) closed(links uplinks, changed []setting) (list []setting) {
	want := func(family, link, name, value string) {
		if was := sysctl(family, link, name); was != value && was != "" {
			list = append(list, setting{family, link, name, was, value})
		}
	}
	for _, link := range links.up {
		want("ipv4", link, "forwarding", "1")
	}
	if all := sysctl("ipv4", "all", "forwarding"); len(list) > 0 {
		list = append(list, setting{"ipv4", "all", "forwarding", all, all})
	}
	off, on := setting{"ipv6", "all", "forwarding", "0", "0"}, setting{"ipv6", "all", "forwarding", "0", "1"}
	routes := sysctl("ipv6", "all", "forwarding") == "1"
	switch {
	case !n.IPv6 || routes && !slices.Contains(changed, on):
	case sysctl("ipv6", "default", "force_forwarding") != "":
		for _, link := range links.up {
			want("ipv6", link, "force_forwarding", "1")
		}
		list = append(list, off)
	default:
		for _, link := range links.up {
			if sysctl("ipv6", link, "accept_ra") == "1" {
				want("ipv6", link, "accept_ra", "2")
			}
		}
		list = append(list, switched(links, changed, routes)...)
		list = append(list, on)
	}
	return list
}

// switched lists what the switch for all of IPv6 does to each interface; what was on before is to be so again. What is known of one
// already stays: the switch may be off for giveBack was killed, and the interface with it.
func switched(links uplinks, changed []setting, already bool) (list []setting) {
	for _, link := range links.all {
		c := setting{"ipv6", link, "forwarding", "0", "1"}
		if slices.ContainsFunc(changed, func(o setting) bool { return o.Link == link && o.Family == c.Family && o.Name == c.Name }) {
			continue
		}
		if !already {
			c.Was = sysctl(c.Family, c.Link, c.Name)
		}
		list = append(list, c)
	}
	return list
}

// merge adds to what is changed already, in the place of what has been overruled, and says whether there was anything to add.
func merge(changed, list []setting) (all []setting, more bool) {
	for _, c := range list {
		if !slices.Contains(changed, c) {
			changed = slices.DeleteFunc(changed, func(o setting) bool { return o.Family == c.Family && o.Link == c.Link && o.Name == c.Name })
			changed, more = append(changed, c), true
		}
	}
	return changed, more
}

// overruled says whether somebody has set the switch for all since hull has changed these settings, and with it all of the family.
// It cannot tell where that is hull's own deed.
func overruled(changed []setting, family string) bool {
	return slices.ContainsFunc(changed, func(c setting) bool {
		now := sysctl(family, "all", c.Name)
		return c.Family == family && c.Link == "all" && now != c.Was && now != c.Is
	})
}

// standing are the settings that are hull's still. Who has set IPv4's switch for all has set each interface's forwarding with it, and
// perhaps some of them anew since. IPv6's does not touch force_forwarding, which is to be given back however it stands.
func standing(changed []setting) []setting {
	if !overruled(changed, "ipv4") {
		return changed
	}
	return slices.DeleteFunc(slices.Clone(changed), func(c setting) bool { return c.Family == "ipv4" && c.Name == "forwarding" })
}

// guard keeps a host that was no router from being one between the interfaces it has. Others' that come later are left alone.
type guard struct {
	in  map[string][]string // by family: those whose packets hull has had the host send on
	out []string            // where they are not to go
}

func guardFor(changed []setting, links uplinks) guard {
	g := guard{in: map[string][]string{}, out: links.all}
	for _, c := range changed {
		passes := c.Name == "forwarding" || c.Name == "force_forwarding"
		if passes && c.Link != "all" && !overruled(changed, c.Family) {
			g.in[c.Family] = append(g.in[c.Family], c.Link)
		}
	}
	return g
}

// publishesOnLoopback says whether a port is published that the host finds at 127.0.0.1.
func (n *Network) publishesOnLoopback() bool {
	for _, e := range n.Endpoints {
		for _, p := range e.Published {
			if ip := p.hostIP(); ip.Is4() && (ip.IsUnspecified() || ip.IsLoopback()) && e.Address.IsValid() && !n.Internal {
				return true
			}
		}
	}
	return false
}

// uplinks are the interfaces that are neither the loop nor hull's: all, and those that are up.
type uplinks struct{ all, up []string }

func findUplinks() (found uplinks, err error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return found, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		// A cable that is just being laid is listed before it has its master.
		ours := a.Group&groupMark != 0
		if a.Flags&net.FlagLoopback != 0 || a.MasterIndex != 0 || ours {
			continue
		}
		found.all = append(found.all, a.Name)
		if a.Flags&net.FlagUp != 0 {
			found.up = append(found.up, a.Name)
		}
	}
	return found, nil
}

// changes is what the file holds. It counts for one run of the kernel.
type changes struct {
	Boot     string
	Settings []setting
	Out      []string // of the guard that every network's table has
}

func (s *Networks) changed() (c changes, err error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, forwardFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if c.Boot != bootID() {
		return changes{}, err // all is as it was
	}
	return c, err
}

// bootID names this run of the kernel, random(4).
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// writeChanged removes the file if nothing is changed any more.
func (s *Networks) writeChanged(list []setting, out []string) error {
	file := filepath.Join(s.Dir, forwardFile)
	if len(list) == 0 {
		return os.Remove(file)
	}
	data, err := jsononce.Marshal(changes{bootID(), list, out})
	if err != nil {
		return err
	}
	tmp := filepath.Join(s.Dir, ".forwarding.new") // not write's, which may be at work
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// giveBack undoes what apply has changed of each family that no network but the one that is being taken down has anybody attached
// with, except where somebody else has changed it since.
func (s *Networks) giveBack(leaving *Network) error {
	was, err := s.changed()
	list := was.Settings
	if err != nil || len(list) == 0 {
		return err
	}
	others, err := s.raised(leaving)
	if err != nil {
		return err
	}
	var back, rest []setting
	for _, c := range list {
		if slices.ContainsFunc(others, func(n *Network) bool { return c.Family == "ipv4" || n.IPv6 }) {
			rest = append(rest, c)
		} else if sysctl(c.Family, c.Link, c.Name) == c.Is && !(c.Name == "forwarding" && overruled(list, c.Family)) {
			back = append(back, c)
		}
	}
	slices.Reverse(back) // the switch for all first: it changes those of interfaces
	for _, c := range back {
		setSysctl(c.Family, c.Link, c.Name, c.Was)
	}
	if len(rest) < len(list) {
		return s.writeChanged(rest, was.Out)
	}
	return nil
}

// raised are the networks that have a bridge, but for one.
func (s *Networks) raised(but *Network) ([]*Network, error) {
	list, err := s.List()
	return slices.DeleteFunc(list, func(n *Network) bool {
		return n.Driver != "bridge" || n.ID == but.ID || !linkExists(n.Interface())
	}), err
}
