package commands

import (
	"context"
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/hullrun/hull/internal/given"
)

func volumeExportCommand(s *session) ([]*option, action) {
	var output string
	flags := []*option{text(&output, "output,o", "FILE", "write to FILE, not to standard output")}
	return flags, func(ctx context.Context, args []string) error {
		if output == "" && term.IsTerminal(int(s.out.Fd())) {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		if _, err := h.Volume(args[0]); err != nil {
			return err
		}
		if output == "" {
			return h.ExportVolume(ctx, args[0], s.out)
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		err = exportTo(ctx, output, func(f *os.File) error { return h.ExportVolume(ctx, args[0], f) })
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("volume export: interrupted")}
		}
		return err
	}
}

func volumeImportCommand(s *session) ([]*option, action) {
	return nil, func(ctx context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		tar := s.in
		if len(args) > 1 && args[1] != "-" {
			if tar, err = given.Open(args[1]); err != nil {
				return err
			}
			defer tar.Close()
		}
		return h.ImportVolume(ctx, args[0], tar)
	}
}
