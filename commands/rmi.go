package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

func rmiCommand(s *session) ([]*option, action) {
	var force, keepParents bool
	flags := []*option{
		toggle(&force, "force,f", "remove it with all its names, or while containers use it"),
		hide(toggle(&keepParents, "no-prune", "")), // there are no untagged parents here
	}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			if err := s.removeImage(h, name, force); err != nil {
				failed = append(failed, err)
			}
		}
		if err := errors.Join(failed...); err != nil && !(force && allMissing(failed)) {
			return err
		} else if err != nil {
			report(s.err, err) // -f says so, and does not mind
		}
		return nil
	}
}

func allMissing(failed []error) bool {
	for _, err := range failed {
		if !errors.Is(err, layers.ErrNotFound) {
			return false
		}
	}
	return true
}

// removeImage removes one image and prints what is gone.
func (s *session) removeImage(h *run.Host, name string, force bool) error {
	lines, err := h.RemoveImage(name, force)
	for _, l := range lines {
		fmt.Fprintln(s.out, l)
	}
	return noSuchImage(name, err)
}
