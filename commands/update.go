package commands

import (
	"context"
	"errors"
	"slices"

	"github.com/hullrun/hull/run"
)

func updateCommand(s *session) ([]*option, action) {
	w := newWishes()
	w.swappiness = -1
	var restart *run.RestartPolicy
	known := []string{"memory", "memory-swap", "memory-reservation", "cpus", "cpu-period", "cpu-quota", "cpu-shares",
		"cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight", "cpu-rt-period", "cpu-rt-runtime"}
	flags := slices.DeleteFunc(w.limitFlags(), func(o *option) bool { return !slices.Contains(known, o.name) })
	flags = append(flags, opt("restart", "POLICY", "when to start it again", ref(&restart, run.ParseRestart)))
	return flags, func(_ context.Context, args []string) error {
		if !slices.ContainsFunc(flags, (*option).IsSet) {
			return errors.New("you must provide one or more flags when using this command")
		}
		pids := w.pids
		if err := w.joinLimits(); err != nil {
			return err
		}
		u := run.Update{Resources: w.Limits.Resources, NanoCPUs: w.Limits.NanoCPUs, Restart: restart}
		if pids != nil { // also one that takes the limit away
			u.Resources.Pids = pidsLimit(*pids)
		}
		return s.eachContainer(args, func(c *run.Container) error { return c.Update(u) })
	}
}
