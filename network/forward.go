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

// closed lists what of the host's others keeps packets from passing, and what it is to be.
func (n *Network) closed() (list []setting, err error) {
	want := func(family, link, name, value string) {
		if was := sysctl(family, link, name); was != value && was != "" {
			list = append(list, setting{family, link, name, was, value})
		}
	}
	links, err := uplinks()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		want("ipv4", link, "forwarding", "1")
	}
	switch {
	case !n.IPv6 || sysctl("ipv6", "all", "forwarding") == "1":
	case sysctl("ipv6", "default", "force_forwarding") != "":
		for _, link := range links {
			want("ipv6", link, "force_forwarding", "1")
		}
	default:
		for _, link := range links {
			if sysctl("ipv6", link, "accept_ra") == "1" {
				want("ipv6", link, "accept_ra", "2")
			}
		}
		want("ipv6", "all", "forwarding", "1")
	}
	return list, nil
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

// uplinks are the interfaces that are up and neither the loop nor hull's.
func uplinks() (names []string, err error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		// A cable that is just being laid is listed before it has its master.
		ours := a.Group&groupMark != 0
		if a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 && a.MasterIndex == 0 && !ours {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// changes is what the file holds. It counts for one run of the kernel.
type changes struct {
	Boot     string
	Settings []setting
}

func (s *Networks) changed() ([]setting, error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, forwardFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c changes
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if c.Boot != bootID() {
		return nil, err // all is as it was
	}
	return c.Settings, err
}

// bootID names this run of the kernel, random(4).
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

func (s *Networks) writeChanged(list []setting) error {
	data, err := jsononce.Marshal(changes{bootID(), list})
	if err != nil {
		return err
	}
	tmp := filepath.Join(s.Dir, ".forwarding.new") // not write's, which may be at work
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(s.Dir, forwardFile))
}

// giveBack undoes what forward has changed if no network but the one that is being taken down has anybody attached, except where
// somebody else has changed it since.
func (s *Networks) giveBack(leaving *Network) error {
	list, err := s.changed()
	if err != nil || len(list) == 0 {
		return err
	}
	networks, err := s.List()
	if err != nil {
		return err
	}
	for _, n := range networks {
		if n.Driver == "bridge" && n.ID != leaving.ID && linkExists(n.Interface()) {
			return nil
		}
	}
	slices.Reverse(list) // the switch for all first: it changes those of interfaces
	for _, c := range list {
		if sysctl(c.Family, c.Link, c.Name) == c.Is {
			setSysctl(c.Family, c.Link, c.Name, c.Was)
		}
	}
	return os.Remove(filepath.Join(s.Dir, forwardFile))
}
