package layers

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one lookup may pass, as in the kernel (path_resolution(7)).
const maxLinks = 40

// maxFolders is how many directories a tree keeps open. A tar names its entries folder by folder, so a few per
// level of depth are enough for nearly every entry to find its parent open.
const maxFolders = 48

// tree is a directory that is being filled. It finds the parents of entries without ever leaving that
// directory: every step is one openat of one name with O_NOFOLLOW, and a link on the way is read and followed by
// tree itself, with the directory as its root. The kernel's openat2(RESOLVE_IN_ROOT) would do the same in one
// call, but walks the whole path again for every entry, and is missing or forbidden in places.
type tree struct {
	root    folder
	open    map[string]*folder // by path as the tar spells it, links unresolved
	clock   uint64
	doomed  []int                              // forgotten, but perhaps still in the hands of the last caller of folder
	implied func(f *folder, name string) error // makes a parent that no entry named; what stands there stays
}

// folder is one open directory of a tree.
type folder struct {
	fd     int    // O_PATH, or for the root a readable one
	path   string // as the tar spells it
	setgid bool   // what is made here belongs to the folder's group, and folders inherit the bit
	used   uint64
}

// openTree starts a tree at dir. Close it.
func openTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	t := &tree{root: folder{fd: fd}, open: make(map[string]*folder)}
	if t.root.setgid, err = setgid(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return t, nil
}

// close gives all descriptors back.
func (t *tree) close() {
	t.forget()
	t.bury()
	unix.Close(t.root.fd)
}

// forget drops every folder but the root. It must be called whenever a name that stood for a directory, or for
// a link to one, may stand for something else.
func (t *tree) forget() {
	for _, f := range t.open {
		t.doomed = append(t.doomed, f.fd)
	}
	clear(t.open)
}

// bury closes what was forgotten.
func (t *tree) bury() {
	for _, fd := range t.doomed {
		unix.Close(fd)
	}
	t.doomed = t.doomed[:0]
}

// folder opens the directory p (clean, relative, "" for the root), and makes it where it is missing if make is
// true. The result is good until the next call.
func (t *tree) folder(p string, make bool) (*folder, error) {
	t.bury()
	if p == "" {
		return &t.root, nil
	}
	if f := t.open[p]; f != nil {
		t.clock++
		f.used = t.clock
		return f, nil
	}
	dir, name := split(p)
	parent, err := t.folder(dir, make)
	if err != nil {
		return nil, err
	}
	fd, err := t.step(parent, name, make)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		fd, err = t.through(p, make)
	}
	if err != nil {
		return nil, err
	}
	return t.keep(p, fd)
}

// step opens one directory in its parent, without following a link.
func (t *tree) step(parent *folder, name string, make bool) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent.fd, name, flags, 0)
	if make && t.implied != nil && (err == unix.ENOENT || err == unix.ENOTDIR) {
		if err := t.implied(parent, name); err != nil {
			return -1, err
		}
		fd, err = unix.Openat(parent.fd, name, flags, 0)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: join(parent.path, name), Err: err}
	}
	return fd, nil
}

// through opens the directory p whose last component is no directory: a link that leads to one inside the root.
func (t *tree) through(p string, make bool) (int, error) {
	real, err := t.resolve(p, make)
	if err != nil {
		return -1, err
	}
	if real == p {
		return -1, &os.PathError{Op: "open", Path: p, Err: unix.ENOTDIR}
	}
	f, err := t.folder(real, make)
	if err != nil {
		return -1, err
	}
	return unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
}

// resolve gives the path of p without links, everything taken inside the root: an absolute target starts there,
// and ".." ends there.
func (t *tree) resolve(p string, make bool) (string, error) {
	done, rest, links := "", p, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			done, _ = split(done)
			continue
		}
		f, err := t.folder(done, make)
		if err != nil {
			return "", err
		}
		target, err := readlinkat(f.fd, name)
		if err == unix.EINVAL || err == unix.ENOENT {
			done = join(done, name)
			continue
		}
		if err != nil {
			return "", &os.PathError{Op: "readlink", Path: join(done, name), Err: err}
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "open", Path: p, Err: unix.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			done = ""
		}
		rest = target + "/" + rest
	}
	return done, nil
}

// keep remembers an open folder, in place of the one that was not used for longest.
func (t *tree) keep(p string, fd int) (*folder, error) {
	bit, err := setgid(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if len(t.open) >= maxFolders {
		t.evict()
	}
	t.clock++
	f := &folder{fd: fd, path: p, setgid: bit, used: t.clock}
	t.open[p] = f
	return f, nil
}

// evict closes the folder that was not used for longest.
func (t *tree) evict() {
	var oldest *folder
	for _, f := range t.open {
		if oldest == nil || f.used < oldest.used {
			oldest = f
		}
	}
	unix.Close(oldest.fd)
	delete(t.open, oldest.path)
}

// setgid says whether the directory hands its group to what is made in it.
func setgid(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Mode&unix.S_ISGID != 0, nil
}

// readlinkat reads a link of any length.
func readlinkat(fd int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// split cuts a clean relative path into its parent ("" for the root) and its last name.
func split(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", p
	}
	return p[:i], p[i+1:]
}

// join is the way back from split.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// cleanName turns the name of a tar entry into a clean relative path, "" for the layer itself. A leading slash
// means nothing in a layer. A path that would climb out of the layer is refused rather than bent: no program
// that packs layers writes one.
func (l Limits) cleanName(name string) (string, error) {
	p := strings.TrimLeft(name, "/")
	for strings.HasPrefix(p, "./") {
		p = strings.TrimLeft(p[1:], "/")
	}
	p = path.Clean(p)
	switch {
	case p == ".":
		return "", nil
	case p == "..", strings.HasPrefix(p, "../"):
		return "", errors.New("path leaves the layer")
	case strings.IndexByte(p, 0) >= 0:
		return "", errors.New("path holds a zero byte")
	case len(p) > l.Path:
		return "", &LimitError{"Path", int64(l.Path), "bytes in a path"}
	case strings.Count(p, "/") >= l.Depth:
		return "", &LimitError{"Depth", int64(l.Depth), "components in a path"}
	}
	return p, nil
}

// entryError says which entry of a layer something happened to. The path is quoted as somebody typed it.
func entryError(p string, err error) error {
	if p == "" {
		p = "/"
	}
	if len(p) > 300 { // nobody reads on
		p = p[:300] + "…"
	}
	return fmt.Errorf("unpack %q: %w", p, err)
}
