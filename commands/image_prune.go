package commands

import (
	"context"
	"fmt"
	"strings"

	"github.com/hullrun/hull/layers"
)

func imagePruneCommand(s *session) ([]*option, action) {
	var force, all bool
	var words []string
	flags := append(pruneFlags(&force, &words),
		toggle(&all, "all,a", "remove all images that no container uses, not only those without a name"))
	return flags, func(context.Context, []string) error {
		words, err := danglingFilter(words, &all)
		if err != nil {
			return err
		}
		goes, err := pruneFilters(words)
		if err != nil {
			return err
		}
		warning := "This will remove all dangling images."
		if all {
			warning = "This will remove all images without at least one container associated to them."
		}
		if !force && !s.confirm(warning) {
			return nil
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		lines, freed, err := h.PruneImages(all, func(img *layers.Image) bool { return goes(img.Created, img.Config.Config.Labels) })
		s.pruned("Deleted Images:", removedImages(lines), freed)
		return err
	}
}

// danglingFilter takes dangling=false, another way to say --all, out of the filters.
func danglingFilter(words []string, all *bool) (others []string, err error) {
	for _, word := range words {
		value, ok := strings.CutPrefix(word, "dangling=")
		if !ok {
			others = append(others, word)
			continue
		}
		dangling, err := parseBoolFilter("dangling", value)
		if err != nil {
			return nil, err
		}
		if dangling && *all {
			return nil, fmt.Errorf("filter %q: conflicts with --all", word)
		}
		*all = !dangling
	}
	return others, nil
}

// removedImages are the lines of rmi as prune prints them: "untagged: NAME".
func removedImages(lines []layers.RemovedLine) (text []string) {
	for _, l := range lines {
		text = append(text, strings.ToLower(l.String()[:1])+l.String()[1:])
	}
	return text
}
