package dns

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// dialFrom connects to a server from one of the loopback's addresses.
func dialFrom(t *testing.T, network, from string, to net.Addr) net.Conn {
	t.Helper()
	var local net.Addr = &net.TCPAddr{IP: net.ParseIP(from)}
	if network == "udp" {
		local = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	c, err := (&net.Dialer{LocalAddr: local}).Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// TestFlood: one who asks without end, or opens connections without asking, leaves its neighbours their share.
func TestFlood(t *testing.T) {
	stuck, slow := make(chan struct{}), query(t, "slow.", dnsmessage.TypeA)
	defer close(stuck)
	s := NewServer(func(q []byte, _ string, from net.Addr) []byte {
		if _, question, _ := ParseQuery(q); HostName(question.Name) == "slow" {
			<-stuck
		}
		return Failure(q, dnsmessage.RCodeNameError)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go s.ServeTCP(l)
	go s.ServeUDP(u)

	for range maxConns * 2 {
		dialFrom(t, "tcp", "127.0.0.3", l.Addr())
	}
	flood := dialFrom(t, "udp", "127.0.0.3", u.LocalAddr())
	for range maxQuestions * 4 {
		if _, err := flood.Write(slow); err != nil {
			t.Fatal(err)
		}
	}
	fine := query(t, "nosuch.", dnsmessage.TypeA)
	tcp := dialFrom(t, "tcp", "127.0.0.4", l.Addr())
	if err := WriteMessage(tcp, fine); err != nil {
		t.Fatal(err)
	}
	if answer, err := ReadMessage(tcp); err != nil || said(t, answer) != "RCodeNameError" {
		t.Errorf("by tcp beside a flood: %v, %v", answer, err)
	}
	udp, buf := dialFrom(t, "udp", "127.0.0.4", u.LocalAddr()), make([]byte, 512)
	for try := 0; ; try++ { // the socket's own buffer may be full for a moment
		_, _ = udp.Write(fine)
		_ = udp.SetReadDeadline(time.Now().Add(time.Second))
		n, err := udp.Read(buf)
		if err == nil && said(t, buf[:n]) == "RCodeNameError" {
			break
		}
		if try == 20 {
			t.Fatalf("by udp beside a flood: %v", err)
		}
	}
	s.questions.mu.Lock()
	defer s.questions.mu.Unlock()
	if s.questions.all != maxQuestions/2 {
		t.Errorf("%d questions are being asked for one, want %d", s.questions.all, maxQuestions/2)
	}
}

// TestLongQuestion: nobody makes the server keep 64 KiB for a question.
func TestLongQuestion(t *testing.T) {
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		NewServer(func([]byte, string, net.Addr) []byte { t.Error("it was asked"); return nil }).serveConn(ours)
	}()
	if _, err := theirs.Write([]byte{0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// starved is a listener whose process has no descriptor left, for a while.
type starved struct {
	net.Listener
	times int
}

func (s *starved) Accept() (net.Conn, error) {
	if s.times--; s.times >= 0 {
		return nil, &net.OpError{Op: "accept", Err: unix.EMFILE}
	}
	return nil, net.ErrClosed
}

// TestNoDescriptors: a server that ran out of descriptors serves again when there are some.
func TestNoDescriptors(t *testing.T) {
	l := &starved{times: 3}
	NewServer(nil).ServeTCP(l)
	if l.times != -1 {
		t.Errorf("it has given up: %d times left", l.times)
	}
	if Passing(nil) || Passing(errors.New("x")) || Passing(net.ErrClosed) {
		t.Error("not every error passes")
	}
}
