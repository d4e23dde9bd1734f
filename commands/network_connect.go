package commands

import (
	"context"
	"errors"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/run"
)

func networkConnectCommand(s *session) ([]*option, action) {
	var w run.NetworkWish
	flags := []*option{
		list(&w.Aliases, "alias", "NAME", "one more name on the network"),
		text(&w.IP, "ip", "IP", "have this address on the network"),
		text(&w.IP6, "ip6", "IP", "have this IPv6 address on the network"),
	}
	for _, name := range []string{"link", "link-local-ip", "driver-opt", "gw-priority"} {
		flags = append(flags, hide(opt(name, "VALUE", "", func(string) error {
			s.warn("--%s: ignored: it is not known yet", name)
			return nil
		})))
	}
	return flags, func(ctx context.Context, args []string) error {
		c, err := s.container(args[1])
		if err != nil {
			return err
		}
		w.Name = args[0]
		return c.Connect(ctx, w)
	}
}

func networkDisconnectCommand(s *session) ([]*option, action) {
	var force bool
	flags := []*option{toggle(&force, "force,f", "do not mind a container that does not exist")}
	return flags, func(ctx context.Context, args []string) error {
		c, err := s.container(args[1])
		if force && errors.Is(err, run.ErrNotFound) {
			h, err := s.host()
			if err == nil {
				_, err = h.Network(args[0])
			}
			return err
		}
		if err != nil {
			return err
		}
		err = c.Disconnect(ctx, args[0])
		if force && errors.Is(err, network.ErrNotFound) {
			return nil
		}
		return err
	}
}
