package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

func systemPruneCommand(s *session) ([]*option, action) {
	var force, all, volumes bool
	var words []string
	flags := append(pruneFlags(&force, &words),
		toggle(&all, "all,a", "remove all images that no container uses, not only those without a name"),
		toggle(&volumes, "volumes", "remove anonymous volumes that no container uses"))
	return flags, func(context.Context, []string) error {
		goes, err := pruneFilters(words)
		if err != nil {
			return err
		}
		for _, word := range words {
			if volumes && strings.HasPrefix(word, "until=") {
				return errors.New(`the "until" filter is not supported with "--volumes"`)
			}
		}
		if !force && !s.confirm(pruneWarning(all, volumes, words)) {
			return nil
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.systemPrune(h, all, volumes, goes)
	}
}

// pruneWarning says what is going to be removed.
func pruneWarning(all, volumes bool, words []string) string {
	list := []string{"all stopped containers"}
	if volumes {
		list = append(list, "all anonymous volumes not used by at least one container")
	}
	if all {
		list = append(list, "all images without at least one container associated to them")
	} else {
		list = append(list, "all dangling images")
	}
	text := "This will remove:\n  - " + strings.Join(list, "\n  - ") + "\n"
	if len(words) > 0 {
		text += "\n  Items to be pruned will be filtered with:\n  - " + strings.Join(words, "\n  - ") + "\n"
	}
	return text
}

// systemPrune removes containers first: what they used is unused then.
func (s *session) systemPrune(h *run.Host, all, volumes bool, goes goner) error {
	ids, total, err := h.PruneContainers(func(c *run.Container) bool { return goes(c.Created, c.Labels) })
	failed := []error{err}
	s.removed("Deleted Containers:", ids)
	if volumes {
		names, freed, err := h.PruneVolumes(func(v *run.Volume) bool { return v.Anonymous() && goes(v.CreatedAt, v.Labels) })
		failed, total = append(failed, err), total+freed
		s.removed("Deleted Volumes:", names)
	}
	lines, freed, err := h.PruneImages(all, func(img *layers.Image) bool { return goes(img.Created, img.Config.Config.Labels) })
	failed, total = append(failed, err), total+freed
	s.removed("Deleted Images:", removedImages(lines))
	fmt.Fprintf(s.out, "Total reclaimed space: %s\n", diskSize(total))
	return errors.Join(failed...)
}
