package layers

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The names that mean deletion in a layer (OCI image spec, layer.md, "Representing Changes").
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh."
)

// The xattrs that mean the same to overlay, below "trusted." or "user." (kernel, filesystems/overlayfs.rst).
const (
	overlayOpaque   = "overlay.opaque"   // "y": nothing from below shows; "x": some files here are whiteouts
	overlayWhiteout = "overlay.whiteout" // on an empty file, in a directory with opaque=x: a whiteout
)

// marks remembers which xattrs overlay will read here.
type marks struct {
	prefix string // "trusted." or "user."; "" while nobody asked
	xattr  bool   // whiteouts have to be xattrs
}

// whiteout acts on an entry whose name begins with ".wh.".
func (u *unpacking) whiteout(dir, name string) error {
	if passesWhiteout(dir) {
		return errors.New("path passes through a whiteout")
	}
	if name == opaqueName && dir == "" {
		u.out.OpaqueRoot = true // overlay does not look for the xattr there
		return nil
	}
	if name == opaqueName {
		f, err := u.tree.folder(dir, true)
		if err != nil {
			return err
		}
		return u.setOpaque(f.fd, ".")
	}
	if strings.HasPrefix(name, aufsPrefix) {
		return nil // aufs's own bookkeeping in layers of Docker's first years
	}
	hidden := strings.TrimPrefix(name, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("whiteout of %q", hidden)
	}
	f, err := u.tree.folder(dir, true)
	if err != nil {
		return err
	}
	return u.hide(f, hidden, join(dir, hidden))
}

// passesWhiteout says whether a directory's path holds a name that only a whiteout may have.
func passesWhiteout(dir string) bool {
	return strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix)
}

// hide makes what is below invisible. What this same layer holds under the name stays, as the spec has it: a
// file covers what is below anyway, a directory becomes opaque.
func (u *unpacking) hide(f *folder, name, p string) error {
	st, err := statAt(f.fd, name)
	if errors.Is(err, unix.ENOENT) {
		return u.putWhiteout(f, name, p)
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return u.setOpaque(f.fd, name)
}

// putWhiteout makes a whiteout in overlay's form: a character device 0:0, which anybody may make since Linux
// 5.8, in a user namespace too. Where a filter forbids it, an xattr does since 6.7.
func (u *unpacking) putWhiteout(f *folder, name, p string) error {
	m := meta{}
	err := u.anew(f, name, p, &m, func() error {
		if u.marks.xattr {
			return unix.EPERM
		}
		return unix.Mknodat(f.fd, name, unix.S_IFCHR, 0)
	})
	if err == unix.EPERM {
		err = u.xattrWhiteout(f, name, p)
	}
	return wrapCall("mknodat", err)
}

// xattrWhiteout makes the second form: an empty file with an xattr, in a directory that says it has such.
func (u *unpacking) xattrWhiteout(f *folder, name, p string) error {
	if !kernelAtLeast(6, 7) {
		return fmt.Errorf("make whiteout: character devices are forbidden here, and Linux before 6.7 has no other whiteouts: %w", unix.EPERM)
	}
	fd := -1
	err := u.anew(f, name, p, &meta{}, func() (err error) {
		fd, err = unix.Openat(f.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.mark(fd, overlayWhiteout, "y"); err != nil {
		return err
	}
	dir, err := openFolder(f.fd, ".")
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if opaque(dir) {
		return nil
	}
	return u.mark(dir, overlayOpaque, "x")
}

// setOpaque hides everything that lower layers have in a directory.
func (u *unpacking) setOpaque(dir int, name string) error {
	fd, err := openFolder(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.mark(fd, overlayOpaque, "y")
}

// mark sets one of overlay's xattrs. Who may set trusted.* does: overlay reads those unless it is mounted with
// "userxattr", as it must be by everybody else. The rights decide, not the user id, for root in a user namespace
// is somebody else here.
func (u *unpacking) mark(fd int, name, value string) error {
	if u.marks.prefix == "" {
		u.marks.prefix = "user."
		trusted := mayTrust(fd)
		if trusted && !u.opt.OneID {
			u.marks.prefix = "trusted."
		}
		u.out.Both = u.out.Both && !trusted
	}
	name = u.marks.prefix + name
	if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
		return fmt.Errorf("set xattr %q: %w", name, err)
	}
	return nil
}

// mayTrust says whether the caller may set trusted xattrs, by setting one.
func mayTrust(fd int) bool {
	const probe = "trusted.hull.probe"
	if unix.Fsetxattr(fd, probe, []byte("y"), 0) != nil {
		return false
	}
	_ = unix.Fremovexattr(fd, probe)
	return true
}

// opaque says whether a directory hides what is below it.
func opaque(fd int) bool {
	return fdXattr(fd, "trusted."+overlayOpaque) == "y" || fdXattr(fd, "user."+overlayOpaque) == "y"
}

// isWhiteout says whether a name that was looked at is a whiteout of either form.
func isWhiteout(dir int, name string, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return st.Rdev == 0
	case unix.S_IFREG:
		return st.Size == 0 && xattrWhiteoutAt(dir, name)
	}
	return false
}

// xattrWhiteoutAt looks for the xattr of the second form on an empty file.
func xattrWhiteoutAt(dir int, name string) bool {
	f, err := hold(dir, name)
	if err != nil {
		return false
	}
	defer f.close()
	return f.hasXattr("user."+overlayWhiteout) || f.hasXattr("trusted."+overlayWhiteout)
}

// fdXattr reads a short xattr, "" if there is none.
func fdXattr(fd int, name string) string {
	var buf [8]byte
	n, err := unix.Fgetxattr(fd, name, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// kernelAtLeast compares the running kernel's version.
func kernelAtLeast(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	parts := strings.SplitN(unix.ByteSliceToString(name.Release[:]), ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, _ := strconv.Atoi(parts[0])
	b, _ := strconv.Atoi(strings.TrimRight(parts[1], "-+rc"))
	return a > major || a == major && b >= minor
}

// removeTreeAt removes a directory and all in it, by the descriptor of its parent.
func removeTreeAt(dir int, name string) error {
	parent, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.RemoveAll(name)
}
