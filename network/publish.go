package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// choosePorts finds ports of the host for those that are to be published. One that another container or process has is
// refused: the rules would take it away from him.
func (s *Networks) choosePorts(e *Endpoint) error {
	e.Published = nil
	if len(e.Ports) == 0 {
		return nil
	}
	networks, err := s.List()
	if err != nil {
		return err
	}
	var taken []Port
	for _, n := range networks {
		for id, other := range n.Endpoints {
			if id != e.Container && other.alive() {
				taken = append(taken, other.Published...)
			}
		}
	}
	for _, p := range e.Ports {
		if p, err = choosePort(p, append(taken, e.Published...)); err != nil {
			return err
		}
		e.Published = append(e.Published, p)
	}
	return nil
}

// ChoosePorts finds ports of the host for a container's on no network of hull's, as Reserve does for others.
func (s *Networks) ChoosePorts(container string, ports []Port) ([]Port, error) {
	e := &Endpoint{Container: container, Ports: ports}
	err := s.choosePorts(e)
	return e.Published, err
}

func choosePort(p Port, taken []Port) (Port, error) {
	last := max(p.HostPort, p.HostLast)
	p.HostLast = 0
	if p.HostPort == 0 {
		return anyPort(p, taken)
	}
	for first := int(p.HostPort); first <= int(last); first++ {
		p.HostPort = uint16(first)
		if !p.among(taken) && p.free() == nil {
			return p, nil
		}
	}
	where := netip.AddrPortFrom(p.hostIP(), p.HostPort)
	if err := p.free(); err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return p, fmt.Errorf("publish %s: %w", where, err)
	}
	return p, fmt.Errorf("bind for %s failed: port is already allocated", where)
}

// anyPort takes one that the kernel would give to a program.
func anyPort(p Port, taken []Port) (Port, error) {
	for range 100 {
		port, err := bind(p.hostIP(), 0, p.Protocol)
		if err != nil {
			return p, fmt.Errorf("publish %d/%s: find a free port: %w", p.Port, p.Protocol, err)
		}
		if p.HostPort = port; !p.among(taken) && p.free() == nil {
			return p, nil
		}
	}
	return p, fmt.Errorf("publish %d/%s: no port is free: all ports are allocated", p.Port, p.Protocol)
}

func (p *Port) hostIP() netip.Addr {
	if !p.HostIP.IsValid() {
		return netip.IPv4Unspecified()
	}
	return p.HostIP
}

// among says whether one of the ports is the same of the host's.
func (p *Port) among(list []Port) bool {
	all := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	for _, o := range list {
		same := o.HostIP == p.HostIP || all(o.HostIP) && (!o.HostIP.IsValid() || o.HostIP.Is4() == p.hostIP().Is4()) ||
			all(p.HostIP) && (!p.HostIP.IsValid() || p.HostIP.Is4() == o.hostIP().Is4())
		if o.HostPort == p.HostPort && o.Protocol == p.Protocol && same {
			return true
		}
	}
	return false
}

// free says whether no program of the host has the port.
func (p *Port) free() error {
	_, err := bind(p.hostIP(), p.HostPort, p.Protocol)
	if err == nil && !p.HostIP.IsValid() {
		if _, six := bind(netip.IPv6Unspecified(), p.HostPort, p.Protocol); errors.Is(six, unix.EADDRINUSE) {
			err = six
		}
	}
	return err
}

// bind takes a port for a moment, 0 for any, and says which.
func bind(ip netip.Addr, port uint16, protocol string) (uint16, error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if ip.Is6() {
		family = unix.AF_INET6
	}
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(port), Addr: v4(ip)}
	if ip.Is6() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		to = &unix.SockaddrInet6{Port: int(port), Addr: ip.As16()}
	}
	if kind == unix.SOCK_STREAM { // connections that have ended are in nobody's way
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err := unix.Bind(fd, to); err != nil {
		return 0, err
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 1); err != nil {
			return 0, err
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	if six, ok := name.(*unix.SockaddrInet6); ok {
		return uint16(six.Port), nil
	}
	return uint16(name.(*unix.SockaddrInet4).Port), nil
}

func v4(ip netip.Addr) [4]byte {
	if ip.Is4() {
		return ip.As4()
	}
	return [4]byte{}
}

// String is the port as docker ps shows it: "0.0.0.0:8080->80/tcp".
func (p Port) String() string {
	return netip.AddrPortFrom(p.hostIP(), p.HostPort).String() + "->" + strconv.Itoa(int(p.Port)) + "/" + p.Protocol
}
