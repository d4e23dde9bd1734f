package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
	"golang.org/x/term"
)

// newWishes is a run.Config with nothing wished for yet, and the folders that relative paths count from.
func newWishes() *wishes {
	// Without either a path that needs it is an error of its own, which names it.
	cwd, _ := os.Getwd()
	home, _ := os.UserHomeDir()
	return &wishes{cwd: cwd, home: home}
}

// wish turns the flags and words of run into a checked Config, and looks at what of the caller's world they need: a
// terminal, a file that must not exist. An error carries Docker's exit status and where to read on.
func (s *session) wish(w *wishes, args []string) (*run.Config, error) {
	c, err := w.config(args)
	for _, line := range w.warnings {
		s.warn("%s", line)
	}
	if err == nil {
		err = checkFresh(c.Lifetime.CIDFile)
	}
	if err == nil && c.Process.TTY && c.Process.Interactive && !term.IsTerminal(int(s.in.Fd())) {
		// The words are those of Docker 29 and 28.
		return nil, &ExitError{Code: exitFailed, Err: errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal: the input device is not a TTY")}
	}
	if err != nil {
		return nil, runFailure(err)
	}
	return c, nil
}

// checkFresh refuses a --cidfile that exists: it may belong to a container that still runs.
func checkFresh(name string) error {
	if name == "" {
		return nil
	}
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("cidfile %q: container ID file found, make sure the other container isn't running or delete it", name)
	}
	return nil
}

// runFailure is err as run reports it: status 125 unless the error knows better (126, 127), and where to read on.
func runFailure(err error) error {
	return &ExitError{Code: codeOf(err, exitUsage), Err: err, Hint: readOn("run")}
}

func runCommand(s *session) ([]*option, action) {
	w := newWishes()
	return w.runFlags(), func(ctx context.Context, args []string) error {
		c, err := s.wish(w, args)
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return runFailure(err)
		}
		return s.runContainer(ctx, h, *c)
	}
}

// runContainer makes a container and stays with it to its end. Its exit status becomes hull's.
func (s *session) runContainer(ctx context.Context, h *run.Host, c run.Config) error {
	f, done := fetching(s.err, c.Quiet, func(ref registry.Reference) {
		if c.Pull != run.PullAlways {
			fmt.Fprintf(s.err, "Unable to find image '%s' locally\n", withTag(ref))
		}
		fmt.Fprintln(s.err, pullingFrom(ref))
	})
	made, err := s.createContainer(ctx, h, c, f)
	done()
	if err != nil {
		return runFailure(err)
	}
	res, err := made.Run(ctx, run.IO{In: s.in, Out: s.out, Err: s.err})
	if err != nil {
		return runFailure(err)
	}
	switch {
	case res.TimedOut:
		s.warn("the time limit of %s is up: the container was killed", c.Lifetime.Timeout)
	case res.OOMKilled:
		s.warn("the container ran out of memory (limit %s): a process in it was killed", units.BytesSize(float64(memoryLimit(&c))))
	}
	if res.Code != 0 {
		return &ExitError{Code: res.Code}
	}
	return nil
}

// createContainer makes the container. A pull on the way can be interrupted.
func (s *session) createContainer(ctx context.Context, h *run.Host, c run.Config, f run.Fetch) (*run.Container, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	return h.Create(ctx, c, f)
}

// withTag is a reference as Docker's message about a missing image spells it: the tag is always there.
func withTag(ref registry.Reference) string {
	if ref.Tag == "" || strings.HasSuffix(ref.Familiar(), ":"+ref.Tag) {
		return ref.Familiar()
	}
	return ref.Familiar() + ":" + ref.Tag
}

func memoryLimit(c *run.Config) int64 {
	if m := c.Limits.Resources.Memory; m != nil && m.Limit != nil {
		return *m.Limit
	}
	return 0
}
