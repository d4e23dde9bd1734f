package dns

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// Server answers whoever asks at its sockets.
type Server struct {
	// Resolve gives the answer to a message that came by "udp" or "tcp" from somebody, nil for none.
	Resolve func(query []byte, network string, from net.Addr) []byte

	questions, conns quota
}

// Limits of a server: of what is asked at once, and of open TCP connections, which cost little while nothing is asked. One who
// floods it gets half at most, so that its neighbours are heard too.
const (
	maxQuestions = 256
	maxConns     = 128
	maxIdle      = 10 * time.Second // for a TCP connection to ask the next
)

// NewServer makes a server that answers at most a fixed number of questions at once.
func NewServer(resolve func(query []byte, network string, from net.Addr) []byte) *Server {
	return &Server{Resolve: resolve, questions: quota{most: maxQuestions}, conns: quota{most: maxConns}}
}

// quota counts what there is at once, of all and of each.
type quota struct {
	most int

	mu  sync.Mutex
	all int
	of  map[netip.Addr]int
}

// take says whether somebody may have one more. Then done gives it back.
func (q *quota) take(from net.Addr) (done func(), ok bool) {
	at, _ := netip.ParseAddrPort(from.String()) // none is one, too
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all >= q.most || q.of[at.Addr()] >= q.most/2 {
		return nil, false
	}
	if q.of == nil {
		q.of = map[netip.Addr]int{}
	}
	q.all++
	q.of[at.Addr()]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.all--
		if q.of[at.Addr()]--; q.of[at.Addr()] == 0 {
			delete(q.of, at.Addr())
		}
	}, true
}

// ServeUDP answers datagrams until the socket is closed. Who is not answered, because there are too many, asks again.
func (s *Server) ServeUDP(c net.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		done, ok := s.questions.take(from)
		if !ok {
			continue
		}
		query := bytes.Clone(buf[:n])
		go func() {
			defer done()
			if answer := s.Resolve(query, "udp", from); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}()
	}
}

// maxQuery is the longest question, in bytes: what all others take as an answer is enough (RFC 9715).
const maxQuery = 4096

// ServeTCP answers connections until the socket is closed.
func (s *Server) ServeTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if Passing(err) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		done, ok := s.conns.take(c.RemoteAddr())
		if !ok {
			c.Close()
			continue
		}
		go func() {
			defer done()
			s.serveConn(c)
		}()
	}
}

// Passing says whether accept(2) has failed for a reason that goes by: descriptors or memory that others use up, or a
// connection that is gone already.
func Passing(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serveConn answers one question after the other, until there are none for a while.
func (s *Server) serveConn(c net.Conn) {
	defer c.Close()
	for {
		_ = c.SetDeadline(time.Now().Add(maxIdle))
		query, err := readMessage(c, maxQuery)
		if err != nil || !s.answer(c, query) {
			return
		}
	}
}

// answer answers a question on a connection, and says whether it may ask more.
func (s *Server) answer(c net.Conn, query []byte) bool {
	done, ok := s.questions.take(c.RemoteAddr())
	if !ok {
		return false
	}
	defer done()
	answer := s.Resolve(query, "tcp", c.RemoteAddr())
	return answer != nil && WriteMessage(c, answer) == nil
}

// Failure is the answer to a question that nobody could answer.
func Failure(query []byte, code dnsmessage.RCode) []byte {
	head, q, err := ParseQuery(query)
	if err != nil {
		return nil
	}
	return Refuse(head, q, code)
}
