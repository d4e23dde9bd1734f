package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/run"
)

func cacheExportCommand(s *session) ([]*option, action) {
	var most int64
	flags := []*option{opt("max", "SIZE", "make FILE no larger, and leave out what was not used for the longest time", func(size string) (err error) {
		most, err = parseFileSize(size)
		return err
	})}
	return flags, func(ctx context.Context, args []string) error {
		images, file := args[:len(args)-1], args[len(args)-1]
		if file == "-" && term.IsTerminal(int(s.out.Fd())) {
			return errors.New("cowardly refusing to save to a terminal. Name a file or redirect")
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		cache, err := h.ChooseCache(images, most)
		if err != nil {
			return err
		}
		for _, why := range cache.Left {
			s.warn("left out: %s", why)
		}
		if err = s.exportCache(ctx, cache, file); err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("cache export: interrupted")}
		}
		return err
	}
}

// exportCache writes the file, unless it is there already: who keeps files by their time or their checksum is not to
// believe that this one changed.
func (s *session) exportCache(ctx context.Context, cache *run.Cache, file string) error {
	write := func(w io.Writer) error { return cache.Write(ctx, w) }
	if file == "-" {
		return write(s.out)
	}
	same, err := holds(file, write)
	if err != nil {
		return err
	}
	word := "Unchanged"
	if !same {
		word = "Exported"
		if err := exportTo(ctx, file, func(f *os.File) error { return write(f) }); err != nil {
			return err
		}
	}
	for _, name := range cache.Images {
		fmt.Fprintf(s.out, "%s: %s\n", word, familiar(name))
	}
	return nil
}

// parseFileSize reads "2GB" (powers of 1000) or "2GiB" (of 1024).
func parseFileSize(size string) (int64, error) {
	parse := units.FromHumanSize
	if strings.ContainsAny(size, "iI") {
		parse = units.RAMInBytes
	}
	n, err := parse(size)
	if err != nil || n <= 0 {
		return 0, errValue{size, `want a size such as "2GB" or "500MiB"`}
	}
	return n, nil
}

// holds says whether a file has exactly what write writes.
func holds(path string, write func(io.Writer) error) (bool, error) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false, nil // whoever writes it will say what is wrong
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = write(&comparer{with: f})
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := f.Read(make([]byte, 1))
	return n == 0 && err == io.EOF, nil
}

var errDiffers = errors.New("the file is another")

// comparer is a writer that fails when it is given anything else than what comes next in a file.
type comparer struct {
	with io.Reader
	buf  []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	n, err := io.ReadFull(c.with, c.buf[:len(p)])
	if err == io.EOF || err == io.ErrUnexpectedEOF || !bytes.Equal(c.buf[:n], p[:n]) {
		return 0, errDiffers
	}
	return n, err
}

func cacheImportCommand(s *session) ([]*option, action) {
	var quiet bool
	flags := []*option{toggle(&quiet, "quiet,q", "show no progress")}
	return flags, func(ctx context.Context, args []string) (err error) {
		archive := s.in
		if args[0] != "-" {
			if archive, err = given.Open(args[0]); err != nil {
				return err
			}
		} else if term.IsTerminal(int(s.in.Fd())) {
			return errors.New("cannot import from a terminal: redirect standard input")
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		f, done := fetching(s.out, quiet || !term.IsTerminal(int(s.out.Fd())), nil)
		added, err := h.ImportCache(ctx, archive, f)
		done()
		for _, img := range added {
			name := img.ID
			if img.Name != "" {
				name = familiar(img.Name)
			}
			fmt.Fprintf(s.out, "Imported: %s\n", name)
		}
		if err != nil && ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("cache import: interrupted")}
		}
		return err
	}
}
