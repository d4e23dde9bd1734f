package commands

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/hullrun/hull/run"
)

func volumeListing() listing[*run.Volume] {
	type volume = *run.Volume
	always := func(text string) func(volume) string { return func(volume) string { return text } }
	return listing[volume]{
		shown: "Driver Name", quiet: "Name",
		labels: func(v volume) map[string]string { return v.Labels },
		columns: []column[volume]{
			{"Name", "VOLUME NAME", func(v volume) string { return v.Name }},
			{"Driver", "DRIVER", func(v volume) string { return v.Driver }},
			{"Scope", "SCOPE", func(v volume) string { return v.Scope }},
			{"Mountpoint", "MOUNTPOINT", func(v volume) string { return v.Mountpoint }},
			{"Labels", "LABELS", func(v volume) string { return joinLabels(v.Labels) }},
			// Docker's, about clusters, and what only system df counts.
			{"Links", "LINKS", always("N/A")},
			{"Size", "SIZE", always("N/A")},
			{"Availability", "AVAILABILITY", always("N/A")},
			{"Group", "GROUP", always("N/A")},
			{"Status", "STATUS", always("N/A")},
		},
	}
}

func volumeListCommand(s *session) ([]*option, action) {
	var l listFlags
	flags := append(l.options(), hide(opt("cluster", "", "", func(string) error { return nil })))
	return flags, func(context.Context, []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		list, err := h.Volumes()
		if err == nil {
			list, err = filterVolumes(h, list, l.all)
		}
		if err != nil {
			return err
		}
		listing := volumeListing()
		return listing.print(s.out, l.format, l.quiet, list)
	}
}

func filterVolumes(h *run.Host, list []*run.Volume, words []string) ([]*run.Volume, error) {
	f, err := parseFilters(words, "dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	var users map[string][]string
	for _, v := range f["dangling"] {
		if _, err := parseBoolFilter("dangling", v); err != nil {
			return nil, err
		}
		if users, err = h.VolumeUsers(); err != nil {
			return nil, err
		}
	}
	dangling := func(v *run.Volume, want string) bool {
		yes, _ := parseBoolFilter("dangling", want)
		return yes == (len(users[v.Name]) == 0)
	}
	return slices.DeleteFunc(list, func(v *run.Volume) bool {
		return !f.match("dangling", func(want string) bool { return dangling(v, want) }) ||
			!f.match("driver", func(want string) bool { return v.Driver == want }) ||
			!f.match("name", func(want string) bool { return nameMatches(v.Name, want) }) ||
			!f.matchLabels(v.Labels)
	}), nil
}

// nameMatches tells whether want is a part of the name or a regular expression that fits it.
func nameMatches(name, want string) bool {
	ok, err := regexp.MatchString(want, name)
	return strings.Contains(name, want) || err == nil && ok
}
