package usernet

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func TestParseAllow(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"pypi.org", "pypi.org"}, {"PyPI.org.:443", "pypi.org:443"}, {"*.debian.org", "*.debian.org"}, {"*.debian.org:80", "*.debian.org:80"},
		{"10.0.0.0/8", "10.0.0.0/8"}, {"10.1.2.3", "10.1.2.3/32"}, {"10.1.2.3/8:53", "10.0.0.0/8:53"}, {"2001:db8::/32", "2001:db8::/32"},
		{"2001:db8::1", "2001:db8::1/128"}, {"[2001:db8::1]:443", "2001:db8::1/128:443"}, {"::ffff:10.1.2.3", "10.1.2.3/32"},
		{"[2001:db8::]/32", "!"}, {"a.example, b.example:1", "a.example b.example:1"}, {"host-gateway:8080", "host-gateway:8080"},
		{"", "!"}, {"a.example,", "!"}, {"a.example:0", "!"}, {"a.example:65536", "!"}, {"a.example:http", "!"}, {"https://a.example", "!"},
		{"127.1", "!"}, {"2130706433", "!"}, {"0x7f000001", "!"}, {"a.0177", "!"}, {"0300.0xa8.1", "!"}, {"7f.example", "7f.example"}, {"bücher.example", "!"}, {"*", "!"}, {"*.", "!"}, {"a.*.example", "!"}, {"10.0.0.0/33", "!"}, {"a b", "!"},
	} {
		rules, err := ParseAllow(c.list)
		var words []string
		for _, r := range rules {
			word := r.Name
			if r.Sub {
				word = "*." + word
			}
			if r.Name == "" {
				word = r.Net.String()
			}
			if r.Port != 0 {
				word += ":" + itoa(r.Port)
			}
			words = append(words, word)
		}
		got := strings.Join(words, " ")
		if err != nil {
			got = "!"
		}
		if got != c.want {
			t.Errorf("%q is read as %q (%v), want %q", c.list, got, err, c.want)
		}
	}
}

func itoa(n uint16) string {
	return strings.TrimPrefix(netip.AddrPortFrom(netip.IPv4Unspecified(), n).String(), "0.0.0.0:")
}

// allowed is a container with an allow-list, and a DNS server on the host's loopback.
func allowed(t *testing.T, mode Mode, list string, z *zone) (*box, *Network) {
	t.Helper()
	var rules []Rule
	if list != "" {
		var err error
		if rules, err = ParseAllow(list); err != nil {
			t.Fatal(err)
		}
	}
	return connected(t, Config{Mode: mode, Allow: rules}, Member{DNS: []netip.AddrPort{serveDNS(t, z)}})
}

// refusedFor gives the report's reasons about a destination.
func refusedFor(n *Network, to string) (why []string) {
	r := n.Report()
	for _, e := range r.Entries {
		if e.To == to && e.Refused {
			why = append(why, e.What+": "+e.Why)
		}
	}
	return why
}

// mustRefuse wants a connection refused at once, and the report to say why.
func mustRefuse(t *testing.T, b *box, n *Network, to netip.AddrPort, label, why string) {
	t.Helper()
	began := time.Now()
	c, err := b.dial("tcp", to)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connect to %s: %v, want it refused", to, err)
	}
	if took := time.Since(began); took > atOnce {
		t.Errorf("connect to %s: refused after %s", to, took)
	}
	if got := refusedFor(n, label); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, why) }) {
		t.Errorf("report about %s: %q, want %q; all: %v", label, got, why, n.Report())
	}
}

func mustConnect(t *testing.T, b *box, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := b.dial("tcp", to)
	if err != nil {
		t.Fatalf("connect to %s: %v", to, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestAllowByName: an address is open once an allowed name has led to it, not before, and not for ever.
func TestAllowByName(t *testing.T) {
	z := &zone{ttl: 60, alias: map[string]string{"www.good.example": "cdn.other.example"}}
	z.set("good.example", serverA)
	z.set("cdn.other.example", serverB)
	z.set("six.good.example", server6)
	z.set("bad.example", serverB)
	b, n := allowed(t, ModeAllow, "good.example,*.good.example:4000", z)
	a := serveTCP(t, serverA, 0, echoAll)
	cdn := serveTCP(t, serverB, 4000, echoAll)
	six := serveTCP(t, server6, 4000, echoAll)
	six2 := serveTCP(t, server6, 0, echoAll)

	mustRefuse(t, b, n, a, a.String(), "not the answer to an allowed name")
	for _, network := range []string{"udp", "tcp"} {
		if got, code, err := b.lookup(network, "bad.example", dnsmessage.TypeA, gateway()); err != nil || code != dnsmessage.RCodeRefused || len(got) > 0 {
			t.Errorf("bad.example by %s: %v %v %v", network, got, code, err)
		}
	}
	if z.asked["bad.example"] > 0 {
		t.Error("the question for a name that is not allowed has left the machine")
	}
	if got := refusedFor(n, "bad.example"); len(got) != 1 {
		t.Errorf("report about bad.example: %q", got)
	}
	if got, _, err := b.lookup("udp", "Good.Example", dnsmessage.TypeA, gateway()); err != nil || !slices.Equal(got, []netip.Addr{serverA}) {
		t.Fatalf("good.example: %v %v", got, err)
	}
	if got, err := talk(mustConnect(t, b, a), "hi"); err != nil || got != "hi" {
		t.Errorf("talk with good.example: %q %v", got, err)
	}
	if got, _, err := b.lookup("tcp", "www.good.example", dnsmessage.TypeA, gateway()); err != nil || !slices.Equal(got, []netip.Addr{serverB}) {
		t.Fatalf("www.good.example: %v %v", got, err)
	}
	if z.tcp.Load() != 1 {
		t.Errorf("a question by TCP was asked by TCP %d times", z.tcp.Load())
	}
	mustConnect(t, b, cdn)
	if got, _, err := b.lookup("udp", "six.good.example", dnsmessage.TypeAAAA, gateway()); err != nil || len(got) != 1 {
		t.Fatalf("six.good.example: %v %v", got, err)
	}
	mustConnect(t, b, six)
	mustRefuse(t, b, n, six2, "six.good.example:"+itoa(six2.Port()), "port not allowed")
	mustRefuse(t, b, n, netip.AddrPortFrom(metadata, 80), "169.254.169.254:80", "metadata")

	// When its time has come, the address is closed again; what has begun goes on.
	old := mustConnect(t, b, a)
	n.policy.mu.Lock()
	n.policy.now = func() time.Time { return time.Now().Add(60*time.Second + grace + time.Second) }
	n.policy.mu.Unlock()
	mustRefuse(t, b, n, a, "good.example:"+itoa(a.Port()), "not the answer")
	if got, err := talk(old, "still"); err != nil || got != "still" {
		t.Errorf("an older connection: %q %v", got, err)
	}
}

func talk(c net.Conn, words string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, words); err != nil {
		return "", err
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	return string(got), err
}

// TestRebinding: an allowed name does not lead into networks of one's own, whatever its server says, unless one is allowed.
func TestRebinding(t *testing.T) {
	z := &zone{ttl: 60}
	evil := map[string]netip.Addr{
		"loop.evil.example": netip.MustParseAddr("127.0.0.1"), "private.evil.example": intranet, "meta.evil.example": metadata,
		"six.evil.example": netip.IPv6Loopback(), "mapped.evil.example": netip.MustParseAddr("::ffff:127.0.0.1"),
		"ula.evil.example": netip.MustParseAddr("fd00::1"), "meta6.evil.example": netip.MustParseAddr("fd00:ec2::254"),
		"nat64.evil.example": netip.MustParseAddr("64:ff9b::a4d:1"), "zero.evil.example": netip.IPv4Unspecified(),
		"cgnat.evil.example": netip.MustParseAddr("100.64.1.1"), "site.evil.example": netip.MustParseAddr("fec0::1"),
		"nat64own.evil.example": netip.MustParseAddr("64:ff9b:1::7f00:1"), "bench.evil.example": netip.MustParseAddr("198.18.0.1"),
		"classe.evil.example": netip.MustParseAddr("240.0.0.1"), "gateway.evil.example": netip.MustParseAddr("10.0.2.2"),
	}
	for name, a := range evil {
		z.set(name, serverA, a) // hidden behind a harmless one
	}
	b, n := allowed(t, ModeAllow, "*.evil.example", z)
	s := serveTCP(t, intranet, 0, echoAll)
	for name, a := range evil {
		kind := dnsmessage.TypeA
		if a.Is6() {
			kind = dnsmessage.TypeAAAA
		}
		for _, network := range []string{"udp", "tcp"} {
			got, code, err := b.lookup(network, name, kind, gateway())
			if err != nil || code != dnsmessage.RCodeRefused || len(got) > 0 {
				t.Errorf("%s by %s: %v %v %v", name, network, got, code, err)
			}
		}
		if why := refusedFor(n, name); len(why) != 1 || !strings.Contains(why[0], "answered with") {
			t.Errorf("report about %s: %q", name, why)
		}
	}
	mustRefuse(t, b, n, s, s.String(), "not the answer")

	b, n = allowed(t, ModeAllow, "*.evil.example,10.77.0.0/16", z)
	if got, _, err := b.lookup("udp", "private.evil.example", dnsmessage.TypeA, gateway()); err != nil || len(got) != 2 {
		t.Errorf("a name in an allowed network: %v %v", got, err)
	}
	mustConnect(t, b, s)
	if _, code, _ := b.lookup("udp", "loop.evil.example", dnsmessage.TypeA, gateway()); code != dnsmessage.RCodeRefused {
		t.Error("a name leads to loopback:", code)
	}
	_ = n
}

// TestAllowByAddress: networks are open without a name, whatever is said in TLS; other resolvers are not; a wide network does
// not mean the metadata service, naming it does.
func TestAllowByAddress(t *testing.T) {
	z := &zone{}
	b, n := allowed(t, ModeAllow, "198.51.100.0/24,0.0.0.0/0:8123,[2001:db8::1]:8124,host-gateway:8125", z)
	mustConnect(t, b, serveTCP(t, serverA, 0, echoAll))
	mustConnect(t, b, serveTCP(t, server6, 8124, echoAll))
	mustRefuse(t, b, n, serveTCP(t, server6, 8126, echoAll), "[2001:db8::1]:8126", "not the answer")
	meta := serveTCP(t, metadata, 8123, echoAll)
	mustRefuse(t, b, n, meta, meta.String(), "metadata")
	other := serveTCP(t, serverA, 53, echoAll)
	mustRefuse(t, b, n, other, other.String(), "another resolver")
	gw := netip.AddrPortFrom(testDevice().Gateway4, 8125)
	serveTCP(t, serverB, 8125, echoAll)
	mustConnect(t, b, gw)
	mustRefuse(t, b, n, netip.AddrPortFrom(gw.Addr(), 8126), "host-gateway:8126", "port not allowed")
	if _, _, err := b.lookup("udp", "a.example", dnsmessage.TypeA, netip.AddrPortFrom(serverA, 53)); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("a question to another resolver: %v", err)
	}
	if err := b.ping(serverA); err != nil {
		t.Error("ping in an allowed network:", err)
	}
	if err := b.ping(netip.MustParseAddr("2001:db8::2")); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Error("ping where nothing is allowed:", err)
	}

	b, _ = allowed(t, ModeAllow, "169.254.169.254", z)
	mustConnect(t, b, meta)
}

// TestAllowResolver: another resolver is open to whom a rule names its port for, by its address or by its name, and what it answers
// opens nothing.
func TestAllowResolver(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("ns.example", serverA)
	other, elsewhere := serveTCP(t, serverA, 53, echoAll), serveTCP(t, serverB, 8123, echoAll)
	for _, rule := range []string{"198.51.100.0/24:53", serverA.String() + ":53", "ns.example:53"} {
		b, n := allowed(t, ModeAllow, rule, z)
		if rule == "ns.example:53" {
			mustRefuse(t, b, n, other, other.String(), "another resolver")
			if _, _, err := b.lookup("udp", "ns.example", dnsmessage.TypeA, gateway()); err != nil {
				t.Fatal(err)
			}
		}
		mustConnect(t, b, other)
		mustRefuse(t, b, n, elsewhere, elsewhere.String(), "not the answer")
	}
	b, n := allowed(t, ModeAllow, "ns.example,198.51.100.0/24,0.0.0.0/0:8123", z)
	if _, _, err := b.lookup("udp", "ns.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, b, n, other, "ns.example:53", "another resolver")
}

// TestServerName: who is allowed by name must ask for an allowed name in TLS too.
func TestServerName(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("good.example", serverA)
	z.set("also.example", serverB)
	b, n := allowed(t, ModeAllow, "good.example,also.example", z)
	seen := make(chan string, 10)
	at := serveTCP(t, serverA, 0, func(c *net.TCPConn) {
		name, err := serverName(c)
		if err != nil {
			name = "error: " + err.Error()
		}
		seen <- name
	})
	if _, _, err := b.lookup("udp", "good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	label := "good.example:" + itoa(at.Port())
	for _, c := range []struct{ name, why string }{
		{"good.example", ""}, {"GOOD.example", ""}, {"also.example", ""},
		{"bad.example", "TLS for bad.example"}, {"", "TLS that names no server"},
	} {
		conn := mustConnect(t, b, at)
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		err := tls.Client(conn, &tls.Config{ServerName: c.name, InsecureSkipVerify: true}).Handshake()
		if c.why == "" {
			if got := <-seen; !strings.EqualFold(got, c.name) {
				t.Errorf("the server was asked for %q, want %q", got, c.name)
			}
			continue
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("TLS for %q: %v, want a reset", c.name, err)
		}
		if got := <-seen; !strings.HasPrefix(got, "error") {
			t.Errorf("TLS for %q got to the server", got)
		}
		if got := refusedFor(n, label); !slices.Contains(got, "tcp: "+c.why) {
			t.Errorf("report: %q, want %q", got, c.why)
		}
	}
	// A hello in two pieces hides nothing.
	var hello recorder
	_ = tls.Client(&hello, &tls.Config{ServerName: "bad.example", InsecureSkipVerify: true}).Handshake()
	conn := mustConnect(t, b, at)
	raw := hello.Bytes()
	pieces := slices.Concat([]byte{22, 3, 1, 0, 40}, raw[5:45], []byte{22, 3, 1, byte((len(raw) - 45) >> 8), byte(len(raw) - 45)}, raw[45:])
	_, _ = conn.Write(pieces)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a hello in two records: %v, want a reset", err)
	}
	<-seen
	// And a server that speaks first is heard before the client has said anything.
	first := serveTCP(t, serverA, 0, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\n"); echoAll(c) })
	conn = mustConnect(t, b, first)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 10)
	if _, err := io.ReadFull(conn, buf); err != nil {
		t.Errorf("a server that speaks first: %v", err)
	}
	if got, err := talk(conn, "EHLO"); got != "EHLO" {
		t.Errorf("and then: %q %v", got, err)
	}
}

// recorder is a connection that takes all and says nothing.
type recorder struct {
	bytes.Buffer
	net.Conn
}

func (r *recorder) Write(b []byte) (int, error)      { return r.Buffer.Write(b) }
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// TestLog: everything passes but what never does, and the list is what an allow-list would need.
func TestLog(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("good.example", serverA)
	b, n := allowed(t, ModeLog, "", z)
	at, other := serveTCP(t, serverA, 8123, echoAll), serveTCP(t, serverB, 8124, echoAll)
	six := serveTCP(t, server6, 8125, echoAll)
	if got, _, err := b.lookup("udp", "good.example", dnsmessage.TypeA, gateway()); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	for range 3 {
		mustConnect(t, b, at)
	}
	mustConnect(t, b, other)
	mustConnect(t, b, six)
	mustRefuse(t, b, n, netip.AddrPortFrom(metadata, 80), "169.254.169.254:80", "metadata")
	// In TLS the server may be asked for another name than the one that its address was looked up by, or for none.
	server := serveTCP(t, serverA, 8126, func(c *net.TCPConn) {
		_, _ = serverName(c)
		_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) // no, thanks
	})
	tlsFor := func(b *box, name string) (answered bool) {
		conn := mustConnect(t, b, server)
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		err := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		return errors.As(err, new(tls.AlertError)) || err != nil && strings.Contains(err.Error(), "remote error")
	}
	names := []string{"good.example", "Hidden.example", "", "bad;name"}
	for _, name := range names {
		if !tlsFor(b, name) {
			t.Errorf("TLS for %q does not pass", name)
		}
	}
	r := n.Report()
	list := r.List()
	if list != "198.51.100.1:8126,198.51.100.2:8124,[2001:db8::1]:8125,good.example:8123,good.example:8126,hidden.example:8126" {
		t.Errorf("list: %s", list)
	}
	if i := slices.IndexFunc(r.Entries, func(e Entry) bool { return e.To == "good.example:8123" }); i < 0 || r.Entries[i].Count != 3 {
		t.Errorf("report: %v", r.Entries)
	}
	// Under that list the same goes through.
	z.asked = nil
	b, _ = allowed(t, ModeAllow, list, z)
	if _, _, err := b.lookup("udp", "good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	mustConnect(t, b, at)
	mustConnect(t, b, other)
	mustConnect(t, b, six)
	for _, name := range names {
		if !tlsFor(b, name) {
			t.Errorf("TLS for %q does not pass under the list", name)
		}
	}
}

// TestDatagramsAllowed: datagrams obey the list too, and QUIC, whose server name nobody sees, is for networks only.
func TestDatagramsAllowed(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("good.example", serverA)
	b, n := allowed(t, ModeAllow, "good.example", z)
	send := func(to netip.AddrPort) error {
		c, err := b.dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write([]byte("x"))
		_, err = c.Read(make([]byte, 10))
		return err
	}
	if err := send(netip.AddrPortFrom(serverA, 9)); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("before the name was asked for: %v", err)
	}
	if _, _, err := b.lookup("udp", "good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	if err := send(netip.AddrPortFrom(serverA, 9)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("to a port of an allowed name where nobody listens: %v", err)
	}
	if err := send(netip.AddrPortFrom(serverA, 443)); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("QUIC by name: %v", err)
	}
	if why := refusedFor(n, "good.example:443"); len(why) != 1 || !strings.Contains(why[0], "QUIC") {
		t.Errorf("report: %q", why)
	}
}

// TestQUICAnywhere: QUIC is known by its first datagram on any port, wherever in a conversation that comes, and also when the
// name has had its time; in an allowed network it passes.
func TestQUICAnywhere(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("good.example", serverA)
	got := make(chan string, 10)
	at := netip.AddrPortFrom(serverA, 8443)
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		buf := make([]byte, 2000)
		for {
			n, err := u.Read(buf)
			if err != nil {
				return
			}
			got <- string(buf[:n])
		}
	}()
	initial := "\xc3\x00\x00\x00\x01\x08" + strings.Repeat("x", 1194)
	talk := func(b *box, n *Network, quic bool) {
		t.Helper()
		c, err := b.dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := []string{"one", "two"}
		if quic {
			want = []string{"one", initial, "\xc3\x6b\x33\x43\xcf\x08xx", "two"}
		}
		send := func(s string) { _, _ = io.WriteString(c, s) }
		send("one")
		if first := <-got; first != "one" {
			t.Fatalf("%q came first", first)
		}
		if !quic {
			n.policy.mu.Lock()
			n.policy.now = func() time.Time { return time.Now().Add(time.Hour) }
			n.policy.mu.Unlock()
		}
		send(initial)
		send("\xc3\x6b\x33\x43\xcf\x08xx")
		send("two")
		for _, w := range want[1:] {
			if g := <-got; g != w {
				t.Errorf("%.10q got to the server, want %.10q", g, w)
			}
		}
	}
	b, n := allowed(t, ModeAllow, "good.example", z)
	if _, _, err := b.lookup("udp", "good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	talk(b, n, false)
	if why := refusedFor(n, "good.example:8443"); len(why) != 1 || !strings.Contains(why[0], "QUIC") {
		t.Errorf("report: %q", why)
	}
	b, n = allowed(t, ModeAllow, "198.51.100.0/24", z)
	talk(b, n, true)
}

// TestTimeToLive: an address is open for as long as the shortest of the records that led to it lives, and for a moment more.
func TestTimeToLive(t *testing.T) {
	z := &zone{ttl: 3600, aliasTTL: 30, alias: map[string]string{"www.good.example": "cdn.other.example"}}
	z.set("cdn.other.example", serverB)
	z.set("brief.good.example", serverA)
	b, n := allowed(t, ModeAllow, "*.good.example", z)
	later := func(d time.Duration) {
		n.policy.mu.Lock()
		defer n.policy.mu.Unlock()
		n.policy.now = func() time.Time { return time.Now().Add(d) }
	}
	at := serveTCP(t, serverB, 0, echoAll)
	if _, _, err := b.lookup("udp", "www.good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	mustConnect(t, b, at)
	later(30*time.Second + grace + time.Second)
	mustRefuse(t, b, n, at, "www.good.example:"+itoa(at.Port()), "not the answer")

	later(0)
	z.ttl = 0
	at = serveTCP(t, serverA, 0, echoAll)
	if _, _, err := b.lookup("udp", "brief.good.example", dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	mustConnect(t, b, at)
	later(grace + time.Second)
	mustRefuse(t, b, n, at, "brief.good.example:"+itoa(at.Port()), "not the answer")
}

// TestOwnAddress: no name leads to the host itself, whose guards look outside only, unless its address or host-gateway is
// allowed.
func TestOwnAddress(t *testing.T) {
	z := &zone{ttl: 60}
	z.set("evil.example", serverA)
	for _, c := range []struct {
		list string
		code dnsmessage.RCode
	}{{"evil.example", dnsmessage.RCodeRefused}, {"evil.example,198.51.100.1", dnsmessage.RCodeSuccess}} {
		b, n := allowed(t, ModeAllow, c.list, z)
		n.policy.mine = isMine
		if _, code, err := b.lookup("udp", "evil.example", dnsmessage.TypeA, gateway()); err != nil || code != c.code {
			t.Errorf("%s: %v %v, want %v", c.list, code, err, c.code)
		}
	}
}

// TestHostileNames: what a program asks for is shown to people, and pasted into shells.
func TestHostileNames(t *testing.T) {
	z := &zone{ttl: 60}
	hostile := "\x1b]0;x\x07$(reboot).evil.example"
	z.set(hostile, serverA)
	b, n := allowed(t, ModeAllow, "good.example", z)
	if _, code, err := b.lookup("udp", hostile, dnsmessage.TypeA, gateway()); err != nil || code != dnsmessage.RCodeRefused {
		t.Fatal(code, err)
	}
	if r := n.Report(); len(r.Entries) != 1 || r.Entries[0].To != `"\x1b]0;x\a$(reboot).evil.example"` {
		t.Errorf("report: %v", r)
	}
	b, n = allowed(t, ModeLog, "", z)
	if _, _, err := b.lookup("udp", hostile, dnsmessage.TypeA, gateway()); err != nil {
		t.Fatal(err)
	}
	mustConnect(t, b, serveTCP(t, serverA, 0, echoAll))
	r := n.Report()
	if list := r.List(); list != "" || len(r.Entries) != 1 || strings.ContainsAny(r.Entries[0].To, "\x1b\a") {
		t.Errorf("list %q, report %v", list, r)
	}
	// Nor is a zone changed through the resolver.
	update := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, OpCode: 5},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("good.example."), Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}}}
	msg, err := update.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer := n.dns.resolve(msg, "udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(testDevice().IPv4.Addr(), 1000)))
	if len(answer) < 4 || answer[3]&15 != byte(dnsmessage.RCodeNotImplemented) || z.asked["good.example"] > 0 {
		t.Errorf("an update: %x", answer)
	}
}

// TestReportBounded: a program that tries all addresses there are does not fill the helper's memory.
func TestReportBounded(t *testing.T) {
	p := &policy{mode: ModeAllow, now: time.Now}
	for i := range 2 * maxEntries {
		p.connect("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 80))
	}
	if r := p.snapshot(); len(r.Entries) != maxEntries || r.Omitted != maxEntries {
		t.Errorf("%d entries, %d omitted", len(r.Entries), r.Omitted)
	}
	for i := range 2 * maxGrants {
		p.answer("a.example", netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}), time.Hour)
	}
	if len(p.grants) > maxGrants {
		t.Errorf("%d grants", len(p.grants))
	}
}

// TestNamedInOpenNetwork: a network that refuses nobody else's address may name one of a cloud's metadata.
func TestNamedInOpenNetwork(t *testing.T) {
	p := &policy{now: time.Now, rules: []Rule{{Net: netip.MustParsePrefix("169.254.169.254/32")}}}
	for to, want := range map[string]bool{"169.254.169.254:80": true, "169.254.170.2:80": false, "127.0.0.1:80": false, "10.0.0.1:80": true} {
		if got := p.connect("tcp", netip.MustParseAddrPort(to)).pass; got != want {
			t.Errorf("%s passes: %v", to, got)
		}
	}
}

// TestSpecialSpellings: an address is the same however it is written.
func TestSpecialSpellings(t *testing.T) {
	p := &policy{now: time.Now}
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "::",
		"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fe80::1", "224.0.0.1", "ff02::1",
		"255.255.255.255", "100.100.100.200", "168.63.129.16", "fd20:ce::254", "192.0.0.192", "fd00:c1::a9fe:a9fe", "fd00:42::42", "::ffff:0:7f00:1", "64:ff9b:1::a9fe:a9fe",
	} {
		if p.connect("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)).pass {
			t.Errorf("%s passes", a)
		}
	}
	for _, a := range []string{"10.0.0.1", "192.168.1.1", "1.1.1.1", "2001:db8::1", "64:ff9b::101:101", "fd00::1"} {
		if !p.connect("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)).pass {
			t.Errorf("%s does not pass", a)
		}
	}
}
