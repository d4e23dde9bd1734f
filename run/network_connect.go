package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
)

// Connect attaches the container to one more network, at once if it runs.
func (c *Container) Connect(ctx context.Context, w NetworkWish) error {
	held, err := c.host.HoldImages(false) // against a prune, until it is written down
	if err != nil {
		return err
	}
	defer held.Close()
	n, err := c.host.network(w.Name)
	if err != nil {
		return err
	}
	if err := c.mayConnect(n); err != nil {
		return err
	}
	w.Name = n.Name
	e, err := c.endpoint(w, nil)
	if err != nil {
		return err
	}
	running := c.Status == Running || c.Status == Paused
	networks, before := c.host.Networks(), c.State
	before.Ends = slices.Clone(c.Ends)
	var end NetworkEnd
	if running && !n.Internal && outward(c.Ends) == nil { // else they are published by another
		if e.Ports, err = c.wantedPorts(); err != nil {
			return err
		}
	}
	if running {
		if err := networks.Reserve(ctx, e); err != nil {
			return err
		}
		if end = endOf(e); c.host.rootless {
			err = c.connectHelper(ctx, n, e, &end)
		} else {
			err = networks.Attach(ctx, netnsOf(c.Pid), e)
		}
		if err != nil {
			return errors.Join(err, networks.Detach(ctx, c.ID, n.Name))
		}
	}
	err = c.change(func(s *State) error {
		net := &s.Config.Network
		net.Networks = append(net.Networks, w)
		if !net.named() {
			net.Mode = w.Name
		}
		if running {
			if n.Name != network.Bridge && !c.host.rootless { // where each has a helper, that answers
				end.Resolver = network.Resolver
			}
			s.Ends = append(s.Ends, end)
		}
		return nil
	})
	if err == nil && running {
		c.mendNames()
		c.renewOrWarn(ctx, &before)
	}
	if err == nil {
		c.host.noteNetwork("connect", n.Name, n.ID, c.ID)
		// It may have ended before that was written down, and then nobody else knows of the new end.
		if running && unix.Kill(c.Pid, 0) != nil {
			err = networks.Detach(ctx, c.ID, n.Name)
		}
	}
	return err
}

// mayConnect says why the container cannot be attached to one more network, this one.
func (c *Container) mayConnect(n *network.Network) error {
	net := &c.Config.Network
	switch {
	case net.watched(): // it would be a way around
		return fmt.Errorf("container %s: cannot be connected to %s: its connections are watched, by --network %s", c.Name, n.Name, net.Mode)
	case net.pasta():
		return fmt.Errorf("container %s: cannot be connected to %s: pasta is its network", c.Name, n.Name)
	case net.Mode == network.Host || net.joins():
		return fmt.Errorf("container %s: cannot be connected: it shares the network %s", c.Name, net.Mode)
	case slices.ContainsFunc(net.Networks, func(w NetworkWish) bool { return w.Name == n.Name }):
		return fmt.Errorf("endpoint with name %s already exists in network %s", c.Name, n.Name)
	}
	return nil
}

// Disconnect takes the container off a network, at once if it runs.
func (c *Container) Disconnect(ctx context.Context, ref string) error {
	n, err := c.host.network(ref)
	if err != nil {
		return err
	}
	on := func(w NetworkWish) bool {
		return w.Name == n.Name || strings.HasPrefix(n.ID, w.Name) && len(w.Name) > 11
	}
	if !slices.ContainsFunc(c.Config.Network.Networks, on) {
		return fmt.Errorf("container %s is not connected to network %s", c.Name, n.Name)
	}
	left, before := slices.Clone(c.Ends), c.State
	before.Ends = left
	err = c.change(func(s *State) error {
		net := &s.Config.Network
		net.Networks = slices.DeleteFunc(net.Networks, on)
		resolver := ""
		s.Ends = slices.DeleteFunc(s.Ends, func(e NetworkEnd) bool {
			goes := e.NetworkID == n.ID
			if goes {
				resolver = e.Resolver
			}
			return goes
		})
		if len(s.Ends) > 0 { // whom the container asks stays the same
			s.Ends[0].Resolver = cmp.Or(s.Ends[0].Resolver, resolver)
		}
		net.Mode = network.None
		if len(net.Networks) > 0 {
			net.Mode = net.Networks[0].Name
		}
		return nil
	})
	if err == nil {
		for i := range left {
			if left[i].NetworkID == n.ID {
				c.leaveHelper(&left[i])
			}
		}
		err = c.host.Networks().Detach(ctx, c.ID, n.Name)
		if wayErr := c.takeNextWay(ctx, left); wayErr != nil && unix.Kill(c.Pid, 0) == nil {
			err = errors.Join(err, fmt.Errorf("container %s is off network %s, but the next is not its way out: %w", c.Name, n.Name, wayErr))
		}
		c.renewOrWarn(ctx, &before)
		c.host.noteNetwork("disconnect", n.Name, n.ID, c.ID)
	}
	return err
}

// takeNextWay has the running container, which had the ends before, reach everybody else by the next of its networks if it is off
// the one by which it did, and be reached by that: the published ports go along, as in Docker.
func (c *Container) takeNextWay(ctx context.Context, before []NetworkEnd) error {
	if c.Status != Running && c.Status != Paused {
		return nil
	}
	ends := slices.Clone(c.Ends)
	var led []NetworkEnd
	var failure error
	for i, way := range []func([]NetworkEnd) *NetworkEnd{outward, outward6} {
		was, is := way(before), way(ends)
		if was == nil || is == nil || was.NetworkID == is.NetworkID || len(led) > 0 && led[0].NetworkID == is.NetworkID {
			continue
		}
		if i == 0 { // every network that leads out does so by IPv4
			is.Ports = append(slices.Clone(is.Ports), was.Ports...)
		}
		if failure = c.lead(ctx, is); failure != nil {
			break
		}
		led = append(led, *is)
	}
	return errors.Join(failure, c.change(func(s *State) error {
		for _, end := range led {
			if i := slices.IndexFunc(s.Ends, func(e NetworkEnd) bool { return e.NetworkID == end.NetworkID }); i >= 0 {
				s.Ends[i] = end
			}
		}
		return nil
	}))
}

// lead makes an end of the running container's its way to everybody else, and its ports lead there. Where the network is a process
// the device is made anew for that, with the same addresses.
func (c *Container) lead(ctx context.Context, end *NetworkEnd) error {
	if c.host.rootless {
		return c.join(end, nil)
	}
	var ports []network.Port
	for _, p := range end.Ports {
		ports = append(ports, p.wish())
	}
	return c.host.Networks().Lead(ctx, netnsOf(c.Pid), c.ID, end.Name, ports)
}
