package commands

import (
	"context"

	"github.com/hullrun/hull/run"
)

func volumePruneCommand(s *session) ([]*option, action) {
	var all, force bool
	var words []string
	flags := []*option{
		toggle(&all, "all,a", "remove those with a name too"),
		toggle(&force, "force,f", "do not ask"),
		list(&words, "filter", "KEY=VALUE", "only those that match: label=, label!="),
	}
	return flags, func(context.Context, []string) error {
		f, err := parseFilters(words, "label", "label!", "all")
		if err != nil {
			return err
		}
		for _, v := range f["all"] {
			if all, err = parseBoolFilter("all", v); err != nil {
				return err
			}
		}
		which := "anonymous local volumes"
		if all {
			which = "all local volumes"
		}
		if !force && !s.confirm("This will remove "+which+" not used by at least one container.") {
			return nil
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		names, freed, err := h.PruneVolumes(func(v *run.Volume) bool {
			return (all || v.Anonymous()) && f.matchLabels(v.Labels) && !f.spares(v.Labels)
		})
		s.pruned("Deleted Volumes:", names, freed)
		return err
	}
}
