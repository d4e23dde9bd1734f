package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is a port of a container that shall be reached through one of the host's.
type Port struct {
	// HostIP is the address of the host, the zero value for all.
	HostIP netip.Addr
	// HostPort is the port of the host. 0 stands for any that is free, and with HostLast set it is the first that is free up
	// to that.
	HostPort, HostLast uint16
	Port               uint16 // of the container
	Protocol           string // "tcp" or "udp"
}

// ParsePort reads the grammar of -p, [[IP:][HOSTPORT]:]PORT[/PROTOCOL] where each port may be a range, and gives a Port for
// each of the container's. Ranges have the same length, or that of the container is one port.
func ParsePort(s string) ([]Port, error) {
	bad := func(why string) ([]Port, error) {
		return nil, fmt.Errorf("publish %q: %s: want [[IP:][HOSTPORT]:]PORT[/tcp|udp]", s, why)
	}
	words, protocol, _ := strings.Cut(s, "/")
	protocol = cmp.Or(strings.ToLower(protocol), "tcp")
	if protocol == "sctp" {
		return bad("sctp is not published by hull")
	}
	if protocol != "tcp" && protocol != "udp" {
		return bad("invalid proto: " + protocol)
	}
	host, container := "", words
	if i := strings.LastIndexByte(words, ':'); i >= 0 {
		host, container = words[:i], words[i+1:]
	}
	var ip netip.Addr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		text := host[:i]
		host = host[i+1:]
		if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
			text = text[1 : len(text)-1]
		} else if strings.Contains(text, ":") {
			return bad("IPv6 addresses need brackets")
		}
		var err error
		if ip, err = netip.ParseAddr(text); text != "" && err != nil {
			return bad("invalid IP address: " + text)
		}
		ip = ip.Unmap()
	}
	if container == "" {
		return bad("no port specified")
	}
	first, last, ok := portRange(container)
	if !ok || first == 0 {
		return bad("invalid containerPort: " + container)
	}
	if host == "" {
		return ports(Port{HostIP: ip, Protocol: protocol}, first, last), nil
	}
	low, high, ok := portRange(host)
	switch {
	case !ok:
		return bad("invalid hostPort: " + host)
	case first == last && low != high:
		return []Port{{HostIP: ip, HostPort: low, HostLast: high, Port: first, Protocol: protocol}}, nil
	case high-low != last-first:
		return bad("invalid ranges specified for container and host Ports: " + container + " and " + host)
	}
	return ports(Port{HostIP: ip, HostPort: low, Protocol: protocol}, first, last), nil
}

// ports are those from first to last, like p.
func ports(p Port, first, last uint16) (list []Port) {
	for n := int(first); n <= int(last); n++ {
		p.Port = uint16(n)
		list = append(list, p)
		if p.HostPort != 0 {
			p.HostPort++
		}
	}
	return list
}

// portRange reads N or N-M.
func portRange(s string) (first, last uint16, ok bool) {
	low, high, isRange := strings.Cut(s, "-")
	n, err := strconv.ParseUint(low, 10, 16)
	m := n
	if err == nil && isRange {
		m, err = strconv.ParseUint(high, 10, 16)
	}
	return uint16(n), uint16(m), err == nil && n <= m
}
