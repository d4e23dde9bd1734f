package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// CopyOptions says how files are copied.
type CopyOptions struct {
	// Archive keeps owners. Without it what goes into a container belongs to its root, and what comes out to the caller.
	Archive bool
	// Follow copies what a link at the source path leads to, not the link.
	Follow bool
}

// CopyIn copies a file or directory of the host to a path in the container, which need not run, and gives how many bytes
// it was as a tar. The rules are those of docker cp: a source that ends in "/." stands for what is in it; a destination
// that is a directory gets the source as one of its files.
func (c *Container) CopyIn(ctx context.Context, source, target string, opt CopyOptions) (int64, error) {
	if _, err := os.Lstat(source); err != nil {
		return 0, err
	}
	root, done, err := c.view(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	from, to, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	count := &counter{w: to}
	packed := make(chan error, 1)
	go func() {
		tree := layers.TreeOptions{Name: treeName(source), Follow: opt.Follow, Skip: c.host.Root, Warn: func(line string) { c.host.warn("%s", line) }}
		err := layers.PackTree(ctx, count, nil, source, tree)
		to.Close()
		packed <- err
	}()
	placeErr := c.place(ctx, root, from, target, layers.PlaceOptions{Keep: opt.Archive})
	from.Close()
	if err := <-packed; err != nil && !(placeErr != nil && errors.Is(err, unix.EPIPE)) {
		return count.n, err
	}
	if placeErr == nil {
		c.note("copy")
	}
	return count.n, placeErr
}

// Extract unpacks a tar in a directory of the container. Owners are the tar's.
func (c *Container) Extract(ctx context.Context, tar *os.File, target string) error {
	root, done, err := c.view(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := c.place(ctx, root, tar, target, layers.PlaceOptions{Many: true, Keep: true}); err != nil {
		return err
	}
	c.note("copy")
	return nil
}

// place puts a tar into the container.
func (c *Container) place(ctx context.Context, root, tar *os.File, target string, opt layers.PlaceOptions) error {
	if _, id, err := c.imageAndIDs(); err == nil {
		opt.OneID = id.OneID
	}
	target = insidePath(target)
	work := &fileWork{Do: "place", Path: []byte(target), Place: opt, as: c.workAs()}
	err := c.host.files(ctx, work, root, tar)
	if errors.Is(err, unix.ENOENT) {
		return c.noFile(path.Dir(strings.TrimRight(target, "/")), err)
	}
	if err != nil {
		return fmt.Errorf("destination %q: %w", c.Name+":"+target, err)
	}
	return nil
}

// CopyOut copies a file or directory of the container to a path on the host, and gives how many bytes it was as a tar. What
// was set-uid, set-gid or a device in there is none outside, unless owners are kept.
func (c *Container) CopyOut(ctx context.Context, source, target string, opt CopyOptions) (int64, error) {
	root, done, err := c.view(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	count := &counter{}
	err = c.pack(source, opt, func(work *fileWork) error {
		return c.host.output(ctx, work, root, func(r io.Reader) error {
			count.r = r
			place := layers.PlaceOptions{Keep: opt.Archive, Warn: func(line string) { c.host.warn("%s", line) }}
			err := layers.Place(ctx, target, count, place)
			if errors.Is(err, unix.ENOENT) {
				return badTarget{filepath.Dir(strings.TrimRight(target, "/")), unix.ENOENT}
			}
			if err != nil {
				return badTarget{target, err}
			}
			return nil
		})
	})
	return count.n, err
}

// badTarget is a destination on the host that will not do.
type badTarget struct {
	path string
	err  error
}

func (e badTarget) Error() string {
	if e.err == unix.ENOENT {
		return fmt.Sprintf("invalid output path: directory %q does not exist", e.path)
	}
	return fmt.Sprintf("invalid output path: %q: %v", e.path, e.err)
}

// Archive writes a file or directory of the container as a tar.
func (c *Container) Archive(ctx context.Context, source string, tar *os.File, opt CopyOptions) error {
	root, done, err := c.view(ctx)
	if err != nil {
		return err
	}
	defer done()
	return c.pack(source, opt, func(work *fileWork) error { return c.host.files(ctx, work, root, tar) })
}

// pack describes the packing of a path in the container, and has it done.
func (c *Container) pack(source string, opt CopyOptions, do func(*fileWork) error) error {
	source = insidePath(source)
	err := do(&fileWork{Do: "pack", Path: []byte(source), Name: []byte(treeName(source)), Tree: layers.TreeOptions{Follow: opt.Follow}, as: c.workAs()})
	if errors.As(err, new(badTarget)) {
		return err
	}
	if errors.Is(err, unix.ENOENT) {
		return c.noFile(source, err)
	}
	if err != nil {
		return fmt.Errorf("copy %s:%s: %w", c.Name, source, err)
	}
	c.note("copy")
	return nil
}

// workAs are the ids that work on the files of a running container has to be done with, nil for those that it is done with
// anyway.
func (c *Container) workAs() *Identity {
	if c.IDs == nil || !c.Status.Alive() {
		return nil
	}
	id := c.IDs.identity()
	return &id
}

// noFile says in Docker's words that something is missing in the container.
func (c *Container) noFile(path string, err error) error {
	//lint:ignore ST1005 Docker's words, which scripts look for
	return fmt.Errorf("Could not find the file %s in container %s%w", path, c.Name, errHidden{err})
}

// insidePath makes a path in a container absolute and clean, but leaves it the end that says something of a directory.
func insidePath(p string) string {
	clean := path.Clean("/" + p)
	switch {
	case clean == "/":
	case strings.HasSuffix(p, "/.") || p == ".":
		return clean + "/."
	case strings.HasSuffix(p, "/"):
		return clean + "/"
	}
	return clean
}

// treeName is what a copied tree is called: the last name of its path, or "." if only what is in it is meant.
func treeName(path string) string {
	if path == "." || strings.HasSuffix(path, "/.") || strings.Trim(path, "/") == "" {
		return "."
	}
	return filepath.Base(path)
}

// counter counts the bytes that pass.
type counter struct {
	r io.Reader
	w io.Writer
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
