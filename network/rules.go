package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A network's rules are a table of their own, named as its bridge. Nobody else's table is looked into, nor does any rule here
// touch a packet that has nothing to do with the bridge, but for guard's.
//
// An accept ends the way through this table alone: where another program's rules drop what is forwarded, they win.

// The names of the chains say where they hang.
const (
	chainRaw     = "raw"     // prerouting, before connections are tracked
	chainIn      = "in"      // prerouting, where destinations are changed
	chainOut     = "out"     // output, the same for the host's own packets
	chainSource  = "source"  // postrouting, where sources are changed
	chainForward = "forward" // what passes through
	chainGuard   = "guard"   // jumped to from there
	chainLeaving = "leaving" // jumped to from raw with what a container sends
	chainRefuse  = "refuse"  // jumped to from there with what is refused at once
)

// family is what the table is of. Where nobody else has rules of IPv6, the kernel would switch each hook of it on in its own code,
// and off again at the end, stopping all processors for each (static_key_slow_inc).
func (n *Network) family() nftables.TableFamily {
	if n.IPv6 {
		return nftables.TableFamilyINet
	}
	return nftables.TableFamilyIPv4
}

func (n *Network) table() *nftables.Table {
	return &nftables.Table{Family: n.family(), Name: n.Interface()}
}

// rule is one line of a chain.
type rule struct {
	chain string
	exprs []expr.Any
}

// rules is the whole table.
func (n *Network) rules(g guard) (list []rule) {
	bridge := n.Interface()
	add := func(chain string, parts ...[]expr.Any) {
		r := rule{chain: chain}
		for _, p := range parts {
			r.exprs = append(r.exprs, p...)
		}
		list = append(list, r)
	}
	// With route_localnet the host would take packets for its loopback from the bridge. Answers are not addressed so here.
	loop := netip.MustParsePrefix("127.0.0.0/8")
	add(chainRaw, in(bridge, true), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chainLeaving}})
	add(chainLeaving, destination(loop, true), verdict(expr.VerdictDrop))
	list = append(list, n.refusals()...)
	for _, e := range n.list() {
		for _, p := range e.Published {
			if e.Interface != "" && !n.Internal {
				list = append(list, p.rules(e)...)
			}
		}
	}
	for _, u := range n.Subnets {
		if !n.Internal {
			add(chainSource, source(u.Prefix), out(bridge, false), []expr.Any{&expr.Masq{}})
		}
		// Who reaches a neighbour by way of a port of the host's must get the answer by the same way.
		add(chainSource, source(u.Prefix), out(bridge, true), translated(), []expr.Any{&expr.Masq{}})
	}
	add(chainSource, source(loop), out(bridge, true), []expr.Any{&expr.Masq{}})
	if n.Internal {
		add(chainForward, in(bridge, true), out(bridge, false), verdict(expr.VerdictDrop))
		add(chainForward, in(bridge, false), out(bridge, true), verdict(expr.VerdictDrop))
	}
	// From outside, which other networks are too, only answers come in, and what goes to published ports.
	add(chainForward, in(bridge, false), out(bridge, true), state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	add(chainForward, in(bridge, false), out(bridge, true), translated(), verdict(expr.VerdictAccept))
	add(chainForward, in(bridge, false), out(bridge, true), verdict(expr.VerdictDrop))
	return append(list, n.guarding(g)...)
}

// guarding are the rules that are a guard, of the network's families.
func (n *Network) guarding(g guard) (list []rule) {
	jump := &expr.Verdict{Kind: expr.VerdictJump, Chain: chainGuard}
	for _, link := range g.in["ipv4"] {
		list = append(list, rule{chainForward, append(of(unix.NFPROTO_IPV4), append(in(link, true), jump)...)})
	}
	for _, link := range g.in["ipv6"] {
		if n.IPv6 {
			list = append(list, rule{chainForward, append(of(unix.NFPROTO_IPV6), append(in(link, true), jump)...)})
		}
	}
	if len(list) > 0 {
		for _, link := range g.out {
			list = append(list, rule{chainGuard, append(out(link, true), verdict(expr.VerdictDrop)...)})
		}
	}
	return list
}

// refusals keep containers from the Metadata addresses, before anybody else's rules lead them elsewhere. Resolvers of some clouds
// have such addresses, so that what goes to port 53 passes; and so does what the network's option names, and what is its own.
func (n *Network) refusals() (list []rule) {
	toward := func(p netip.Prefix, deed expr.Any) {
		list = append(list, rule{chainLeaving, append(destination(p, true), deed)})
	}
	pass := &expr.Verdict{Kind: expr.VerdictReturn}
	list = append(list, rule{chainLeaving, append(portOf(53), pass)})
	for _, p := range n.Allowed() {
		toward(p, pass)
	}
	for _, p := range Metadata() {
		if p.Addr().Is6() && !n.IPv6 {
			continue
		}
		for _, u := range n.Subnets {
			if u.Prefix.Overlaps(p) {
				toward(u.Prefix, pass)
			}
		}
		toward(p, &expr.Verdict{Kind: expr.VerdictJump, Chain: chainRefuse})
	}
	prohibited := &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: 3} // NFT_REJECT_ICMPX_ADMIN_PROHIBITED
	if n.family() == nftables.TableFamilyIPv4 {
		prohibited = &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 13} // the same, ICMP_PKT_FILTERED
	}
	return append(list, rule{chainRefuse, append(protocolOf(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})},
		rule{chainRefuse, []expr.Any{prohibited}})
}

// rules lead a port of the host's to the container's.
func (p *Port) rules(e *Endpoint) (list []rule) {
	for _, to := range []netip.Addr{e.Address.Addr(), e.Address6.Addr()} {
		if !to.IsValid() || p.HostIP.IsValid() && p.HostIP.Is4() != to.Is4() {
			continue
		}
		family, loop := byte(unix.NFPROTO_IPV4), netip.MustParsePrefix("127.0.0.0/8")
		if to.Is6() {
			family, loop = unix.NFPROTO_IPV6, netip.MustParsePrefix("::1/128")
		}
		match := append(local(family), port(p.Protocol, p.HostPort)...)
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			match = append(match, destination(netip.PrefixFrom(p.HostIP, p.HostIP.BitLen()), true)...)
		}
		deed := []expr.Any{
			&expr.Immediate{Register: 1, Data: to.AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.Port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: 1, RegProtoMin: 2},
		}
		join := func(parts ...[]expr.Any) (all []expr.Any) {
			for _, p := range parts {
				all = append(all, p...)
			}
			return all
		}
		out := match
		if to.Is6() { // the kernel lets nothing from there onto a bridge: refused at once, a program goes on with 127.0.0.1
			out = join(match, destination(loop, false))
		}
		// From outside nobody speaks to the loopback; a neighbour who tries means harm.
		list = append(list, rule{chainIn, join(match, destination(loop, false), deed)}, rule{chainOut, join(out, deed)})
	}
	return list
}

// The parts of rules. Each compares what it has loaded into register 1.

func compare(equal bool, data []byte) *expr.Cmp {
	op := expr.CmpOpNeq
	if equal {
		op = expr.CmpOpEq
	}
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func name(key expr.MetaKey, link string, equal bool) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, link)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, compare(equal, data)}
}

// in and out match the interface that a packet comes and goes by.
func in(link string, equal bool) []expr.Any  { return name(expr.MetaKeyIIFNAME, link, equal) }
func out(link string, equal bool) []expr.Any { return name(expr.MetaKeyOIFNAME, link, equal) }

// of matches packets of a family, such as unix.NFPROTO_IPV6.
func of(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, compare(true, []byte{family})}
}

// local matches packets of a family to an address that is the host's.
func local(family byte) []expr.Any {
	return append(of(family), &expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		compare(true, binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)))
}

// port matches a destination's port.
func port(protocol string, port uint16) []expr.Any {
	number := byte(unix.IPPROTO_TCP)
	if protocol == "udp" {
		number = unix.IPPROTO_UDP
	}
	return append(protocolOf(number), portOf(port)...)
}

// portOf is for protocols that have it where TCP and UDP do.
func portOf(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		compare(true, binary.BigEndian.AppendUint16(nil, port)),
	}
}

// protocolOf matches a protocol's number, such as unix.IPPROTO_TCP.
func protocolOf(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, compare(true, []byte{number})}
}

// destination and source match addresses, of one family: the offsets are those in its header.
func destination(p netip.Prefix, equal bool) []expr.Any { return address(p, 16, 24, equal) }
func source(p netip.Prefix) []expr.Any                  { return address(p, 12, 8, true) }

func address(p netip.Prefix, offset4, offset6 uint32, equal bool) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, offset6
	}
	size := (p.Bits() + 7) / 8 // no more of it is looked at
	list := append(of(family), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)})
	if rest := p.Bits() % 8; rest > 0 {
		mask := bytes.Repeat([]byte{0xff}, size)
		mask[size-1] <<= 8 - rest
		list = append(list, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)})
	}
	return append(list, compare(equal, p.Masked().Addr().AsSlice()[:size]))
}

// state matches connections that are in one of these states.
func state(bits uint32) []expr.Any { return conntrack(expr.CtKeySTATE, bits) }

// translated matches connections whose destination was changed (IPS_DST_NAT).
func translated() []expr.Any { return conntrack(expr.CtKeySTATUS, 1<<5) }

func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		compare(false, make([]byte, 4)),
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// nfModules are what the rules need of the kernel.
const nfModules = "rules such as hull's (modules nf_tables, nft_chain_nat, nft_masq, nft_ct, nft_reject_inet, nft_reject_ipv4, nft_fib_inet and nft_fib_ipv4)"

// apply puts the network's rules in the place of those that there are, all at once: no packet meets half of them. Then, for the
// guards have to stand, it lets packets pass on the host.
func (s *Networks) apply(n *Network) error {
	was, err := s.changed()
	if err != nil {
		return err
	}
	links, err := findUplinks()
	if err != nil {
		return err
	}
	changed := standing(was.Settings)
	fewer := len(changed) < len(was.Settings)
	closed := n.closed(links, changed)
	changed, more := merge(changed, closed)
	differs := fewer || more || len(changed) > 0 && !slices.Equal(was.Out, links.all)
	guarded := []*Network{n}
	if differs { // any of the others may be the last one that guards
		others, err := s.raised(n)
		if err != nil {
			return err
		}
		guarded = append(guarded, others...)
	}
	g := guardFor(changed, links)
	for _, n := range guarded {
		err := commit(func(conn *nftables.Conn) { write(conn, n.table(), n.rules(g)) })
		if err != nil {
			return fmt.Errorf("nftables: write table %s: %w", n.Interface(), needs(err, nfModules))
		}
	}
	if differs {
		if err := s.writeChanged(changed, links.all); err != nil {
			return err
		}
	}
	for _, c := range closed {
		setSysctl(c.Family, c.Link, c.Name, c.Is)
	}
	return nil
}

// write puts a table of these rules in the place of one that there may be.
func write(conn *nftables.Conn, table *nftables.Table, list []rule) {
	conn.AddTable(table)
	chains := map[string]*nftables.Chain{}
	for _, c := range []nftables.Chain{
		{Name: chainRaw, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw},
		{Name: chainIn, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest},
		{Name: chainOut, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest},
		{Name: chainSource, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource},
		{Name: chainForward, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter},
		{Name: chainGuard},
		{Name: chainLeaving},
		{Name: chainRefuse},
	} {
		c.Table = table
		chains[c.Name] = conn.AddChain(&c)
	}
	conn.FlushTable(table)
	for _, r := range list {
		addRule(conn, chains[r.chain], r.exprs)
	}
}

// addRule adds a rule to a chain. In a table of IPv4 it does not ask whether a packet is of that: nft(8) up to 1.1 lists no rules
// that do.
func addRule(conn *nftables.Conn, chain *nftables.Chain, exprs []expr.Any) {
	if chain.Table.Family == nftables.TableFamilyIPv4 {
		for i := len(exprs) - 1; i >= 0; i-- {
			if m, ok := exprs[i].(*expr.Meta); ok && m.Key == expr.MetaKeyNFPROTO {
				exprs = append(slices.Clone(exprs[:i]), exprs[i+2:]...) // with what compares it
			}
		}
	}
	conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs})
}

// warnOfForeign tells of another program's rules that drop what is forwarded by default and do not mention hull's bridges:
// Docker and firewalls of hosts write such. Nobody but who has written them can let hull's packets pass: an accept counts for its
// own table. So the line ends with the commands that whoever rules the host may want.
func (s *Networks) warnOfForeign(n *Network) {
	conn, err := nftables.New()
	if err != nil || n.Internal {
		return
	}
	chains, _ := conn.ListChains()
	for _, c := range chains {
		drops := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
		ours := c.Table.Family != nftables.TableFamilyIPv6 || n.IPv6
		if family := families[c.Table.Family]; drops && ours && family != "" && !mentions(conn, chains, c.Table) {
			s.warn("network %s: the host's table %s %s drops what its chain %s does not accept, so that containers reach nobody outside: %s",
				n.Name, family, c.Table.Name, c.Name, remedy(chains, c))
		}
	}
}

// families are nft's words for those that are looked into.
var families = map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}

// remedy are the commands that let hull's packets pass a chain. What is in the tables of iptables' own names is changed by
// iptables, and where Docker rules in the chain that it leaves to others.
func remedy(chains []*nftables.Chain, c *nftables.Chain) string {
	tool := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[families[c.Table.Family]]
	if tool == "" || c.Table.Name != "filter" || c.Name != "FORWARD" {
		at := fmt.Sprintf("nft insert rule %s %s %s", families[c.Table.Family], c.Table.Name, c.Name)
		return fmt.Sprintf("%s iifname '%s*' accept; %s oifname '%s*' accept", at, bridgePrefix, at, bridgePrefix)
	}
	chain := c.Name
	for _, other := range chains {
		if other.Name == "DOCKER-USER" && other.Table.Name == c.Table.Name && other.Table.Family == c.Table.Family {
			chain = other.Name
		}
	}
	return fmt.Sprintf("%s -I %s -i %s+ -j ACCEPT; %s -I %s -o %s+ -j ACCEPT", tool, chain, bridgePrefix, tool, chain, bridgePrefix)
}

// mentions says whether a rule of a table looks for an interface of hull's.
func mentions(conn *nftables.Conn, chains []*nftables.Chain, table *nftables.Table) bool {
	for _, c := range chains {
		if c.Table.Name != table.Name || c.Table.Family != table.Family {
			continue
		}
		rules, _ := conn.GetRules(c.Table, c)
		for _, r := range rules {
			for _, e := range r.Exprs {
				if cmp, ok := e.(*expr.Cmp); ok && bytes.HasPrefix(cmp.Data, []byte(bridgePrefix)) {
					return true
				}
			}
		}
	}
	return false
}

// removeTable removes a network's rules. It is no error if there are none.
func removeTable(table *nftables.Table) error {
	err := commit(func(conn *nftables.Conn) {
		conn.AddTable(table) // so that it is there in any case
		conn.DelTable(table)
	})
	for _, none := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EPERM} {
		if errors.Is(err, none) {
			return nil // the kernel has no tables, or none for us
		}
	}
	if err != nil {
		return fmt.Errorf("nftables: remove table %s: %w", table.Name, err)
	}
	return nil
}
