package layers

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// held is a file that was looked at, by a descriptor that does nothing to it (O_PATH): no device is acted on, no FIFO
// waited for. Whatever somebody puts under the file's name afterwards is another file.
type held struct {
	unix.Stat_t
	fd int
}

// hold looks at a name in an open directory, and does not follow a link. The error is a bare errno.
func hold(dir int, name string) (*held, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return holdFD(fd)
}

// holdFD takes over a descriptor.
func holdFD(fd int) (*held, error) {
	h := &held{fd: fd}
	if err := unix.Fstat(fd, &h.Stat_t); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return h, nil
}

func (h *held) close() { unix.Close(h.fd) }

// kind is the type, as S_IFMT cuts it from the mode.
func (h *held) kind() uint32 { return h.Mode & unix.S_IFMT }

// path leads to this very file, for calls that take no descriptor of its kind. It leads to no other one: proc(5).
func (h *held) path() string { return "/proc/self/fd/" + strconv.Itoa(h.fd) }

// open opens the file in earnest. A directory can also be opened as "." in it.
func (h *held) open(flags int) (int, error) { return unix.Open(h.path(), flags|unix.O_CLOEXEC, 0) }

// hasXattr says whether there is such an xattr, of any value.
func (h *held) hasXattr(name string) bool {
	_, err := unix.Getxattr(h.path(), name, nil)
	return err == nil
}

// isMount says whether something is mounted here, which is what the descriptor then stands for.
func (h *held) isMount() bool {
	var st unix.Statx_t
	err := unix.Statx(h.fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// xattrIs says whether there is a short xattr of this value.
func (h *held) xattrIs(name, value string) bool {
	var buf [8]byte
	n, err := unix.Getxattr(h.path(), name, buf[:])
	return err == nil && string(buf[:n]) == value
}

// xattrs gives those that belong to an image.
func (h *held) xattrs() (map[string]string, error) {
	list, err := growing(func(b []byte) (int, error) { return unix.Listxattr(h.path(), b) })
	if err == unix.ENOTSUP || len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	var all map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if !wanted(name) {
			continue
		}
		value, err := growing(func(b []byte) (int, error) { return unix.Getxattr(h.path(), name, b) })
		if err == unix.ENODATA {
			continue // gone this moment
		}
		if err != nil {
			return nil, os.NewSyscallError("getxattr", err)
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[name] = string(value)
	}
	return all, nil
}

// growing runs a call that fails with ERANGE until the buffer is large enough.
func growing(call func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := call(b)
		if err == unix.ERANGE && size < 1<<20 {
			continue
		}
		return b[:max(n, 0)], err
	}
}

// openIn opens path as somebody sees it whose root directory is root: no link and no ".." leads out of there, whatever is
// moved about meanwhile. A nil root is the caller's own, and then links lead where they lead. The error is a bare errno.
func openIn(root *os.File, path string, flags int) (int, error) {
	if root == nil {
		return unix.Open(path, flags|unix.O_CLOEXEC, 0)
	}
	// A magic link, as in /proc/PID/root, would be followed out of the root.
	return openat2(int(root.Fd()), path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openBelow opens a path that passes through directories alone, no links.
func openBelow(dir int, path string, flags int) (int, error) {
	return openat2(dir, path, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func openat2(dir int, path string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: something was renamed during the look-up of a "..", and the kernel is not sure.
		if err != unix.EINTR && (err != unix.EAGAIN || try > 1000) {
			return fd, err
		}
	}
}

// readNames lists an open directory, which may be open as a place only.
func readNames(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}
