package usernet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// noise is a stream of bytes that a seed determines.
func noise(seed uint64, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), size)
}

func sum(t testing.TB, r io.Reader) (int64, []byte) {
	t.Helper()
	var h hash.Hash = sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Error("read:", err)
	}
	return n, h.Sum(nil)
}

// eachLink runs a test with a tap device, where that may be had, and with a veth pair.
func eachLink(t *testing.T, f func(t *testing.T, b *box, n *Network)) {
	for name, make := range map[string]func(string) (*os.File, error){"tap": newTap, "veth": veth} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			n, d := opened(t, Config{}), testDevice()
			var cable *os.File
			var err error
			b.do(func() {
				var w *rtnl
				if w, err = openRoutes(); err != nil {
					return
				}
				defer w.file.Close()
				if cable, err = make(d.Name); err == nil {
					err = d.configure(w)
				}
			})
			if name == "tap" && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM)) {
				t.Skip("no tap device for this user:", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			m, err := n.add(Member{Device: d})
			if err == nil {
				err = m.plug(cable)
			}
			if err != nil {
				t.Fatal(err)
			}
			f(t, b, n)
		})
	}
}

// TestTransfer: much data goes both ways at once, whole, over IPv4 and IPv6; each side ends by itself.
func TestTransfer(t *testing.T) {
	size := int64(256 << 20)
	if testing.Short() {
		size = 16 << 20
	}
	eachLink(t, func(t *testing.T, b *box, _ *Network) {
		for _, host := range []netip.Addr{serverA, server6} {
			at := serveTCP(t, host, 0, func(c *net.TCPConn) {
				var both sync.WaitGroup
				both.Go(func() { _, _ = io.Copy(c, noise(2, size)); _ = c.CloseWrite() })
				n, got := sum(t, c)
				if _, want := sum(t, noise(1, size)); n != size || !bytes.Equal(got, want) {
					t.Errorf("%s got %d bytes, and others than were sent", host, n)
				}
				both.Wait()
			})
			c, err := b.dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var both sync.WaitGroup
			both.Go(func() {
				if _, err := io.Copy(c, noise(1, size)); err != nil {
					t.Error("send:", err)
				}
				_ = c.(*net.TCPConn).CloseWrite()
			})
			n, got := sum(t, c)
			if _, want := sum(t, noise(2, size)); n != size || !bytes.Equal(got, want) {
				t.Errorf("the container got %d bytes of %s, and others than were sent", n, host)
			}
			both.Wait()
			c.Close()
			t.Logf("%s: %d MiB each way in %s", host, size>>20, time.Since(began))
		}
	})
}

// TestConnectFails: what becomes of a connection outside becomes of it inside.
func TestConnectFails(t *testing.T) {
	b, _ := connected(t, Config{})
	cases := []struct {
		to   netip.AddrPort
		want error
	}{
		{netip.AddrPortFrom(serverA, 9), unix.ECONNREFUSED},
		{netip.AddrPortFrom(server6, 9), unix.ECONNREFUSED},
		{netip.AddrPortFrom(barred, 80), unix.EHOSTUNREACH},
		{netip.AddrPortFrom(noRoute, 80), unix.ENETUNREACH},
		{netip.MustParseAddrPort("[2001:db9::1]:80"), unix.ENETUNREACH},
		{netip.AddrPortFrom(metadata, 80), unix.ECONNREFUSED},
		{netip.MustParseAddrPort("[::ffff:127.0.0.1]:80"), unix.ECONNREFUSED},
	}
	for _, c := range cases {
		began := time.Now()
		conn, err := b.dial("tcp", c.to)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("connect to %s: %v, want %v", c.to, err, c.want)
		}
		if took := time.Since(began); took > atOnce {
			t.Errorf("connect to %s: failed after %s", c.to, took)
		}
	}
	// Silence is silence.
	var err error
	b.do(func() { _, err = net.DialTimeout("tcp", netip.AddrPortFrom(silent, 80).String(), 2*time.Second) })
	if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("connect to one who is silent: %v, want a timeout", err)
	}
}

// atOnce is for what happens at once, but on a busy machine; who hears nothing gives up later, see box.dial.
const atOnce = 8 * time.Second

// TestHalfClose: an end of data goes one way, and the other way stays open.
func TestHalfClose(t *testing.T) {
	b, _ := connected(t, Config{})
	at := serveTCP(t, serverA, 0, func(c *net.TCPConn) {
		data, _ := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "heard %q", data)
	})
	c, err := b.dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "that is all")
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != `heard "that is all"` {
		t.Errorf("answer %q, %v", got, err)
	}

	// And the other way round.
	heard := make(chan []byte, 1)
	at = serveTCP(t, serverA, 0, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		data, _ := io.ReadAll(c)
		heard <- data
	})
	if c, err = b.dial("tcp", at); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Errorf("read %q, %v: want the end", got, err)
	}
	_, _ = io.WriteString(c, "still here")
	c.Close()
	if got := <-heard; string(got) != "still here" {
		t.Errorf("heard %q after the end", got)
	}
}

// TestReset: a reset is passed on both ways.
func TestReset(t *testing.T) {
	b, _ := connected(t, Config{})
	got := make(chan error, 1)
	at := serveTCP(t, serverA, 0, func(c *net.TCPConn) {
		var one [1]byte
		_, _ = c.Read(one[:])
		if one[0] == 'r' {
			_ = c.SetLinger(0)
			return
		}
		_, err := c.Read(one[:])
		got <- err
	})
	c, err := b.dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("r"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read from one who reset: %v", err)
	}
	c.Close()
	if c, err = b.dial("tcp", at); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("x"))
	time.Sleep(100 * time.Millisecond)
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	if err := <-got; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server's read: %v, want a reset", err)
	}
}

// TestUDP: datagrams of all sizes keep their borders; a port where nobody listens is refused.
func TestUDP(t *testing.T) {
	eachLink(t, func(t *testing.T, b *box, _ *Network) {
		for _, host := range []netip.Addr{serverA, server6} {
			s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			go func() {
				buf := make([]byte, maxDatagram)
				for {
					n, from, err := s.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = s.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
			c, err := b.dial("udp", s.LocalAddr().(*net.UDPAddr).AddrPort())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			for _, size := range []int{0, 1, 1200, 1473, 9000, 65000, 65507} {
				msg, _ := io.ReadAll(noise(uint64(size), int64(size)))
				buf := make([]byte, maxDatagram)
				if size == 0 {
					continue // no sign would tell a lost one from an empty one
				}
				if _, err := c.Write(msg); err != nil {
					t.Fatalf("send %d bytes: %v", size, err)
				}
				n, err := c.Read(buf)
				if err != nil || !bytes.Equal(buf[:n], msg) {
					t.Errorf("%s: %d bytes came back as %d, %v", host, size, n, err)
				}
			}
		}
		c, err := b.dial("udp", netip.AddrPortFrom(serverA, 9))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write([]byte("anybody?"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("read where nobody listens: %v", err)
		}
	})
}

// TestPing: an echo comes from who was asked, or from nobody; with ping sockets and without.
func TestPing(t *testing.T) {
	for _, groups := range []string{"1 0", "0 0"} { // the first, which is the default, may not be writable where ids are mapped
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(groups), 0); err != nil {
			t.Log("set ping_group_range:", err)
		}
		b, _ := connected(t, Config{})
		for _, c := range []struct {
			to   netip.Addr
			want error
		}{
			{serverA, nil}, {server6, nil}, {testDevice().Gateway4, nil}, {testDevice().Gateway6, nil},
			{silent, os.ErrDeadlineExceeded}, {metadata, unix.EHOSTUNREACH}, {barred, unix.EHOSTUNREACH},
		} {
			if err := b.ping(c.to); !errors.Is(err, c.want) {
				t.Errorf("groups %q: ping %s: %v, want %v", groups, c.to, err, c.want)
			}
		}
	}
}

// TestManyFlows: those who wait for an answer have no buffers, so that many of them take little memory.
func TestManyFlows(t *testing.T) {
	b, n := connected(t, Config{})
	s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(serverA, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := memory()
	const many = 500
	for range many {
		c, err := b.dial("udp", s.LocalAddr().(*net.UDPAddr).AddrPort())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte("x"))
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if n.flows.n < many {
		t.Errorf("%d exchanges, want %d", n.flows.n, many)
	}
	if each := (int64(memory()) - int64(before)) / many; each > 24<<10 {
		t.Errorf("each exchange takes %d bytes", each)
	}
}

// memory is what is in use, in bytes.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// ping sends an echo with a raw socket and waits for its answer.
func (b *box) ping(to netip.Addr) (err error) {
	var c net.Conn
	network, msg := "ip4:icmp", []byte{echo4, 0, 0, 0, 0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'}
	if to.Is6() {
		network, msg[0] = "ip6:ipv6-icmp", echo6
	}
	b.do(func() { c, err = net.Dial(network, to.String()) })
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.IPConn).SyscallConn()
	if err != nil {
		return err
	}
	_ = raw.Control(func(fd uintptr) { // else raw sockets are not told what ICMP says
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	})
	if to.Is4() {
		s := checksumOf(msg)
		msg[2], msg[3] = byte(s>>8), byte(s)
	}
	if _, err := c.Write(msg); err != nil {
		return err
	}
	limit := 20 * time.Second
	if to == silent {
		limit = time.Second
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	for {
		buf := make([]byte, 2000)
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		if to.Is4() && n > 20 { // the IP header comes too
			buf, n = buf[20:], n-20
		}
		if n == len(msg) && buf[0] != echo6 && buf[0] != echo4 && bytes.Equal(buf[4:n], msg[4:]) {
			return nil
		}
	}
}

func checksumOf(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// TestPublish: many short connections reach the container, and none is lost; a client keeps its address where it can.
func TestPublish(t *testing.T) {
	b, n := connected(t, Config{}, Member{Ports: []Port{
		{Proto: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:0"), Container: 80},
		{Proto: "udp", Host: netip.MustParseAddrPort("127.0.0.1:0"), Container: 53},
		{Proto: "tcp", Host: netip.MustParseAddrPort("[::1]:0"), Container: 81},
	}})
	ports := n.member(testDevice().IPv4.Addr()).published()
	l := b.listen("tcp", ":80")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				name, _ := io.ReadAll(c)
				fmt.Fprintf(c, "hello %s from %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
			}()
		}
	}()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[0].Host.Port())
	var all sync.WaitGroup
	for w := range 20 {
		all.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", w, i)
				if got, err := request(at, netip.Addr{}, name); err != nil || got != "hello "+name+" from 10.0.2.2" {
					t.Errorf("connection %s: %q, %v", name, got, err)
					return
				}
			}
		})
	}
	all.Wait()

	s := b.listen("tcp", ":81")
	go func() {
		c, err := s.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	if got, err := request(ports[2].Host, netip.Addr{}, "six"); err != nil || got != "six" {
		t.Errorf("by IPv6: %q, %v", got, err)
	}

	var u *net.UDPConn
	b.do(func() { u, _ = net.ListenUDP("udp", &net.UDPAddr{Port: 53}) })
	defer u.Close()
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(append([]byte("re: "), buf[:n]...), from)
		}
	}()
	c, err := net.Dial("udp", ports[1].Host.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for i := range 20 {
		msg := fmt.Sprint("datagram ", i)
		buf := make([]byte, 2000)
		_, _ = c.Write([]byte(msg))
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "re: "+msg {
			t.Errorf("%s: %q, %v", msg, buf[:n], err)
		}
	}

	// The host has accepted already when it turns out that nobody listens, so that a reset is what is left.
	l.Close()
	if got, err := request(at, netip.Addr{}, "nobody"); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("where nobody listens: %q, %v; want a reset", got, err)
	}
}

func request(at netip.AddrPort, from netip.Addr, words string) (string, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial("tcp", at.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, words); err != nil {
		return "", err
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	return string(got), err
}

// TestClientAddress: somebody who is neither the host nor of the container's network keeps its address.
func TestClientAddress(t *testing.T) {
	m := &member{Member: Member{Device: testDevice()}, network: &Network{config: testNet(Config{})}}
	for _, c := range []struct{ client, from string }{
		{"127.0.0.1:5000", "10.0.2.2:0"}, {"192.0.2.77:5000", "192.0.2.77:5000"}, {"10.0.2.9:5000", "10.0.2.2:0"},
		{"[::ffff:192.0.2.77]:5000", "192.0.2.77:5000"}, {"[2001:db8:1::7]:5000", "[2001:db8:1::7]:5000"},
		{"[::1]:5000", "[fd00:a00:2::2]:0"}, {"198.51.100.7:5000", "10.0.2.2:0"}, {"[fe80::1%lo]:5000", "[fd00:a00:2::2]:0"},
	} {
		from, to := m.ends(netip.MustParseAddrPort(c.client), 80)
		if from.String() != c.from || to.Addr().Is4() != from.Addr().Is4() {
			t.Errorf("%s arrives as %s at %s, want %s", c.client, from, to, c.from)
		}
	}
	// And a connection from such an address works.
	b, net1 := connected(t, Config{})
	l := b.listen("tcp4", ":80")
	in, err := net1.dialFrom(netip.MustParseAddrPort("192.0.2.77:5000"), netip.MustParseAddrPort("10.0.2.100:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.ep.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != "192.0.2.77:5000" {
		t.Errorf("the container sees %s", got)
	}
}

// TestPublishTaken: a port that is taken is known before anything starts.
func TestPublishTaken(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := opened(t, Config{})
	_, err = n.add(Member{Device: testDevice(), Ports: []Port{{Proto: "tcp", Host: l.Addr().(*net.TCPAddr).AddrPort(), Container: 80}}})
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("open: %v", err)
	}
	_, err = n.add(Member{Device: testDevice(), Ports: []Port{{Proto: "sctp", Host: netip.MustParseAddrPort("127.0.0.1:0"), Container: 80}}})
	if err == nil {
		t.Error("an unknown protocol is taken")
	}
}

// TestLoopback: the host's loopback is there by the gateway's address if that was asked for, and its other addresses always.
func TestLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "loopback")
			c.Close()
		}
	}()
	at := netip.AddrPortFrom(testDevice().Gateway4, l.Addr().(*net.TCPAddr).AddrPort().Port())
	closed, _ := connected(t, Config{})
	if c, err := closed.dial("tcp", at); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("loopback without having been asked for: %v, %v", c, err)
	}
	open, _ := connected(t, Config{Loopback: true})
	c, err := open.dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "loopback" {
		t.Errorf("loopback said %q, %v", got, err)
	}
	other := serveTCP(t, serverA, 0, func(c *net.TCPConn) { _, _ = io.WriteString(c, "host") })
	c2, err := closed.dial("tcp", netip.AddrPortFrom(testDevice().Gateway4, other.Port()))
	if err != nil {
		t.Fatal("the host by its gateway's address:", err)
	}
	defer c2.Close()
	if got, err := io.ReadAll(c2); string(got) != "host" {
		t.Errorf("the host said %q, %v", got, err)
	}
}

// TestEnds: with the network its device goes, and nothing of the pair stays.
func TestEnds(t *testing.T) {
	eachLink(t, func(t *testing.T, b *box, n *Network) {
		n.member(testDevice().IPv4.Addr()).leave()
		deadline := time.Now().Add(time.Minute)
		for {
			var err error
			b.do(func() { _, err = net.InterfaceByName("eth0") })
			if err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the device is still there")
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	if left := leftDevices(t); len(left) > 0 {
		t.Error("left:", left)
	}
}

// TestPortAgain: a port that a connection has ended at can begin the next one to the same place. When the outside ends first, it is
// the stack whose end would rest in TIME-WAIT, and nothing of the container's, which may use the port again at once.
func TestPortAgain(t *testing.T) {
	b, n := connected(t, Config{})
	at := serveTCP(t, serverA, 0, func(c *net.TCPConn) { _, _ = io.WriteString(c, "bye") })
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{Port: 40000}, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return err
	}}
	for i := range 3 {
		c, err := again(func() (c net.Conn, err error) {
			b.do(func() { c, err = d.Dial("tcp", at.String()) })
			return c, err
		})
		if err != nil {
			t.Fatalf("connection %d from the same port: %v", i, err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
			t.Errorf("connection %d: %q, %v", i, got, err)
		}
		c.Close()
	}

	// And a client of a published port, whichever side ends first.
	l := b.listen("tcp4", ":80")
	client, server := netip.MustParseAddrPort("192.0.2.77:5000"), netip.MustParseAddrPort("10.0.2.100:80")
	for i, first := range []string{"server", "client", "server", "server", "client", "client"} {
		in, err := again(func() (*inside, error) { return n.dialFrom(client, server) })
		if err != nil {
			t.Fatalf("connection %d of a client from the same port, then %s: %v", i, first, err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		one := make([]byte, 1)
		if first == "server" {
			c.Close()
			_, _ = in.Read(one)
			in.ep.Close()
		} else {
			_ = in.ep.Shutdown(tcpip.ShutdownWrite)
			_, _ = c.Read(one)
			c.Close()
			_, _ = in.Read(one)
			in.ep.Close()
		}
	}
}

// again calls f until the port is free: an end has still to be acknowledged. Who gets no answer fails by itself.
func again[T any](f func() (T, error)) (v T, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if v, err = f(); !errors.Is(err, unix.EADDRNOTAVAIL) && (err == nil || !strings.Contains(err.Error(), "port is in use")) {
			break
		}
	}
	return v, err
}
