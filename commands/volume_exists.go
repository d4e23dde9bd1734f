package commands

import (
	"context"
	"errors"

	"github.com/hullrun/hull/run"
)

func volumeExistsCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		if _, err := h.Volume(args[0]); errors.Is(err, run.ErrNotFound) {
			return &ExitError{Code: exitFailed} // without a word: scripts ask
		} else {
			return err
		}
	}
}
