package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyOptions says how CopyDir copies.
type CopyOptions struct {
	// OneID is for somebody who has one user id and no right to any other: all copies belong to the caller.
	OneID bool
}

// CopyDir copies what a container would see in the directory path, if its root is an overlay of dirs (topmost first, see
// [OpenFile]), into the empty directory to: files of every kind, with owners, modes, times, hard links and those xattrs
// that are part of an image. to itself gets the attributes of the directory.
//
// Nothing outside dirs is read and nothing outside to is written, even if somebody moves things about in to meanwhile. An
// error leaves part of a copy behind. It is fs.ErrNotExist or unix.ENOTDIR, and nothing is done, if there is no such directory.
func CopyDir(ctx context.Context, dirs []string, path string, to *os.File, opt CopyOptions) error {
	c := &copying{ctx: ctx, opt: opt, root: int(to.Fd()), links: map[inode]string{}}
	c.lookup.links = maxLinks
	defer c.lookup.close()
	from, err := c.walk(dirs, path, true)
	if err == nil && from.kind != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	// A default ACL that the place has would be inherited by every copy.
	_ = unix.Fremovexattr(c.root, "system.posix_acl_default")
	return c.directory(from.self, c.root, "")
}

// copying is one run of CopyDir.
type copying struct {
	lookup
	ctx   context.Context
	opt   CopyOptions
	root  int              // where everything goes
	links map[inode]string // files with several names: where the copy of the first is, relative to root
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// directory copies what is in a directory, and then its attributes: times change with every entry, and a default ACL
// would be inherited. p is where to is, relative to the root.
func (c *copying) directory(from merged, to int, p string) error {
	top, names, err := list(from)
	if err != nil {
		return copyError(p, err)
	}
	defer top.Close()
	for _, name := range names {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		mark := len(c.fds)
		e, err := c.step(from, name)
		switch {
		case err == nil:
			err = c.entry(e, to, name, join(p, name))
		case errors.Is(err, unix.ENOENT): // a whiteout
			err = nil
		default:
			err = copyError(join(p, name), err)
		}
		c.release(mark)
		if err != nil {
			return err
		}
	}
	return copyError(p, copyAttributes(int(top.Fd()), to, c.opt))
}

// release closes what was opened since len(fds) was mark.
func (c *copying) release(mark int) {
	for _, fd := range c.fds[mark:] {
		unix.Close(fd)
	}
	c.fds = c.fds[:mark]
}

// list gives the names in a merged directory, whiteouts among them, and opens the topmost one for reading.
func list(dir merged) (top *os.File, names []string, err error) {
	seen := map[string]bool{}
	for _, p := range dir {
		sub, err := openFolder(p.fd, ".")
		if err != nil {
			top.Close() // which may be nil
			return nil, nil, err
		}
		f := os.NewFile(uintptr(sub), "")
		all, err := f.Readdirnames(-1)
		if top == nil {
			top = f
		} else {
			f.Close()
		}
		if err != nil {
			top.Close()
			return nil, nil, err
		}
		for _, name := range all {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return top, names, nil
}

// entry copies one thing into the directory to.
func (c *copying) entry(e found, to int, name, p string) (err error) {
	switch e.kind {
	case unix.S_IFDIR:
		return c.folder(e, to, name, p)
	case unix.S_IFREG:
		err = c.regular(e, to, name, p)
	case unix.S_IFLNK:
		err = c.symlink(e, to, name)
	default:
		err = c.node(e, to, name)
	}
	return copyError(p, err)
}

func (c *copying) folder(e found, to int, name, p string) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return copyError(p, os.NewSyscallError("mkdirat", err))
	}
	fd, err := openFolder(to, name)
	if err != nil {
		return copyError(p, err)
	}
	defer unix.Close(fd)
	return c.directory(e.self, fd, p)
}

func (c *copying) regular(e found, to int, name, p string) error {
	from, err := unix.Openat(e.fd, e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok && c.link(first, to, name) == nil {
			return nil
		}
		c.links[id] = p
	}
	fd, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	if err := c.content(from, fd, st.Size); err != nil {
		return err
	}
	return copyAttributes(from, fd, c.opt)
}

// link gives the copy at first one more name.
func (c *copying) link(first string, to int, name string) error {
	dir, base := split(first)
	fd, err := unix.Openat2(c.root, or2(dir, "."), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, base, to, name, 0)
}

// content copies a file's bytes, and leaves its holes out.
func (c *copying) content(from, to int, size int64) error {
	for off := int64(0); off < size; {
		begin, err := unix.Seek(from, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole to the end
			break
		}
		end := size
		if err == nil {
			end, err = unix.Seek(from, begin, unix.SEEK_HOLE)
		}
		if err != nil { // a file system that knows no holes
			begin, end = off, size
		}
		if err := c.bytes(from, to, begin, min(end, size)); err != nil {
			return err
		}
		off = end
	}
	return os.NewSyscallError("ftruncate", unix.Ftruncate(to, size))
}

// bytes copies from begin to end, in the kernel where it can, which may share the blocks of both files.
func (c *copying) bytes(from, to int, begin, end int64) error {
	const piece = 64 << 20 // after so much somebody may have lost patience
	for begin < end {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		in, out := begin, begin
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(piece, end-begin)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.ENOSYS || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.EPERM:
			n, err = c.byHand(from, to, begin, end)
		}
		if err != nil {
			return os.NewSyscallError("copy", err)
		}
		if n == 0 {
			return nil // shorter than it was
		}
		begin += int64(n)
	}
	return nil
}

func (c *copying) byHand(from, to int, begin, end int64) (int, error) {
	if c.buf == nil {
		c.buf = make([]byte, 128<<10)
	}
	n, err := unix.Pread(from, c.buf[:min(int64(len(c.buf)), end-begin)], begin)
	for done := 0; err == nil && done < n; {
		var k int
		k, err = unix.Pwrite(to, c.buf[done:n], begin+int64(done))
		done += k
	}
	return n, err
}

func (c *copying) symlink(e found, to int, name string) error {
	target, err := readlinkat(e.fd, e.name)
	if err != nil {
		return os.NewSyscallError("readlinkat", err)
	}
	st, err := statAt(e.fd, e.name)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, to, name); err != nil {
		return os.NewSyscallError("symlinkat", err)
	}
	return c.nameAttributes(st, to, name)
}

// node copies a FIFO, a socket's name or a device.
func (c *copying) node(e found, to int, name string) error {
	st, err := statAt(e.fd, e.name)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(to, name, st.Mode&unix.S_IFMT, int(st.Rdev)); err != nil {
		return os.NewSyscallError("mknodat", err)
	}
	if err := c.nameAttributes(st, to, name); err != nil {
		return err
	}
	// chmod follows links: by a descriptor it can be made sure of that there is none.
	fd, err := unix.Openat(to, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	var made unix.Stat_t
	if err := unix.Fstat(fd, &made); err != nil || made.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return or(err, unix.EEXIST)
	}
	return os.NewSyscallError("chmod", unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o7777))
}

// nameAttributes sets owner and times of what is not opened.
func (c *copying) nameAttributes(st *unix.Stat_t, to int, name string) error {
	if !c.opt.OneID {
		if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(to, name, times, unix.AT_SYMLINK_NOFOLLOW))
}

// CopyAttributes gives the file or directory to the owner, mode, xattrs and times of from. Both are open for reading or
// writing.
func CopyAttributes(from, to *os.File, opt CopyOptions) error {
	return copyAttributes(int(from.Fd()), int(to.Fd()), opt)
}

// copyAttributes keeps to an order: a change of owner takes setuid and capabilities away, so it comes first.
func copyAttributes(from, to int, opt CopyOptions) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if !opt.OneID {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", to), times, 0))
}

// copyXattrs copies those xattrs that are part of an image. A file system that has no place for one is no reason to fail.
func copyXattrs(from, to int) error {
	if n, err := unix.Flistxattr(from, nil); err != nil || n == 0 {
		return nil // none, or no place for any
	}
	names := make([]byte, 64<<10) // the kernel's XATTR_LIST_MAX
	n, err := unix.Flistxattr(from, names)
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if !wanted(name) {
			continue
		}
		k, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			continue // gone, or not for us
		}
		switch err := unix.Fsetxattr(to, name, value[:k], 0); err {
		case nil, unix.EPERM, unix.ENOTSUP, unix.E2BIG, unix.ERANGE, unix.EINVAL, unix.ENOSPC:
		default:
			return fmt.Errorf("set xattr %q: %w", name, err)
		}
	}
	return nil
}

// copyError says which file something happened to.
func copyError(p string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copy %q: %w", "/"+p, err)
}
