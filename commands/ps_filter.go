package commands

import (
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
		f["status"] = []string{string(run.Running)}
	}
	tests := map[string]func(c *run.Container, value string) bool{
		"id":        func(c *run.Container, v string) bool { return strings.HasPrefix(c.ID, v) },
		"exited":    func(c *run.Container, v string) bool { return c.Status == run.Exited && strconv.Itoa(c.ExitCode) == v },
		"status":    func(c *run.Container, v string) bool { return string(c.Status) == v },
		"volume":    hasVolume,
		"network":   func(c *run.Container, v string) bool { return networkText(c) == v },
		"publish":   func(*run.Container, string) bool { return false },
		"expose":    func(c *run.Container, v string) bool { return exposes(c, v) },
		"health":    func(_ *run.Container, v string) bool { return v == "none" },
		"isolation": func(_ *run.Container, v string) bool { return v == "default" },
		"is-task":   func(_ *run.Container, v string) bool { return v == "false" },
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
		return !f.matchLabels(c.Config.Labels)
	}), nil
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
	return slices.ContainsFunc(c.Config.Files.Mounts, func(m run.MountSpec) bool { return m.Source == v || m.Target == v })
}

// exposes tells whether a port was exposed with --expose; v is PORT[/PROTOCOL].
func exposes(c *run.Container, v string) bool {
	port, err := run.ParseExpose(v)
	return err == nil && slices.Contains(c.Config.Network.Expose, port)
}
