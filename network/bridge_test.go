package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestBridge(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	_, err := w.s.Create(ctx, Config{Name: "six", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("fd00:77::/64")}}, Options: map[string]string{MTUOption: "1400"}})
	must(t, err)
	_, err = w.s.Create(ctx, Config{Name: "shut", Internal: true})
	must(t, err)
	web := &Endpoint{Container: id("a1"), Name: "web", Network: Bridge, Ports: []Port{{HostPort: 8080, Port: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081, Port: 80, Protocol: "tcp"}}}
	a := w.container(web)
	other := &Endpoint{Container: id("b2"), Name: "b", Network: Bridge}
	b := w.container(other)
	six := &Endpoint{Container: id("c3"), Name: "six", Network: "six", Ports: []Port{{HostPort: 8082, Port: 80, Protocol: "tcp"}}}
	c := w.container(six)
	shut := &Endpoint{Container: id("d4"), Name: "shut", Network: "shut"}
	d := w.container(shut)
	for _, ns := range []netns.NsHandle{a, c, d, w.neighbour, w.host} {
		w.serve(ns, "tcp", ":80")
	}
	at := func(e *Endpoint) string { return e.Address.Addr().String() }

	w.run("mtu", func(t *testing.T) {
		for ns, want := range map[netns.NsHandle]int{a: 1500, c: 1400} {
			w.in(ns, func() {
				if got := link(t, "eth0").Attrs().MTU; got != want {
					t.Errorf("mtu %d, want %d", got, want)
				}
			})
		}
	})
	w.run("out", func(t *testing.T) {
		w.reaches(a, "198.51.100.2:80", "198.51.100.1")
		w.reaches(a, "198.51.100.1:80", at(web))
		w.reaches(c, "[2001:db8::2]:80", "2001:db8::1")
	})
	w.run("in", func(t *testing.T) {
		w.reaches(w.neighbour, "198.51.100.1:8080", "198.51.100.2")
		w.reaches(w.neighbour, "198.51.100.1:8082", "198.51.100.2")
		w.reaches(w.neighbour, "[2001:db8::1]:8082", "2001:db8::2")
		w.reaches(w.host, "127.0.0.1:8080", web.Gateway.String())
		w.reaches(w.host, "127.0.0.1:8081", web.Gateway.String())
		w.reaches(w.host, "198.51.100.1:8080", "198.51.100.1")
		w.reaches(w.host, "[2001:db8::1]:8082", "2001:db8::1")
		if _, err := net.DialTimeout("tcp", "[::1]:8082", 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a published port on the IPv6 loopback: %v, want a refusal", err)
		}
		for _, no := range []struct{ at, network, hint string }{
			{"::1", "six", "publish 127.0.0.1:8083"}, {"::1", Bridge, "publish 127.0.0.1:8083"},
			{"::", Bridge, "network bridge has no IPv6: publish 0.0.0.0:8083"}, {"2001:db8::1", Bridge, "no IPv6"},
		} {
			e := &Endpoint{Container: id("e5"), Name: "e", Network: no.network,
				Ports: []Port{{HostIP: netip.MustParseAddr(no.at), HostPort: 8083, Port: 80, Protocol: "tcp"}}}
			if err := w.s.Reserve(ctx, e); err == nil || !strings.Contains(err.Error(), no.hint) {
				t.Errorf("publish on %s of %s: %v", no.at, no.network, err)
			}
		}
		w.barred(w.neighbour, "198.51.100.1:8081")
		w.reaches(b, "198.51.100.1:8080", web.Gateway.String()) // a neighbour on the same bridge, and itself
		w.reaches(a, "198.51.100.1:8080", web.Gateway.String())
	})
	w.run("apart", func(t *testing.T) {
		w.reaches(b, at(web)+":80", at(other))
		w.barred(b, at(six)+":80")
		w.barred(c, at(web)+":80")
		w.barred(d, "198.51.100.2:80")
		w.barred(a, at(shut)+":80")
		w.reaches(c, "198.51.100.1:8080", web.Gateway.String()) // a published port is for all
		w.in(w.neighbour, func() {
			for _, to := range []string{"10.144.0.0/16", "203.0.113.0/24"} {
				dst, _ := netlink.ParseIPNet(to)
				must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IPv4(198, 51, 100, 1)}))
			}
		})
		w.barred(w.neighbour, at(web)+":80")
	})
	w.run("loopback", func(t *testing.T) {
		// A container that sends to the host's loopback by way of its gateway.
		w.toHostLoopback(b, other)
		w.deaf(b)
	})
	w.run("reload", func(t *testing.T) {
		// A firewall's reload that throws everybody's rules away (nft flush ruleset) opens no port of the host's loopback to
		// others, who ask for it by the host's address or send to the loopback by way of the host. The next change mends all.
		flush(t)
		w.in(w.neighbour, func() {
			own, _ := netlink.ParseAddr("127.0.0.1/8")
			must(t, netlink.AddrDel(link(t, "lo"), own))
			setSysctl("ipv4", "all", "route_localnet", "1")
			dst, _ := netlink.ParseIPNet("127.0.0.0/8")
			must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IPv4(198, 51, 100, 1)}))
		})
		w.barred(w.neighbour, "198.51.100.1:8081")
		w.barred(w.neighbour, "127.0.0.1:8081")
		w.container(&Endpoint{Container: id("e5"), Name: "e", Network: Bridge})
		w.reaches(w.neighbour, "198.51.100.1:8080", "198.51.100.2")
		w.barred(w.neighbour, "198.51.100.1:8081")
		w.barred(w.neighbour, "127.0.0.1:8081")
		w.barred(w.neighbour, at(web)+":80")
		must(t, w.s.Detach(ctx, id("e5")))
	})
	for _, id := range []string{id("a1"), id("b2"), id("c3"), id("d4")} {
		must(t, w.s.Detach(ctx, id))
	}
	w.clean()
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

// TestSignal: a cable is waited for until what comes by it is forwarded, and not for ever.
func TestSignal(t *testing.T) {
	w := newWorld(t)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", Flags: net.FlagUp}, PeerName: "far"}))
	begin := time.Now()
	awaitSignal("near") // whose other end is down
	if took := time.Since(begin); took < signalPatience {
		t.Errorf("waited %v for no signal, want %v", took, signalPatience)
	}
	must(t, netlink.LinkSetUp(link(t, "far")))
	awaitSignal("near")
	if state := link(t, "near").Attrs().OperState; state != netlink.OperUp {
		t.Errorf("state %v", state)
	}
	for i := range 10 {
		e := &Endpoint{Container: id(fmt.Sprintf("a%d", i)), Name: "a", Network: Bridge}
		w.container(e)
		if state := link(t, e.Interface).Attrs().OperState; state != netlink.OperUp {
			t.Errorf("container %d: state %v", i, state)
		}
	}
}

// TestBridgeLoad: every connection counts, a big transfer is exact both ways, and both live on while rules are replaced.
func TestBridgeLoad(t *testing.T) {
	w := newWorld(t)
	web := &Endpoint{Container: id("a1"), Name: "web", Network: Bridge, Ports: []Port{{HostPort: 8080, Port: 80, Protocol: "tcp"}}}
	a := w.container(web)
	w.serve(a, "tcp", ":80")
	var conn net.Conn
	w.in(w.neighbour, func() {
		var err error
		conn, err = net.Dial("tcp", "198.51.100.1:8080")
		must(t, err)
	})
	defer conn.Close()
	_, err := io.ReadFull(conn, make([]byte, len("198.51.100.2\n")))
	must(t, err)
	data := bytes.Repeat([]byte("0123456789abcdef\n"), 64<<20/17)
	done, echoed := make(chan error, 1), make(chan []byte, 1)
	go func() {
		_, err := conn.Write(data)
		done <- err
	}()
	go func() {
		b := make([]byte, len(data))
		_, _ = io.ReadFull(conn, b)
		echoed <- b
	}()
	for i := range 1000 {
		if i%100 == 50 { // others come and go
			e := &Endpoint{Container: id("e"), Name: "e", Network: Bridge}
			w.container(e)
			must(t, w.s.Detach(context.Background(), e.Container))
		}
		if from, err := w.insist(w.neighbour, "198.51.100.1:8080"); err != nil || from != "198.51.100.2" {
			t.Fatalf("connection %d: %q, %v", i, from, err)
		}
	}
	must(t, <-done)
	if !bytes.Equal(<-echoed, data) {
		t.Error("what came back is something else")
	}
	must(t, w.s.Detach(context.Background(), web.Container))
	w.clean()
}

// TestBridgePorts: as many ports as anybody publishes, on as many containers.
func TestBridgePorts(t *testing.T) {
	w := newWorld(t)
	_, err := w.s.Create(context.Background(), Config{Name: "n", IPv6: true})
	must(t, err)
	last := netns.None()
	for i := range 10 {
		ports, err := ParsePort(fmt.Sprintf("%d-%d:1-100", 9000+100*i, 9099+100*i))
		must(t, err)
		last = w.container(&Endpoint{Container: id(fmt.Sprint("c", i)), Network: "n", Ports: ports})
	}
	w.serve(last, "tcp", ":100")
	w.reaches(w.neighbour, "198.51.100.1:9999", "198.51.100.2")
	for i := range 10 {
		must(t, w.s.Detach(context.Background(), id(fmt.Sprint("c", i))))
	}
	w.clean()
}

// TestBridgeKilled: whoever was killed at whatever point leaves nothing that the next call does not take away.
func TestBridgeKilled(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	e := &Endpoint{Container: id("a1"), Name: "a", Network: Bridge}
	w.container(e)
	must(t, removeLink(e.Interface, 0)) // as the kernel does when the namespace goes
	if left, err := w.s.Left(); err != nil || !slices.Equal(left, []string{Bridge}) {
		t.Errorf("left: %v, %v", left, err)
	}
	must(t, w.s.Mend())
	w.clean()
	// One whose maker has ended before the cable was laid has its address no longer than he lived.
	cmd := exec.Command("sleep", "60")
	must(t, cmd.Start())
	r := &Endpoint{Container: id("b2"), Name: "b", Network: Bridge}
	must(t, w.s.Reserve(ctx, r))
	n, err := w.s.read(Bridge)
	must(t, err)
	n.Endpoints[r.Container].Pid, n.Endpoints[r.Container].Start = cmd.Process.Pid, started(cmd.Process.Pid)
	must(t, w.s.write(n))
	same := &Endpoint{Container: id("c3"), Name: "c", Network: Bridge, IP: r.Address.Addr()}
	if err := w.s.Reserve(ctx, same); err == nil {
		t.Error("an address was given to two")
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	must(t, w.s.Reserve(ctx, same))
	must(t, w.s.Detach(ctx, same.Container))
	w.clean()
}

// TestBridgeForeign: others' tables stay as they are, and a host that was no router is none between its interfaces.
func TestBridgeForeign(t *testing.T) {
	w := newWorld(t)
	far := newNamespace(t)
	must(t, netns.Set(w.host))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "second"}, PeerName: "wire", PeerNamespace: netlink.NsFd(far)}))
	up(t, "second", "203.0.113.1/24")
	w.in(far, func() {
		up(t, "wire", "203.0.113.2/24")
		must(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(203, 0, 113, 1)}))
	})
	w.in(w.neighbour, func() { must(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(198, 51, 100, 1)})) })
	w.serve(far, "tcp", ":80")
	conn, err := nftables.New()
	must(t, err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nat"})
	chain := conn.AddChain(&nftables.Chain{Name: "POSTROUTING", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: out("nobody", true)})
	must(t, conn.Flush())
	before := foreign(t)
	a := w.container(&Endpoint{Container: id("a1"), Name: "a", Network: Bridge})
	w.reaches(a, "203.0.113.2:80", "203.0.113.1")
	w.barred(w.neighbour, "203.0.113.2:80")
	must(t, w.s.Detach(context.Background(), id("a1")))
	if after := foreign(t); len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("others' rules were %v, are %v", before, after)
	}
	w.clean()
}

// TestBridgeWarns: who is going to have its packets dropped by others is told so, and how to mend that: as the line says it
// works, and then nothing is said any more.
func TestBridgeWarns(t *testing.T) {
	for _, test := range []struct {
		name, table string
		family      nftables.TableFamily
		chains      []string // the first is the one that drops
		want        string
	}{
		{"firewall", "firewall", nftables.TableFamilyINet, []string{"forwarded"}, "nft insert rule inet firewall forwarded iifname 'hull-*' accept; "},
		{"iptables", "filter", nftables.TableFamilyIPv4, []string{"FORWARD"}, "iptables -I FORWARD -i hull-+ -j ACCEPT; "},
		{"docker", "filter", nftables.TableFamilyIPv4, []string{"FORWARD", "DOCKER-USER"}, "iptables -I DOCKER-USER -i hull-+ -j ACCEPT; "},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			var said []string
			w.s.Warn = func(line string) { said = append(said, line) }
			dropping(t, test.family, test.table, test.chains)
			w.serve(w.neighbour, "tcp", ":80")
			a := w.container(&Endpoint{Container: id("a1"), Name: "a", Network: Bridge})
			if len(said) != 1 || !strings.Contains(said[0], ": "+test.want) {
				t.Fatalf("said %q, want %s", said, test.want)
			}
			w.barred(a, "198.51.100.2:80")
			must(t, w.s.Detach(context.Background(), id("a1")))
			_, commands, _ := strings.Cut(said[0], "nobody outside: ")
			tool, _, _ := strings.Cut(commands, " ")
			cmd := exec.Command("sh", "-ec", commands)
			cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin"}
			switch out, err := cmd.CombinedOutput(); {
			case strings.Contains(string(out), "not found"):
				t.Skipf("needs %s", tool)
			case err != nil:
				t.Fatalf("%s: %v: %s", commands, err, out)
			}
			said = nil
			b := w.container(&Endpoint{Container: id("b2"), Name: "b", Network: Bridge})
			w.reaches(b, "198.51.100.2:80", "198.51.100.1")
			if len(said) != 0 {
				t.Errorf("said %q", said)
			}
			must(t, w.s.Detach(context.Background(), id("b2")))
			w.clean()
		})
	}
}

// dropping makes a table whose first chain drops what is forwarded, but for what the others, to which it jumps, accept.
func dropping(t *testing.T, family nftables.TableFamily, name string, chains []string) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Family: family, Name: name})
	first := conn.AddChain(&nftables.Chain{Name: chains[0], Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	for _, c := range chains[1:] {
		conn.AddChain(&nftables.Chain{Name: c, Table: table})
		conn.AddRule(&nftables.Rule{Table: table, Chain: first, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c}}})
	}
	must(t, conn.Flush())
}

// foreign are the chains that are not hull's, and how many rules each has.
func foreign(t *testing.T) (names []string) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	chains, err := conn.ListChains()
	must(t, err)
	for _, c := range chains {
		if !strings.HasPrefix(c.Table.Name, bridgePrefix) {
			rules, err := conn.GetRules(c.Table, c)
			must(t, err)
			names = append(names, fmt.Sprint(c.Table.Name, c.Name, len(rules)))
		}
	}
	return names
}

// TestBridgeUDP: what is sent on to a published port goes to the container that is there now.
func TestBridgeUDP(t *testing.T) {
	w := newWorld(t)
	var sock net.Conn
	w.in(w.neighbour, func() {
		var err error
		sock, err = net.Dial("udp", "198.51.100.1:5353")
		must(t, err)
	})
	defer sock.Close()
	for _, name := range []string{"a1", "b2"} {
		e := &Endpoint{Container: id(name), Name: name, Network: Bridge, Ports: []Port{{HostPort: 5353, Port: 53, Protocol: "udp"}}}
		ns := w.container(e)
		var server net.PacketConn
		w.in(ns, func() {
			var err error
			server, err = net.ListenPacket("udp", ":53")
			must(t, err)
		})
		go func() {
			b := make([]byte, 100)
			if _, from, err := server.ReadFrom(b); err == nil {
				_, _ = server.WriteTo([]byte(name), from)
			}
		}()
		_, err := sock.Write([]byte("who?"))
		must(t, err)
		_ = sock.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 100)
		n, err := sock.Read(b)
		if string(b[:n]) != name {
			t.Errorf("answer %q, %v, want %q", b[:n], err, name)
		}
		server.Close()
		must(t, w.s.Detach(context.Background(), e.Container))
	}
	w.clean()
}

// TestNothingMayBeMade tells what a process without rights on the network, or a kernel without networks, says.
func TestNothingMayBeMade(t *testing.T) {
	w := newWorld(t)
	e := &Endpoint{Container: id("a1"), Name: "none", Network: Bridge}
	must(t, w.s.Reserve(context.Background(), e))
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread has lost its rights
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := errors.Join(unix.Setns(int(w.host), unix.CLONE_NEWNET), unix.Capget(&header, &data[0]))
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err = errors.Join(err, unix.Capset(&header, &data[0])); err == nil {
			err = w.s.Attach(context.Background(), "/proc/thread-self/ns/net", e)
		}
		failed <- err
	}()
	if err := <-failed; !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the kernel has no bridges") {
		t.Error(err)
	}
	for _, kernel := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.ENOENT} {
		if err := needs(fmt.Errorf("netlink: %w", kernel), "bridges"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, kernel) {
			t.Error(err)
		}
	}
	if err := needs(unix.EEXIST, "bridges"); errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
