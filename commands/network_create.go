package commands

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/run"
)

// subnetWords are the flags that describe subnets: each of the later ones belongs to the subnet that it lies in.
type subnetWords struct{ subnets, gateways, ranges, aux []string }

func networkCreateCommand(s *session) ([]*option, action) {
	var c network.Config
	var labels []string
	var words subnetWords
	flags := []*option{
		text(&c.Driver, "driver,d", "DRIVER", "bridge, the only one there is").def("bridge"),
		list(&words.subnets, "subnet", "CIDR", "the addresses of the network, such as 10.1.0.0/24"),
		list(&words.gateways, "gateway", "IP", "the host's address on it"),
		list(&words.ranges, "ip-range", "CIDR", "the part of a subnet that containers get addresses from"),
		list(&words.aux, "aux-address", "NAME=IP", "an address that no container gets"),
		toggle(&c.Internal, "internal", "let nothing out of the network or into it"),
		toggle(&c.IPv6, "ipv6", "have IPv6 addresses too"),
		list(&labels, "label", "KEY=VALUE", "label the network"),
		opt("opt,o", "KEY=VALUE", "an option of the driver: "+network.MTUOption+" is the longest packet in bytes, "+network.OptionAllow+" names addresses of a cloud's metadata that may be reached", pairs(&c.Options, run.ParseLabel)),
		hide(opt("ipv4", "", "", func(value string) error {
			if value == "false" {
				return fmt.Errorf("--ipv4=%s: a network without IPv4 is not known yet", value)
			}
			return nil
		})),
		hide(opt("attachable", "", "", func(string) error { return nil })), // every one is
	}
	for _, f := range [][2]string{{"scope", "VALUE"}, {"ipam-driver", "VALUE"}, {"ipam-opt", "VALUE"}, {"config-from", "VALUE"}, {"config-only"}, {"ingress"}} {
		flags = append(flags, hide(opt(f[0], f[1], "", func(value string) error {
			if value != "false" {
				s.warn("--%s: ignored: it is for networks of a cluster", f[0])
			}
			return nil
		})))
	}
	return flags, func(ctx context.Context, args []string) (err error) {
		c.Name = args[0]
		if c.Labels, err = run.ParseLabels(labels); err != nil {
			return err
		}
		if c.Subnets, err = words.parse(); err != nil {
			return err
		}
		for key := range c.Options {
			if key != network.MTUOption && key != network.OptionAllow {
				s.warn("--opt %s: kept, and without effect", key)
			}
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		n, err := h.CreateNetwork(ctx, c)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, n.ID)
		return err
	}
}

func (w *subnetWords) parse() (list []network.Subnet, err error) {
	for _, text := range w.subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--subnet %q: invalid CIDR: want ADDRESS/BITS", text)
		}
		list = append(list, network.Subnet{Prefix: p})
	}
	// within finds the subnet that an address lies in.
	within := func(flag, text string, a netip.Addr, err error) (*network.Subnet, error) {
		if err != nil {
			return nil, fmt.Errorf("--%s %q: invalid address", flag, text)
		}
		for i := range list {
			if list[i].Prefix.Contains(a) {
				return &list[i], nil
			}
		}
		return nil, fmt.Errorf("--%s %q: no matching subnet: name it with --subnet", flag, text)
	}
	for _, text := range w.gateways {
		a, err := netip.ParseAddr(text)
		u, err := within("gateway", text, a, err)
		if err != nil {
			return nil, err
		}
		u.Gateway = a
	}
	for _, text := range w.ranges {
		p, err := netip.ParsePrefix(text)
		u, err := within("ip-range", text, p.Addr(), err)
		if err != nil {
			return nil, err
		}
		u.Range = p
	}
	for _, text := range w.aux {
		name, ip, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(ip)
		u, err := within("aux-address", text, a, err)
		if err != nil {
			return nil, err
		}
		if u.Reserved == nil {
			u.Reserved = map[string]netip.Addr{}
		}
		u.Reserved[name] = a
	}
	return list, nil
}
