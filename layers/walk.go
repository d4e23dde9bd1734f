package layers

import (
	"os"

	"golang.org/x/sys/unix"
)

// walkDepth is how deep Walk goes. Each level takes a descriptor; a program may nest directories as long as the disk lasts.
const walkDepth = 500

// Walk shows what is known of a file, or of a directory and everything in it, in no order. Nothing outside is looked at, even if a program
// moves things about in there meanwhile. What lies deeper than 500 levels is left out, and what is gone before it is looked
// at. A directory that cannot be read does not end the walk; the first such error is returned at the end.
func Walk(path string, visit func(*unix.Stat_t)) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == nil {
		visit(&st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = walkSub(unix.AT_FDCWD, path, walkDepth, visit)
		}
	}
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	return nil
}

func walkIn(dir, depth int, visit func(*unix.Stat_t)) error {
	names, failed := readNames(dir)
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			visit(&st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR && depth > 1 {
				err = walkSub(dir, name, depth-1, visit)
			}
		}
		if err != unix.ENOENT && failed == nil {
			failed = err
		}
	}
	return failed
}

func walkSub(dir int, name string, depth int, visit func(*unix.Stat_t)) error {
	sub, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP { // something else by now
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	return walkIn(sub, depth, visit)
}

// removal removes a tree with few descriptors, however deep it is.
type removal struct {
	fd     int // the directory that is being emptied
	levels []level
}

// level is a directory on the way down, with the names in it that are still to be removed.
type level struct {
	inode
	name  string
	names []string
}

// removeDeep removes everything in dir and dir itself. Directories that their owner may not enter or write are made so, and
// nothing is removed through a mount. It goes on past what cannot be removed; the first such error is returned.
func removeDeep(dir string) error {
	r := removal{fd: -1}
	defer func() {
		if r.fd >= 0 {
			unix.Close(r.fd)
		}
	}()
	err := r.enter(unix.AT_FDCWD, dir)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		err = r.empty()
	}
	if e := unix.Rmdir(dir); err == nil {
		err = e
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: dir, Err: err}
	}
	return nil
}

// empty removes what is in the directory that was entered.
func (r *removal) empty() (failed error) {
	for {
		l := &r.levels[len(r.levels)-1]
		if n := len(l.names) - 1; n >= 0 {
			name := l.names[n]
			l.names = l.names[:n]
			failed = or(failed, r.remove(name))
			continue
		}
		if len(r.levels) == 1 {
			return failed
		}
		name := l.name
		if err := r.leave(); err != nil {
			return or(failed, err)
		}
		if err := unix.Unlinkat(r.fd, name, unix.AT_REMOVEDIR); err != nil {
			failed = or(failed, err)
		}
	}
}

// remove removes a name, or enters the directory that has it.
func (r *removal) remove(name string) error {
	err := unix.Unlinkat(r.fd, name, 0)
	if err == unix.EISDIR || err == unix.EPERM { // POSIX says the latter of directories, too
		if e := r.enter(r.fd, name); e != unix.ENOTDIR {
			err = e
		}
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// enter goes down into a directory.
func (r *removal) enter(parent int, name string) error {
	f, err := hold(parent, name)
	if err != nil {
		return err
	}
	defer f.close()
	switch {
	case f.kind() != unix.S_IFDIR:
		return unix.ENOTDIR
	case len(r.levels) > 0 && f.isMount():
		return unix.EBUSY
	}
	if f.Mode&0o700 != 0o700 {
		if err := unix.Chmod(f.path(), 0o700); err != nil {
			return err
		}
	}
	fd, err := f.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	names, err := readNames(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.fd = fd
	r.levels = append(r.levels, level{inode{f.Dev, f.Ino}, name, names})
	return nil
}

// leave goes back up. Nobody works in the tree any more, so the way is still the same; if not, that is an error.
func (r *removal) leave() error {
	up, err := unix.Openat(r.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(r.fd)
	r.fd = up
	r.levels = r.levels[:len(r.levels)-1]
	var st unix.Stat_t
	if err := unix.Fstat(up, &st); err != nil {
		return err
	}
	if above := r.levels[len(r.levels)-1]; above.inode != (inode{st.Dev, st.Ino}) {
		return unix.ESTALE
	}
	return nil
}
