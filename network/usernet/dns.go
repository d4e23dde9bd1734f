package usernet

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/hullrun/hull/network/dns"
)

// resolver answers at the gateway's addresses, by what the host's own resolvers say. Messages are passed on as they are, so
// that it need not know what they mean; with an allow-list it has to look into questions and addresses.
type resolver struct {
	policy  *policy
	network *Network
	names   Names
	host    dns.Upstream
	busy    chan struct{} // has a place for each question that is being asked
}

// Limits of the resolver.
const (
	dnsPort      = 53
	maxQuestions = 256
	dnsIdle      = 10 * time.Second // for a TCP connection to ask the next
)

// listen takes port 53 of the gateway's addresses.
func (r *resolver) listen(n *Network) error {
	r.busy = make(chan struct{}, maxQuestions)
	for _, g := range n.policy.gateways {
		at := fullAddress(netip.AddrPortFrom(g, dnsPort))
		c, err := gonet.DialUDP(n.stack, &at, nil, protocolOf(g))
		if err != nil {
			return fmt.Errorf("resolver: %w", err)
		}
		l, err := gonet.ListenTCP(n.stack, at, protocolOf(g))
		if err != nil {
			return fmt.Errorf("resolver: %w", err)
		}
		go r.serveUDP(c)
		go r.serveTCP(l)
		endWith(n.ctx, func() { c.Close(); l.Close() })
	}
	return nil
}

func (r *resolver) serveUDP(c *gonet.UDPConn) {
	buf := make([]byte, maxDatagram)
	for {
		k, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:k]...)
		select {
		case r.busy <- struct{}{}:
		default:
			continue // the program asks again
		}
		go func() {
			defer func() { <-r.busy }()
			if answer := r.resolve(from, query, "udp"); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}()
	}
}

func (r *resolver) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case r.busy <- struct{}{}:
			go func() {
				defer func() { <-r.busy }()
				r.serveConn(c)
			}()
		default:
			c.Close()
		}
	}
}

// serveConn answers one question after the other, until there are none for a while.
func (r *resolver) serveConn(c net.Conn) {
	defer c.Close()
	for {
		_ = c.SetDeadline(time.Now().Add(dnsIdle))
		query, err := readMessage(c)
		if err != nil {
			return
		}
		answer := r.resolve(c.RemoteAddr(), query, "tcp")
		if answer == nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// readMessage and writeMessage are DNS over TCP (RFC 1035 4.2.2).
func readMessage(c io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}

func writeMessage(c io.Writer, msg []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// resolve gives the answer to somebody's message, nil for none.
func (r *resolver) resolve(from net.Addr, query []byte, network string) []byte {
	head, question, err := parseQuery(query)
	if err != nil {
		return nil
	}
	name := hostName(question.Name)
	m := r.asker(from)
	if list, ok := r.member(m, name); ok {
		return addresses(head, question, list)
	}
	if !r.policy.ask(name) {
		return reply(head, question, dnsmessage.RCodeRefused)
	}
	answer, err := r.forward(m, query, network)
	if err != nil {
		return reply(head, question, dnsmessage.RCodeServerFailure)
	}
	if !r.inspect(name, answer) {
		return reply(head, question, dnsmessage.RCodeRefused)
	}
	return answer
}

// asker is the member that an address is of, nil for none.
func (r *resolver) asker(from net.Addr) *member {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return nil
	}
	return r.network.member(at.Addr().Unmap())
}

// member finds the addresses of a member by a name that another asks for.
func (r *resolver) member(m *member, name string) ([]netip.Addr, bool) {
	if r.names == nil || m == nil {
		return nil, false
	}
	return r.names(m.ID, name)
}

// memberTTL is for how many seconds the address of a member may be remembered: another may soon have it.
const memberTTL = 5

// addresses is an answer with those addresses that are of the kind which was asked for.
func addresses(head dnsmessage.Header, q dnsmessage.Question, list []netip.Addr) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true,
	})
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil
	}
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: memberTTL}
	for _, a := range list {
		var err error
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			err = b.AResource(h, dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return nil
		}
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

func parseQuery(msg []byte) (dnsmessage.Header, dnsmessage.Question, error) {
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil {
		return head, dnsmessage.Question{}, err
	}
	if head.Response {
		return head, dnsmessage.Question{}, fmt.Errorf("not a question")
	}
	q, err := p.Question()
	if err != nil {
		return head, q, err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone { // a second one could hide behind the first
		return head, q, fmt.Errorf("more than one question")
	}
	return head, q, nil
}

func hostName(n dnsmessage.Name) string { return strings.ToLower(strings.TrimSuffix(n.String(), ".")) }

// reply is an answer without any content.
func reply(head dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	if b.StartQuestions() != nil || b.Question(q) != nil {
		return nil
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

// inspect notes the addresses in an answer, and says whether the program may have it. Which records they belong to, an alias
// of an alias, is not asked: who answers for an allowed name may give any address.
func (r *resolver) inspect(name string, msg []byte) bool {
	if r.policy.mode == ModeOpen {
		return true
	}
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return false
	}
	if err := p.SkipAllQuestions(); err != nil {
		return false
	}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return true
		}
		if err != nil {
			return false
		}
		var a netip.Addr
		switch h.Type {
		case dnsmessage.TypeA:
			res, err := p.AResource()
			if err != nil {
				return false
			}
			a = netip.AddrFrom4(res.A)
		case dnsmessage.TypeAAAA:
			res, err := p.AAAAResource()
			if err != nil {
				return false
			}
			a = netip.AddrFrom16(res.AAAA)
		default:
			if err := p.SkipAnswer(); err != nil {
				return false
			}
			continue
		}
		if !r.policy.answer(name, a, time.Duration(h.TTL)*time.Second) {
			return false
		}
	}
}
