package commands

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
)

func saveCommand(s *session) ([]*option, action) {
	var output string
	docker := true
	flags := []*option{
		text(&output, "output,o", "FILE", "write to FILE, not to standard output"),
		opt("format", "FORMAT", "docker-archive, which is an OCI layout too, or oci-archive", func(format string) error {
			switch format {
			case "docker-archive", "oci-archive":
				docker = format == "docker-archive"
				return nil
			}
			return errValue{format, "want docker-archive or oci-archive"}
		}).def("docker-archive"),
		hide(toggle(new(bool), "quiet,q", "")),
		hide(opt("platform", "PLATFORM", "", func(string) error { return nil })), // an image here has one platform
	}
	return flags, func(ctx context.Context, args []string) error {
		if output == "" && term.IsTerminal(int(s.out.Fd())) {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		if output == "" {
			err = h.SaveImages(ctx, s.out, args, docker)
		} else {
			err = exportTo(ctx, output, func(f *os.File) error { return h.SaveImages(ctx, f, args, docker) })
		}
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("save: interrupted")}
		}
		return err
	}
}

func loadCommand(s *session) ([]*option, action) {
	var input string
	var quiet bool
	o := pullOptions{platform: os.Getenv("DOCKER_DEFAULT_PLATFORM")}
	flags := []*option{
		text(&input, "input,i", "FILE", "read FILE, not standard input; it may be compressed: gzip, zstd, bzip2, xz"),
		toggle(&quiet, "quiet,q", "show no progress"),
		text(&o.platform, "platform", "OS[/ARCH[/VARIANT]]", "choose among an image's platforms"),
	}
	return flags, func(ctx context.Context, _ []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		err := s.load(ctx, input, o.platform, quiet)
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("load: interrupted")}
		}
		return err
	}
}

// load adds the images of an archive, and says which.
func (s *session) load(ctx context.Context, input, platform string, quiet bool) error {
	archive := s.in
	if input != "" && input != "-" {
		var err error
		if archive, err = given.Open(input); err != nil {
			return err
		}
	} else if term.IsTerminal(int(s.in.Fd())) {
		return errors.New("requested load from stdin, but stdin is a terminal\nuse the -i flag or redirect")
	}
	h, err := s.host()
	if err != nil {
		return err
	}
	// Docker shows progress to people only, and scripts read what follows it.
	f, done := fetching(s.out, quiet || !term.IsTerminal(int(s.out.Fd())), nil)
	f.Platform = platform
	loaded, err := h.LoadImages(ctx, archive, f)
	done()
	for _, img := range loaded {
		if img.Name == "" {
			fmt.Fprintf(s.out, "Loaded image ID: %s\n", img.ID)
		} else {
			fmt.Fprintf(s.out, "Loaded image: %s\n", familiar(img.Name))
		}
	}
	return err
}

// familiar is a full image name as people type it.
func familiar(name string) string {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return name
	}
	return ref.Familiar()
}
