package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hullrun/hull/run"
)

// stopVerb makes stop or restart, which have the same flags.
func (s *session) stopVerb(do func(context.Context, *run.Container, run.StopOptions) error) ([]*option, action) {
	var o run.StopOptions
	var name string
	flags := []*option{
		opt("timeout,time,t", "SECONDS", "grace before it is killed, -1 for ever", ref(&o.Timeout, parseInt)).def("the container's, or 10"),
		text(&name, "signal,s", "SIGNAL", "signal that asks it to end").def("the container's, or TERM"),
	}
	return flags, func(ctx context.Context, args []string) (err error) {
		if name != "" {
			if o.Signal, err = parseSignal(name); err != nil {
				return err
			}
		}
		return s.allContainers(args, func(c *run.Container) error { return do(ctx, c, o) })
	}
}

func stopCommand(s *session) ([]*option, action) {
	return s.stopVerb(func(ctx context.Context, c *run.Container, o run.StopOptions) error { return c.Stop(ctx, o) })
}

func restartCommand(s *session) ([]*option, action) {
	return s.stopVerb(func(ctx context.Context, c *run.Container, o run.StopOptions) error { return notRun(c.Restart(ctx, o)) })
}

// allContainers is eachContainer for what takes its time: with many at once. Names and errors come in the order typed.
func (s *session) allContainers(names []string, do func(*run.Container) error) error {
	h, err := s.host()
	if err != nil {
		return err
	}
	errs := atOnce(names, func(name string) error {
		c, err := h.Find(name)
		if err != nil {
			return err
		}
		return do(c)
	})
	for i, name := range names {
		if errs[i] == nil {
			fmt.Fprintln(s.out, name)
		}
	}
	return errors.Join(errs...)
}

// atOnce does something with all names, with as many at a time as waiting makes worthwhile.
func atOnce(names []string, do func(string) error) []error {
	errs := make([]error, len(names))
	places := make(chan struct{}, 64)
	var all sync.WaitGroup
	for i, name := range names {
		places <- struct{}{}
		all.Go(func() {
			errs[i] = do(name)
			<-places
		})
	}
	all.Wait()
	return errs
}
