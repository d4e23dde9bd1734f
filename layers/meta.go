package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"
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
	u.finish = append(u.finish, folderEnd{p, m.times, u.folderXattrs(&m)})
	u.note(p, &m)
	return nil
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
	u.finish = append(u.finish, folderEnd{"", m.times, u.folderXattrs(&m)})
	u.note("", &m)
	return nil
}

// folderEnd is what a directory gets when everything else is in place.
type folderEnd struct {
	path   string
	times  [2]unix.Timespec
	xattrs map[string]string
}

// finishFolders sets xattrs and times of directories, which every file made in them would have changed.
func (u *unpacking) finishFolders() error {
	for _, e := range u.finish {
		if err := u.finishFolder(e); err != nil {
			return entryError(e.path, err)
		}
	}
	return nil
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

// xattrPrefix is how PAX records spell xattrs: what star writes, and every tool since.
const xattrPrefix = "SCHILY.xattr."

// xattrs sets the entry's xattrs on an open file, or on nothing if fd is -1, and keeps in m.lost what could not
// be set.
func (u *unpacking) xattrs(fd int, m *meta) error {
	for key, value := range m.h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || !wanted(name) {
			continue
		}
		set, err := u.xattr(fd, name, value)
		if err != nil {
			return err
		}
		if !set {
			m.lose(name, value)
		}
	}
	return nil
}

// folderXattrs sorts a directory's xattrs: the result is to be set at the end, the others go to m.lost.
func (u *unpacking) folderXattrs(m *meta) map[string]string {
	var later map[string]string
	for key, value := range m.h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		switch {
		case !ok || !wanted(name):
		case u.settable(name):
			if later == nil {
				later = make(map[string]string)
			}
			later[name] = value
		default:
			m.lose(name, value)
		}
	}
	return later
}

// lose remembers an xattr for Owners.
func (m *meta) lose(name, value string) {
	if m.lost == nil {
		m.lost = make(map[string]string)
	}
	m.lost[name] = value
}

// wanted says which xattrs are part of an image: the user's, ACLs and capabilities. Overlay's own would let a
// layer forge whiteouts and redirects; the rest of trusted.* and security.* (labels, IMA) belongs to the host.
func wanted(name string) bool {
	switch {
	case name == "security.capability", name == "system.posix_acl_access", name == "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// settable says whether an xattr can be had at all in this form, and counts what differs between the forms:
// capabilities need a right that one id does not bring, and ACLs name other ids.
func (u *unpacking) settable(name string) bool {
	if strings.HasPrefix(name, "user.") {
		return true
	}
	u.out.Both = false
	return !u.opt.OneID
}

// xattr sets one xattr. A file system that has no place for it is no reason to lose the layer.
func (u *unpacking) xattr(fd int, name, value string) (set bool, err error) {
	if !u.settable(name) || fd < 0 {
		return false, nil
	}
	switch err := unix.Fsetxattr(fd, name, []byte(value), 0); err {
	case nil:
		return true, nil
	case unix.EPERM, unix.ENOTSUP, unix.E2BIG, unix.ERANGE, unix.EINVAL, unix.ENOSPC:
		return false, nil
	default:
		return false, fmt.Errorf("set xattr %q: %w", name, err)
	}
}

// setFolderXattrs sets a directory's xattrs, as far as they can be.
func setFolderXattrs(dir int, name string, xattrs map[string]string) error {
	fd, err := openFolder(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, value := range xattrs {
		switch err := unix.Fsetxattr(fd, name, []byte(value), 0); err {
		case nil, unix.EPERM, unix.ENOTSUP, unix.E2BIG, unix.ERANGE, unix.EINVAL, unix.ENOSPC:
		default:
			return fmt.Errorf("set xattr %q: %w", name, err)
		}
	}
	return nil
}

// openFolder opens a directory for what O_PATH cannot do.
func openFolder(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}
