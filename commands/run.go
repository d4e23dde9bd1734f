package commands

import (
	"errors"
	"fmt"
	"os"

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
