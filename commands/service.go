package commands

import (
	"context"
	"fmt"

	"github.com/hullrun/hull/run"
)

func serviceCommand(s *session) ([]*option, action) {
	return nil, func(ctx context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.service(ctx, h, args[0])
	}
}

// service installs or removes the unit that starts containers at boot, or does what the unit does.
func (s *session) service(ctx context.Context, h *run.Host, what string) error {
	unit, err := h.Service()
	if err != nil {
		return err
	}
	var lines []string
	switch what {
	case "install":
		lines, err = unit.Install()
	case "remove":
		lines, err = unit.Remove()
	case "print":
		fmt.Fprint(s.out, unit.Unit())
		return nil
	case "start":
		lines, err = h.StartWanted(ctx)
	case "stop":
		lines, err = h.Shutdown()
	default:
		return fmt.Errorf("system service %q: want install, remove, print, start or stop", what)
	}
	for _, line := range lines {
		fmt.Fprintln(s.out, line)
	}
	return err
}
