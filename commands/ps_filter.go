package commands

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hullrun/hull/run"
)

// filterContainers keeps the containers that all filters let pass. Without all, and without a filter on the state, only
// those that run are kept.
func filterContainers(h *run.Host, list []*run.Container, words []string, all bool) ([]*run.Container, error) {
	f, err := parseFilters(words, "id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume",
		"network", "publish", "expose", "health", "isolation", "is-task")
	if err != nil {
		return nil, err
	}
	if !all && f["status"] == nil && f["exited"] == nil {
		f["status"] = []string{string(run.Running), string(run.Paused), string(run.Restarting)}
	}
	tests := map[string]func(c *run.Container, value string) bool{
		"id":        func(c *run.Container, v string) bool { return strings.HasPrefix(c.ID, v) },
		"exited":    func(c *run.Container, v string) bool { return c.Status == run.Exited && strconv.Itoa(c.ExitCode) == v },
		"status":    func(c *run.Container, v string) bool { return string(c.Status) == v },
		"volume":    hasVolume,
		"network":   onNetwork,
		"publish":   publishes,
		"expose":    exposes,
		"health":    func(c *run.Container, v string) bool { return cmp.Or(healthText(c), run.HealthNone) == v },
		"isolation": func(_ *run.Container, v string) bool { return v == "default" },
		"is-task":   func(_ *run.Container, v string) bool { return v == "false" },
	}
	if err := checkPorts(f); err != nil {
		return nil, err
	}
	if err := checkStates(f); err != nil {
		return nil, err
	}
	if err := addPlace(h, f, tests); err != nil {
		return nil, err
	}
	if err := addNames(h, f, tests); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(c *run.Container) bool {
		for key, test := range tests {
			if !f.match(key, func(v string) bool { return test(c, v) }) {
				return true
			}
		}
		return !f.matchLabels(c.Labels)
	}), nil
}

// checkPorts refuses what is no port.
func checkPorts(f filters) error {
	for _, key := range []string{"publish", "expose"} {
		for _, v := range f[key] {
			if _, _, _, ok := portRange(v); !ok {
				return fmt.Errorf("filter %q: want PORT[-PORT][/PROTOCOL]", key+"="+v)
			}
		}
	}
	return nil
}

// checkStates refuses values that no container can have, as Docker does.
func checkStates(f filters) error {
	for _, v := range f["status"] {
		switch v {
		case "created", "running", "paused", "restarting", "removing", "exited", "dead":
		default:
			return fmt.Errorf("filter %q: invalid value: want created, running, paused, restarting, removing, exited or dead", "status="+v)
		}
	}
	for _, v := range f["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return fmt.Errorf("filter %q: want an exit status", "exited="+v)
		}
	}
	return nil
}

// addPlace makes the tests for before and since, which name another container.
func addPlace(h *run.Host, f filters, tests map[string]func(*run.Container, string) bool) error {
	for _, key := range []string{"before", "since"} {
		others := map[string]*run.Container{}
		for _, v := range f[key] {
			c, err := h.Find(v)
			if err != nil {
				return fmt.Errorf("filter %q: %w", key+"="+v, err)
			}
			others[v] = c
		}
		tests[key] = func(c *run.Container, v string) bool {
			if key == "before" {
				return c.Created.Before(others[v].Created)
			}
			return c.Created.After(others[v].Created)
		}
	}
	return nil
}

// addNames makes the tests for name, a regular expression that also fits a name with its leading slash, and ancestor, an
// image that the container's is or builds on.
func addNames(h *run.Host, f filters, tests map[string]func(*run.Container, string) bool) error {
	patterns := map[string]*regexp.Regexp{}
	for _, v := range f["name"] {
		re, err := regexp.Compile(v)
		if err != nil {
			return fmt.Errorf("filter %q: %w", "name="+v, err)
		}
		patterns[v] = re
	}
	tests["name"] = func(c *run.Container, v string) bool {
		return patterns[v].MatchString(c.Name) || patterns[v].MatchString("/"+c.Name)
	}
	tests["ancestor"] = func(c *run.Container, v string) bool {
		ancestor, err := h.Images.Lookup(v)
		if err != nil {
			return c.Config.Image == v
		}
		img, err := h.Images.Lookup(c.ImageID)
		if err != nil {
			return c.ImageID == ancestor.ID
		}
		return len(img.DiffIDs) >= len(ancestor.DiffIDs) && slices.Equal(img.DiffIDs[:len(ancestor.DiffIDs)], ancestor.DiffIDs)
	}
	return nil
}

// hasVolume tells whether a volume of that name, or anything at that path, is mounted.
func hasVolume(c *run.Container, v string) bool {
	return slices.ContainsFunc(c.Mounts, func(m run.MountSpec) bool { return m.Source == v || m.Target == v })
}

// onNetwork tells whether the container is on a network of this name or ID.
func onNetwork(c *run.Container, v string) bool {
	return slices.Contains(networkNames(c), v) ||
		slices.ContainsFunc(c.Ends, func(e run.NetworkEnd) bool { return v != "" && strings.HasPrefix(e.NetworkID, v) })
}

// publishes tells whether one of the ports v, PORT[-PORT][/PROTOCOL], is published, as the container knows it or as the host.
func publishes(c *run.Container, v string) bool {
	first, last, protocol, ok := portRange(v)
	if !ok || !c.Status.Alive() {
		return false
	}
	for _, e := range c.Ends {
		for _, p := range e.Ports {
			host, port := int(p.HostPort), int(p.Port)
			if p.Protocol == protocol && (host >= first && host <= last || port >= first && port <= last) {
				return true
			}
		}
	}
	return false
}

// exposes tells whether one of the ports v, PORT[-PORT][/PROTOCOL], is exposed by the image or with --expose.
func exposes(c *run.Container, v string) bool {
	first, last, protocol, ok := portRange(v)
	if !ok {
		return false
	}
	for exposed := range c.Document().Config.ExposedPorts {
		if a, b, p, ok := portRange(exposed); ok && p == protocol && a <= last && b >= first {
			return true
		}
	}
	return false
}

// portRange reads PORT[-PORT][/PROTOCOL].
func portRange(s string) (first, last int, protocol string, ok bool) {
	s, err := run.ParseExpose(s)
	if err != nil {
		return 0, 0, "", false
	}
	ports, protocol, _ := strings.Cut(s, "/")
	low, high, _ := strings.Cut(ports, "-")
	first, err = strconv.Atoi(low)
	if last = first; err == nil && high != "" {
		last, err = strconv.Atoi(high)
	}
	return first, last, protocol, err == nil
}
