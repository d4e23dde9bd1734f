package layers

import (
	"archive/tar"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// meta is what an entry says of itself, as it is to be on the disk.
type meta struct {
	h           *tar.Header
	mode        uint32 // permissions with setuid, setgid and sticky
	times       [2]unix.Timespec
	again       bool // the entry replaces an earlier one, so its line in Owners must too
	placeholder bool // an empty file stands for a device
	lost        map[string]string
}

// meta reads an entry's attributes, and keeps the sums that Unpacked reports.
func (u *unpacking) meta(h *tar.Header) meta {
	m := meta{h: h, mode: uint32(h.Mode & 0o7777), times: times(h)}
	root := h.Uid == 0 && h.Gid == 0 && !m.device()
	readable := m.mode | m.need()
	u.out.AllRoot = u.out.AllRoot && root
	u.out.Both = u.out.Both && root && readable == m.mode
	if u.opt.OneID {
		m.mode = readable
	}
	return m
}

// need is which permissions the one owner of a file must have, so that it can be copied and removed.
func (m *meta) need() uint32 {
	switch m.h.Typeflag {
	case tar.TypeDir:
		return 0o700
	case tar.TypeSymlink, tar.TypeFifo:
		return 0
	}
	return 0o400
}

// times gives access and modification time. Few tars hold an access time; the other one stands in for it, so
// that unpacking twice gives the same.
func times(h *tar.Header) [2]unix.Timespec {
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	return [2]unix.Timespec{timespec(access), timespec(h.ModTime)}
}

// timespec converts a time; the kernel clamps what the file system cannot hold.
func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// kind is the entry's type in st_mode.
func (m *meta) kind() uint32 {
	switch m.h.Typeflag {
	case tar.TypeDir:
		return unix.S_IFDIR
	case tar.TypeSymlink:
		return unix.S_IFLNK
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	case tar.TypeFifo:
		return unix.S_IFIFO
	}
	return unix.S_IFREG
}

// device says whether the entry is one that only root may make.
func (m *meta) device() bool {
	return m.h.Typeflag == tar.TypeBlock || m.h.Typeflag == tar.TypeChar && !m.whiteout()
}

// whiteout says whether the entry is overlay's own whiteout, which some tools put into a tar as it is.
func (m *meta) whiteout() bool {
	return m.h.Typeflag == tar.TypeChar && m.h.Devmajor == 0 && m.h.Devminor == 0
}

// foreign says whether what is made in f has to be given to its owner.
func (u *unpacking) foreign(f *folder, m *meta) bool {
	return !u.opt.OneID && (m.h.Uid != u.uid || m.h.Gid != u.gid || f.setgid || m.again)
}

// chmodNeeded says whether making the file did not set its mode yet.
func (u *unpacking) chmodNeeded(f *folder, m *meta) bool {
	return m.mode&^0o777 != 0 || m.mode&u.umask != 0 || m.again || f.setgid
}

// regularMeta sets owner, mode and xattrs of an open file, in this order: chown takes setuid and capabilities
// away, so it comes first.
func (u *unpacking) regularMeta(f *folder, fd int, p string, m *meta) error {
	if u.foreign(f, m) {
		if err := unix.Fchown(fd, m.h.Uid, m.h.Gid); err != nil {
			return chownError(m, err)
		}
	}
	if u.chmodNeeded(f, m) {
		if err := unix.Fchmod(fd, m.mode); err != nil {
			return os.NewSyscallError("fchmod", err)
		}
	}
	if err := u.xattrs(fd, m); err != nil {
		return err
	}
	u.note(p, m)
	return nil
}

// nodeMeta sets owner, mode and times of what is not opened: links, FIFOs, devices.
func (u *unpacking) nodeMeta(f *folder, name, p string, m *meta) error {
	if err := u.pathMeta(f, name, m); err != nil {
		return err
	}
	_ = u.xattrs(-1, m)
	u.note(p, m)
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(f.fd, name, m.times[:], unix.AT_SYMLINK_NOFOLLOW))
}

// pathMeta sets owner and mode by name.
func (u *unpacking) pathMeta(f *folder, name string, m *meta) error {
	if u.foreign(f, m) {
		err := unix.Fchownat(f.fd, name, m.h.Uid, m.h.Gid, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return chownError(m, err)
		}
	}
	if m.h.Typeflag == tar.TypeSymlink || !u.chmodNeeded(f, m) {
		return nil
	}
	return os.NewSyscallError("fchmodat", unix.Fchmodat(f.fd, name, m.mode, 0))
}

// chownError says what usually is the matter: an id that is not mapped here.
func chownError(m *meta, err error) error {
	if err == unix.EINVAL {
		return fmt.Errorf("owner %d:%d is outside the ids mapped here: %w", m.h.Uid, m.h.Gid, err)
	}
	return fmt.Errorf("chown to %d:%d: %w", m.h.Uid, m.h.Gid, err)
}

// statAt looks at a name without following it.
func statAt(fd int, name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, os.NewSyscallError("fstatat", err)
	}
	return &st, nil
}

// note writes the entry's line in Owners, if there is something to say.
func (u *unpacking) note(p string, m *meta) {
	o := Owner{
		Path: p, UID: m.h.Uid, GID: m.h.Gid, Mode: m.kind() | uint32(m.h.Mode&0o7777),
		Major: uint32(m.h.Devmajor), Minor: uint32(m.h.Devminor), Xattrs: m.lost,
	}
	changed := m.placeholder || len(m.lost) > 0 || m.again && u.owners.written
	if u.opt.OneID && m.h.Typeflag != tar.TypeSymlink && uint32(m.h.Mode&0o7777) != m.mode {
		changed = true
	}
	if u.opt.OneID && (o.UID != 0 || o.GID != 0) {
		changed = true
	}
	if changed {
		u.owners.put(&o)
	}
}
