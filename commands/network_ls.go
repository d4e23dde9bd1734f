package commands

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/run"
)

func networkListing(whole bool) listing[*network.Network] {
	type net = *network.Network
	return listing[net]{
		shown: "ID Name Driver Scope", quiet: "ID",
		labels: func(n net) map[string]string { return n.Labels },
		columns: []column[net]{
			{"ID", "NETWORK ID", func(n net) string {
				if whole {
					return n.ID
				}
				return run.ShortID(n.ID)
			}},
			{"Name", "NAME", func(n net) string { return n.Name }},
			{"Driver", "DRIVER", func(n net) string { return n.Driver }},
			{"Scope", "SCOPE", func(net) string { return "local" }},
			{"IPv4", "IPV4", func(net) string { return "true" }},
			{"IPv6", "IPV6", func(n net) string { return strconv.FormatBool(n.IPv6) }},
			{"Internal", "INTERNAL", func(n net) string { return strconv.FormatBool(n.Internal) }},
			{"Labels", "LABELS", func(n net) string { return joinLabels(n.Labels) }},
			{"CreatedAt", "CREATED AT", func(n net) string { return timestamp(n.Created) }},
		},
	}
}

func networkListCommand(s *session) ([]*option, action) {
	var l listFlags
	var whole bool
	flags := append(l.options(), toggle(&whole, "no-trunc", "show everything in full"))
	return flags, func(context.Context, []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		h.RenewRules()
		list, err := h.Networks().List()
		if err == nil {
			list, err = filterNetworks(h, list, l.all)
		}
		if err != nil {
			return err
		}
		listing := networkListing(whole)
		return listing.print(s.out, l.format, l.quiet, list)
	}
}

func filterNetworks(h *run.Host, list []*network.Network, words []string) ([]*network.Network, error) {
	f, err := parseFilters(words, "driver", "id", "label", "name", "scope", "type", "dangling")
	if err != nil {
		return nil, err
	}
	for _, v := range f["type"] {
		if v != "builtin" && v != "custom" {
			return nil, fmt.Errorf("filter %q: invalid value: want builtin or custom", "type="+v)
		}
	}
	var users map[string][]string
	for _, v := range f["dangling"] {
		if _, err := parseBoolFilter("dangling", v); err != nil {
			return nil, err
		}
		if users, err = h.NetworkUsers(); err != nil {
			return nil, err
		}
	}
	dangling := func(n *network.Network, want string) bool {
		yes, _ := parseBoolFilter("dangling", want)
		return yes == (len(users[n.Name]) == 0 && !n.Predefined())
	}
	return slices.DeleteFunc(list, func(n *network.Network) bool {
		return !f.match("driver", func(v string) bool { return n.Driver == v }) ||
			!f.match("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) ||
			!f.match("name", func(v string) bool { return nameMatches(n.Name, v) }) ||
			!f.match("scope", func(v string) bool { return v == "local" }) ||
			!f.match("type", func(v string) bool { return (v == "builtin") == n.Predefined() }) ||
			!f.match("dangling", func(v string) bool { return dangling(n, v) }) ||
			!f.matchLabels(n.Labels)
	}), nil
}
