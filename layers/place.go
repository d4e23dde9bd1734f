package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/decompress"
)

// PlaceOptions says how Place works.
type PlaceOptions struct {
	// Root is the root directory of the container that the path is in; nil is the caller's own.
	Root *os.File `json:"-"`
	// Many says that the tar may be anybody's, with many trees in it, compressed perhaps: its names count from the path,
	// which must be a directory. Otherwise it holds the one tree of a PackTree, which goes where cp(1) would put it.
	Many bool
	// Keep keeps owners and rights that come from them. Without it, what is put into a container belongs to its root, and
	// what is taken out to the caller, without set-id bits and capabilities.
	Keep bool
	// OneID drops owners that are not mapped, where only one is.
	OneID bool
	// Warn takes a line about what is left out; nil drops it.
	Warn func(string) `json:"-"`
}

// What Place may say of a destination, in Docker's words.
var (
	ErrNotDirectory  = errors.New("must be a directory")
	errCopyDirectory = errors.New("cannot copy directory")
	errNoDirectory   = errors.New("no such directory")
	errOddTarget     = errors.New("must be a directory or a regular file")
	errOverDirectory = errors.New("cannot overwrite directory with non-directory")
	errOverFile      = errors.New("cannot overwrite non-directory with directory")
)

// Place puts what a tar holds below a path that is in use, by the rules of docker cp: a directory that is there keeps what
// is in it and takes on the other's owner, mode and times; anything else is replaced. Modes, times and xattrs are kept.
//
// Nothing outside Root is written, even if a program that lives there moves things about meanwhile. Links of the
// destination path are followed, and those that lead to the parent of an entry with Many; others never. The tar is read
// to its very end.
func Place(ctx context.Context, path string, r io.Reader, opt PlaceOptions) error {
	p := &placing{PlaceOptions: opt, ctx: ctx, path: path, buf: make([]byte, 128<<10), base: -1, last: -1}
	defer p.close()
	if p.Warn == nil {
		p.Warn = func(string) {}
	}
	if opt.Many {
		plain, done, err := decompress.NewReader(r, decompress.MaxWindow)
		if err != nil {
			return err
		}
		defer done()
		r = plain
	}
	if err := p.walk(tar.NewReader(r)); err != nil {
		return err
	}
	if err := p.finishFolders(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// placing is one run of Place.
type placing struct {
	PlaceOptions
	ctx  context.Context
	path string
	// base is the directory that entries go to, and as the name that the tree gets in it, "" if it is the directory itself.
	base int
	as   string
	// whole is true if the tar's tree has no name of its own (".").
	whole bool

	// last is an open directory, lastPath its path from base.
	last     int
	lastPath string
	ends     []placeEnd
	buf      []byte
}

// placeEnd is a directory that gets its mode and times when all is in it.
type placeEnd struct {
	path string
	h    *tar.Header
}

func (p *placing) close() {
	for _, fd := range []int{p.base, p.last} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (p *placing) walk(r *tar.Reader) error {
	limits := Limits{}.withDefaults()
	for {
		h, err := r.Next()
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if err == io.EOF {
			if p.Many && p.base < 0 { // an empty one
				return p.begin(nil)
			}
			return nil
		}
		if err != nil && !(errors.Is(err, tar.ErrInsecurePath) && h != nil) { // we look at paths ourselves
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if p.base < 0 {
			if err := p.begin(h); err != nil {
				return err
			}
		}
		name, err := p.rename(limits, h.Name)
		if err == nil && name != "" { // else the destination itself, which stays as it is
			err = p.entry(r, h, name)
		}
		if err != nil {
			return fmt.Errorf("copy %q: %w", h.Name, err)
		}
	}
}

// rename gives an entry's path from base.
func (p *placing) rename(limits Limits, name string) (string, error) {
	name, err := limits.cleanName(name)
	if err != nil || p.Many {
		return name, err
	}
	if !p.whole {
		_, name, _ = strings.Cut(name, "/")
	}
	if name == "" {
		return p.as, nil
	}
	return join(p.as, name), nil
}

// begin finds the destination. first is the tar's first entry.
func (p *placing) begin(first *tar.Header) error {
	if p.Many {
		fd, err := openIn(p.Root, p.path, unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOTDIR || err == unix.ENOENT {
			return ErrNotDirectory
		}
		p.base = fd
		return err
	}
	name := strings.TrimSuffix(first.Name, "/")
	p.whole = name == "."
	isDir := first.Typeflag == tar.TypeDir
	there, err := p.there()
	switch {
	case err != nil && err != unix.ENOENT:
		return err
	case there == nil && !isDir && (strings.HasSuffix(p.path, "/") || strings.HasSuffix(p.path, "/.")):
		return errNoDirectory
	case there == nil:
		return p.parent()
	}
	defer there.close()
	switch kind := there.kind(); {
	case kind == unix.S_IFDIR:
		if !p.whole {
			p.as = name
		}
		p.base, err = unix.FcntlInt(uintptr(there.fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	case isDir:
		return errCopyDirectory
	case kind != unix.S_IFREG:
		return errOddTarget
	}
	return p.parent()
}

// there looks at what is at the destination, nil and ENOENT for nothing.
func (p *placing) there() (*held, error) {
	fd, err := openIn(p.Root, p.path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return holdFD(fd)
}

// parent finds the directory of a destination that is a file or nothing yet. A link there is followed, even one that
// leads to nothing yet.
func (p *placing) parent() error {
	path := strings.TrimRight(p.path, "/")
	for range maxLinks {
		path = strings.TrimRight(strings.TrimSuffix(path, "/."), "/")
		i := strings.LastIndexByte(path, '/')
		dir, name := path[:i+1], path[i+1:]
		fd, err := openIn(p.Root, dir+".", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		target, err := readlinkat(fd, name)
		if err != nil {
			p.base, p.as = fd, name
			if name == "" || name == "." || name == ".." {
				return unix.ENOENT
			}
			return nil
		}
		unix.Close(fd)
		if path = target; !strings.HasPrefix(target, "/") {
			path = dir + target
		}
	}
	return unix.ELOOP
}

// folder opens the directory of an entry, and makes it where no entry has. The result is good until the next call.
func (p *placing) folder(path string) (int, error) {
	if path == "" {
		return p.base, nil
	}
	if p.last >= 0 && p.lastPath == path {
		return p.last, nil
	}
	fd, err := p.openFolder(path)
	if err == unix.ENOENT {
		dir, name := split(path)
		var parent int
		if parent, err = p.folder(dir); err != nil {
			return -1, err
		}
		if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
			return -1, os.NewSyscallError("mkdirat", err)
		}
		if fd, err = p.openFolder(path); err == nil && p.Root != nil {
			err = p.chown(fd, &tar.Header{})
		}
	}
	if err != nil {
		return -1, err
	}
	if p.last >= 0 {
		unix.Close(p.last)
	}
	p.last, p.lastPath = fd, path
	return fd, nil
}

func (p *placing) openFolder(path string) (int, error) {
	fd, err := openBelow(p.base, path, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ELOOP && p.Many {
		return openIn(p.Root, p.path+"/"+path, unix.O_PATH|unix.O_DIRECTORY)
	}
	return fd, err
}

// entry puts one entry in its place.
func (p *placing) entry(r io.Reader, h *tar.Header, path string) error {
	dir, name := split(path)
	parent, err := p.folder(dir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return p.directory(parent, name, path, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return p.regular(r, parent, name, h)
	case tar.TypeLink:
		return p.hardLink(parent, name, h)
	case tar.TypeSymlink:
		err := p.anew(parent, name, func() error { return unix.Symlinkat(h.Linkname, parent, name) })
		if err != nil {
			return err
		}
		return p.made(parent, name, unix.S_IFLNK, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return p.node(parent, name, h)
	}
	return fmt.Errorf("entry type %q: not supported", h.Typeflag)
}

// anew runs a call that makes a name, after what stands there is removed. Somebody in the container may put something
// there as fast as it is removed: that is an error in the end.
func (p *placing) anew(dir int, name string, call func() error) error {
	for range 100 {
		err := call()
		if err != unix.EEXIST {
			return err
		}
		switch err := replaceable(dir, name); {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return err
		}
		if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
			return os.NewSyscallError("unlinkat", err)
		}
		p.lastPath = "" // it may have led through what is gone
	}
	return unix.EEXIST
}

// replaceable says why what has a name may not be removed. A mount point must be looked for: one of another mount namespace
// than ours the kernel would unmount there, and remove (mount_namespaces(7)).
func replaceable(dir int, name string) error {
	f, err := hold(dir, name)
	if err != nil {
		return err
	}
	defer f.close()
	switch {
	case f.kind() == unix.S_IFDIR:
		return errOverDirectory
	case f.isMount():
		return unix.EBUSY
	}
	return nil
}

func (p *placing) directory(parent int, name, path string, h *tar.Header) error {
	err := unix.Mkdirat(parent, name, 0o700)
	if err == unix.EEXIST {
		var st *unix.Stat_t
		if st, err = statAt(parent, name); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = errOverFile
		}
	}
	if err != nil {
		return err
	}
	p.ends = append(p.ends, placeEnd{path, h})
	return nil
}

// finishFolders gives directories what belongs to them, the inner ones first, for an outer one may forbid to enter it.
func (p *placing) finishFolders() error {
	for _, e := range slices.Backward(p.ends) {
		fd, err := p.openFolder(e.path)
		if err != nil {
			continue // gone meanwhile, or something else now
		}
		err = p.finish(fd, e.h)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("copy %q: %w", e.path, err)
		}
	}
	return nil
}

func (p *placing) regular(r io.Reader, parent int, name string, h *tar.Header) error {
	fd := -1
	err := p.anew(parent, name, func() (err error) {
		fd, err = unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	mounted := errors.Is(err, unix.EBUSY)
	if mounted {
		fd, err = overwrite(parent, name)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		n, err := r.Read(p.buf)
		if e := writeAll(fd, p.buf[:n]); e != nil {
			return e
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
	}
	if mounted {
		return nil
	}
	return p.finish(fd, h)
}

// overwrite opens a file that cannot be replaced because it is a mount point, as /etc/hosts is. It keeps its owner and
// mode: it may be somebody's on the host.
func overwrite(dir int, name string) (int, error) {
	f, err := hold(dir, name)
	if err != nil {
		return -1, err
	}
	defer f.close()
	if f.kind() != unix.S_IFREG {
		return -1, errOddTarget
	}
	return f.open(unix.O_WRONLY | unix.O_TRUNC)
}

func (p *placing) hardLink(parent int, name string, h *tar.Header) error {
	target, err := p.rename(Limits{}.withDefaults(), h.Linkname)
	if err != nil || target == "" {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, or(err, unix.EPERM))
	}
	dir, last := split(target)
	from := p.base
	if dir != "" {
		if from, err = p.openFolder(dir); err != nil {
			return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
		}
		defer unix.Close(from)
	}
	if same, err := sameFile(from, last, parent, name); same || err != nil {
		if errors.Is(err, unix.ENOENT) && !p.Many { // the first name was left out, or is gone meanwhile
			p.Warn(h.Name + ": one more name of " + h.Linkname + ", left out")
			return nil
		}
		return err
	}
	if err := p.anew(parent, name, func() error { return unix.Linkat(from, last, parent, name, 0) }); err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	return nil
}

// node makes a FIFO or a device. Out of a container devices come only if their owner comes along: nodes that open anything
// may lie there, for inside they do not open.
func (p *placing) node(parent int, name string, h *tar.Header) error {
	m := meta{h: h}
	if m.kind() != unix.S_IFIFO && p.Root == nil && !p.Keep {
		p.Warn(h.Name + ": a device, left out")
		return nil
	}
	err := p.anew(parent, name, func() error {
		return unix.Mknodat(parent, name, m.kind()|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	})
	if errors.Is(err, unix.EPERM) && m.kind() != unix.S_IFIFO {
		p.Warn(h.Name + ": a device, which only root of the host may make: left out")
		return nil
	}
	if err != nil {
		return err
	}
	return p.made(parent, name, m.kind(), h)
}

// made finishes what has a name now. If it is something else already, it is somebody else's.
func (p *placing) made(parent int, name string, kind uint32, h *tar.Header) error {
	f, err := hold(parent, name)
	if err != nil {
		return nil
	}
	defer f.close()
	if f.kind() != kind {
		return nil
	}
	return p.finish(f.fd, h)
}

// finish gives an open file its owner, mode, xattrs and times, all by the descriptor: a name may stand for a link by now.
func (p *placing) finish(fd int, h *tar.Header) error {
	if err := p.chown(fd, h); err != nil {
		return err
	}
	f := held{fd: fd}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir {
		if err := p.xattrs(f.path(), h); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		mode := uint32(h.Mode & 0o7777)
		if p.Root == nil && !p.Keep && h.Typeflag != tar.TypeDir {
			mode &= 0o1777 // it was somebody else's program
		}
		if err := unix.Chmod(f.path(), mode); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	t := times(h)
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(fd, "", t[:], unix.AT_EMPTY_PATH))
}

func (p *placing) chown(fd int, h *tar.Header) error {
	uid, gid := 0, 0
	switch {
	case p.Keep:
		uid, gid = h.Uid, h.Gid
	case p.Root == nil:
		return nil
	}
	err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	unmapped := err == unix.EINVAL || err == unix.EOVERFLOW
	if err == nil || p.OneID && (unmapped || err == unix.EPERM) || p.Root == nil && err == unix.EPERM {
		return nil
	}
	if unmapped {
		err = unix.EINVAL
	}
	return chownError(&meta{h: h}, err)
}

func (p *placing) xattrs(path string, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || !wanted(name) || p.Root == nil && !p.Keep && !strings.HasPrefix(name, "user.") {
			continue
		}
		switch err := unix.Setxattr(path, name, []byte(value), 0); err {
		case nil, unix.EPERM, unix.ENOTSUP, unix.E2BIG, unix.ERANGE, unix.EINVAL, unix.ENOSPC:
		default:
			return fmt.Errorf("set xattr %q: %w", name, err)
		}
	}
	return nil
}
