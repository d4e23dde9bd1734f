package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/network"
)

func networkRemoveCommand(s *session) ([]*option, action) {
	var force bool
	flags := []*option{toggle(&force, "force,f", "do not mind one that does not exist")}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			if err := h.RemoveNetwork(name); err != nil && !(force && errors.Is(err, network.ErrNotFound)) {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(s.out, name)
		}
		return errors.Join(failed...)
	}
}
