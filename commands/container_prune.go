package commands

import (
	"context"

	"github.com/hullrun/hull/run"
)

func containerPruneCommand(s *session) ([]*option, action) {
	var force bool
	var words []string
	return pruneFlags(&force, &words), func(context.Context, []string) error {
		goes, err := pruneFilters(words)
		if err != nil {
			return err
		}
		if !force && !s.confirm("This will remove all stopped containers.") {
			return nil
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		ids, freed, err := h.PruneContainers(func(c *run.Container) bool { return goes(c.Created, c.Labels) })
		s.pruned("Deleted Containers:", ids, freed)
		return err
	}
}
