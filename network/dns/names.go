// Package dns answers questions about names, RFC 1035: those of containers from a table, all others by what the host's own
// resolvers say. Who is asked by whom is the caller's affair: a [Table] and an [Upstream] can be used without a [Server].
package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Host is one that has names.
type Host struct {
	// Names lead to the addresses: a container's name and its aliases. Several hosts may have the same one.
	Names []string
	// ID, if it has at least 12 characters, is a name too, and so is its beginning from that length on.
	ID string
	// Network, if not "", may follow each name after a dot, and does in what an address leads back to.
	Network string
	// Addresses are the host's, of both families.
	Addresses []netip.Addr
}

// shortID is the least of an ID that is a name.
const shortID = 12

// timeToLive is for how many seconds an answer holds. Containers come and go.
const timeToLive = 5

// Table is a set of hosts to be asked for. It never changes, so that many may ask at once; nil is one without hosts.
type Table struct {
	names   map[string][]netip.Addr
	ids     map[string][]Host // by the first characters
	reverse map[string]string
}

// NewTable makes a table. Of two hosts that have the same address the first has its name.
func NewTable(hosts []Host) *Table {
	t := &Table{names: map[string][]netip.Addr{}, ids: map[string][]Host{}, reverse: map[string]string{}}
	for _, h := range hosts {
		for _, n := range h.Names {
			t.add(strings.ToLower(n), &h)
		}
		if len(h.ID) >= shortID {
			t.ids[h.ID[:shortID]] = append(t.ids[h.ID[:shortID]], h)
		}
		name := ""
		if len(h.Names) > 0 {
			name = h.Names[0]
		} else if len(h.ID) >= shortID {
			name = h.ID[:shortID]
		}
		for _, a := range h.Addresses {
			if key := reverseName(a); t.reverse[key] == "" && name != "" {
				t.reverse[key] = strings.TrimSuffix(name+"."+h.Network, ".") + "."
			}
		}
	}
	return t
}

func (t *Table) add(name string, h *Host) {
	keys := []string{name}
	if h.Network != "" {
		keys = append(keys, name+"."+strings.ToLower(h.Network))
	}
	for _, key := range keys {
		for _, a := range h.Addresses {
			if !slices.Contains(t.names[key], a) {
				t.names[key] = append(t.names[key], a)
			}
		}
	}
}

// reverseName is the name that an address is asked for by, without its last dot: RFC 1035 3.5, RFC 3596 2.5.
func reverseName(a netip.Addr) string {
	const hex = "0123456789abcdef"
	b := a.Unmap().AsSlice()
	slices.Reverse(b)
	if len(b) == 4 {
		return netip.AddrFrom4([4]byte(b)).String() + ".in-addr.arpa"
	}
	var s []byte
	for _, n := range b {
		s = append(s, hex[n&15], '.', hex[n>>4], '.')
	}
	return string(s) + "ip6.arpa"
}

// Lookup gives the addresses that a name leads to, in an order that differs each time so that all get their share, and says
// whether the name is in the table. Case and a last dot do not count.
func (t *Table) Lookup(name string) ([]netip.Addr, bool) {
	if t == nil {
		return nil, false
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	list := slices.Clone(t.names[name])
	if list == nil && len(name) >= shortID {
		id, network, _ := strings.Cut(name, ".")
		for _, h := range t.ids[name[:shortID]] {
			if strings.HasPrefix(h.ID, id) && (network == "" || network == strings.ToLower(h.Network)) {
				list = append(list, h.Addresses...)
			}
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list, len(list) > 0
}

// Answer gives the answer to a message if it asks for a name or an address of the table, nil if somebody else has to be
// asked. A name that is there has no records but its addresses: who asks for others hears that there are none, and not what
// somebody else says of a name that is the same by chance.
func (t *Table) Answer(query []byte) []byte {
	if t == nil {
		return nil
	}
	head, q, err := ParseQuery(query)
	if err != nil || head.OpCode != 0 || q.Class != dnsmessage.ClassINET {
		return nil
	}
	name := HostName(q.Name)
	if host, ok := t.reverse[name]; ok {
		return reply(head, q, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
			ptr, err := dnsmessage.NewName(host)
			if err != nil || q.Type != dnsmessage.TypePTR && q.Type != dnsmessage.TypeALL {
				return err
			}
			return b.PTRResource(h, dnsmessage.PTRResource{PTR: ptr})
		})
	}
	list, ok := t.Lookup(name)
	if !ok {
		return nil
	}
	return reply(head, q, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
		for _, a := range list[:min(len(list), maxAddresses)] {
			var err error
			switch {
			case a.Is4() && (q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL):
				err = b.AResource(h, dnsmessage.AResource{A: a.As4()})
			case a.Is6() && (q.Type == dnsmessage.TypeAAAA || q.Type == dnsmessage.TypeALL):
				err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// maxAddresses fit into the 512 bytes that everybody takes by UDP (RFC 1035 4.2.1), the question with a name of 200 too: an
// answer has 28 at most, its name being a pointer.
const maxAddresses = 10

// ParseQuery gives the head and the only question of a message; an error if it is no question, or asks several.
func ParseQuery(msg []byte) (dnsmessage.Header, dnsmessage.Question, error) {
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil {
		return head, dnsmessage.Question{}, err
	}
	if head.Response {
		return head, dnsmessage.Question{}, errNoQuestion
	}
	q, err := p.Question()
	if err != nil {
		return head, q, err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone { // a second one could hide behind the first
		return head, q, errNoQuestion
	}
	return head, q, nil
}

// HostName is a name as people write it: without the last dot, and in small letters.
func HostName(n dnsmessage.Name) string { return strings.ToLower(strings.TrimSuffix(n.String(), ".")) }

// Refuse is the answer to a question that has no content but a code.
func Refuse(head dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode) []byte {
	return reply(head, q, code, func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error { return nil })
}

// reply builds an answer, nil if that fails.
func reply(head dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, fill func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	b.EnableCompression()
	err := b.StartQuestions()
	if err == nil {
		err = b.Question(q)
	}
	if err == nil {
		err = b.StartAnswers()
	}
	if err == nil {
		err = fill(&b, dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: timeToLive})
	}
	if err != nil {
		return nil
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}
