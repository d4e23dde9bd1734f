package commands

import (
	"strings"

	"github.com/hullrun/hull/lock"
	"github.com/hullrun/hull/registry"
)

// scriptUses finds the images that a shell script runs, creates or pulls, except those that it makes itself: the flags of
// hull's own commands tell which word is the image.
func (s *session) scriptUses(text string) []lock.Use {
	made := map[string]bool{} // full names
	var uses []lock.Use
	for _, call := range lock.ScanShell(text) {
		words, err := splitArgs(call.Words, s.globals(), true)
		if err != nil || len(words.args) == 0 {
			continue
		}
		if name := madeBy(words.args); name != "" {
			if ref, err := registry.ParseReference(name); err == nil {
				made[ref.String()] = true
			}
			continue
		}
		if u, ok := s.callUse(words.args); ok {
			u.Line = call.Line
			if ref, err := registry.ParseReference(u.Image); err != nil || !made[ref.String()] {
				uses = append(uses, u)
			}
		}
	}
	return uses
}

// callUse reads a command line as the verb would; ok is false for verbs that fetch no image.
func (s *session) callUse(args []string) (u lock.Use, ok bool) {
	v, rest, err := findVerb(args)
	if err != nil || v == nil || v.name() != "run" && v.name() != "create" && v.name() != "pull" {
		return u, false
	}
	known, _ := v.setup(s)
	words, err := splitArgs(rest, known, v.ordered)
	line := strings.Join(args, " ")
	switch {
	case err != nil:
		return lock.Use{Why: line + ": " + err.Error()}, true
	case len(words.args) == 0:
		return u, false
	case strings.Contains(words.args[0], "$"):
		return lock.Use{Why: words.args[0] + ": its value is the shell's to know"}, true
	case registry.IsArchive(words.args[0]):
		return u, false
	}
	return lock.Use{Image: words.args[0]}, true
}

// madeBy is the name of the image that a call makes: build -t NAME, tag IMAGE NAME, commit CONTAINER NAME.
func madeBy(args []string) string {
	switch args[0] {
	case "image", "container", "buildx", "builder":
		args = args[1:]
	}
	if len(args) == 0 {
		return ""
	}
	switch args[0] {
	case "tag", "commit", "import":
		return args[len(args)-1]
	case "build":
		for i, w := range args {
			if name, ok := strings.CutPrefix(w, "--tag="); ok {
				return name
			}
			if (w == "-t" || w == "--tag") && i+1 < len(args) {
				return args[i+1]
			}
		}
	}
	return ""
}
