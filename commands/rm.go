package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/run"
)

func rmCommand(s *session) ([]*option, action) {
	var opt run.RemoveOptions
	var link bool
	flags := []*option{
		toggle(&opt.Force, "force,f", "end a container that is running first"),
		toggle(&opt.Volumes, "volumes,v", "remove its anonymous volumes too"),
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
		errs := atOnce(args, func(name string) error { return removeContainer(h, name, opt) })
		var failed []error
		for i, name := range args {
			switch err := errs[i]; {
			case err == nil:
				fmt.Fprintln(s.out, name)
			case opt.Force && errors.Is(err, run.ErrNotFound):
				report(s.err, err) // -f says so, and does not mind
			default:
				failed = append(failed, err)
			}
		}
		return errors.Join(failed...)
	}
}

func removeContainer(h *run.Host, name string, opt run.RemoveOptions) error {
	c, err := h.Find(name)
	if err != nil {
		return err
	}
	return c.Remove(opt)
}
