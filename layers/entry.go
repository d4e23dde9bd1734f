package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// make creates one entry in an open folder. Whatever stood there gives way, unless both are directories.
func (u *unpacking) make(ctx context.Context, f *folder, name, p string, m meta) error {
	switch m.h.Typeflag {
	case tar.TypeDir:
		return u.directory(f, name, p, m)
	case tar.TypeLink:
		return u.hardLink(f, name, p, m)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse: // the reader makes the old TypeRegA a TypeReg
		return u.regular(ctx, f, name, p, m)
	case tar.TypeSymlink:
		return u.symlink(f, name, p, m)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if m.whiteout() {
			return u.putWhiteout(f, name, p)
		}
		return u.node(f, name, p, m)
	}
	return fmt.Errorf("entry type %q: not supported", m.h.Typeflag)
}

// anew runs a call that makes a name, and runs it again when something had to be removed first.
func (u *unpacking) anew(f *folder, name, p string, m *meta, call func() error) error {
	err := call()
	if err != unix.EEXIST {
		return err
	}
	if err := u.remove(f, name, p); err != nil {
		return err
	}
	m.again = true
	return call()
}

// remove takes away what an earlier entry put there.
func (u *unpacking) remove(f *folder, name, p string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		u.tree.forget()
		u.owners.gone(p)
		return removeTreeAt(f.fd, name)
	case unix.S_IFLNK:
		u.tree.forget()
	}
	return os.NewSyscallError("unlinkat", unix.Unlinkat(f.fd, name, 0))
}

// regular makes a file, writes it and sets what belongs to it, all through one descriptor.
func (u *unpacking) regular(ctx context.Context, f *folder, name, p string, m meta) error {
	fd := -1
	err := u.anew(f, name, p, &m, func() (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(f.fd, name, flags, m.mode&0o777)
		return err
	})
	if err != nil {
		return wrapCall("open", err)
	}
	defer unix.Close(fd)
	n, err := u.content(ctx, fd, m.h)
	if err != nil {
		return err
	}
	u.out.Size += n
	if err := u.regularMeta(f, fd, p, &m); err != nil {
		return err
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(f.fd, name, m.times[:], unix.AT_SYMLINK_NOFOLLOW))
}

// content copies a file's bytes, and leaves holes where a sparse file has them.
func (u *unpacking) content(ctx context.Context, fd int, h *tar.Header) (int64, error) {
	if h.Size == 0 {
		return 0, nil
	}
	if sparse(h) {
		return u.sparseContent(ctx, fd, h.Size)
	}
	var done int64
	for done < h.Size {
		n, err := io.ReadFull(u.tar, u.buf[:min(int64(len(u.buf)), h.Size-done)])
		if err != nil {
			return done, fmt.Errorf("read tar: %w", noEOF(err))
		}
		if err := writeAll(fd, u.buf[:n]); err != nil {
			return done, err
		}
		done += int64(n)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
	}
	return done, nil
}

// sparse says whether the tar holds the file with its holes left out. archive/tar gives them back as zeros.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for _, key := range [...]string{"GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks"} {
		if _, ok := h.PAXRecords[key]; ok {
			return true
		}
	}
	return false
}

// sparseContent writes only the blocks that hold something.
func (u *unpacking) sparseContent(ctx context.Context, fd int, size int64) (int64, error) {
	const block = int64(len(noughts))
	var done int64
	for done < size {
		n, err := io.ReadFull(u.tar, u.buf[:min(block, size-done)])
		if err != nil {
			return done, fmt.Errorf("read tar: %w", noEOF(err))
		}
		if !allZero(u.buf[:n]) {
			if _, err := unix.Pwrite(fd, u.buf[:n], done); err != nil {
				return done, os.NewSyscallError("write", err)
			}
		}
		done += int64(n)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
	}
	return done, os.NewSyscallError("ftruncate", unix.Ftruncate(fd, size))
}

// noughts is what a block without anything looks like.
var noughts [4096]byte

// allZero looks for anything in b.
func allZero(b []byte) bool {
	for ; len(b) > len(noughts); b = b[len(noughts):] {
		if !bytes.Equal(b[:len(noughts)], noughts[:]) {
			return false
		}
	}
	return bytes.Equal(b, noughts[:len(b)])
}

// writeAll writes b, however many calls that takes.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		b = b[n:]
	}
	return nil
}

// symlink makes a link. Its target is text: nobody looks where it leads until something follows it.
func (u *unpacking) symlink(f *folder, name, p string, m meta) error {
	if m.h.Linkname == "" {
		return errors.New("symbolic link without a target")
	}
	err := u.anew(f, name, p, &m, func() error { return unix.Symlinkat(m.h.Linkname, f.fd, name) })
	if err != nil {
		return wrapCall("symlinkat", err)
	}
	return u.nodeMeta(f, name, p, &m)
}

// node makes a FIFO or a device. A device that the caller may not make becomes an empty file, and Owners has
// what it should be.
func (u *unpacking) node(f *folder, name, p string, m meta) error {
	dev := 0
	if m.h.Typeflag != tar.TypeFifo {
		dev = int(unix.Mkdev(uint32(m.h.Devmajor), uint32(m.h.Devminor)))
	}
	forbidden := u.opt.OneID && m.device()
	err := u.anew(f, name, p, &m, func() error {
		if forbidden {
			return unix.EPERM
		}
		return unix.Mknodat(f.fd, name, m.kind()|m.mode&0o777, dev)
	})
	if err == unix.EPERM && m.device() {
		m.placeholder = true
		err = u.anew(f, name, p, &m, func() error {
			return unix.Mknodat(f.fd, name, unix.S_IFREG|m.mode&0o777, 0)
		})
	}
	if err != nil {
		return wrapCall("mknodat", err)
	}
	return u.nodeMeta(f, name, p, &m)
}

// hardLink gives a file of this layer one more name. The last component of the target is not followed: a link
// to a symbolic link is one more such link.
func (u *unpacking) hardLink(f *folder, name, p string, m meta) error {
	target, err := u.limits.cleanName(m.h.Linkname)
	if err != nil || target == "" {
		return fmt.Errorf("hard link to %q: %w", m.h.Linkname, or(err, unix.EPERM))
	}
	if target == p {
		return nil // a file is already its own name
	}
	from, last, err := u.linkSource(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", m.h.Linkname, err)
	}
	defer unix.Close(from)
	if f, err = u.tree.folder(f.path, true); err != nil { // the look-up may have closed it
		return err
	}
	if same, err := sameFile(from, last, f.fd, name); same || err != nil {
		return err
	}
	err = u.anew(f, name, p, &m, func() error { return unix.Linkat(from, last, f.fd, name, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", m.h.Linkname, u.linkError(err))
	}
	u.note(p, &m)
	return nil
}

// linkSource opens the folder that holds a hard link's target, and says which name in it is meant.
func (u *unpacking) linkSource(target string) (fd int, name string, err error) {
	dir, name := split(target)
	f, err := u.tree.folder(dir, false)
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			fd, err = unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
			return fd, name, err
		}
	}
	if errors.Is(err, unix.ENOENT) && len(u.opt.Lower) > 0 {
		return lowerFolder(u.opt.Lower, target)
	}
	return -1, "", u.linkError(err)
}

// linkError adds what is probably meant when there is nothing to link to.
func (u *unpacking) linkError(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("not in this layer, and a layer may not link to a file of another: %w", err)
	}
	return err
}

// sameFile says whether both names are one file already; a second name that is missing is another.
func sameFile(fd1 int, name1 string, fd2 int, name2 string) (bool, error) {
	var a, b unix.Stat_t
	if err := unix.Fstatat(fd1, name1, &a, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, os.NewSyscallError("fstatat", err)
	}
	if err := unix.Fstatat(fd2, name2, &b, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, nil
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

// or gives the first error that is one.
func or(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// wrapCall names the call of a bare errno, and leaves an error alone that says more.
func wrapCall(call string, err error) error {
	if errno, ok := err.(unix.Errno); ok {
		return os.NewSyscallError(call, errno)
	}
	return err
}
