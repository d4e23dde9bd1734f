package commands

import (
	"context"

	"github.com/hullrun/hull/run"
)

func pauseCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error { return s.eachContainer(args, (*run.Container).Pause) }
}

func unpauseCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error { return s.eachContainer(args, (*run.Container).Unpause) }
}
