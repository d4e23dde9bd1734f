package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Metadata are the addresses where clouds tell a machine its secrets: of AWS, Azure, Google Cloud, Oracle, IBM, OpenStack and
// DigitalOcean (169.254.169.254, in the link-local network like AWS's for containers), of Alibaba, of Oracle's older ones, of
// Azure's agent, and of AWS, Google, Oracle and Scaleway by IPv6.
func Metadata() []netip.Prefix {
	p := netip.MustParsePrefix
	return []netip.Prefix{
		p("169.254.0.0/16"), p("100.100.100.200/32"), p("192.0.0.192/32"), p("168.63.129.16/32"),
		p("fd00:ec2::/32"), p("fd20:ce::/32"), p("fd00:c1::/32"), p("fd00:42::42/128"),
	}
}

// OptionAllow is the option of a network that names those of the Metadata addresses that its containers may reach all the
// same: "ADDRESS,NETWORK/BITS,...".
const OptionAllow = "allow"

// Allowed are the addresses that OptionAllow names.
func (n *Network) Allowed() []netip.Prefix {
	list, _ := parseAllowed(n.Options[OptionAllow])
	return list
}

func parseAllowed(text string) (list []netip.Prefix, err error) {
	if text == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(word)
		if a, notPrefix := netip.ParseAddr(word); notPrefix == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("option %s=%s: %q: want ADDRESS or NETWORK/BITS", OptionAllow, text, word)
		}
		if !slices.ContainsFunc(Metadata(), func(m netip.Prefix) bool { return m.Bits() <= p.Bits() && m.Contains(p.Addr()) }) {
			return nil, fmt.Errorf("option %s=%s: %s is no address of a cloud's metadata, and those alone are refused", OptionAllow, text, word)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}
