package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestBridgeMetadata: a container reaches no metadata of a cloud's unless its network names it, also where the host leads it
// to a server of its own. It is refused at once, and resolvers that have such addresses answer.
func TestBridgeMetadata(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for _, c := range []Config{{Name: "six", IPv6: true}, {Name: "named", Options: map[string]string{OptionAllow: "169.254.169.254,fd00:ec2::254"}, IPv6: true}} {
		_, err := w.s.Create(ctx, c)
		must(t, err)
	}
	for _, a := range []string{"169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "fd00:ec2::254/128"} {
		w.in(w.neighbour, func() { up(t, "lo", a) })
		dst, _ := netlink.ParseIPNet(a)
		via := net.ParseIP("198.51.100.2")
		if dst.IP.To4() == nil {
			via = net.ParseIP("2001:db8::2")
		}
		must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: via, LinkIndex: link(t, "wire").Attrs().Index}))
	}
	w.serve(w.neighbour, "tcp", ":80")
	w.serve(w.neighbour, "tcp", ":53")
	plain := w.container(&Endpoint{Container: id("a1"), Name: "a", Network: Bridge})
	six := w.container(&Endpoint{Container: id("b2"), Name: "b", Network: "six"})
	named := w.container(&Endpoint{Container: id("c3"), Name: "c", Network: "named"})

	w.run("refused", func(t *testing.T) {
		w.reaches(w.host, "169.254.169.254:80", "198.51.100.1") // so that it is there
		w.reaches(w.host, "100.100.100.200:80", "198.51.100.1")
		for _, to := range []string{"169.254.169.254:80", "169.254.170.2:80", "100.100.100.200:80"} {
			w.refused(plain, to)
			w.refused(six, to)
		}
		w.refused(six, "[fd00:ec2::254]:80")
		w.reaches(plain, "198.51.100.2:80", "198.51.100.1")
		w.reaches(plain, "169.254.169.254:53", "198.51.100.1")
		w.in(plain, func() {
			c, err := net.Dial("udp4", "169.254.169.254:80")
			must(t, err)
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			must(t, err)
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 10)); !errors.Is(err, unix.EHOSTUNREACH) {
				t.Errorf("by UDP: %v, want that it is prohibited", err)
			}
		})
	})
	w.run("named", func(t *testing.T) {
		w.reaches(named, "169.254.169.254:80", "198.51.100.1")
		w.reaches(named, "[fd00:ec2::254]:80", "2001:db8::1")
		w.refused(named, "169.254.170.2:80")
		w.refused(named, "100.100.100.200:80")
	})
	w.run("led elsewhere", func(t *testing.T) {
		// As hosts do that give containers credentials of their own.
		w.serve(w.host, "tcp", "198.51.100.1:8181")
		conn, err := nftables.New()
		must(t, err)
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "credentials"})
		chain := conn.AddChain(&nftables.Chain{Table: table, Name: "in", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting,
			Priority: nftables.ChainPriorityNATDest})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(append(
			destination(netip.MustParsePrefix("169.254.169.254/32"), true), port("tcp", 80)...),
			&expr.Immediate{Register: 1, Data: []byte{198, 51, 100, 1}}, &expr.Immediate{Register: 2, Data: []byte{8181 >> 8, 8181 & 0xff}},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2})})
		must(t, conn.Flush())
		w.refused(plain, "169.254.169.254:80")
		if _, err := w.insist(named, "169.254.169.254:80"); err != nil {
			t.Errorf("whose network names it: %v", err)
		}
	})
	for _, id := range []string{id("a1"), id("b2"), id("c3")} {
		must(t, w.s.Detach(ctx, id))
	}
	w.clean()
}

// refused wants a connection to be refused by an answer, not by silence.
func (w *world) refused(ns netns.NsHandle, addr string) {
	w.t.Helper()
	if from, err := w.insist(ns, addr); !errors.Is(err, unix.ECONNREFUSED) {
		w.t.Errorf("%s: seen as %q, %v, want that it is refused", addr, from, err)
	}
}

func TestAllowedOption(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"169.254.169.254":               "",
		"169.254.0.0/16,fd00:ec2::/32":  "",
		"10.0.0.0/8":                    "10.0.0.0/8 is no address of a cloud's metadata",
		"0.0.0.0/0":                     "0.0.0.0/0 is no address of a cloud's metadata",
		"169.254.169.254,metadata.test": `"metadata.test": want ADDRESS or NETWORK/BITS`,
		"169.254.169.254:80":            `want ADDRESS or NETWORK/BITS`,
	} {
		s := &Networks{Dir: t.TempDir()}
		_, err := s.Create(context.Background(), Config{Name: "x", Options: map[string]string{OptionAllow: text}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
