package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/run"
)

func rmCommand(s *session) ([]*option, action) {
	var force, volumes, link bool
	flags := []*option{
		toggle(&force, "force,f", "end a container that is running first"),
		toggle(&volumes, "volumes,v", "remove its anonymous volumes too"),
		hide(toggle(&link, "link,l", "")),
	}
	return flags, func(_ context.Context, args []string) error {
		if link {
			s.warn("--link: ignored: containers have no links here")
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			switch err := removeContainer(h, name, force); {
			case err == nil:
				fmt.Fprintln(s.out, name)
			case force && errors.Is(err, run.ErrNotFound):
				report(s.err, err) // -f says so, and does not mind
			default:
				failed = append(failed, err)
			}
		}
		return errors.Join(failed...)
	}
}

func removeContainer(h *run.Host, name string, force bool) error {
	c, err := h.Find(name)
	if err != nil {
		return err
	}
	return c.Remove(force)
}
