package commands

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hullrun/hull/run"
)

// statusText is a container's state in the words of docker ps.
func statusText(c *run.Container, now time.Time) string {
	switch c.Status {
	case run.Running:
		up := "Up " + strings.TrimSuffix(ago(c.Started, now), " ago")
		switch health := healthText(c); health {
		case "":
			return up
		case run.Starting:
			return up + " (health: starting)"
		default:
			return up + " (" + health + ")"
		}
	case run.Paused:
		return "Up " + strings.TrimSuffix(ago(c.Started, now), " ago") + " (Paused)"
	case run.Restarting:
		return fmt.Sprintf("Restarting (%d) %s", c.ExitCode, ago(c.Finished, now))
	case run.Removing:
		return "Removal In Progress"
	case run.Dead:
		return "Dead"
	case run.Exited:
		return fmt.Sprintf("Exited (%d) %s", c.ExitCode, ago(c.Finished, now))
	}
	return "Created"
}

// healthText is what is known of a running container's health, "" where nobody looks.
func healthText(c *run.Container) string {
	if h := c.Health(); h != nil && c.Status.Alive() {
		return h.Status
	}
	return ""
}

// commandText is the command line in quotes, cut to 20 characters inside them.
func commandText(c *run.Container, whole bool) string {
	line := strings.Join(c.Args, " ")
	if !whole {
		line = ellipsis(line, 20)
	}
	return strconv.Quote(line)
}

// mountsText names what is mounted, each cut to 15 characters.
func mountsText(c *run.Container, whole bool) string {
	var names []string
	for _, m := range c.Mounts {
		if m.Type == run.MountTmpfs {
			continue
		}
		name := m.Source
		if !whole {
			name = ellipsis(name, 15)
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

func volumeCount(c *run.Container) (n int) {
	for _, m := range c.Mounts {
		if m.Type == run.MountVolume {
			n++
		}
	}
	return n
}

// networkNames are those that the container is on.
func networkNames(c *run.Container) (names []string) {
	for _, w := range c.Config.Network.Networks {
		names = append(names, w.Name)
	}
	if names == nil {
		names = []string{cmp.Or(c.Config.Network.Mode, "none")}
	}
	return names
}

func networkText(c *run.Container) string { return strings.Join(networkNames(c), ",") }

// portsText lists the ports that are exposed, and where published ones are on the host, as docker ps does.
func portsText(c *run.Container) string {
	if len(c.Ends) == 0 || !c.Status.Alive() {
		return ""
	}
	return foldPorts(c.Document().NetworkSettings.Ports)
}

// portRun are neighbours among the ports that are exposed, or, with an address of the host's, published by their own numbers.
type portRun struct {
	ip, protocol string
	first, last  int
}

func (r *portRun) String() string {
	text := strconv.Itoa(r.first)
	if r.last > r.first {
		text += "-" + strconv.Itoa(r.last)
	}
	if r.ip != "" {
		text = net.JoinHostPort(r.ip, text) + "->" + text
	}
	return text + "/" + r.protocol
}

// foldPorts puts neighbours into one word, and in the order that docker ps has (DisplayablePorts in cli/command/formatter): ports
// that are published by other numbers come last, one by one.
func foldPorts(ports map[string][]run.DocPort) string {
	var list, open []*portRun // in list first is the host's port, last the container's
	for port, hosts := range ports {
		number, protocol, _ := strings.Cut(port, "/")
		n, _ := strconv.Atoi(number)
		if len(hosts) == 0 {
			list = append(list, &portRun{"", protocol, n, n})
		}
		for _, h := range hosts {
			host, _ := strconv.Atoi(h.HostPort)
			list = append(list, &portRun{h.HostIP, protocol, host, n})
		}
	}
	slices.SortFunc(list, func(a, b *portRun) int {
		return cmp.Or(a.last-b.last, strings.Compare(a.ip, b.ip), a.first-b.first, strings.Compare(a.protocol, b.protocol))
	})
	var words, others []string
	for _, p := range list {
		if p.first != p.last {
			others = append(others, fmt.Sprintf("%s->%d/%s", net.JoinHostPort(p.ip, strconv.Itoa(p.first)), p.last, p.protocol))
			continue
		}
		i := slices.IndexFunc(open, func(o *portRun) bool { return o.ip == p.ip && o.protocol == p.protocol })
		switch {
		case i < 0:
			open = append(open, p)
		case open[i].last+1 == p.first:
			open[i].last = p.first
		default:
			words = append(words, open[i].String())
			open[i] = p
		}
	}
	for _, o := range open {
		words = append(words, o.String())
	}
	return strings.Join(append(words, others...), ", ")
}

// sizes are what containers have written, and with their images', in bytes.
type sizes map[*run.Container][2]int64

func measureSizes(list []*run.Container) (sizes, error) {
	m := make(sizes, len(list))
	for _, c := range list {
		written, all, err := c.Size()
		if err != nil {
			return nil, err
		}
		m[c] = [2]int64{written, all}
	}
	return m, nil
}

// text is a size as ps shows it. One that nobody has asked for is 0, as Docker has it.
func (m sizes) text(c *run.Container) string {
	s := m[c]
	if s[1] == 0 {
		return diskSize(s[0])
	}
	return diskSize(s[0]) + " (virtual " + diskSize(s[1]) + ")"
}

func containerListing(whole bool, m sizes) listing[*run.Container] {
	type container = *run.Container
	now := time.Now()
	shown := "ID Image Command RunningFor Status Ports Names"
	if m != nil {
		shown += " Size"
	}
	return listing[container]{
		shown: shown, quiet: "ID",
		labels: func(c container) map[string]string { return c.Labels },
		columns: []column[container]{
			{"ID", "CONTAINER ID", func(c container) string {
				if whole {
					return c.ID
				}
				return run.ShortID(c.ID)
			}},
			{"Image", "IMAGE", func(c container) string { return c.Config.Image }},
			{"Command", "COMMAND", func(c container) string { return commandText(c, whole) }},
			{"RunningFor", "CREATED", func(c container) string { return ago(c.Created, now) }},
			{"CreatedAt", "CREATED AT", func(c container) string { return timestamp(c.Created) }},
			{"Status", "STATUS", func(c container) string { return statusText(c, now) }},
			{"State", "STATE", func(c container) string { return string(c.Status) }},
			{"Ports", "PORTS", portsText},
			{"Names", "NAMES", func(c container) string { return c.Name }},
			{"Size", "SIZE", m.text},
			{"Labels", "LABELS", func(c container) string { return joinLabels(c.Labels) }},
			{"Mounts", "MOUNTS", func(c container) string { return mountsText(c, whole) }},
			{"LocalVolumes", "LOCAL VOLUMES", func(c container) string { return fmt.Sprint(volumeCount(c)) }},
			{"Networks", "NETWORKS", networkText},
			{"Platform", "PLATFORM", func(c container) string { return c.Config.Platform }},
			{"HealthStatus", "HEALTH STATUS", healthText},
		},
	}
}

func psCommand(s *session) ([]*option, action) {
	var l listFlags
	var all, latest, whole, size bool
	last := -1
	flags := append(l.options(),
		toggle(&all, "all,a", "show those that have ended too"),
		toggle(&latest, "latest,l", "show the newest, whatever its state"),
		opt("last,n", "NUMBER", "show so many of the newest, whatever their state", one(&last, parseInt)),
		toggle(&whole, "no-trunc", "show everything in full"),
		toggle(&size, "size,s", "show how much they have written, and with their images"))
	return flags, func(context.Context, []string) error {
		if l.format == "" && !l.quiet {
			l.format = s.preferences().PsFormat
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		list, err := h.List()
		if err != nil {
			return err
		}
		if latest {
			last = 1
		}
		list, err = filterContainers(h, list, l.all, all || last > 0)
		if err != nil {
			return err
		}
		if last > 0 && len(list) > last {
			list = list[:last]
		}
		var m sizes
		if size || strings.Contains(l.format, ".Size") {
			if m, err = measureSizes(list); err != nil {
				return err
			}
		}
		listing := containerListing(whole, m)
		return listing.print(s.out, l.format, l.quiet, list)
	}
}
