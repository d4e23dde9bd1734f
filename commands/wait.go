package commands

import (
	"context"
	"errors"
	"fmt"
)

func waitCommand(s *session) ([]*option, action) {
	var ignore bool
	flags := []*option{toggle(&ignore, "ignore", "print -1 for a container that there is not")}
	return flags, func(ctx context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			c, err := h.Find(name)
			if err != nil && ignore {
				fmt.Fprintln(s.out, -1)
				continue
			}
			var code int
			if err == nil {
				code, err = c.Wait(ctx)
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(s.out, code)
		}
		return errors.Join(failed...)
	}
}
