package commands

import (
	"fmt"
	"slices"
	"strings"
)

// filters are the values of --filter by key. Several values of a key are alternatives; different keys must all match.
type filters map[string][]string

// parseFilters reads KEY=VALUE words. A key that the verb does not know is an error that lists those it knows.
func parseFilters(words []string, known ...string) (filters, error) {
	f := filters{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("filter %q: bad format of filter: want KEY=VALUE", word)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		if !slices.Contains(known, key) {
			slices.Sort(known)
			return nil, fmt.Errorf("filter %q: invalid filter %q: want one of %s", word, key, strings.Join(known, " "))
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// match tells whether a thing passes the filters of one key: there are none, or test accepts one of the values.
func (f filters) match(key string, test func(value string) bool) bool {
	values, ok := f[key]
	return !ok || slices.ContainsFunc(values, test)
}

// matchLabels applies label=KEY and label=KEY=VALUE. Each label's name counts as a key of its own, so that, as in Docker,
// two names must both be there.
func (f filters) matchLabels(labels map[string]string) bool {
	passed := map[string]bool{}
	for _, want := range f["label"] {
		key, value, hasValue := strings.Cut(want, "=")
		got, ok := labels[key]
		passed[key] = passed[key] || ok && (!hasValue || got == value)
	}
	for _, ok := range passed {
		if !ok {
			return false
		}
	}
	return true
}

// parseBoolFilter reads the value of a filter such as dangling.
func parseBoolFilter(key, value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, fmt.Errorf("filter %q: invalid filter value: want true or false", key+"="+value)
}
