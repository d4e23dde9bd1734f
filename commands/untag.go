package commands

import (
	"context"
	"errors"

	"github.com/hullrun/hull/layers"
)

func untagCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return noSuchImage(args[0], h.Untag(args[0], args[1:]...))
	}
}

func imageExistsCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		if _, err := h.Images.Lookup(args[0]); errors.Is(err, layers.ErrNotFound) {
			return &ExitError{Code: exitFailed} // without a word: scripts ask
		} else {
			return err
		}
	}
}
