package run

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hullrun/hull/network"
)

// PublishedPort is a port of the container that a port of the host leads to; HostIP is "" for all addresses.
type PublishedPort struct {
	HostIP         string
	HostPort, Port uint16
	Protocol       string
	HostLast       uint16 `json:",omitempty"` // HostPort is to be the first that is free up to this one
}

// toPublish are the ports that the host's shall lead to, and the number of the network by which: the first that is not internal,
// as in Docker. If all are, there is no way.
func (s *start) toPublish() (ports []network.Port, by int, err error) {
	n := &s.Config.Network
	if ports, err = s.wantedPorts(); err != nil || len(ports) == 0 || n.alone() {
		return ports, 0, err
	}
	by = slices.IndexFunc(n.Networks, func(w NetworkWish) bool {
		found, err := s.host.network(w.Name)
		return err == nil && !found.Internal
	})
	if by < 0 {
		s.host.warn("publish: ignored: nobody reaches a container by an internal network, and it is on no other")
		return nil, 0, nil
	}
	return ports, by, nil
}

// wantedPorts are those of -p, and with -P the exposed ones.
func (c *Container) wantedPorts() (list []network.Port, err error) {
	n := &c.Config.Network
	for _, spec := range n.Publish {
		ports, err := network.ParsePort(spec)
		if err != nil {
			return nil, err
		}
		list = append(list, ports...)
	}
	if !n.PublishAll {
		return list, nil
	}
	if _, _, err := c.imageAndIDs(); err != nil {
		return nil, err
	}
	var exposed []string
	for p := range mergePorts(c.image.Config.Config.ExposedPorts, n.Expose) {
		exposed = append(exposed, p)
	}
	slices.Sort(exposed)
	for _, p := range exposed {
		ports, err := network.ParsePort(p)
		if err != nil {
			c.host.warn("publish-all: %v", err)
			continue
		}
		for _, p := range ports {
			if !slices.ContainsFunc(list, func(o network.Port) bool { return o.Port == p.Port && o.Protocol == p.Protocol }) {
				list = append(list, p)
			}
		}
	}
	return list, nil
}

func publishedPort(p network.Port) PublishedPort {
	out := PublishedPort{HostPort: p.HostPort, HostLast: p.HostLast, Port: p.Port, Protocol: p.Protocol}
	if p.HostIP.IsValid() {
		out.HostIP = p.HostIP.String()
	}
	return out
}

// wish is the port of the host's as it was found, to be published anew.
func (p *PublishedPort) wish() network.Port {
	ip, _ := netip.ParseAddr(p.HostIP)
	return network.Port{HostIP: ip, HostPort: p.HostPort, Port: p.Port, Protocol: p.Protocol}
}

// publicPorts are the container's ports in Docker's form: those that are exposed, and where published ones are on the host.
func publicPorts(s *State, exposed map[string]struct{}) map[string][]DocPort {
	ports := map[string][]DocPort{}
	if !s.Status.Alive() || !s.Config.Network.named() {
		return ports
	}
	for p := range exposed {
		ports[p] = nil
	}
	for _, e := range s.Ends {
		for _, p := range e.Ports {
			key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			port := strconv.Itoa(int(p.HostPort))
			ports[key] = append(ports[key], DocPort{cmp.Or(p.HostIP, "0.0.0.0"), port})
			if p.HostIP == "" && e.IP6 != "" {
				ports[key] = append(ports[key], DocPort{"::", port})
			}
		}
	}
	return ports
}

// portBindings are the ports that were asked for, in Docker's form.
func portBindings(n *NetworkConfig) map[string][]DocPort {
	bindings := map[string][]DocPort{}
	for _, spec := range n.Publish {
		list, _ := network.ParsePort(spec)
		for _, p := range list {
			d := DocPort{}
			if p.HostIP.IsValid() {
				d.HostIP = p.HostIP.String()
			}
			if p.HostPort != 0 {
				d.HostPort = strconv.Itoa(int(p.HostPort))
			}
			if p.HostLast != 0 {
				d.HostPort += "-" + strconv.Itoa(int(p.HostLast))
			}
			key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			bindings[key] = append(bindings[key], d)
		}
	}
	return bindings
}
