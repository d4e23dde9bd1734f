package usernet

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// TestMembers: two of one network reach each other, find each other by name, and keep what they send each other whole; when one
// leaves, its address and name are somebody else's to take.
func TestMembers(t *testing.T) {
	n := opened(t, Config{})
	a, b := newBox(t), newBox(t)
	join(t, n, a, Member{ID: "a"})
	other := join(t, n, b, Member{ID: "b", Device: otherDevice()})
	for _, network := range []string{"tcp4", "tcp6"} {
		l := b.listen(network, ":80")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { echoAll(c.(*net.TCPConn)); c.Close() }()
			}
		}()
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		for _, network := range []string{"udp", "tcp"} {
			list, code, err := a.lookup(network, "web", kind, gateway())
			if err != nil || code != dnsmessage.RCodeSuccess || len(list) != 1 {
				t.Fatalf("look up by %s: %v, %v, %v", network, list, code, err)
			}
			c, err := a.dial("tcp", netip.AddrPortFrom(list[0], 80))
			if err != nil {
				t.Fatal(err)
			}
			const size = 64 << 20
			go func() {
				_, _ = io.Copy(c, noise(5, size))
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			_, want := sum(t, noise(5, size))
			if k, got := sum(t, c); k != size || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes came back, or others", list[0], k)
			}
			c.Close()
		}
	}
	other.leave()
	if c, err := a.dial("tcp", netip.MustParseAddrPort("10.0.2.101:80")); err == nil {
		t.Error("reached who has left:", c.RemoteAddr())
	}
	again := newBox(t)
	join(t, n, again, Member{ID: "c", Device: otherDevice()})
	l := again.listen("tcp4", ":80")
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "new")
			c.Close()
		}
	}()
	c, err := a.dial("tcp", netip.MustParseAddrPort("10.0.2.101:80"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(c); string(got) != "new" {
		t.Errorf("the new owner of the address says %q", got)
	}
	if _, err := n.add(Member{ID: "d", Device: otherDevice()}); err == nil {
		t.Error("an address has two owners")
	}
}

// TestInternal: an internal network leads to its members only.
func TestInternal(t *testing.T) {
	at := serveTCP(t, serverA, 0, echoAll)
	b, _ := connected(t, Config{Internal: true})
	if c, err := b.dial("tcp", at); err == nil {
		t.Error("reached", c.RemoteAddr())
	}
	if _, code, err := b.lookup("udp", "outside.example", dnsmessage.TypeA, gateway()); err != nil || code != dnsmessage.RCodeRefused {
		t.Errorf("look up: %v, %v", code, err)
	}
	if list, _, err := b.lookup("udp", "web", dnsmessage.TypeA, gateway()); err != nil || len(list) != 1 {
		t.Errorf("look up a member: %v, %v", list, err)
	}
}

// TestLies: no member sends frames as another, nor says that it has another's address.
func TestLies(t *testing.T) {
	n := &Network{config: testNet(Config{}), members: map[netip.Addr]*member{}}
	n.link = newLink(n, "gatewa")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	victim := &port{link: n.link, mac: "victim", file: w, raw: raw, member: &member{Member: Member{Device: otherDevice()}}}
	n.link.ports["victim"] = victim
	p := &port{link: n.link, mac: "sender", member: &member{Member: Member{Device: testDevice()}}}
	arp := func(from string, sender netip.Addr) []byte {
		f := append([]byte("victim"+from), 8, 6)
		f = append(f, make([]byte, 14)...)
		f = append(f, sender.AsSlice()...)
		return append(f, make([]byte, 10)...)
	}
	for _, c := range []struct {
		frame  []byte
		passes bool
	}{
		{arp("sender", testDevice().IPv4.Addr()), true},
		{arp("sender", otherDevice().IPv4.Addr()), false},
		{arp("sender", testNet(Config{}).Gateway4.Addr()), false},
		{arp("forger", testDevice().IPv4.Addr()), false},
		{arp("sender", testDevice().IPv4.Addr())[:30], false},
	} {
		p.pass(make([]byte, vnetSize), c.frame)
		_ = r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		k, _ := r.Read(make([]byte, 1000))
		if (k > 0) != c.passes {
			t.Errorf("%q: passed on %v, want %v", c.frame, k > 0, c.passes)
		}
	}
}

// TestManyMembers: one process is the network of several, who come and go by its socket, and ends with the last.
func TestManyMembers(t *testing.T) {
	dir := t.TempDir()
	handle, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	path := filepath.Join(dir, "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			err = unix.Listen(fd, 100)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := os.NewFile(uintptr(fd), "listener")
	first, firstFD := sleeper(t)
	second, secondFD := sleeper(t)
	a, b := newBox(t), newBox(t)
	h := startHelper(t, Order{Socket: "s", Member: Member{ID: "a"}}, firstFD, listener, handle)
	listener.Close()
	if answer := h.begin(t, a.plug(testDevice()), nil); answer.Error != "" || answer.Pid != h.Process.Pid {
		t.Fatal(answer)
	}
	socket := connectTo(t, path)
	answers := order(t, socket, Order{Member: Member{ID: "b", Device: otherDevice()}}, secondFD)
	if answer := begin(t, socket, answers, b.plug(otherDevice()), nil); answer.Error != "" || answer.Pid != h.Process.Pid {
		t.Fatal(answer)
	}
	l := b.listen("tcp4", ":80")
	c, err := a.dial("tcp", netip.MustParseAddrPort("10.0.2.101:80"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	// One leaves by its word, and finds its place again.
	leave(t, path, "a")
	if _, err := a.dial("tcp", netip.MustParseAddrPort("10.0.2.101:80")); err == nil {
		t.Error("there is a way for who has left")
	}
	if a.hasDevice() {
		t.Error("who has left has the device still")
	}
	socket = connectTo(t, path)
	answers = order(t, socket, Order{Member: Member{ID: "a"}}, firstFD)
	if answer := begin(t, socket, answers, a.plug(testDevice()), nil); answer.Error != "" {
		t.Fatal(answer)
	}
	end(first)
	end(second)
	done := make(chan error, 1)
	go func() { done <- h.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error("the helper ends:", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the helper outlives its members")
	}
	// Nobody waits for the end of a device whose process has ended, but it comes.
	for end := time.Now().Add(10 * time.Second); a.hasDevice() || b.hasDevice(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the devices are left")
		}
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
}

// hasDevice says whether a member's device is in the box.
func (b *box) hasDevice() bool {
	var err error
	b.do(func() { _, err = net.InterfaceByName(testDevice().Name) })
	return err == nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func connectTo(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func leave(t *testing.T, path, id string) {
	t.Helper()
	fd := connectTo(t, path)
	defer unix.Close(fd)
	if err := SendLeave(fd, id); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
