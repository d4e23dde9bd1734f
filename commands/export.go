package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

func exportCommand(s *session) ([]*option, action) {
	var output string
	flags := []*option{text(&output, "output,o", "FILE", "write to FILE, not to standard output")}
	return flags, func(ctx context.Context, args []string) error {
		if output == "" && term.IsTerminal(int(s.out.Fd())) {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		c, err := s.container(args[0])
		if err != nil {
			return err
		}
		if output == "" {
			return c.Export(ctx, s.out)
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		err = exportTo(ctx, output, func(f *os.File) error { return c.Export(ctx, f) })
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("export: interrupted")}
		}
		return err
	}
}

// exportTo writes a tar to a file that gets its name once it is whole. A FIFO is waited for until somebody reads it, as cp(1)
// and a shell do, or ctx ends.
func exportTo(ctx context.Context, path string, write func(*os.File) error) error {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() { // a device, a FIFO
		f, err := during(ctx, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) })
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || !st.IsDir() {
		return fmt.Errorf("invalid output path: directory %q does not exist", filepath.Dir(path))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".hull-export-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
