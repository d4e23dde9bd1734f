package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// PackMerged writes all that a container's root file system holds as a tar, without what is mounted in it: names like
// "etc/passwd", no entry for the root. Owners are those that the image gives, as far as they are known, even where the disk
// could not take them.
func PackMerged(ctx context.Context, w io.Writer, stack Stack, warn func(string)) error {
	owners, err := stack.owners()
	if err != nil {
		return err
	}
	m := mergePacking{packing: newPacking(ctx, w, warn), owners: owners, oneID: stack.OneID}
	m.coarse = true
	o := lookup{}
	defer o.close()
	root, err := o.root(stack.Dirs)
	if err == nil {
		err = m.dir(root, "")
	}
	if err != nil {
		return fmt.Errorf("pack file system: %w", err)
	}
	return errors.Join(m.finish(), m.failed)
}

// mergePacking is the tar of a whole stack.
type mergePacking struct {
	*packing
	owners []map[string]Owner
	oneID  bool
}

// dir packs what is in a merged directory.
func (m *mergePacking) dir(dir merged, path string) error {
	first, err := mergedNames(dir)
	if err != nil {
		return &os.PathError{Op: "read", Path: "/" + path, Err: err}
	}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if err := m.name(dir[first[name]:], name, join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// name packs one file with what is in it. The topmost place of dir has it.
func (m *mergePacking) name(dir merged, name, path string) error {
	o := lookup{}
	defer o.close()
	e, err := o.step(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a whiteout, or gone meanwhile
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: "/" + path, Err: err}
	}
	f, err := hold(e.fd, e.name)
	if err != nil || f.kind() != e.kind {
		return nil // gone, or something else meanwhile
	}
	defer f.close()
	if err := m.file(f, path, m.correction(f, &e, dir, path)); err != nil || e.kind != unix.S_IFDIR {
		return err
	}
	return m.dir(e.self, path)
}

// correction gives a file the owner that its layer has noted, or if it has been changed, the layer that it was taken from.
func (m *mergePacking) correction(f *held, e *found, dir merged, path string) func(*tar.Header) {
	if e.layer > 0 {
		if o, ok := m.owners[e.layer][path]; ok {
			return o.onto
		}
		return nil
	}
	if !m.oneID {
		return nil
	}
	o := lookup{}
	defer o.close()
	u := upperEntry{path: path, self: f}
	if below, err := o.step(dir[1:], e.name); err == nil {
		u.below = &below
	}
	return u.inherited(m.owners)
}

// owners reads all files of owners.
func (s *Stack) owners() ([]map[string]Owner, error) {
	all := make([]map[string]Owner, len(s.Dirs))
	for i, file := range s.Owners {
		if file == "" {
			continue
		}
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[i], err = ReadOwners(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%q: %w", file, err)
		}
	}
	return all, nil
}

// onto changes what a tar says of a file that is as the layer has it.
func (o Owner) onto(h *tar.Header) {
	h.Uid, h.Gid, h.Mode = o.UID, o.GID, int64(o.Mode&0o7777)
	o.device(h)
	setXattrs(h, o.Xattrs)
}

// device makes an entry for an empty file one for the device that it stands for.
func (o Owner) device(h *tar.Header) {
	switch o.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	default:
		return
	}
	h.Size, h.Devmajor, h.Devminor = 0, int64(o.Major), int64(o.Minor)
}

// inherited is what a changed file keeps of its owner where programs have one id: they see chown(2) succeed, but there is
// nothing on the disk, so what the image says still holds. That a file was put in the place of another is not known, and
// most programs that do so mean it to have the same owner.
func (e *upperEntry) inherited(owners []map[string]Owner) func(*tar.Header) {
	if e.below == nil {
		return nil
	}
	o, ok := owners[e.belowLayer()][e.path]
	b, err := e.belowStat()
	if !ok || err != nil || b.Mode&unix.S_IFMT != e.self.kind() {
		return nil
	}
	return func(h *tar.Header) {
		h.Uid, h.Gid = o.UID, o.GID
		if b.Mode == e.self.Mode { // perhaps wider than the image's, so that its one owner could read it
			h.Mode = int64(o.Mode & 0o7777)
		}
		if e.self.Size == 0 {
			o.device(h)
		}
		if b.Size == e.self.Size && b.Mtim == e.self.Mtim { // who writes to a file loses its capabilities
			setXattrs(h, o.Xattrs)
		}
	}
}
