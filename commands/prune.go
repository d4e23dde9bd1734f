package commands

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hullrun/hull/run"
)

// confirm asks before something is lost for good, as Docker does. The end of the input is a no.
func (s *session) confirm(warning string) bool {
	fmt.Fprintf(s.err, "WARNING! %s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(s.in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// pruned prints what is gone, under a heading such as "Deleted Volumes:", and the bytes that are free now.
func (s *session) pruned(heading string, names []string, bytes int64) {
	s.removed(heading, names)
	fmt.Fprintf(s.out, "Total reclaimed space: %s\n", diskSize(bytes))
}

// removed prints what of one kind is gone, if anything.
func (s *session) removed(heading string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(s.out, "%s\n%s\n\n", heading, strings.Join(names, "\n"))
	}
}

// spares tells whether label!= keeps a thing with these labels from being pruned.
func (f filters) spares(labels map[string]string) bool {
	return slices.ContainsFunc(f["label!"], func(want string) bool {
		return filters{"label": {want}}.matchLabels(labels)
	})
}

// goner tells whether something of this age and with these labels is to go.
type goner func(created time.Time, labels map[string]string) bool

// pruneFilters reads --filter of what prunes things that have an age: until, label and label!.
func pruneFilters(words []string) (goner, error) {
	f, err := parseFilters(words, "until", "label", "label!")
	if err != nil {
		return nil, err
	}
	var until time.Time
	switch values := f["until"]; len(values) {
	case 0:
	case 1:
		if until, err = run.ParseTime(values[0], time.Now()); err != nil {
			return nil, fmt.Errorf("filter %q: %w", "until="+values[0], err)
		}
	default:
		return nil, fmt.Errorf("filter %q: more than one until filter specified", "until="+values[1])
	}
	return func(created time.Time, labels map[string]string) bool {
		return (until.IsZero() || !created.After(until)) && f.matchLabels(labels) && !f.spares(labels)
	}, nil
}

// pruneFlags are --force and --filter.
func pruneFlags(force *bool, words *[]string) []*option {
	return []*option{
		toggle(force, "force,f", "do not ask"),
		list(words, "filter", "KEY=VALUE", "only those that match: until=, label=, label!="),
	}
}
