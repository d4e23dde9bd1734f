package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/hullrun/hull/run"
)

func cpCommand(s *session) ([]*option, action) {
	var opt run.CopyOptions
	var quiet bool
	flags := []*option{
		toggle(&opt.Archive, "archive,a", "keep owners"),
		toggle(&opt.Follow, "follow-link,L", "copy what a link at SRC leads to, not the link"),
		toggle(&quiet, "quiet,q", "do not say how much was copied (which is said on a terminal only)"),
	}
	return flags, func(ctx context.Context, args []string) error {
		quiet = quiet || !term.IsTerminal(int(s.out.Fd()))
		from, source := splitContainerPath(args[0])
		to, target := splitContainerPath(args[1])
		switch {
		case source == "":
			return errors.New("source can not be empty")
		case target == "":
			return errors.New("destination can not be empty")
		case from != "" && to != "":
			return errors.New("copying between containers is not supported")
		case from == "" && to == "":
			return errors.New("must specify at least one container source")
		}
		c, err := s.container(from + to)
		if err != nil {
			return err
		}
		var size int64
		switch {
		case from != "" && target == "-":
			return c.Archive(ctx, source, s.out, opt)
		case to != "" && source == "-":
			return c.Extract(ctx, s.in, target)
		case from != "":
			size, err = c.CopyOut(ctx, source, absolute(target), opt)
		default:
			size, err = c.CopyIn(ctx, absolute(source), target, opt)
		}
		if err == nil && !quiet {
			fmt.Fprintf(s.err, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(size), 3), args[1])
		}
		return err
	}
}

// splitContainerPath takes CONTAINER:PATH apart. A path of the host that holds a colon begins with / or a dot.
func splitContainerPath(arg string) (container, path string) {
	container, path, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	return container, path
}

// absolute is the path of a file on the host, whose end still says whether it is meant to be a directory, or what is in one.
func absolute(path string) string {
	abs, err := filepath.Abs(path)
	switch {
	case err != nil:
		return path
	case abs == "/":
	case path == "." || strings.HasSuffix(path, "/."):
		abs += "/."
	case strings.HasSuffix(path, "/"):
		abs += "/"
	}
	return abs
}
