package ns

import (
	"cmp"
	"encoding/binary"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Where things are put in a container is the image's word too: it may have put a link there, and whoever shares a volume
// with the container may put one there this moment. Once the host's root is left such a link leads nowhere but into the
// container, with one exception: the links of /proc that are no paths, to the root or a descriptor of a process that the
// container sees. So what is not surely the kernel's own is opened without them, and then only the descriptor counts.

// trusted says whether nothing but the kernel decides what a path leads to: it lies in the container's own proc, sysfs or
// /dev, with nothing mounted in between. The file systems are attached where no link turns them aside, see ownKind.
func (b *birth) trusted(target string) bool {
	deepest, own := "/", false
	for _, m := range b.spec.Mounts {
		if strings.HasPrefix(target, m.Destination+"/") && len(m.Destination) >= len(deepest) {
			deepest, own = m.Destination, ownKind(m)
		}
	}
	return own
}

// openHow opens a path in the container, openat2(2).
func (b *birth) openHow(op, path string, how unix.OpenHow) *call {
	words := make([]byte, 24)
	binary.NativeEndian.PutUint64(words[0:], how.Flags)
	binary.NativeEndian.PutUint64(words[8:], how.Mode)
	binary.NativeEndian.PutUint64(words[16:], how.Resolve)
	return b.call(op, path, unix.SYS_OPENAT2, num(unix.AT_FDCWD), b.str(path), b.bytes(words), num(len(words)))
}

// spot finds a path without opening it.
func (b *birth) spot(op, path string, flags uint64) *call {
	return b.openHow(op, path, unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_NO_MAGICLINKS})
}

// reach finds target; if that is missing it makes it, and its parents, first: most images have most targets.
func (b *birth) reach(op, target string, isDir bool) slot {
	fd := b.slot()
	mark := len(b.calls)
	b.spot(op, target, 0)
	b.makeBelow(target, isDir)
	b.spot(op, target, 0).into(fd)
	(*call)(&b.calls[mark]).into(fd).thenSkip(len(b.calls)-mark-1).orSkip(0, unix.ENOENT)
	return fd
}

// makeBelow makes a directory or an empty file to mount on, and its parents, each in the one that has been found to be there.
func (b *birth) makeBelow(target string, isDir bool) {
	dir := b.slot()
	for i := 1; i <= len(target); i++ {
		if i < len(target) && target[i] != '/' {
			continue
		}
		parent, name := path.Split(target[:i])
		b.spot("open", parent, unix.O_DIRECTORY).into(dir)
		if i < len(target) || isDir {
			b.call("make directory", target[:i], unix.SYS_MKDIRAT, dir.value(), b.str(name), num(0o755)).orGoOn(unix.EEXIST)
		} else { // mknod(2) makes a regular file without opening it
			b.call("make", target, unix.SYS_MKNODAT, dir.value(), b.str(name), num(unix.S_IFREG|0o644), num(0)).orGoOn(unix.EEXIST)
		}
		b.call("close", parent, unix.SYS_CLOSE, dir.value())
	}
}

// attach moves a mount that is attached to nothing to its target. A link at the last component is followed, as Docker does
// for volumes.
func (b *birth) attach(what string, fd arg, target string, isDir bool) {
	if b.trusted(target) {
		b.orMake(target, isDir, func() *call { return b.moveMount(what, fd, target, unix.MOVE_MOUNT_T_SYMLINKS) })
		return
	}
	place := b.reach("mount "+what+" on", target, isDir)
	b.moveTo(what, fd, target, place)
	b.call("close", target, unix.SYS_CLOSE, place.value())
}

// moveTo attaches a mount to a place that was found.
func (b *birth) moveTo(what string, fd arg, target string, place slot) *call {
	return b.call("mount "+what+" on", target, unix.SYS_MOVE_MOUNT, fd, b.str(""), place.value(), b.str(""),
		num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// mountOn mounts a file system that this process makes on a directory.
func (b *birth) mountOn(target, kind, source string, flags uintptr, data string) {
	op := "mount " + kind + " on"
	mount := func(where string) *call {
		return b.call(op, target, unix.SYS_MOUNT, b.str(cmp.Or(source, kind)), b.str(where), b.str(kind), num(flags), b.str(data))
	}
	if b.trusted(target) {
		b.orMake(target, true, func() *call { return mount(target) })
		return
	}
	place := b.reach(op, target, true)
	b.call(op, target, unix.SYS_FCHDIR, place.value()) // mount(2) takes no descriptor
	mount(".")
	b.call("close", target, unix.SYS_CLOSE, place.value())
	b.call("enter", "/", unix.SYS_CHDIR, b.str("/"))
}

// orMake attaches something to target; if target is missing, makes it and its parents, then attaches.
func (b *birth) orMake(target string, isDir bool, attach func() *call) {
	mark := len(b.calls)
	attach()
	b.makeTarget(target, isDir)
	attach()
	first := (*call)(&b.calls[mark])
	first.thenSkip(len(b.calls)-mark-1).orSkip(0, unix.ENOENT)
}

func (b *birth) moveMount(what string, fd arg, target string, flags uint) *call {
	return b.call("mount "+what+" on", target, unix.SYS_MOVE_MOUNT, fd, b.str(""), num(unix.AT_FDCWD), b.str(target),
		num(unix.MOVE_MOUNT_F_EMPTY_PATH|flags))
}

// makeTarget makes a directory or an empty file to mount on, and its parents.
func (b *birth) makeTarget(target string, isDir bool) {
	for i := 1; i < len(target); i++ {
		if target[i] == '/' {
			b.mkdir(target[:i])
		}
	}
	if isDir {
		b.mkdir(target)
		return
	}
	// mknod(2) makes a regular file without opening it.
	b.call("make", target, unix.SYS_MKNODAT, num(unix.AT_FDCWD), b.str(target), num(unix.S_IFREG|0o644), num(0)).orGoOn(unix.EEXIST)
}

func (b *birth) mkdir(dir string) {
	b.call("make directory", dir, unix.SYS_MKDIRAT, num(unix.AT_FDCWD), b.str(dir), num(0o755)).orGoOn(unix.EEXIST)
}
