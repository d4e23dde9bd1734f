package commands

import (
	"cmp"
	"context"
	"fmt"
	"syscall"

	"github.com/hullrun/hull/run"
)

func killCommand(s *session) ([]*option, action) {
	name := "KILL"
	return []*option{text(&name, "signal,s", "SIGNAL", "signal to send").def("KILL")}, func(_ context.Context, args []string) error {
		sig, err := parseSignal(cmp.Or(name, "KILL"))
		if err != nil {
			return err
		}
		return s.allContainers(args, func(c *run.Container) error { return c.Kill(sig) })
	}
}

// parseSignal reads the signal of a command other than run and create: a bad one is no mistake in the words typed to
// Docker, whose daemon reads it, so the status is 1.
func parseSignal(name string) (syscall.Signal, error) {
	sig, err := run.ParseSignal(name)
	if err != nil {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return 0, fmt.Errorf("Invalid signal: %s", name)
	}
	return sig, nil
}
