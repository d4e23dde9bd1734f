package layers

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrPrefix is how PAX records spell xattrs: what star writes, and every tool since.
const xattrPrefix = "SCHILY.xattr."

// maxXattr is how long a value may be, in bytes: no file can have a longer one (XATTR_SIZE_MAX, xattr(7)).
const maxXattr = 64 << 10

// xattrs sets the entry's xattrs on an open file, or on nothing if fd is -1, and keeps in m.lost what could not
// be set.
func (u *unpacking) xattrs(fd int, m *meta) error {
	for key, value := range m.h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || !wanted(name) || len(value) > maxXattr {
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
		case !ok || !wanted(name) || len(value) > maxXattr:
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
