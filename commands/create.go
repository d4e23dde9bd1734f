package commands

import (
	"context"
	"fmt"
)

func createCommand(s *session) ([]*option, action) {
	w := newWishes()
	return append(w.createFlags(), s.sourceFlags()...), func(ctx context.Context, args []string) error {
		c, err := s.wish(w, args)
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return runFailure(err)
		}
		made, err := s.newContainer(ctx, h, c)
		if err != nil {
			return runFailure(err)
		}
		if err := made.Keep(); err != nil {
			return runFailure(err)
		}
		fmt.Fprintln(s.out, made.ID)
		return nil
	}
}
