package run

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lookup finds a variable of the caller's environment, as os.LookupEnv does.
type Lookup func(name string) (value string, found bool)

// ParseEnv reads one value of -e: NAME=VALUE as it stands, or NAME alone, which takes the caller's value.
// A NAME that the caller has not set stays bare; MergeEnv then removes it, also when the image sets it, as Docker does.
func ParseEnv(s string, lookup Lookup) (string, error) {
	name, _, hasValue := strings.Cut(s, "=")
	if name == "" {
		return "", fmt.Errorf("env %q: invalid environment variable: no name", s)
	}
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("env %q: invalid environment variable: zero byte", s)
	}
	if hasValue {
		return s, nil
	}
	if value, ok := lookup(name); ok {
		return name + "=" + value, nil
	}
	return s, nil
}

// ParseEnvFile reads the text of an --env-file, Docker's grammar: one variable a line, blanks before it cut; "#" first
// is a comment; NAME=VALUE is taken verbatim to the end of the line (no quotes, no expansion, trailing blanks kept);
// NAME alone takes the caller's value and is skipped where there is none. An error names the line.
func ParseEnvFile(text string, lookup Lookup) ([]string, error) {
	return parseKeyValues(text, func(name string) (string, bool) { return lookup(name) })
}

// ParseLabelFile reads the text of a --label-file: the grammar of ParseEnvFile, but a key alone has an empty value.
func ParseLabelFile(text string) ([]string, error) {
	return parseKeyValues(text, func(string) (string, bool) { return "", true })
}

func parseKeyValues(text string, missing Lookup) ([]string, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	var out []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		entry, err := parseKeyValue(line, missing)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if entry != "" {
			out = append(out, entry)
		}
	}
	return out, nil
}

// parseKeyValue reads one line; "" stands for a line that says nothing.
func parseKeyValue(line string, missing Lookup) (string, error) {
	if !utf8.ValidString(line) {
		return "", errors.New("invalid utf8 bytes")
	}
	if strings.ContainsRune(line, 0) {
		return "", errors.New("zero byte")
	}
	line = strings.TrimLeftFunc(line, unicode.IsSpace)
	if line == "" || line[0] == '#' {
		return "", nil
	}
	name, _, hasValue := strings.Cut(line, "=")
	if name == "" {
		return "", fmt.Errorf("no variable name on line %q", line)
	}
	if strings.ContainsFunc(name, unicode.IsSpace) {
		return "", fmt.Errorf("variable %q contains whitespaces", name)
	}
	if hasValue {
		return line, nil
	}
	if value, ok := missing(name); ok {
		return name + "=" + value, nil
	}
	return "", nil
}

// MergeEnv lays more over base: a NAME=VALUE replaces the entry of that name where it stands or is added at the end,
// a bare NAME removes it. base is left as it is. Of two equal names in base the last counts, as it does for a shell.
func MergeEnv(base []string, more ...string) []string {
	out := make([]string, 0, len(base)+len(more))
	at := make(map[string]int, len(base)+len(more))
	for _, entry := range append(append(make([]string, 0, cap(out)), base...), more...) {
		name, _, hasValue := strings.Cut(entry, "=")
		i, known := at[name]
		switch {
		case known && hasValue:
			out[i] = entry
		case known:
			out[i] = ""
			delete(at, name)
		case hasValue:
			at[name] = len(out)
			out = append(out, entry)
		}
	}
	return dropEmpty(out)
}

func dropEmpty(list []string) []string {
	kept := list[:0]
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// ParseLabel splits one value of -l: KEY=VALUE, or KEY with an empty value.
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if strings.TrimSpace(key) == "" {
		return "", "", fmt.Errorf("label %q: empty name", s)
	}
	return key, value, nil
}

// ParseLabels joins labels into a map; a later one beats an earlier one of the same key. No labels are a nil map.
func ParseLabels(list []string) (map[string]string, error) {
	var labels map[string]string
	for _, s := range list {
		key, value, err := ParseLabel(s)
		if err != nil {
			return nil, err
		}
		labels = put(labels, key, value)
	}
	return labels, nil
}
