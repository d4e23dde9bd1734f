package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/run"
)

func importCommand(s *session) ([]*option, action) {
	wish := run.ImportConfig{Platform: os.Getenv("DOCKER_DEFAULT_PLATFORM")}
	flags := []*option{
		list(&wish.Changes, "change,c", "INSTRUCTION", "apply a line as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER, VOLUME, WORKDIR"),
		text(&wish.Message, "message,m", "TEXT", "a line for the image's history"),
		text(&wish.Platform, "platform", "OS[/ARCH[/VARIANT]]", "what the files are made for"),
		hide(toggle(new(bool), "quiet,q", "")),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		if len(args) == 2 {
			wish.Ref = args[1]
		}
		if wish.Message == "" {
			wish.Message = "Imported from " + args[0]
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		source, err := s.importSource(ctx, h, args[0])
		if err != nil {
			return err
		}
		defer source.Close()
		img, err := h.Import(ctx, source, wish)
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: fmt.Errorf("import %q: interrupted", args[0])}
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, img.ID)
		return nil
	}
}

// importSource opens a file, "-" for standard input, or an address.
func (s *session) importSource(ctx context.Context, h *run.Host, from string) (io.ReadCloser, error) {
	switch {
	case from == "-" && term.IsTerminal(int(s.in.Fd())):
		return nil, errors.New("cannot import from a terminal: redirect standard input")
	case from == "-":
		return io.NopCloser(s.in), nil
	case !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://"):
		return given.Open(from)
	}
	client, err := h.Client()
	if err != nil {
		return nil, err
	}
	return client.Get(ctx, from)
}
