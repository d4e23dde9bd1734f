package dns

import (
	"bytes"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers whoever asks at its sockets.
type Server struct {
	// Resolve gives the answer to a message that came by "udp" or "tcp" from somebody, nil for none.
	Resolve func(query []byte, network string, from net.Addr) []byte

	busy chan struct{} // has a place for each question that is being asked
}

// Limits of a server.
const (
	maxQuestions = 256
	maxIdle      = 10 * time.Second // for a TCP connection to ask the next
)

// NewServer makes a server that answers at most a fixed number of questions at once.
func NewServer(resolve func(query []byte, network string, from net.Addr) []byte) *Server {
	return &Server{Resolve: resolve, busy: make(chan struct{}, maxQuestions)}
}

// ServeUDP answers datagrams until the socket is closed. Who is not answered, because there are too many, asks again.
func (s *Server) ServeUDP(c net.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		select {
		case s.busy <- struct{}{}:
		default:
			continue
		}
		query := bytes.Clone(buf[:n])
		go func() {
			defer func() { <-s.busy }()
			if answer := s.Resolve(query, "udp", from); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}()
	}
}

// maxQuery is the longest question by UDP, in bytes: what all others take as an answer is enough (RFC 9715).
const maxQuery = 4096

// ServeTCP answers connections until the socket is closed.
func (s *Server) ServeTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case s.busy <- struct{}{}:
			go func() {
				defer func() { <-s.busy }()
				s.serveConn(c)
			}()
		default:
			c.Close()
		}
	}
}

// serveConn answers one question after the other, until there are none for a while.
func (s *Server) serveConn(c net.Conn) {
	defer c.Close()
	for {
		_ = c.SetDeadline(time.Now().Add(maxIdle))
		query, err := ReadMessage(c)
		if err != nil {
			return
		}
		answer := s.Resolve(query, "tcp", c.RemoteAddr())
		if answer == nil || WriteMessage(c, answer) != nil {
			return
		}
	}
}

// Failure is the answer to a question that nobody could answer.
func Failure(query []byte, code dnsmessage.RCode) []byte {
	head, q, err := ParseQuery(query)
	if err != nil {
		return nil
	}
	return Refuse(head, q, code)
}
