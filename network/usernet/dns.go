package usernet

import (
	"fmt"
	"math"
	"net"
	"net/netip"
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
}

const dnsPort = 53

const typeDNAME dnsmessage.Type = 39 // RFC 6672

// listen takes port 53 of the gateway's addresses.
func (r *resolver) listen(n *Network) error {
	server := dns.NewServer(r.resolve)
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
		go server.ServeUDP(c)
		go server.ServeTCP(l)
		endWith(n.ctx, func() { c.Close(); l.Close() })
	}
	return nil
}

// resolve gives the answer to somebody's message, nil for none.
func (r *resolver) resolve(query []byte, network string, from net.Addr) []byte {
	head, question, err := dns.ParseQuery(query)
	if err != nil {
		return nil
	}
	if head.OpCode != 0 { // to change a zone, for example, RFC 2136
		return dns.Refuse(head, question, dnsmessage.RCodeNotImplemented)
	}
	name := dns.HostName(question.Name)
	m := r.asker(from)
	if m != nil && r.names != nil {
		if answer := r.names(m.ID).Answer(query); answer != nil {
			return answer
		}
	}
	if !r.policy.ask(name) {
		return dns.Refuse(head, question, dnsmessage.RCodeRefused)
	}
	answer, err := r.forward(m, query, network)
	if err != nil {
		return dns.Refuse(head, question, dnsmessage.RCodeServerFailure)
	}
	if !r.inspect(name, answer) {
		return dns.Refuse(head, question, dnsmessage.RCodeRefused)
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

// forward asks the member's or else the host's resolvers one after the other, the way that the program asked, and gives the
// first answer that says more than that the resolver failed.
func (r *resolver) forward(m *member, query []byte, network string) ([]byte, error) {
	if m != nil && len(m.DNS) > 0 {
		return dns.Ask(m.DNS, query, network)
	}
	return dns.Ask(r.host.Servers(), query, network)
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
	ttl := uint32(math.MaxUint32) // of what led to the address, too
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return true
		}
		if err != nil {
			return false
		}
		var a netip.Addr
		if h.Type == dnsmessage.TypeCNAME || h.Type == typeDNAME {
			ttl = min(ttl, h.TTL)
		}
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
		if !r.policy.answer(name, a, time.Duration(min(ttl, h.TTL))*time.Second) {
			return false
		}
	}
}
