package commands

import (
	"context"
	"fmt"

	"github.com/hullrun/hull/run"
)

func systemCheckCommand(s *session) ([]*option, action) {
	var opt run.CheckOptions
	flags := []*option{
		toggle(&opt.Repair, "repair", "set right what can be"),
		toggle(&opt.Deep, "deep", "compare every byte of the images with their digests"),
	}
	return flags, func(context.Context, []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		wrong := false
		err = h.Check(opt, func(f run.Finding) {
			wrong = wrong || !f.Mended
			line := f.What
			switch {
			case f.Mended:
				line += ": mended"
			case f.Err != nil:
				line += ": not mended: " + f.Err.Error()
			}
			fmt.Fprintln(s.out, oneCell(line))
		})
		if err == nil && wrong {
			return &ExitError{Code: exitFailed}
		}
		return err
	}
}
