package commands

import (
	"strings"

	"github.com/xrash/smetrics"
)

// The headings of the list of commands.
const (
	groupContainers = "Containers"
	groupImages     = "Images"
	groupHull       = "Hull"
)

// table is every command. It is a function, so that a start pays for no more than the rows.
func table() []verb {
	return []verb{
		{"version", "", 0, 0, "Show the version", groupHull, false, versionCommand},
		{"completion", "bash|zsh|fish", 1, 1, "Print a script that completes commands in a shell", groupHull, false, completionCommand},
	}
}

// findVerb finds the command that words begin with, and what follows it. No verb and no error is a group alone ("hull image").
func findVerb(words []string) (*verb, []string, error) {
	verbs := table()
	group := isGroup(verbs, words[0])
	spelling := words[0]
	rest := words[1:]
	if group {
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			return nil, nil, groupAlone(words[0], rest)
		}
		spelling, rest = spelling+" "+rest[0], rest[1:]
	}
	for i := range verbs {
		if hasName(verbs[i].names, spelling) {
			return &verbs[i], rest, nil
		}
	}
	return nil, nil, unknownCommand(verbs, spelling)
}

// groupAlone allows no more than a plea for help after the name of a group.
func groupAlone(group string, rest []string) error {
	_, err := splitArgs(rest, nil, true)
	if _, help := err.(errHelp); help {
		return nil
	}
	return hint(err, group)
}

// hasName tells whether names, with "|" between them, hold name.
func hasName(names, name string) bool {
	for n := range strings.SplitSeq(names, "|") {
		if n == name {
			return true
		}
	}
	return false
}

// isGroup tells whether word is the first of a spelling of two words.
func isGroup(verbs []verb, word string) bool {
	for i := range verbs {
		for n := range strings.SplitSeq(verbs[i].names, "|") {
			if first, _, two := strings.Cut(n, " "); two && first == word {
				return true
			}
		}
	}
	return false
}

func unknownCommand(verbs []verb, spelling string) error {
	err := &ExitError{Code: exitFailed, Err: errUnknown(spelling), Hint: readOn("")}
	if near := nearest(verbs, spelling); near != "" {
		err.Hint = "Did you mean 'hull " + near + "'?\n" + err.Hint
	}
	return err
}

type errUnknown string

func (e errUnknown) Error() string { return "unknown command: hull " + string(e) }

// nearest is the spelling most like word by Jaro and Winkler's measure, "" where none is much like it.
func nearest(verbs []verb, word string) string {
	best, name := 0.8, ""
	for i := range verbs {
		for n := range strings.SplitSeq(verbs[i].names, "|") {
			if d := smetrics.JaroWinkler(n, word, 0.7, 4); d > best {
				best, name = d, n
			}
		}
	}
	return name
}
