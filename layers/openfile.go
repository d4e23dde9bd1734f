package layers

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFile opens a file or directory for reading as a container would see it whose root is an overlay of dirs,
// topmost first: whiteouts and opaque directories hide what is below them, and symbolic links, absolute ones
// too, are followed inside. Nothing outside dirs is opened, even if a program in the container moves things about
// meanwhile. It is for a glance at /etc/passwd before anything is mounted. A directory that is merged from
// several is given as the topmost of them. Devices, FIFOs and sockets are not opened: the error then is
// unix.EINVAL. Errors are *os.PathError with the path as given.
func OpenFile(dirs []string, path string) (*os.File, error) {
	o := lookup{links: maxLinks}
	defer o.close()
	f, err := o.open(dirs, path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// lowerFolder finds a regular file in layers below and opens its folder, for a hard link.
func lowerFolder(dirs []string, path string) (fd int, name string, err error) {
	o := lookup{links: maxLinks}
	defer o.close()
	e, err := o.walk(dirs, path, false)
	if err != nil {
		return -1, "", err
	}
	if e.kind == unix.S_IFDIR {
		return -1, "", unix.EPERM
	}
	fd, err = unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, e.name, err
}

// lookup walks an overlay by hand.
type lookup struct {
	stack []merged // the directories from the root to where the walk is
	fds   []int    // everything to close
	links int      // how many may still be followed
}

// merged is one directory of the overlay: the directories it is made of, topmost first.
type merged []place

// place is one real directory.
type place struct {
	fd    int
	layer int // which of the stack it belongs to, 0 for the topmost
}

// found is where a walk ended.
type found struct {
	place        // the real directory that holds it; its fd is -1 for the root
	name  string // its name there
	kind  uint32 // S_IFMT of its mode
	self  merged // if it is a directory
}

// nowhere stands for the directory that holds the root.
var nowhere = place{fd: -1}

// close gives all descriptors back.
func (o *lookup) close() {
	for _, fd := range o.fds {
		unix.Close(fd)
	}
}

// open walks to path and opens what is there.
func (o *lookup) open(dirs []string, path string) (*os.File, error) {
	e, err := o.walk(dirs, path, true)
	if err != nil {
		return nil, err
	}
	if e.kind == unix.S_IFDIR {
		fd, err := unix.Openat(e.self[0].fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	f, err := hold(e.fd, e.name)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if f.kind() != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	fd, err := f.open(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// walk finds path. The last component is followed only if follow is true.
func (o *lookup) walk(dirs []string, path string, follow bool) (found, error) {
	root, err := o.root(dirs)
	if err != nil {
		return found{}, err
	}
	o.stack = []merged{root}
	here := found{place: nowhere, kind: unix.S_IFDIR, self: root}
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch {
		case here.kind != unix.S_IFDIR:
			return found{}, unix.ENOTDIR
		case name == "" || name == ".":
			continue
		case name == "..":
			o.stack = o.stack[:max(1, len(o.stack)-1)]
			here = found{place: nowhere, kind: unix.S_IFDIR, self: o.stack[len(o.stack)-1]}
			continue
		}
		e, err := o.step(o.stack[len(o.stack)-1], name)
		if err != nil {
			return found{}, err
		}
		if e.kind == unix.S_IFLNK && (follow || strings.Trim(rest, "/") != "") {
			if rest, err = o.followed(e, rest); err != nil {
				return found{}, err
			}
			here = found{place: nowhere, kind: unix.S_IFDIR, self: o.stack[len(o.stack)-1]}
			continue
		}
		if here = e; e.kind == unix.S_IFDIR {
			o.stack = append(o.stack, e.self)
		}
	}
	return here, nil
}

// followed gives the way that is left once a link is read.
func (o *lookup) followed(e found, rest string) (string, error) {
	if o.links--; o.links < 0 {
		return "", unix.ELOOP
	}
	target, err := readlinkat(e.fd, e.name)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(target, "/") {
		o.stack = o.stack[:1]
	}
	if rest == "" {
		return target, nil
	}
	return target + "/" + rest, nil
}

// root opens the layers.
func (o *lookup) root(dirs []string) (merged, error) {
	if len(dirs) == 0 {
		return nil, unix.ENOENT
	}
	var root merged
	for i, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open layer %q: %w", dir, err)
		}
		o.fds = append(o.fds, fd)
		root = append(root, place{fd, i})
	}
	return root, nil
}

// step looks one name up in a merged directory: the topmost entry that has it counts, and if that is a
// directory, the directories below it of the same name as well, until one is opaque or something else is there.
func (o *lookup) step(dir merged, name string) (found, error) {
	var e found
	for i, p := range dir {
		st, err := statAt(p.fd, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return found{}, err
		}
		if isWhiteout(p.fd, name, st) {
			break
		}
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFDIR {
			if e.self == nil {
				return found{place: p, name: name, kind: kind}, nil
			}
			break
		}
		last, err := o.enter(&e, p, name, i == len(dir)-1)
		if err != nil {
			return found{}, err
		}
		if last {
			break
		}
	}
	if e.self == nil {
		return found{}, unix.ENOENT
	}
	return e, nil
}

// enter adds one real directory to a merged one, and says whether it hides those below.
func (o *lookup) enter(e *found, p place, name string, last bool) (bool, error) {
	const flags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	mode := unix.O_RDONLY // xattrs cannot be read through O_PATH
	if last {
		mode = unix.O_PATH
	}
	sub, err := unix.Openat(p.fd, name, flags|mode, 0)
	if err != nil {
		return false, err
	}
	o.fds = append(o.fds, sub)
	if e.self == nil {
		*e = found{place: p, name: name, kind: unix.S_IFDIR}
	}
	e.self = append(e.self, place{sub, p.layer})
	return !last && opaque(sub), nil
}
