package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// UnpackOptions says how a layer is to lie on the disk.
type UnpackOptions struct {
	// OneID is for somebody who has one user id and no right to any other: every file belongs to the
	// caller, who can read it and enter every directory, and what the layer really says goes to Owners.
	OneID bool
	// Limits bounds the layer.
	Limits Limits
	// Owners gets a line for every entry that could not be put on the disk as the layer has it (see
	// [Owner]); nil drops them.
	Owners io.Writer
	// Lower names the layers beneath, topmost first. Only a hard link to a file of theirs needs them;
	// without them such a link is an error.
	Lower []string
}

// Unpacked says what a layer turned out to hold.
type Unpacked struct {
	Entries int   `json:"entries"`  // tar entries, whiteouts among them
	Size    int64 `json:"size"`     // sum of the regular files' lengths, in bytes
	Disk    int64 `json:"disk"`     // what the directory takes up on the disk, in bytes; 0 if nobody has looked
	AllRoot bool  `json:"all_root"` // everything belongs to 0:0, and there is no device
	// Both is true when the directory is the same with and without OneID.
	Both bool `json:"both"`
	// OpaqueRoot is true when the layer hides everything below it. Overlay has no mark for that, so whoever
	// mounts the layer must leave out those below.
	OpaqueRoot bool `json:"opaque_root,omitempty"`
}

// Unpack reads a layer's tar and puts its files into the directory dir, with the rights of the caller. The
// directory must exist and be empty, and must not be changed by anybody else meanwhile; nothing outside it is
// touched, whatever the tar says. The tar is read to its very end, what follows its last entry included, so that
// a hash over it is complete.
//
// Whiteouts take the form that overlay knows: a character device 0:0 for a deleted file (or, where that cannot
// be made, an empty file with the xattr that stands for one), and the xattr "opaque" on a directory that hides
// what is below it (for the root of the layer, see [Unpacked]). The xattr is trusted.overlay.* if the caller may set those, and user.overlay.* otherwise and
// always with OneID: the overlay must be mounted with "userxattr" then.
//
// An entry replaces an earlier one of the same path, except that a directory stays and only changes its
// attributes. Errors name the entry.
func Unpack(ctx context.Context, dir string, r io.Reader, opt UnpackOptions) (*Unpacked, error) {
	u, err := newUnpacking(dir, opt)
	if err != nil {
		return nil, err
	}
	defer u.tree.close()
	defer u.finish.close()
	if err := u.walk(ctx, r); err != nil {
		return nil, err
	}
	if err := u.finishFolders(); err != nil {
		return nil, err
	}
	if err := u.owners.flush(); err != nil {
		return nil, fmt.Errorf("write owners: %w", err)
	}
	u.out.Disk = DiskSpace(dir) // now, while the kernel knows it all, and by somebody who may look at it all
	return &u.out, nil
}

// unpacking is one run of Unpack.
type unpacking struct {
	opt      UnpackOptions
	limits   Limits
	tree     *tree
	tar      *tar.Reader
	out      Unpacked
	owners   ownersWriter
	finish   folderEnds
	buf      []byte
	umask    uint32 // permission bits that the process takes away from what it makes
	uid, gid int    // who files belong to unless chowned
	length   int64  // sum of lengths, against Limits.Size
	holes    int64  // of that, of sparse files, against Limits.Sparse
	implied  int    // folders that no entry named, against Limits.Entries
	marks    marks
}

// newUnpacking opens the directory.
func newUnpacking(dir string, opt UnpackOptions) (*unpacking, error) {
	t, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	u := &unpacking{
		opt: opt, limits: opt.Limits.withDefaults(), tree: t,
		out: Unpacked{AllRoot: true, Both: true},
		buf: make([]byte, 128<<10), umask: umask(), uid: os.Geteuid(), gid: os.Getegid(),
	}
	u.owners.to(opt.Owners)
	t.implied = u.impliedFolder
	// A default ACL that the store's own folder may have would be inherited by every file of the layer.
	_ = unix.Fremovexattr(t.root.fd, "system.posix_acl_default")
	return u, nil
}

// umask reads the process's umask without changing it, for other threads make files at the same time.
func umask() uint32 {
	const all = 0o777
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return all
	}
	_, rest, ok := strings.Cut(string(b), "\nUmask:\t")
	var mask uint32
	if _, err := fmt.Sscanf(rest, "%o", &mask); !ok || err != nil {
		return all
	}
	return mask
}

// walk takes one entry after the other, then reads what is left.
func (u *unpacking) walk(ctx context.Context, r io.Reader) error {
	u.tar = tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := u.tar.Next()
		if err == io.EOF {
			return u.drain(r)
		}
		if err != nil && !(errors.Is(err, tar.ErrInsecurePath) && h != nil) { // we look at paths ourselves
			return fmt.Errorf("read tar: %w", noEOF(err))
		}
		if u.out.Entries++; u.out.Entries > u.limits.Entries {
			return &LimitError{"Entries", int64(u.limits.Entries), "entries in a layer"}
		}
		if err := u.entry(ctx, h); err != nil {
			return entryError(h.Name, err)
		}
	}
}

// drain reads the rest of the tar: padding, usually.
func (u *unpacking) drain(r io.Reader) error {
	var n int64
	for {
		k, err := r.Read(u.buf)
		if n += int64(k); n > u.limits.Size {
			return &LimitError{"Size", u.limits.Size, "bytes in a layer"}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
	}
}

// noEOF is for a place where the end of input is an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// entry puts one entry in its place.
func (u *unpacking) entry(ctx context.Context, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes its commit so; it names no file
		return nil
	}
	p, err := u.limits.cleanName(h.Name)
	if err != nil {
		return err
	}
	if err := u.checkHeader(h); err != nil {
		return err
	}
	dir, name := split(p)
	if strings.HasPrefix(name, whiteoutPrefix) {
		return u.whiteout(dir, name)
	}
	m := u.meta(h)
	if p == "" {
		return u.rootEntry(m)
	}
	f, err := u.tree.folder(dir, true)
	if err != nil {
		return err
	}
	return u.make(ctx, f, name, p, m)
}

// checkHeader refuses what no file can have.
func (u *unpacking) checkHeader(h *tar.Header) error {
	const most = 1<<32 - 2 // 1<<32-1 is chown's "leave it"
	switch {
	case h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most:
		return fmt.Errorf("owner %d:%d: not an id", h.Uid, h.Gid)
	case h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20:
		return fmt.Errorf("device %d:%d: not a device number", h.Devmajor, h.Devminor)
	case len(h.Linkname) > u.limits.Path:
		return &LimitError{"Path", int64(u.limits.Path), "bytes in a link's target"}
	case h.Size < 0:
		return fmt.Errorf("length %d", h.Size)
	}
	if sparse(h) {
		if u.holes += h.Size; u.holes > u.limits.Sparse || u.holes < 0 {
			return &LimitError{"Sparse", u.limits.Sparse, "bytes in a layer's sparse files"}
		}
	}
	if u.length += h.Size; u.length > u.limits.Size || u.length < 0 {
		return &LimitError{"Size", u.limits.Size, "bytes in a layer"}
	}
	return nil
}
