package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/run"
)

func startCommand(s *session) ([]*option, action) {
	var attach, interactive bool
	var keys string
	flags := []*option{
		toggle(&attach, "attach,a", "show its output, pass signals on and return its exit status"),
		toggle(&interactive, "interactive,i", "connect standard input"),
		text(&keys, "detach-keys", "KEYS", "keys that leave it running").def("ctrl-p,ctrl-q"),
	}
	flags = append(flags, later("checkpoints need a program that hull does not have", "checkpoint", "checkpoint-dir")...)
	return flags, func(ctx context.Context, args []string) error {
		if !attach && !interactive {
			return s.eachContainer(args, func(c *run.Container) error { return notRun(c.Start(ctx)) })
		}
		if len(args) > 1 {
			return errors.New("start: you cannot start and attach multiple containers at once")
		}
		return s.startAttached(ctx, args[0], interactive, keys)
	}
}

// startAttached starts a container and stays with it, as run does. One that runs already is attached to.
func (s *session) startAttached(ctx context.Context, name string, interactive bool, keys string) error {
	c, err := s.container(name)
	if err != nil {
		return err
	}
	o, err := s.attachOptions(c, interactive, keys)
	if err != nil {
		return err
	}
	if c.Status.Alive() {
		return s.finished(c.Attach(ctx, s.streams(), o))(c)
	}
	res, err := c.RunDetachable(ctx, s.streams(), o)
	return s.finished(res, notRun(err))(c)
}

// notRun gives an error the status of every verb but run: 1, even if it was the program that could not be started.
func notRun(err error) error {
	if err == nil || errors.Is(err, run.ErrDetached) {
		return err
	}
	return &ExitError{Code: exitFailed, Err: err}
}

// container finds the one container that a verb is about.
func (s *session) container(name string) (*run.Container, error) {
	h, err := s.host()
	if err != nil {
		return nil, err
	}
	return h.Find(name)
}

// eachContainer does something with every container named, and prints the names with which it went well, as they were
// typed.
func (s *session) eachContainer(names []string, do func(*run.Container) error) error {
	h, err := s.host()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		c, err := h.Find(name)
		if err == nil {
			err = do(c)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(s.out, name)
	}
	return errors.Join(failed...)
}
