package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func table() *Table {
	return NewTable([]Host{
		{Names: []string{"web", "www"}, ID: "0123456789ab" + strings.Repeat("c", 52), Network: "front",
			Addresses: []netip.Addr{addr("10.1.0.2"), addr("fd00::2")}},
		{Names: []string{"Web2", "www"}, ID: "ba9876543210" + strings.Repeat("c", 52), Network: "front", Addresses: []netip.Addr{addr("10.1.0.3")}},
	})
}

func query(t *testing.T, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// said is what an answer says, sorted: "none" for no record, the code where it is an error, "" for no answer.
func said(t *testing.T, answer []byte) string {
	t.Helper()
	if answer == nil {
		return ""
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	if m.ID != 7 || !m.Response || len(m.Questions) != 1 {
		t.Errorf("answer %v", m.Header)
	}
	if m.RCode != 0 {
		return m.RCode.String()
	}
	words := []string{}
	for _, r := range m.Answers {
		switch r := r.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(r.AAAA).String())
		case *dnsmessage.PTRResource:
			words = append(words, r.PTR.String())
		}
	}
	if len(words) == 0 {
		return "none"
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func TestTable(t *testing.T) {
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"web.", dnsmessage.TypeA, "10.1.0.2"},
		{"WEB.", dnsmessage.TypeAAAA, "fd00::2"},
		{"web.front.", dnsmessage.TypeA, "10.1.0.2"},
		{"web.back.", dnsmessage.TypeA, ""},
		{"web2.", dnsmessage.TypeA, "10.1.0.3"},
		{"web2.", dnsmessage.TypeAAAA, "none"},
		{"web2.", dnsmessage.TypeMX, "none"},
		{"www.", dnsmessage.TypeA, "10.1.0.2 10.1.0.3"},
		{"www.", dnsmessage.TypeALL, "10.1.0.2 10.1.0.3 fd00::2"},
		{"0123456789ab.", dnsmessage.TypeA, "10.1.0.2"},
		{"0123456789abccc.", dnsmessage.TypeA, "10.1.0.2"},
		{"0123456789ab.front.", dnsmessage.TypeA, "10.1.0.2"},
		{"0123456789abcd.", dnsmessage.TypeA, ""},
		{"0123456789a.", dnsmessage.TypeA, ""},
		{"2.0.1.10.in-addr.arpa.", dnsmessage.TypePTR, "web.front."},
		{"2.0.1.10.in-addr.arpa.", dnsmessage.TypeA, "none"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "web.front."},
		{"9.0.1.10.in-addr.arpa.", dnsmessage.TypePTR, ""},
		{"example.com.", dnsmessage.TypeA, ""},
	} {
		if got := said(t, table().Answer(query(t, c.name, c.kind))); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.name, c.kind, got, c.want)
		}
	}
	if (*Table)(nil).Answer(query(t, "web.", dnsmessage.TypeA)) != nil {
		t.Error("no table answers")
	}
}

// TestManyAddresses: an answer is never longer than what fits into a datagram, and over time everybody is in one.
func TestManyAddresses(t *testing.T) {
	var hosts []Host
	for i := range 40 {
		hosts = append(hosts, Host{Names: []string{"many"}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
	}
	table, seen := NewTable(hosts), map[string]bool{}
	for range 2000 {
		answer := table.Answer(query(t, "many.", dnsmessage.TypeALL))
		if len(answer) > 512 {
			t.Fatalf("answer of %d bytes", len(answer))
		}
		for _, a := range strings.Fields(said(t, answer)) {
			seen[a] = true
		}
		if len(seen) == 40 {
			return
		}
	}
	t.Errorf("only %d of 40 were in an answer", len(seen))
}

// TestServer asks over real sockets, by both ways, a resolver that knows a name, after one that refuses, and one that is silent.
func TestServer(t *testing.T) {
	serve := func(resolve func([]byte, string, net.Addr) []byte) netip.AddrPort {
		s := NewServer(resolve)
		for range 20 { // the port must be free for both
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			at := netip.MustParseAddrPort(l.Addr().String())
			c, err := net.ListenPacket("udp", at.String())
			if err != nil {
				l.Close()
				continue
			}
			t.Cleanup(func() { l.Close(); c.Close() })
			go s.ServeTCP(l)
			go s.ServeUDP(c)
			return at
		}
		t.Fatal("no port")
		return netip.AddrPort{}
	}
	refuses := serve(func(q []byte, _ string, _ net.Addr) []byte { return Failure(q, dnsmessage.RCodeRefused) })
	knows := serve(func(q []byte, _ string, _ net.Addr) []byte {
		if a := table().Answer(q); a != nil {
			return a
		}
		return Failure(q, dnsmessage.RCodeNameError)
	})
	for _, way := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{"web.": "10.1.0.2", "nosuch.": "RCodeNameError"} {
			answer, err := Ask([]netip.AddrPort{refuses, knows}, query(t, name, dnsmessage.TypeA), way)
			if err != nil || said(t, answer) != want {
				t.Errorf("%s by %s: %v, %v, want %s", name, way, answer, err, want)
			}
		}
		answer, err := Ask([]netip.AddrPort{refuses}, query(t, "web.", dnsmessage.TypeA), way)
		if err != nil || said(t, answer) != "RCodeRefused" {
			t.Errorf("refused by %s: %v, %v", way, answer, err)
		}
	}
	gone := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := Ask([]netip.AddrPort{gone}, query(t, "web.", dnsmessage.TypeA), "udp"); err == nil {
		t.Error("nobody answers")
	}
	if _, err := Ask([]netip.AddrPort{knows}, []byte("x"), "udp"); err == nil {
		t.Error("no question is asked")
	}
	if _, _, err := ParseQuery(Failure(query(t, "web.", dnsmessage.TypeA), 0)); !errors.Is(err, errNoQuestion) {
		t.Errorf("an answer as a question: %v", err)
	}
}

func TestUpstreamFollows(t *testing.T) {
	u := &Upstream{Path: filepath.Join(t.TempDir(), "resolv.conf")}
	is := func(want string) {
		t.Helper()
		if got := u.Servers(); len(got) != 1 || got[0].String() != want {
			t.Errorf("servers %v, want %s", got, want)
		}
	}
	write := func(text string, age time.Duration) {
		if err := os.WriteFile(u.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(u.Path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	is("127.0.0.1:53")
	write("search a.example\nnameserver 127.0.0.53\n", time.Hour)
	is("127.0.0.53:53")
	write("nameserver fd00::1\n", time.Minute)
	is("[fd00::1]:53")
	write("# nothing\n", time.Second)
	is("127.0.0.1:53")
}
