package commands

import (
	"context"
	"errors"
	"os"

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
