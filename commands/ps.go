package commands

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hullrun/hull/run"
)

// statusText is a container's state in the words of docker ps.
func statusText(c *run.Container, now time.Time) string {
	switch c.Status {
	case run.Running:
		return "Up " + strings.TrimSuffix(ago(c.Started, now), " ago")
	case run.Exited:
		return fmt.Sprintf("Exited (%d) %s", c.ExitCode, ago(c.Finished, now))
	}
	return "Created"
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
	for _, m := range c.Config.Files.Mounts {
		if m.Type == run.MountTmpfs || m.Source == "" {
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
	for _, m := range c.Config.Files.Mounts {
		if m.Type == run.MountVolume {
			n++
		}
	}
	return n
}

func networkText(c *run.Container) string { return cmp.Or(c.Config.Network.Mode, "none") }

func containerListing(whole bool) listing[*run.Container] {
	type container = *run.Container
	now := time.Now()
	nothing := func(container) string { return "" }
	return listing[container]{
		shown: "ID Image Command RunningFor Status Ports Names", quiet: "ID",
		labels: func(c container) map[string]string { return c.Config.Labels },
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
			{"Ports", "PORTS", nothing}, // none are published yet
			{"Names", "NAMES", func(c container) string { return c.Name }},
			{"Labels", "LABELS", func(c container) string { return joinLabels(c.Config.Labels) }},
			{"Mounts", "MOUNTS", func(c container) string { return mountsText(c, whole) }},
			{"LocalVolumes", "LOCAL VOLUMES", func(c container) string { return fmt.Sprint(volumeCount(c)) }},
			{"Networks", "NETWORKS", networkText},
			{"Platform", "PLATFORM", func(c container) string { return c.Config.Platform }},
			{"HealthStatus", "HEALTH STATUS", nothing}, // no health checks are run yet
		},
	}
}

func psCommand(s *session) ([]*option, action) {
	var l listFlags
	var all, latest, whole bool
	last := -1
	flags := append(l.options(),
		toggle(&all, "all,a", "show those that have ended too"),
		toggle(&latest, "latest,l", "show the newest, whatever its state"),
		opt("last,n", "NUMBER", "show so many of the newest, whatever their state", one(&last, parseInt)),
		toggle(&whole, "no-trunc", "show everything in full"))
	flags = append(flags, later("is not known yet; there is no size to show", "!size,s")...)
	return flags, func(context.Context, []string) error {
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
		listing := containerListing(whole)
		return listing.print(s.out, l.format, l.quiet, list)
	}
}
