package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// complete fills in what a network's wishes leave open: the subnets, chosen so that they collide with no other network and no
// route of the host, and the gateways.
func (n *Network) complete(others []*Network) error {
	v4, v6 := false, false
	for i := range n.Subnets {
		u := &n.Subnets[i]
		if err := u.check(); err != nil {
			return err
		}
		for _, o := range others {
			if p, ok := o.overlaps(u.Prefix); ok {
				return fmt.Errorf("subnet %s: pool overlaps with other one on this address space: %s of network %s", u.Prefix, p, o.Name)
			}
		}
		if u.Prefix.Addr().Is4() && v4 || u.Prefix.Addr().Is6() && v6 {
			return fmt.Errorf("subnet %s: a network has one of each kind", u.Prefix)
		}
		v4, v6 = v4 || u.Prefix.Addr().Is4(), v6 || u.Prefix.Addr().Is6()
	}
	n.IPv6 = n.IPv6 || v6
	if !v4 {
		p, err := freeSubnet(others)
		if err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, Subnet{Prefix: p})
	}
	if n.IPv6 && !v6 {
		n.Subnets = append(n.Subnets, Subnet{Prefix: n.uniqueLocal()})
	}
	slices.SortFunc(n.Subnets, func(a, b Subnet) int { return cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen()) })
	for i := range n.Subnets {
		if u := &n.Subnets[i]; !u.Gateway.IsValid() {
			u.Gateway = u.Prefix.Addr().Next()
		}
	}
	return nil
}

func (u *Subnet) check() error {
	if u.Prefix.Masked() != u.Prefix {
		return fmt.Errorf("invalid subnet %s: it should be %s", u.Prefix, u.Prefix.Masked())
	}
	if a := u.Prefix.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() {
		return fmt.Errorf("invalid subnet %s: no host has such addresses on a network", u.Prefix)
	}
	if u.Prefix.Bits() > u.Prefix.Addr().BitLen()-2 {
		return fmt.Errorf("invalid subnet %s: it has no room for two addresses", u.Prefix)
	}
	if u.Gateway.IsValid() && !u.Prefix.Contains(u.Gateway) {
		return fmt.Errorf("no matching subnet for gateway %s: it is not in %s", u.Gateway, u.Prefix)
	}
	if u.Gateway == u.Prefix.Addr() {
		return fmt.Errorf("invalid gateway %s: it is the address of the network %s itself", u.Gateway, u.Prefix)
	}
	if u.Gateway.Is4() && u.Gateway == lastAddr(u.Prefix) {
		return fmt.Errorf("invalid gateway %s: it is the broadcast address of %s", u.Gateway, u.Prefix)
	}
	if u.Range.IsValid() && (!u.Prefix.Contains(u.Range.Addr()) || u.Range.Bits() < u.Prefix.Bits()) {
		return fmt.Errorf("no matching subnet for range %s: it is not in %s", u.Range, u.Prefix)
	}
	for name, a := range u.Reserved {
		if !u.Prefix.Contains(a) {
			return fmt.Errorf("no matching subnet for aux-address %s: %s is not in %s", name, a, u.Prefix)
		}
	}
	return nil
}

// overlaps finds a subnet that shares addresses with p.
func (n *Network) overlaps(p netip.Prefix) (netip.Prefix, bool) {
	for _, u := range n.Subnets {
		if u.Prefix.Overlaps(p) {
			return u.Prefix, true
		}
	}
	return netip.Prefix{}, false
}

// uniqueLocal is a subnet of RFC 4193, made from the network's ID, which is random.
func (n *Network) uniqueLocal() netip.Prefix {
	var a [16]byte
	a[0] = 0xfd
	for i := range 7 {
		a[i+1] = hexByte(n.ID[2*i:])
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func hexByte(s string) (b byte) {
	for _, c := range []byte(s[:2]) {
		b <<= 4
		if c >= 'a' {
			b |= c - 'a' + 10
		} else {
			b |= c - '0'
		}
	}
	return b
}

// pool is a range that subnets of one size are cut from.
type pool struct {
	from netip.Prefix
	bits int
}

// pools are private addresses (RFC 1918), first some that few others begin with.
func pools() []pool {
	return []pool{
		{netip.MustParsePrefix("10.144.0.0/12"), 20}, {netip.MustParsePrefix("172.16.0.0/12"), 20}, {netip.MustParsePrefix("192.168.0.0/16"), 24},
	}
}

var errNoSubnet = errors.New("all predefined address pools are in use by networks or routes: name a free one with --subnet")

// freeSubnet is the first one of the pools that collides with nothing.
func freeSubnet(others []*Network) (netip.Prefix, error) {
	taken, err := routed()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, n := range others {
		for _, u := range n.Subnets {
			taken = append(taken, u.Prefix)
		}
	}
	return firstFree(pools(), taken)
}

func firstFree(pools []pool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		for p := netip.PrefixFrom(pool.from.Addr(), pool.bits); pool.from.Overlaps(p); p = following(p) {
			if !slices.ContainsFunc(taken, p.Overlaps) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, errNoSubnet
}

// following is the next subnet of the same size.
func following(p netip.Prefix) netip.Prefix {
	a := p.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += 1 << (32 - p.Bits())
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), p.Bits())
}

// routed are the IPv4 destinations that the host has routes to in any table, but for the default route.
func routed() (list []netip.Prefix, err error) {
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if ok && bits > 0 {
			list = append(list, netip.PrefixFrom(ip, bits))
		}
	}
	return list, nil
}

// free finds an address in a subnet: the wanted one, if there is one, else the preferred one if nobody has it, else the
// first that is free after the one that was given out last.
func (n *Network) free(u *Subnet, want, prefer netip.Addr) (netip.Addr, error) {
	taken := map[netip.Addr]bool{u.Gateway: true, u.Prefix.Addr(): true, lastAddr(u.Prefix): u.Prefix.Addr().Is4()}
	for _, a := range u.Reserved {
		taken[a] = true
	}
	for _, e := range n.Endpoints {
		taken[e.Address.Addr()], taken[e.Address6.Addr()] = true, true
	}
	if want.IsValid() {
		switch {
		case !u.Prefix.Contains(want):
			return want, fmt.Errorf("invalid address %s: it does not belong to the network's subnet %s", want, u.Prefix)
		case taken[want]:
			return want, fmt.Errorf("address %s: address already in use", want)
		}
		return want, nil
	}
	if u.Prefix.Contains(prefer) && !taken[prefer] {
		return prefer, nil
	}
	from := u.Prefix
	if u.Range.IsValid() {
		from = u.Range.Masked()
	}
	a := from.Addr()
	for _, last := range n.Last {
		if from.Contains(last) {
			a = last.Next()
		}
	}
	for range len(taken) + 2 { // each step meets another address
		if !from.Contains(a) {
			a = from.Addr()
		}
		if !taken[a] {
			return a, nil
		}
		a = a.Next()
	}
	return a, fmt.Errorf("no available IP addresses in %s", from)
}

// lastAddr is the broadcast address of an IPv4 subnet.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
