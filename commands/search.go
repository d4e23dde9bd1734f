package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hullrun/hull/registry"
)

// maxSearch is Docker's, who has 25 where nothing is said.
const maxSearch = 100

func searchCommand(s *session) ([]*option, action) {
	limit := 25
	var format string
	var whole bool
	var words []string
	flags := []*option{
		list(&words, "filter,f", "KEY=VALUE", "leave out what does not match: stars=N, is-official=BOOL"),
		text(&format, "format", "FORMAT", listUsage),
		opt("limit", "N", "show no more than N, at most 100", one(&limit, parseInt)).def("25"),
		toggle(&whole, "no-trunc", "show whole descriptions"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		if limit < 1 || limit > maxSearch {
			return usageError(fmt.Sprintf("--limit %d: want 1 to %d", limit, maxSearch))
		}
		keep, err := searchFilter(words)
		if err != nil {
			return err
		}
		host, term, err := registry.SplitTerm(args[0])
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		if h.Offline {
			return errors.New("search: asks a registry, which --offline forbids")
		}
		client, err := h.Client()
		if err != nil {
			return err
		}
		found, err := client.Search(ctx, host, term, limit)
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(f registry.Found) bool { return !keep(f) })
		slices.SortStableFunc(found, registry.ByStars)
		listing := searchListing(whole)
		return listing.print(s.out, format, false, found)
	}
}

// searchFilter reads --filter, before any registry is asked.
func searchFilter(words []string) (keep func(registry.Found) bool, err error) {
	f, err := parseFilters(words, "stars", "is-official", "is-automated")
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, value := range f["stars"] {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("filter %q: invalid filter value: want a whole number", "stars="+value)
		}
		stars = max(stars, n)
	}
	want := map[string]*bool{}
	for _, key := range []string{"is-official", "is-automated"} {
		for _, value := range f[key] {
			b, err := parseBoolFilter(key, value)
			if err != nil {
				return nil, err
			}
			want[key] = &b
		}
	}
	is := func(key string, b bool) bool { return want[key] == nil || *want[key] == b }
	return func(r registry.Found) bool {
		return r.Stars >= stars && is("is-official", r.Official) && is("is-automated", r.Automated)
	}, nil
}

func searchListing(whole bool) listing[registry.Found] {
	type found = registry.Found
	ok := func(b bool) string {
		if b {
			return "[OK]"
		}
		return ""
	}
	return listing[found]{
		shown: "Name Description StarCount IsOfficial",
		columns: []column[found]{
			{"Name", "NAME", func(f found) string { return f.Name }},
			{"Description", "DESCRIPTION", func(f found) string {
				text := strings.Join(strings.Fields(oneCell(f.Description)), " ")
				if whole {
					return text
				}
				return ellipsis(text, 45)
			}},
			{"StarCount", "STARS", func(f found) string { return strconv.Itoa(f.Stars) }},
			{"IsOfficial", "OFFICIAL", func(f found) string { return ok(f.Official) }},
			{"IsAutomated", "AUTOMATED", func(f found) string { return ok(f.Automated) }},
		},
	}
}
