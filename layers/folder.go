package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// directory makes a directory, or gives one that is there new attributes. Times and xattrs wait until nothing is
// made in it any more: a default ACL would be inherited.
func (u *unpacking) directory(f *folder, name, p string, m meta) error {
	err := unix.Mkdirat(f.fd, name, m.mode&0o777)
	if err == unix.EEXIST {
		m.again = true
		err = u.overExisting(f, name, p, &m)
	}
	if err != nil {
		return wrapCall("mkdirat", err)
	}
	if err := u.pathMeta(f, name, &m); err != nil {
		return err
	}
	u.note(p, &m)
	return u.finish.add(u.tree.root.fd, folderEnd{p, m.times, u.folderXattrs(&m)})
}

// overExisting makes a directory where something is: a directory stays, anything else goes. A whiteout that gives
// way to a directory means that nothing from below shows in it.
func (u *unpacking) overExisting(f *folder, name, p string, m *meta) error {
	st, err := statAt(f.fd, name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		u.tree.forget() // their setgid bits may change
		return nil
	}
	hidden := isWhiteout(f.fd, name, st)
	if err := u.remove(f, name, p); err != nil {
		return err
	}
	if err := unix.Mkdirat(f.fd, name, m.mode&0o777); err != nil || !hidden {
		return err
	}
	return u.setOpaque(f.fd, name)
}

// impliedFolder makes a parent directory that the tar does not list.
func (u *unpacking) impliedFolder(f *folder, name string) error {
	if u.implied++; u.implied > u.limits.Entries {
		return &LimitError{"Entries", int64(u.limits.Entries), "folders in a layer that it does not list"}
	}
	err := unix.Mkdirat(f.fd, name, 0o755)
	m := meta{h: &tar.Header{Typeflag: tar.TypeDir, Uid: u.uid, Gid: u.gid}, mode: 0o755}
	if err == unix.EEXIST {
		st, err := statAt(f.fd, name)
		if err != nil || !isWhiteout(f.fd, name, st) {
			return err
		}
		if err := u.overExisting(f, name, join(f.path, name), &m); err != nil {
			return err
		}
		return u.pathMeta(f, name, &m)
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: join(f.path, name), Err: err}
	}
	return u.pathMeta(f, name, &m)
}

// rootEntry sets the attributes of the layer's own directory.
func (u *unpacking) rootEntry(m meta) error {
	if m.h.Typeflag != tar.TypeDir {
		return fmt.Errorf("the layer itself cannot be a file: %w", unix.EISDIR)
	}
	root := &u.tree.root
	if !u.opt.OneID {
		if err := unix.Fchown(root.fd, m.h.Uid, m.h.Gid); err != nil {
			return chownError(&m, err)
		}
	}
	if err := unix.Fchmod(root.fd, m.mode); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	root.setgid = m.mode&unix.S_ISGID != 0
	m.again = true
	u.note("", &m)
	return u.finish.add(u.tree.root.fd, folderEnd{"", m.times, u.folderXattrs(&m)})
}

// finishFolders sets xattrs and times of directories, which every file made in them would have changed.
func (u *unpacking) finishFolders() error {
	return u.finish.each(func(e folderEnd) error {
		if err := u.finishFolder(e); err != nil {
			return entryError(e.path, err)
		}
		return nil
	})
}

// finishFolder does so for one. A directory that a later entry replaced is none of its business.
func (u *unpacking) finishFolder(e folderEnd) error {
	dir, name := split(e.path)
	if e.path == "" {
		name = "."
	}
	f, err := u.tree.folder(dir, false)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := statAt(f.fd, name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if len(e.xattrs) > 0 {
		if err := setFolderXattrs(f.fd, name, e.xattrs); err != nil {
			return err
		}
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(f.fd, name, e.times[:], unix.AT_SYMLINK_NOFOLLOW))
}
