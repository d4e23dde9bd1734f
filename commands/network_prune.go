package commands

import (
	"context"

	"github.com/hullrun/hull/network"
)

func networkPruneCommand(s *session) ([]*option, action) {
	var force bool
	var words []string
	return pruneFlags(&force, &words), func(context.Context, []string) error {
		goes, err := pruneFilters(words)
		if err != nil {
			return err
		}
		if !force && !s.confirm("This will remove all custom networks not used by at least one container.") {
			return nil
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		names, err := h.PruneNetworks(func(n *network.Network) bool { return goes(n.Created, n.Labels) })
		s.removed("Deleted Networks:", names)
		return err
	}
}
