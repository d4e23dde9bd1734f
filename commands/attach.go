package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/hullrun/hull/run"
)

func attachCommand(s *session) ([]*option, action) {
	var noStdin bool
	var keys string
	proxy := true
	flags := []*option{
		toggle(&noStdin, "no-stdin", "do not connect standard input"),
		text(&keys, "detach-keys", "KEYS", "keys that leave it running").def("ctrl-p,ctrl-q"),
		toggle(&proxy, "sig-proxy", "pass signals on to the command").def("true"),
	}
	return flags, func(ctx context.Context, args []string) error {
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		o, err := s.attachOptions(c, !noStdin, keys)
		if err != nil {
			return err
		}
		if o.Stdin && s.noTerminal(&c.Config.Process) {
			return errNoTerminal()
		}
		o.NoSigProxy = !proxy
		return s.finished(c.Attach(ctx, s.streams(), o))(c)
	}
}

// attachOptions connect the outputs, and the input where the container keeps one open.
func (s *session) attachOptions(c *run.Container, stdin bool, keys string) (run.AttachOptions, error) {
	leave, err := s.detachKeys(c, keys)
	return run.AttachOptions{Stdin: stdin && c.Config.Process.Interactive, Stdout: true, Stderr: true, DetachKeys: leave}, err
}

func (s *session) streams() run.IO { return run.IO{In: s.in, Out: s.out, Err: s.err} }

// finished turns the end of an attached container into hull's: its exit status, and a word if something ended it.
func (s *session) finished(res run.Result, err error) func(*run.Container) error {
	return func(c *run.Container) error { return s.ended(res, err, c, c.Config.Lifetime.Timeout) }
}

// ended is finished for a program with a time limit of its own.
func (s *session) ended(res run.Result, err error, c *run.Container, limit time.Duration) error {
	if err == nil && res.Used != nil {
		defer func() { fmt.Fprintln(s.err, "hull: sandbox:", res.Used.Line(res)) }()
	}
	switch {
	case errors.Is(err, run.ErrDetached):
		fmt.Fprint(s.err, "\nread escape sequence\n") // Docker's words, on a line of their own
		return nil
	case err != nil:
		return err
	case res.TimedOut:
		s.warn("the time limit of %s is up: the command was ended", limit)
	case res.OOMKilled:
		s.warn("the container ran out of memory (limit %s): a process in it was killed", units.BytesSize(float64(memoryLimit(&c.Config))))
	}
	if res.Code != 0 {
		return &ExitError{Code: res.Code}
	}
	return nil
}
