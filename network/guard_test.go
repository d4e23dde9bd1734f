package network

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestBridgeNoRouter: whatever networks come and go, between its own interfaces the host sends on what it did before, each family
// by itself, and nothing else.
func TestBridgeNoRouter(t *testing.T) {
	for _, on := range []map[string]string{
		{"ipv4": "0", "ipv6": "0"},
		{"ipv4": "1", "ipv6": "0"},
		{"ipv4": "0", "ipv6": "1"},
		{"ipv4": "1", "ipv6": "1"},
	} {
		// Who comes (+) and goes (-): a container on a network without IPv6, two on networks with it, and one more interface of the host's.
		for _, order := range []string{"+plain +six -six -plain", "+six +plain -six +six2 -plain -six2",
			"+plain +third +six -six +six -plain -six", "+six +third +six2 +plain -plain -six2 -six"} {
			t.Run(fmt.Sprintf("ipv4=%s ipv6=%s %s", on["ipv4"], on["ipv6"], order), func(t *testing.T) { noRouter(t, on, order) })
		}
	}
}

func noRouter(t *testing.T, on map[string]string, order string) {
	w := newWorld(t)
	for family, value := range on {
		if !setSysctl(family, "all", "forwarding", value) {
			t.Fatalf("%s forwarding is not to be set", family)
		}
	}
	w.was = settings(t)
	far := &farHosts{}
	far.add(w, "neighbour", w.neighbour, "198.51.100.2", "2001:db8::2")
	beyond := w.secondWire()
	far.add(w, "beyond", beyond, "203.0.113.2", "2001:db8:1::2")
	w.serve(beyond, "tcp", ":80")
	for _, name := range []string{"six", "six2"} {
		_, err := w.s.Create(context.Background(), Config{Name: name, IPv6: true})
		must(t, err)
	}
	far.check(t, "before", on)
	inside := map[string]netns.NsHandle{}
	for _, step := range strings.Fields(order) {
		switch name := step[1:]; {
		case name == "third":
			far.add(w, name, w.wire(name, "192.0.2.", "2001:db8:2::"), "192.0.2.2", "2001:db8:2::2")
			continue // what comes later is left alone until somebody is attached
		case step[0] == '+':
			inside[name] = w.container(&Endpoint{Container: id(name), Name: name, Network: strings.Replace(name, "plain", Bridge, 1)})
		default:
			must(t, w.s.Detach(context.Background(), id(name)))
			delete(inside, name)
		}
		far.check(t, step, on)
		for name, ns := range inside {
			w.reaches(ns, "203.0.113.2:80", "203.0.113.1")
			if name != "plain" {
				w.reaches(ns, "[2001:db8:1::2]:80", "2001:db8:1::1")
			}
		}
	}
	w.clean()
}

// TestBridgeSwitchedMeanwhile: who makes the host a router while there are containers finds it one when they are gone.
func TestBridgeSwitchedMeanwhile(t *testing.T) {
	w := newWorld(t)
	far := &farHosts{}
	far.add(w, "neighbour", w.neighbour, "198.51.100.2", "2001:db8::2")
	far.add(w, "beyond", w.secondWire(), "203.0.113.2", "2001:db8:1::2")
	_, err := w.s.Create(context.Background(), Config{Name: "six", IPv6: true})
	must(t, err)
	w.container(&Endpoint{Container: id("six"), Name: "six", Network: "six"})
	w.container(&Endpoint{Container: id("plain"), Name: "plain", Network: Bridge})
	far.check(t, "no router", nil)
	router := map[string]string{"ipv4": "1", "ipv6": "1"}
	if sysctl("ipv6", "all", "force_forwarding") == "" {
		delete(router, "ipv6") // there hull has used the switch itself
	}
	for family := range router {
		if !setSysctl(family, "all", "forwarding", "1") {
			t.Fatalf("%s forwarding is not to be set", family)
		}
		for path := range w.was {
			if name := filepath.Base(path); name == "forwarding" && strings.Contains(path, family) {
				w.was[path] = "1"
			}
		}
	}
	w.container(&Endpoint{Container: id("other"), Name: "other", Network: "six"})
	must(t, w.s.Detach(context.Background(), id("plain")))
	far.check(t, "router", router)
	must(t, w.s.Detach(context.Background(), id("six")))
	must(t, w.s.Detach(context.Background(), id("other")))
	far.check(t, "no containers", router)
	w.clean()
}

// TestBridgeOneWay: an interface that a router takes nothing from stays so.
func TestBridgeOneWay(t *testing.T) {
	w := newWorld(t)
	far := &farHosts{}
	far.add(w, "neighbour", w.neighbour, "198.51.100.2", "2001:db8::2")
	far.add(w, "beyond", w.secondWire(), "203.0.113.2", "2001:db8:1::2")
	if !setSysctl("ipv4", "all", "forwarding", "1") || !setSysctl("ipv4", "other", "forwarding", "0") {
		t.Fatal("forwarding is not to be set")
	}
	w.was = settings(t)
	there := map[string]string{"ipv4 neighbour beyond": "1"}
	far.check(t, "before", there)
	w.container(&Endpoint{Container: id("plain"), Name: "plain", Network: Bridge})
	far.check(t, "with a container", there)
	must(t, w.s.Detach(context.Background(), id("plain")))
	w.clean()
}

// TestBridgeOneWayMeanwhile: nor does it change when the host has become such a router while there are containers: from the next
// one on it is that.
func TestBridgeOneWayMeanwhile(t *testing.T) {
	w := newWorld(t)
	far := &farHosts{}
	far.add(w, "neighbour", w.neighbour, "198.51.100.2", "2001:db8::2")
	far.add(w, "beyond", w.secondWire(), "203.0.113.2", "2001:db8:1::2")
	_, err := w.s.Create(context.Background(), Config{Name: "more"})
	must(t, err)
	w.container(&Endpoint{Container: id("first"), Name: "first", Network: Bridge})
	far.check(t, "no router", nil)
	if !setSysctl("ipv4", "all", "forwarding", "1") || !setSysctl("ipv4", "other", "forwarding", "0") {
		t.Fatal("forwarding is not to be set")
	}
	for path := range w.was {
		if filepath.Base(path) == "forwarding" && strings.Contains(path, "ipv4") {
			w.was[path] = "1"
		}
	}
	w.was[sysctlPath("ipv4", "other", "forwarding")] = "0"
	there := map[string]string{"ipv4 neighbour beyond": "1"}
	w.container(&Endpoint{Container: id("second"), Name: "second", Network: "more"})
	far.check(t, "with another container", there)
	must(t, w.s.Detach(context.Background(), id("second")))
	far.check(t, "without it", there)
	must(t, w.s.Detach(context.Background(), id("first")))
	far.check(t, "no containers", there)
	w.clean()
}

// TestBridgeNothingToSet: an interface that comes while there are containers is kept apart from the next container on, on whichever
// network that is and even if none of its settings has to change.
func TestBridgeNothingToSet(t *testing.T) {
	for name, sendsOn := range map[string]bool{"down": false, "sends on": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			far := &farHosts{}
			far.add(w, "neighbour", w.neighbour, "198.51.100.2", "2001:db8::2")
			_, err := w.s.Create(context.Background(), Config{Name: "more"})
			must(t, err)
			w.container(&Endpoint{Container: id("first"), Name: "first", Network: Bridge})
			third := w.wire("third", "192.0.2.", "2001:db8:2::")
			on := map[string]string{}
			if sendsOn {
				setSysctl("ipv4", "third", "forwarding", "1")
				w.was[sysctlPath("ipv4", "third", "forwarding")] = "1"
				on["ipv4 third neighbour"] = "1"
			} else {
				must(t, netlink.LinkSetDown(link(t, "third")))
			}
			w.container(&Endpoint{Container: id("second"), Name: "second", Network: "more"})
			must(t, netlink.LinkSetUp(link(t, "third")))
			far.add(w, "third", third, "192.0.2.2", "2001:db8:2::2")
			far.check(t, "with both", on)
			must(t, w.s.Detach(context.Background(), id("second")))
			far.check(t, "with the first", on)
			must(t, w.s.Detach(context.Background(), id("first")))
			far.check(t, "no containers", on)
			w.clean()
		})
	}
}

// TestBridgeGiveBackKilled: where IPv6's switch is off again, since who gave it back was killed after that, what was on before stays
// known.
func TestBridgeGiveBackKilled(t *testing.T) {
	known := setting{"ipv6", "known", "forwarding", "1", "1"}
	list := switched(uplinks{all: []string{"known", "new"}}, []setting{known}, false)
	if all, _ := merge([]setting{known}, list); len(all) != 2 || all[0] != known || all[1].Link != "new" {
		t.Errorf("changed is %v, want %v and new", all, known)
	}
}

// farHosts are those behind the host's interfaces.
type farHosts struct {
	list []farHost
	mu   sync.Mutex
	seen map[string]bool // what has come, "ipv4 neighbour beyond"
}

type farHost struct {
	name      string
	conn      net.PacketConn
	addresses map[string]string // by family
}

func (f *farHosts) add(w *world, name string, ns netns.NsHandle, ipv4, ipv6 string) {
	w.t.Helper()
	h := farHost{name: name, addresses: map[string]string{"ipv4": ipv4, "ipv6": ipv6}}
	w.in(ns, func() {
		var err error
		h.conn, err = net.ListenPacket("udp", ":99")
		must(w.t, err)
	})
	w.t.Cleanup(func() { h.conn.Close() })
	f.list = append(f.list, h)
	go func() {
		b := make([]byte, 100)
		for {
			n, _, err := h.conn.ReadFrom(b)
			if err != nil {
				return
			}
			f.mu.Lock()
			f.seen[string(b[:n])] = true
			f.mu.Unlock()
		}
	}()
}

// check sends datagrams from each to each: those of the families, and those that go a way, that are on arrive,
// and no others.
func (f *farHosts) check(t *testing.T, when string, on map[string]string) {
	t.Helper()
	f.mu.Lock()
	f.seen = map[string]bool{}
	f.mu.Unlock()
	var want, got []string
	begin := time.Now()
	for {
		want = nil
		for _, from := range f.list {
			for _, to := range f.list {
				for family, address := range to.addresses {
					if from.name == to.name {
						continue
					}
					way := fmt.Sprintf("%s %s %s", family, from.name, to.name)
					if on[family] == "1" || on[way] == "1" {
						want = append(want, way)
					}
					_, err := from.conn.WriteTo([]byte(way), &net.UDPAddr{IP: net.ParseIP(address), Port: 99})
					must(t, err)
				}
			}
		}
		time.Sleep(30 * time.Millisecond)
		f.mu.Lock()
		got = slices.Sorted(maps.Keys(f.seen))
		f.mu.Unlock()
		slices.Sort(want)
		all := slices.Equal(got, want) && time.Since(begin) > 100*time.Millisecond
		if all || time.Since(begin) > 30*time.Second {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the host sends on %q, want %q", when, got, want)
	}
}

// wire gives the host another interface, whose address is net with a 1, and returns who is at its other end, net with a 2. He and the
// neighbour have routes to each other by way of the host.
func (w *world) wire(name, net4, net6 string) netns.NsHandle {
	w.t.Helper()
	far := newNamespace(w.t)
	must(w.t, netns.Set(w.host))
	must(w.t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(far)}))
	up(w.t, name, net4+"1/24", net6+"1/64")
	w.in(far, func() {
		up(w.t, name, net4+"2/24", net6+"2/64")
		for _, gateway := range []string{net4 + "1", net6 + "1"} {
			must(w.t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}))
		}
	})
	w.in(w.neighbour, func() {
		for to, gateway := range map[string]string{net4 + "0/24": "198.51.100.1", net6 + "/64": "2001:db8::1"} {
			dst, err := netlink.ParseIPNet(to)
			must(w.t, err)
			must(w.t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}))
		}
	})
	return far
}
