package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
	"golang.org/x/term"
)

// newWishes is a run.Config with nothing wished for yet, and the folders that relative paths count from.
func newWishes() *wishes {
	// Without either a path that needs it is an error of its own, which names it.
	cwd, _ := os.Getwd()
	home, _ := os.UserHomeDir()
	w := &wishes{cwd: cwd, home: home}
	w.Host.Proxies = true
	return w
}

// wish turns the flags and words of run into a checked Config, and looks at what of the caller's world they need: a file
// that must not exist. An error carries Docker's exit status and where to read on.
func (s *session) wish(w *wishes, args []string) (*run.Config, error) {
	c, err := w.config(args)
	for _, line := range w.warnings {
		s.warn("%s", line)
	}
	if err == nil {
		err = checkFresh(c.Lifetime.CIDFile)
	}
	if err != nil {
		return nil, runFailure(err)
	}
	return c, nil
}

// errNoTerminal is for -i and -t together without a terminal, in the words of Docker 29 and 28.
func errNoTerminal() error {
	return &ExitError{Code: exitFailed, Err: errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal: the input device is not a TTY")}
}

// noTerminal says whether a program would get a terminal whose keyboard is none of the caller's: the end of whatever else
// is there would end its shell.
func (s *session) noTerminal(p *run.ProcessConfig) bool {
	return p.TTY && p.Interactive && !term.IsTerminal(int(s.in.Fd()))
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
	return append(w.runFlags(), s.sourceFlags()...), func(ctx context.Context, args []string) error {
		c, err := s.wish(w, args)
		if err != nil {
			return err
		}
		if !w.detach && s.noTerminal(&c.Process) {
			return errNoTerminal()
		}
		h, err := s.host()
		if err != nil {
			return runFailure(err)
		}
		made, err := s.newContainer(ctx, h, c)
		if err != nil {
			return runFailure(err)
		}
		if w.detach {
			return s.detach(ctx, made)
		}
		return s.stay(ctx, made)
	}
}

// newContainer makes a container, and fetches its image if need be.
func (s *session) newContainer(ctx context.Context, h *run.Host, c *run.Config) (*run.Container, error) {
	f, done := fetching(s.err, c.Quiet, func(ref registry.Reference) {
		if c.Pull != run.PullAlways {
			fmt.Fprintf(s.err, "Unable to find image '%s' locally\n", withTag(ref))
		}
		fmt.Fprintln(s.err, pullingFrom(ref))
	})
	defer done()
	return s.createContainer(ctx, h, *c, f)
}

// detach starts a container and leaves it to itself. The ID is printed even if it does not start, as Docker does: it is
// there, unless it was to remove itself.
func (s *session) detach(ctx context.Context, c *run.Container) error {
	err := c.Start(ctx)
	fmt.Fprintln(s.out, c.ID)
	if err != nil {
		return runFailure(err)
	}
	return nil
}

// stay runs a container to its end, whose exit status becomes hull's. One that the user may leave, that is started again
// when it ends, or whose output is to be kept has a monitor from the beginning.
func (s *session) stay(ctx context.Context, c *run.Container) error {
	var res run.Result
	var err error
	p := &c.Config.Process
	log := c.Config.Log.Driver != "" && c.Config.Log.Driver != run.LogNone || len(c.Config.Log.Options) > 0
	if p.TTY && p.Interactive && len(p.Attach) == 0 || c.Config.Lifetime.Restart.Name != "" || log {
		o, e := s.attachOptions(c, p.Interactive, "")
		if e != nil {
			return runFailure(e)
		}
		o.NoSigProxy = c.Config.Lifetime.NoSigProxy
		res, err = c.RunDetachable(ctx, s.streams(), o)
	} else {
		res, err = c.Run(ctx, s.streams())
	}
	if err != nil && !errors.Is(err, run.ErrDetached) {
		return runFailure(err)
	}
	return s.finished(res, err)(c)
}

// createContainer makes the container. A pull on the way can be interrupted.
func (s *session) createContainer(ctx context.Context, h *run.Host, c run.Config, f run.Fetch) (*run.Container, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	heard := func() {}
	defer func() { heard() }()
	begin := f.Begin
	f.Begin = func(ref registry.Reference) { // not before: to listen costs 0.3 ms
		var pull context.Context
		pull, heard = interruptible(ctx)
		context.AfterFunc(pull, stop)
		if begin != nil {
			begin(ref)
		}
	}
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
