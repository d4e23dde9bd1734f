package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stack is what a container's root file system is made of. It is read without being mounted, and may be in use meanwhile.
type Stack struct {
	// Dirs are directories, topmost first: the container's upper directory, then its image's layers.
	Dirs []string
	// Owners names for each of Dirs the file that says what the disk could not take (see [Owner]), or "".
	Owners []string
	// OneID says that the container's programs have a single id and can give nothing away, so that a file of the
	// image which they changed still belongs to whom the image says.
	OneID bool
	// Newest, if it is not zero, is the time that no changed file is said to be younger than: a layer is then the same
	// whenever it was made.
	Newest time.Time `json:",omitzero"`
}

// Stack puts a container's upper directory on top of an image.
func (s *Store) Stack(upper string, img *Image) Stack {
	stack := Stack{Dirs: []string{upper}, Owners: []string{""}}
	for _, number := range lowerDirs(img.Layers) {
		stack.Dirs = append(stack.Dirs, s.LayerDir(number))
		stack.Owners = append(stack.Owners, s.path("layers", number+".owners"))
	}
	return stack
}

// Change is one path where a container differs from its image.
type Change struct {
	Kind string // "A" for added, "C" for changed, "D" for deleted
	Path string // absolute
}

// Diff says what a container has changed, sorted by path, as Docker does: a directory is changed if its owner, mode or
// time is, or if something below it was added or deleted. Only what lies in the upper directory is looked at, and the
// same names below.
func Diff(stack Stack) ([]Change, error) {
	d := differ{found: make(map[string]string)}
	err := walkUpper(stack.Dirs, func(e *upperEntry) error { return d.entry(e) })
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	changes := make([]Change, 0, len(d.found))
	for path, kind := range d.found {
		changes = append(changes, Change{kind, "/" + path})
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, nil
}

// differ collects changes by path.
type differ struct{ found map[string]string }

func (d *differ) entry(e *upperEntry) error {
	switch {
	case e.path == "":
		return nil
	case e.whiteout:
		d.set(e.path, "D")
	case e.below == nil:
		d.set(e.path, "A")
	case e.isDir() && e.below.kind == unix.S_IFDIR && !e.hides && e.sameAsBelow():
	default:
		d.found[e.path] = "C"
	}
	if !e.hides || e.below == nil || e.below.kind != unix.S_IFDIR {
		return nil
	}
	// It was deleted and made anew: what is not in it any more is deleted.
	names, err := shown(e.below.self)
	for _, name := range names {
		if _, err := statAt(e.self.fd, name); errors.Is(err, fs.ErrNotExist) {
			d.set(join(e.path, name), "D")
		}
	}
	return err
}

// set notes something added or deleted, which changes all directories above.
func (d *differ) set(path, kind string) {
	d.found[path] = kind
	for dir, _ := split(path); dir != ""; dir, _ = split(dir) {
		if d.found[dir] == "" {
			d.found[dir] = "C"
		}
	}
}

// upperEntry is one file in an upper directory.
type upperEntry struct {
	path     string // relative to the root, "" for the root
	self     *held
	whiteout bool
	opaque   bool   // a directory that is marked to hide what is below
	hides    bool   // it does so: it is marked, or one above it
	below    *found // what it stands on or in place of, nil for nothing
}

func (e *upperEntry) isDir() bool { return e.self.kind() == unix.S_IFDIR }

// belowStat looks at what is below.
func (e *upperEntry) belowStat() (*unix.Stat_t, error) {
	if e.below == nil {
		return nil, unix.ENOENT
	}
	if e.below.self != nil {
		return statAt(e.below.self[0].fd, ".")
	}
	return statAt(e.below.fd, e.below.name)
}

// belowLayer is the layer that it comes from.
func (e *upperEntry) belowLayer() int {
	if e.below.self != nil {
		return e.below.self[0].layer
	}
	return e.below.layer
}

// sameAsBelow says whether a directory has the owner, mode and time of the one below.
func (e *upperEntry) sameAsBelow() bool {
	b, err := e.belowStat()
	return err == nil && b.Mode == e.self.Mode && b.Uid == e.self.Uid && b.Gid == e.self.Gid && b.Mtim == e.self.Mtim
}

// shown lists what a merged directory shows.
func shown(dir merged) ([]string, error) {
	first, err := mergedNames(dir)
	var names []string
	for name := range first {
		o := lookup{}
		if _, err := o.step(dir, name); err == nil {
			names = append(names, name)
		}
		o.close()
	}
	return names, err
}

// mergedNames lists all names of a merged directory, whiteouts too, each with the number of the topmost place that has it.
func mergedNames(dir merged) (map[string]int, error) {
	first := make(map[string]int)
	for i, p := range dir {
		names, err := readNames(p.fd)
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: "directory", Err: err}
		}
		for _, name := range names {
			if _, seen := first[name]; !seen {
				first[name] = i
			}
		}
	}
	return first, nil
}

// walkUpper shows all that lies in the topmost of dirs, a directory before what is in it, in the order of names. The root
// comes first, with "" for its path. fs.SkipDir leaves a directory out.
func walkUpper(dirs []string, visit func(*upperEntry) error) error {
	o := lookup{}
	defer o.close()
	root, err := o.root(dirs)
	if err != nil {
		return err
	}
	self, err := hold(root[0].fd, ".")
	if err != nil {
		return &os.PathError{Op: "open", Path: dirs[0], Err: err}
	}
	defer self.close()
	e := upperEntry{self: self}
	if len(root) > 1 {
		e.below = &found{place: nowhere, kind: unix.S_IFDIR, self: root[1:]}
	}
	if err := visit(&e); err != nil {
		return err
	}
	return walkUpperDir(root, &e, visit)
}

// walkUpperDir does so for what is in a directory, whose first place is the upper one.
func walkUpperDir(dir merged, at *upperEntry, visit func(*upperEntry) error) error {
	names, err := readNames(dir[0].fd)
	if err != nil {
		return &os.PathError{Op: "read", Path: "/" + at.path, Err: err}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := walkUpperName(dir, name, at, visit); err != nil {
			return err
		}
	}
	return nil
}

func walkUpperName(dir merged, name string, in *upperEntry, visit func(*upperEntry) error) error {
	path := join(in.path, name)
	self, err := hold(dir[0].fd, name)
	if err == unix.ENOENT {
		return nil // gone meanwhile
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: "/" + path, Err: err}
	}
	defer self.close()
	o := lookup{}
	defer o.close()
	e := upperEntry{path: path, self: self}
	if e.whiteout = isWhiteout(dir[0].fd, name, &self.Stat_t); e.whiteout {
		return leaf(visit(&e))
	}
	below, err := o.step(dir[1:], name)
	if err == nil {
		e.below = &below
	} else if !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "open", Path: "/" + path, Err: err}
	}
	if !e.isDir() {
		return leaf(visit(&e))
	}
	e.opaque = self.xattrIs("trusted."+overlayOpaque, "y") || self.xattrIs("user."+overlayOpaque, "y")
	e.hides = e.opaque || in.hides
	if err := visit(&e); err == fs.SkipDir {
		return nil
	} else if err != nil {
		return err
	}
	sub := merged{{self.fd, 0}}
	if e.below != nil {
		sub = append(sub, e.below.self...)
	}
	return walkUpperDir(sub, &e, visit)
}

// leaf drops the wish to leave out what is in something that is no directory.
func leaf(err error) error {
	if err == fs.SkipDir {
		return nil
	}
	return err
}

// PackChanges writes what a container has changed as the tar of a layer, with whiteouts as layers have them
// ([OCI image specification], layer.md). It is the tar of nothing if nothing was changed.
//
// [OCI image specification]: https://github.com/opencontainers/image-spec/blob/main/layer.md
func PackChanges(ctx context.Context, w io.Writer, stack Stack, warn func(string)) error {
	owners, err := stack.owners()
	if err != nil {
		return err
	}
	c := changePacking{packing: newPacking(ctx, w, warn), owners: owners, oneID: stack.OneID}
	c.coarse, c.newest = true, stack.Newest
	if err := walkUpper(stack.Dirs, c.entry); err != nil {
		return fmt.Errorf("pack changes: %w", err)
	}
	return errors.Join(c.finish(), c.failed)
}

// changePacking is a layer that is being written.
type changePacking struct {
	*packing
	owners []map[string]Owner
	oneID  bool
	root   func() error // writes the entry of the root, before the first other
}

func (c *changePacking) entry(e *upperEntry) error {
	if e.path == "" {
		// Every change in it changes the root's time, which alone is not worth an entry.
		c.root = func() error { return c.file(e.self, ".", c.correction(e)) }
		if below, err := e.belowStat(); err != nil || below.Mode != e.self.Mode || below.Uid != e.self.Uid || below.Gid != e.self.Gid {
			return c.rootFirst()
		}
		return nil
	}
	dir, name := split(e.path)
	if strings.HasPrefix(name, whiteoutPrefix) {
		c.warn(fmt.Sprintf("/%s: in a layer such a name means that a file was deleted: left out", e.path))
		return fs.SkipDir
	}
	if err := c.rootFirst(); err != nil {
		return err
	}
	if e.whiteout {
		return c.mark(join(dir, whiteoutPrefix+name))
	}
	if err := c.file(e.self, e.path, c.correction(e)); err != nil {
		return err
	}
	if e.opaque && e.below != nil {
		return c.mark(join(e.path, opaqueName))
	}
	return nil
}

// rootFirst writes the root's entry once.
func (c *changePacking) rootFirst() error {
	if c.root == nil {
		return nil
	}
	write := c.root
	c.root = nil
	return write()
}

// mark writes an empty file with a name that means something.
func (c *changePacking) mark(name string) error {
	return c.put(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Format: tar.FormatPAX})
}

func (c *changePacking) correction(e *upperEntry) func(*tar.Header) {
	if !c.oneID {
		return nil
	}
	return e.inherited(c.owners)
}
