package commands

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hullrun/hull/run"
)

func portCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		published := c.Document().NetworkSettings.Ports
		if len(args) == 1 {
			for _, line := range portLines(published) {
				fmt.Fprintln(s.out, line)
			}
			return nil
		}
		private, err := parsePrivatePort(args[1])
		if err != nil {
			return err
		}
		if len(published[private]) == 0 {
			return fmt.Errorf("no public port '%s' published for %s", args[1], args[0])
		}
		for _, p := range published[private] {
			fmt.Fprintln(s.out, net.JoinHostPort(p.HostIP, p.HostPort))
		}
		return nil
	}
}

// parsePrivatePort reads PORT[/PROTOCOL] into the form that ports are listed under.
func parsePrivatePort(s string) (string, error) {
	port, protocol, _ := strings.Cut(s, "/")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("port %q: invalid port: want PORT[/PROTOCOL]", s)
	}
	return port + "/" + cmp.Or(strings.ToLower(protocol), "tcp"), nil
}

// portLines are lines such as "80/tcp -> 0.0.0.0:8080", by the container's port.
func portLines(published map[string][]run.DocPort) (lines []string) {
	for _, p := range sortedPorts(published) {
		for _, host := range published[p] {
			lines = append(lines, p+" -> "+net.JoinHostPort(host.HostIP, host.HostPort))
		}
	}
	return lines
}

// sortedPorts are the container's ports by their number.
func sortedPorts(published map[string][]run.DocPort) []string {
	ports := make([]string, 0, len(published))
	for p := range published {
		ports = append(ports, p)
	}
	number := func(p string) int {
		n, _, _ := strings.Cut(p, "/")
		i, _ := strconv.Atoi(n)
		return i
	}
	slices.SortFunc(ports, func(a, b string) int { return cmp.Or(number(a)-number(b), strings.Compare(a, b)) })
	return ports
}
