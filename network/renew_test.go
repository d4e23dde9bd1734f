package network

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestBridgeFlushed: rules that somebody has thrown away come back as they were. Until then no container speaks to the host's
// loopback that is on a network without ports for the host.
func TestBridgeFlushed(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	_, err := w.s.Create(ctx, Config{Name: "quiet"})
	must(t, err)
	beyond := w.secondWire()
	w.serve(beyond, "tcp", ":80")
	published := &Endpoint{Container: id("a1"), Name: "web", Network: Bridge, Ports: []Port{{HostPort: 8080, Port: 80, Protocol: "tcp"}}}
	web := w.container(published)
	w.serve(web, "tcp", ":80")
	e := &Endpoint{Container: id("b2"), Name: "b", Network: "quiet"}
	quiet := w.container(e)
	w.toHostLoopback(quiet, e)
	same := func(when string) {
		t.Helper()
		t.Log(when)
		w.reaches(w.neighbour, "198.51.100.1:8080", "198.51.100.2")
		w.reaches(w.host, "127.0.0.1:8080", published.Gateway.String())
		w.reaches(quiet, "203.0.113.2:80", "203.0.113.1")
		w.refused(quiet, "169.254.169.254:80")
		w.barred(w.neighbour, "203.0.113.2:80") // which the host would route, now that it forwards
		w.deaf(quiet)
	}
	same("before")
	flush(t)
	w.deaf(quiet)
	must(t, w.s.Renew())
	same("renewed")
	flush(t)
	must(t, w.s.Detach(ctx, id("b2")))
	must(t, w.s.Renew()) // what is left
	w.reaches(w.neighbour, "198.51.100.1:8080", "198.51.100.2")
	flush(t)
	must(t, w.s.Detach(ctx, id("a1")))
	must(t, w.s.Renew()) // nothing is left
	w.clean()
}

// TestRulesKept: where there is a process of hull's, they come back by themselves.
func TestRulesKept(t *testing.T) {
	w := newWorld(t)
	web := w.container(&Endpoint{Container: id("a1"), Name: "web", Network: Bridge, Ports: []Port{{HostPort: 8080, Port: 80, Protocol: "tcp"}}})
	w.serve(web, "tcp", ":80")
	ready := make(chan struct{})
	go func() {
		_ = within(w.host, func() error {
			close(ready)
			w.s.keepRules() // until the test's process ends
			return nil
		})
	}()
	<-ready
	for range 3 {
		flush(t)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if lost, err := w.s.lost(); err == nil && len(lost) == 0 {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("not renewed: %v", err)
			}
		}
		w.reaches(w.neighbour, "198.51.100.1:8080", "198.51.100.2")
	}
	must(t, w.s.Detach(context.Background(), id("a1")))
	w.clean()
}

// secondWire gives the host another interface, 203.0.113.1 and 2001:db8:1::1, see wire.
func (w *world) secondWire() netns.NsHandle {
	w.t.Helper()
	return w.wire("other", "203.0.113.", "2001:db8:1::")
}

// toHostLoopback has a container send what is for 127.0.0.0/8 to the host by way of its gateway.
func (w *world) toHostLoopback(ns netns.NsHandle, e *Endpoint) {
	w.t.Helper()
	w.in(ns, func() {
		own, _ := netlink.ParseAddr("127.0.0.1/8")
		must(w.t, netlink.AddrDel(link(w.t, "lo"), own)) // and the local route with it
		dst, _ := netlink.ParseIPNet("127.0.0.0/8")
		setSysctl("ipv4", "all", "route_localnet", "1")
		must(w.t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: e.Gateway.AsSlice(), LinkIndex: link(w.t, "eth0").Attrs().Index}))
	})
}

// deaf wants the host's loopback not to hear a container that sends there.
func (w *world) deaf(ns netns.NsHandle) {
	w.t.Helper()
	heard, err := net.ListenPacket("udp4", "127.0.0.1:98")
	must(w.t, err)
	defer heard.Close()
	w.in(ns, func() {
		c, err := net.Dial("udp4", "127.0.0.1:98")
		must(w.t, err)
		defer c.Close()
		_, err = c.Write([]byte("let me in"))
		must(w.t, err)
	})
	_ = heard.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, from, err := heard.ReadFrom(make([]byte, 10)); err == nil {
		w.t.Errorf("the host's loopback hears %s", from)
	} else if !os.IsTimeout(err) {
		w.t.Error(err)
	}
}

// flush is "nft flush ruleset".
func flush(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
}
