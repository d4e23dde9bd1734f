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
		{"run|container run|image run", "IMAGE [COMMAND] [ARG...]", 1, -1, "Run a command in a new container", groupContainers, true, runCommand},
		{"ps|container ls|container list|container ps", "", 0, 0, "List containers", groupContainers, false, psCommand},
		{"rm|container rm|container remove", "CONTAINER [CONTAINER...]", 1, -1, "Remove containers", groupContainers, false, rmCommand},
		{"container inspect", "CONTAINER [CONTAINER...]", 1, -1, "Show all that is known of containers", groupContainers, false, containerInspectCommand},

		{"pull|image pull", "IMAGE", 1, 1, "Fetch an image from a registry, oci:DIR or an archive", groupImages, false, pullCommand},
		{"push|image push", "IMAGE", 1, 1, "Send an image to the registry in its name", groupImages, false, pushCommand},
		{"images|image ls|image list", "[REPOSITORY[:TAG]]", 0, 1, "List images", groupImages, false, imagesCommand},
		{"history|image history", "IMAGE", 1, 1, "Show how an image was made", groupImages, false, historyCommand},
		{"image inspect", "IMAGE [IMAGE...]", 1, -1, "Show all that is known of images", groupImages, false, imageInspectCommand},
		{"tag|image tag", "IMAGE NAME", 2, 2, "Give an image one more name", groupImages, false, tagCommand},
		{"rmi|image rm|image remove", "IMAGE [IMAGE...]", 1, -1, "Remove images", groupImages, false, rmiCommand},
		{"registry serve", "[DIR]", 0, 1, "Be a registry, of what is in DIR or in memory only", groupImages, false, registryServeCommand},

		{"inspect", "NAME|ID [NAME|ID...]", 1, -1, "Show all that is known of containers and images", groupHull, false, inspectCommand},
		{"info|system info", "", 0, 0, "Show what this host can do and what it holds", groupHull, false, infoCommand},
		{"version", "", 0, 0, "Show the version", groupHull, false, versionCommand},
		{"hello", "[exit N]", 0, 2, "Show what a program sees of its world (what the image hello runs)", groupHull, false, helloCommand},
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
