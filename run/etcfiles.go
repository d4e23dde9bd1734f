package run

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/ns"
)

// etcFiles are the container's hosts, hostname and resolv.conf, except where something else is mounted. They tell of from: the
// container itself, or the one whose network it shares.
func etcFiles(s, from *State) (files []ns.File) {
	c := &s.Config
	n := &from.Config.Network
	name := from.hostname()
	if c.Isolation.UTS == "host" {
		name, _ = os.Hostname()
	}
	add := func(path, text string) {
		if !slices.ContainsFunc(s.Mounts, func(m MountSpec) bool { return m.Target == path }) {
			files = append(files, ns.File{Path: path, Data: []byte(text)})
		}
	}
	add("/etc/hostname", name+"\n")
	conf := *n
	if resolver := from.resolver(); resolver != "" {
		if conf.DNS = []string{resolver}; resolver == network.Resolver || n.hasNames() {
			conf.DNSOptions = undotted(conf.DNSOptions)
		}
	}
	add("/etc/resolv.conf", resolvConf(&conf, n.Mode == "host"))
	if !c.Network.NoHosts {
		add("/etc/hosts", hosts(n, name, from.Ends))
	}
	return files
}

// resolver is whom the container asks: hull, if one of its networks has names, else the own of its first network that leads out,
// for one that does not answers for containers alone; "" for the host's.
func (s *State) resolver() string {
	switch out := outward(s.Ends); {
	case s.asksNames():
		return network.Resolver
	case out != nil:
		return out.Resolver
	case len(s.Ends) == 0:
		return ""
	}
	return s.Ends[0].Resolver
}

// aptConfig is where apt finds the settings below.
const aptConfig = "/dev/.apt.conf"

// files are the container's small files. apt gives up its rights and then looks whether they are gone, which they
// cannot be where one id is mapped: there it is told, in an image that has it, to stay what it is.
func (s *start) files(spec *specs.Spec) []ns.File {
	from := &s.State
	if s.peer != nil {
		from = &s.peer.State
	}
	for _, h := range from.Config.Network.AddHost {
		if h.IP == HostGateway && hostGateway(&from.Config.Network, from.Ends) == "" {
			s.host.warn("add-host %s: ignored: no network of the container leads to the host", h.Name)
		}
	}
	files := etcFiles(&s.State, from)
	named := func(kv string) bool { return strings.HasPrefix(kv, "APT_CONFIG=") }
	if !s.world.Identity.OneID || slices.ContainsFunc(spec.Process.Env, named) {
		return files
	}
	dir, err := layers.OpenFile(s.host.Images.Dirs(s.image), "/etc/apt")
	if err != nil {
		return files
	}
	dir.Close()
	spec.Process.Env = append(spec.Process.Env, "APT_CONFIG="+aptConfig)
	return append(files, ns.File{Path: aptConfig, Data: []byte("APT::Sandbox::User \"root\";\n")})
}

// hosts is Docker's /etc/hosts: the local names, those that were asked for, and in a network of its own the container.
func hosts(n *NetworkConfig, name string, ends []NetworkEnd) string {
	var b strings.Builder
	if n.Mode == "host" {
		if data, err := os.ReadFile("/etc/hosts"); err == nil {
			b.Write(data)
		}
	}
	if b.Len() == 0 {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, h := range n.AddHost {
		ip := h.IP
		if ip == HostGateway {
			ip = hostGateway(n, ends)
		}
		if ip != "" {
			fmt.Fprintf(&b, "%s\t%s\n", ip, h.Name)
		}
	}
	full := name
	if n.Domainname != "" {
		full += "." + n.Domainname
	}
	if bare, _, dotted := strings.Cut(full, "."); dotted {
		full += " " + bare
	}
	for _, e := range ends {
		for _, text := range []string{e.IP, e.IP6} {
			if ip, _ := splitPrefix(text); ip != "" {
				fmt.Fprintf(&b, "%s\t%s\n", ip, full)
			}
		}
	}
	if n.Mode != "host" && len(ends) == 0 {
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", full)
	}
	return b.String()
}

// hostGateway is the host as the container sees it: the gateway of its first network that has one, or itself where it shares the
// host's; "" for one that sees no host.
func hostGateway(n *NetworkConfig, ends []NetworkEnd) string {
	if out := outward(ends); out != nil {
		return out.Gateway
	}
	if n.Mode == network.Host {
		return "127.0.0.1"
	}
	return ""
}

// resolvConf is the host's, changed as was asked. Its loopback resolvers are left out where the host's loopback is out
// of reach.
func resolvConf(n *NetworkConfig, hostNetwork bool) string {
	servers, search, options := readResolvConf("/etc/resolv.conf", hostNetwork)
	if len(servers) == 0 && n.named() {
		servers = hostResolvers()
	}
	if len(n.DNS) > 0 {
		servers = n.DNS
	}
	if len(n.DNSSearch) > 0 {
		search = n.DNSSearch
	}
	if len(n.DNSOptions) > 0 {
		options = n.DNSOptions
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && search[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}

// undotted has names without a dot, which containers have, looked up as they are before search lists are tried.
func undotted(options []string) []string {
	if len(options) == 0 {
		_, _, options = readResolvConf("/etc/resolv.conf", true)
	}
	if slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		return options
	}
	return append(slices.Clone(options), "ndots:0")
}

// readResolvConf reads resolv.conf(5), but for resolvers on the loopback unless they are asked for.
func readResolvConf(path string, loopback bool) (servers, search, options []string) {
	text, _ := os.ReadFile(path)
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) < 2:
		case f[0] == "nameserver" && (loopback || !isLoopback(f[1])):
			servers = append(servers, f[1])
		case f[0] == "search" || f[0] == "domain":
			search = f[1:]
		case f[0] == "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, search, options
}

func isLoopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.IsLoopback()
}
