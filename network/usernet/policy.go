package usernet

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rule is one word of an allow-list.
type Rule struct {
	// Name is a host's, in lower case; with Sub it is what the host's name ends with, after a dot.
	Name string
	Sub  bool
	// Net is a network, if Name is empty.
	Net netip.Prefix
	// Port is the only one that is meant, 0 for all.
	Port uint16
}

// HostGateway as a name in an allow-list is the host itself, by way of the gateway's address.
const HostGateway = "host-gateway"

// ParseAllow reads a list such as "pypi.org:443,*.debian.org,10.0.0.0/8": HOST[:PORT], *.DOMAIN[:PORT], which is every name
// below the domain but not the domain itself, ADDRESS[:PORT], or NETWORK/BITS[:PORT]. IPv6 with a port goes in brackets.
func ParseAllow(list string) ([]Rule, error) {
	var rules []Rule
	for word := range strings.SplitSeq(list, ",") {
		r, err := parseRule(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("allow %q: %w", word, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(word string) (r Rule, err error) {
	host := word
	if !isAddress(word) {
		if h, port, ok := cutPort(word); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return r, fmt.Errorf("port %q: want 1 to 65535", port)
			}
			host, r.Port = h, uint16(n)
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if isAddress(host) {
		r.Net, err = parseNet(host)
		return r, err
	}
	if strings.Contains(host, "/") {
		return r, fmt.Errorf("%q is neither ADDRESS/BITS nor a host's name", host)
	}
	name, sub := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(host, ".")), "*.")
	if err := checkName(name); err != nil {
		return r, err
	}
	r.Name, r.Sub = name, sub
	return r, nil
}

// cutPort is for what is no bare address. The colons of an IPv6 network are before its slash, or within brackets.
func cutPort(word string) (host, port string, ok bool) {
	i := strings.LastIndexByte(word, ':')
	if i < 0 || strings.LastIndexByte(word, ']') > i {
		return word, "", false
	}
	return word[:i], word[i+1:], true
}

func isAddress(s string) bool {
	_, err := parseNet(s)
	return err == nil
}

func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func checkName(name string) error {
	if name == "" {
		return errors.New("want HOST[:PORT], *.DOMAIN[:PORT] or NETWORK/BITS[:PORT]")
	}
	// What a C library reads as an address, 127.1 or 0x7f000001, is asked of no resolver (inet_aton(3)).
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return fmt.Errorf("%q is no name: write an address as A.B.C.D", name)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 0x80:
			return errors.New("write the name in ASCII, as xn--…")
		case c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z'):
			return fmt.Errorf("%q does not belong in a host's name", string(rune(c)))
		}
	}
	return nil
}

// matches says whether the rule is about a host of that name.
func (r *Rule) matches(name string) bool {
	if r.Sub {
		return strings.HasSuffix(name, "."+r.Name)
	}
	return r.Name != "" && name == r.Name
}

// covers says whether the rule is about an address and a port; port 0 asks for any.
func (r *Rule) covers(a netip.Addr, port uint16) bool {
	return r.Net.Contains(a) && (r.Port == 0 || port == 0 || r.Port == port)
}

// Mode is what becomes of connections that no rule speaks of.
type Mode string

const (
	// ModeOpen lets all pass that is not the host's own loopback or a cloud's metadata.
	ModeOpen Mode = ""
	// ModeAllow refuses them.
	ModeAllow Mode = "allow"
	// ModeLog is ModeOpen, and makes the list that ModeAllow would need.
	ModeLog Mode = "log"
)

// grant is an address that was the answer to a question for an allowed name.
type grant struct {
	name  string
	until time.Time
}

// maxGrants bounds the memory that answers can take.
const maxGrants = 16384

// grace is how long after an answer's time to live a connection to it may still begin: between the two the program has to get
// as far as connecting, and some answers are good for no time at all.
const grace = 5 * time.Second

// policy decides about each connection.
type policy struct {
	mode     Mode
	rules    []Rule
	internal bool // nothing passes at all
	gateways []netip.Addr
	now      func() time.Time
	mine     func(netip.Addr) bool // whether an address is the host's own; nil for none

	mu     sync.Mutex
	grants map[netip.Addr][]grant
	swept  time.Time // when those were looked through that have had their time
	report report
}

// verdict is what was decided about a connection. The zero value refuses.
type verdict struct {
	pass   bool
	byName bool // and only by name: then a server's name in TLS must be one of the list too, or is seen
}

// connect decides about a connection, or about packets without one. Pings have no port: they reach whom any port of is open.
func (p *policy) connect(proto string, to netip.AddrPort) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	label := p.label(to)
	why := p.refusal(to)
	if why == "" && p.mode == ModeAllow {
		var byName bool
		if byName, why = p.allowed(proto, to); why == "" {
			return verdict{pass: true, byName: byName}
		}
	}
	if why != "" {
		p.report.add(Entry{What: proto, To: label, Why: why, Refused: true})
		return verdict{}
	}
	if p.mode == ModeLog {
		p.report.add(Entry{What: proto, To: label})
		return verdict{pass: true, byName: len(p.grants[inner(to.Addr())]) > 0}
	}
	return verdict{pass: true}
}

// refusal says why nobody may go there who was not explicitly allowed to; empty if they may.
func (p *policy) refusal(to netip.AddrPort) string {
	if p.internal {
		return "the network is internal"
	}
	a := inner(to.Addr())
	if slices.Contains(p.gateways, a) {
		return ""
	}
	for _, s := range special() {
		if s.net.Contains(a) && !p.named(s.net, a, to.Port()) {
			return s.what
		}
	}
	return ""
}

// named says whether a rule names an address itself, or a network within the special one. A wide network does not.
func (p *policy) named(within netip.Prefix, a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r Rule) bool {
		return r.Name == "" && r.Net.Bits() >= within.Bits() && r.covers(a, port)
	})
}

// allowed says why not if not.
func (p *policy) allowed(proto string, to netip.AddrPort) (byName bool, why string) {
	a, port := inner(to.Addr()), to.Port()
	if port == dnsPort && !slices.Contains(p.gateways, a) {
		return p.otherResolver(a)
	}
	var names []string
	if slices.Contains(p.gateways, a) {
		names = []string{HostGateway}
	} else if p.inNet(a, port) {
		return false, ""
	}
	now := p.now()
	for _, g := range p.grants[a] {
		if now.Before(g.until) {
			names = append(names, g.name)
		}
	}
	if len(names) == 0 {
		return false, "not the answer to an allowed name"
	}
	for _, name := range names {
		if !p.allowsName(name, port) {
			continue
		}
		if proto == "udp" && port == 443 && name != HostGateway {
			return true, hiddenName
		}
		return name != HostGateway, ""
	}
	return false, "port not allowed"
}

// otherResolver says why not if another resolver than the network's own may not be asked, which could lead a name anywhere and be told
// anything: a rule has to name its port, not its address alone. What it answers opens nothing.
func (p *policy) otherResolver(a netip.Addr) (byName bool, why string) {
	now := p.now()
	for _, r := range p.rules {
		if r.Port != dnsPort {
			continue
		}
		if r.Name == "" && r.Net.Contains(a) {
			return false, ""
		}
		if slices.ContainsFunc(p.grants[a], func(g grant) bool { return now.Before(g.until) && r.matches(g.name) }) {
			return true, ""
		}
	}
	return false, "another resolver"
}

func (p *policy) inNet(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r Rule) bool { return r.Name == "" && r.covers(a, port) })
}

// allowsName says whether the list has a name; port 0 asks for any.
func (p *policy) allowsName(name string, port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r Rule) bool {
		return r.matches(name) && (r.Port == 0 || port == 0 || r.Port == port)
	})
}

// ask decides whether a name may be looked up.
func (p *policy) ask(name string) bool {
	if p.mode != ModeAllow && !p.internal || p.mode == ModeAllow && p.allowsName(name, 0) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.add(Entry{What: "dns", To: written(name), Why: "name not allowed", Refused: true})
	return false
}

// answer takes note of a name's addresses, and says whether the program may see them: an allowed name that leads into a
// network of our own is an attempt to get there (DNS rebinding), unless a rule allows that network.
func (p *policy) answer(name string, a netip.Addr, ttl time.Duration) bool {
	if p.mode == ModeOpen {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a = inner(a)
	if p.mode == ModeAllow && !p.mayLead(a) {
		p.report.add(Entry{What: "dns", To: written(name), Why: fmt.Sprintf("answered with %s", a), Refused: true})
		return false
	}
	p.grant(name, a, ttl)
	return true
}

// mayLead says whether an allowed name may have an address.
func (p *policy) mayLead(a netip.Addr) bool {
	for _, s := range special() {
		if s.net.Contains(a) {
			return p.named(s.net, a, 0)
		}
	}
	return !isOwn(a) && (p.mine == nil || !p.mine(a)) || p.inNet(a, 0)
}

func (p *policy) grant(name string, a netip.Addr, ttl time.Duration) {
	now := p.now()
	until := now.Add(min(ttl, 24*time.Hour) + grace)
	if len(p.grants) >= maxGrants && now.Sub(p.swept) > grace {
		p.forget(now)
		p.swept = now
	}
	if len(p.grants) >= maxGrants {
		return
	}
	list := slices.DeleteFunc(p.grants[a], func(g grant) bool { return g.name == name || !now.Before(g.until) && p.mode == ModeAllow })
	if len(list) < 64 {
		list = append(list, grant{name: name, until: until})
	}
	if p.grants == nil {
		p.grants = map[netip.Addr][]grant{}
	}
	p.grants[a] = list
}

// forget drops what has had its time.
func (p *policy) forget(now time.Time) {
	for a, list := range p.grants {
		if !slices.ContainsFunc(list, func(g grant) bool { return now.Before(g.until) }) {
			delete(p.grants, a)
		}
	}
}

// serverName decides about the name in a TLS hello of a connection that was allowed by name. In ModeLog it notes what a list would
// have to allow for it: the name, or where there is none the address.
func (p *policy) serverName(name string, to netip.AddrPort) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if p.mode == ModeAllow && p.allowsName(name, to.Port()) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == ModeLog {
		seen := withPort(written(name), to.Port())
		if name == "" {
			seen = addressLabel(to)
		}
		if seen != p.label(to) {
			p.report.add(Entry{What: "tcp", To: seen})
		}
		return true
	}
	why := "TLS for " + written(name)
	if name == "" {
		why = "TLS that names no server"
	}
	p.report.add(Entry{What: "tcp", To: p.label(to), Why: why, Refused: true})
	return false
}

// datagram decides about what is sent on by UDP where names allow it: QUIC hides its server's name on any port. It is only at
// the beginning that one can tell, but that is where it has to be let through.
func (p *policy) datagram(to netip.AddrPort, data []byte) bool {
	if !isQUIC(data) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := inner(to.Addr()); p.mode != ModeAllow || slices.Contains(p.gateways, a) || p.inNet(a, to.Port()) {
		return true
	}
	p.report.add(Entry{What: "udp", To: p.label(to), Why: hiddenName, Refused: true})
	return false
}

// hiddenName is why QUIC does not pass by name. Programs go on with TCP.
const hiddenName = "QUIC, whose server name is hidden"

// isQUIC says whether a datagram begins a connection: a long header with a version that is in use, or made to test whether
// unknown ones are (RFC 9000 17.2 and 15, 9369, 9287), or Google's own before it was a standard.
func isQUIC(b []byte) bool {
	if len(b) < 7 || b[0]&0x80 == 0 {
		return false
	}
	v := binary.BigEndian.Uint32(b[1:])
	return v == 1 || v == 0x6b3343cf || v>>8 == 0xff0000 || v&0x0f0f0f0f == 0x0a0a0a0a || (b[1] == 'Q' || b[1] == 'T') && b[2] == '0'
}

// label is the destination as a list would name it: by the name that it was last the answer to, else by its address.
func (p *policy) label(to netip.AddrPort) string {
	a := inner(to.Addr())
	if list := p.grants[a]; len(list) > 0 {
		return withPort(written(list[len(list)-1].name), to.Port())
	} else if slices.Contains(p.gateways, a) {
		return withPort(HostGateway, to.Port())
	}
	return addressLabel(to)
}

func addressLabel(to netip.AddrPort) string {
	a := inner(to.Addr())
	if to.Port() == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, to.Port()).String()
}

func withPort(name string, port uint16) string {
	if port == 0 {
		return name
	}
	return name + ":" + strconv.Itoa(int(port))
}

// Entry is a line of a report: a destination, and how often it came up.
type Entry struct {
	What    string // "tcp", "udp", "icmp" or "dns"
	To      string // NAME:PORT, ADDRESS:PORT, or without a port
	Why     string `json:",omitempty"` // it was refused
	Refused bool   `json:",omitempty"`
	Count   int
}

// report counts. Its owner locks.
type report struct {
	counts  map[Entry]int // their Count being 0
	omitted int           // that were too many
	changed chan struct{} // gets a word at each change
}

// maxEntries bounds the memory that a program can take by trying all addresses there are.
const maxEntries = 2000

func (r *report) add(e Entry) {
	if r.counts == nil {
		r.counts = map[Entry]int{}
	}
	if _, known := r.counts[e]; !known && len(r.counts) >= maxEntries {
		r.omitted++
	} else {
		r.counts[e]++
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// written is a name as a report may show it. A program can ask for any bytes: one that is no name is quoted, so that neither a
// terminal obeys it, nor a shell that a list is given to.
func written(name string) string {
	if name == "" || checkName(name) == nil {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// Report is what a helper has refused or, in [ModeLog], seen.
type Report struct {
	Entries []Entry
	// Omitted is how often something else came up, after there were too many different ones.
	Omitted int `json:",omitempty"`
}

// snapshot sorts by how often, then by name.
func (p *policy) snapshot() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Report{Omitted: p.report.omitted}
	for e, n := range p.report.counts {
		e.Count = n
		r.Entries = append(r.Entries, e)
	}
	slices.SortFunc(r.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.To, b.To), cmp.Compare(a.What, b.What), cmp.Compare(a.Why, b.Why))
	})
	return r
}

// List is the allow-list that all which was seen would need, but for what can be in none.
func (r *Report) List() string {
	var words []string
	for _, e := range r.Entries {
		if !e.Refused && e.What != "dns" && !strings.HasPrefix(e.To, `"`) && !slices.Contains(words, e.To) {
			words = append(words, e.To)
		}
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
