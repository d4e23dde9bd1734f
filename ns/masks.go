package ns

import "golang.org/x/sys/unix"

// takeMasks copies the host's /dev/null for paths whose mask cannot be the container's: because it has no /dev of its own, and
// who knows what its null is, or because the path is not the kernel's own and has to be masked by a descriptor.
func (b *birth) takeMasks() {
	b.masks = make([]slot, len(b.spec.Linux.MaskedPaths))
	for i, p := range b.spec.Linux.MaskedPaths {
		if b.ownsDev() && b.trusted(p) {
			continue
		}
		b.masks[i] = b.slot()
		b.call("mask", p, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str("/dev/null"), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(b.masks[i])
	}
}

// maskPaths hides what tells too much of the host: a directory under an empty one, a file under /dev/null. What this
// kernel does not have needs no mask.
func (b *birth) maskPaths() error {
	for i, p := range b.spec.Linux.MaskedPaths {
		switch {
		case !b.trusted(p):
			b.maskFound(p, b.masks[i])
		default:
			// To try what fits costs more than to look: the kernel waits 0.1 ms before it takes back what did not.
			b.call("look at", p, unix.SYS_FACCESSAT, num(unix.AT_FDCWD), b.str(p+"/."), num(unix.F_OK)).thenSkip(1).orGoOn()
			if b.masks[i] == 0 {
				b.call("mask", p, unix.SYS_MOUNT, b.str("/dev/null"), b.str(p), num(0), num(unix.MS_BIND), num(0)).thenSkip(1).orGoOn()
			} else {
				b.moveMount("/dev/null", b.masks[i].value(), p, 0).thenSkip(1).orGoOn()
			}
			b.emptyDir(p, p).orGoOn(unix.ENOENT)
		}
	}
	for _, p := range b.spec.Linux.ReadonlyPaths {
		if !b.trusted(p) {
			b.protectFound(p)
			continue
		}
		b.call("make read-only", p, unix.SYS_MOUNT, b.str(p), b.str(p), num(0), num(unix.MS_BIND|unix.MS_REC), num(0)).orSkip(1, unix.ENOENT)
		b.readOnly(p, true)
	}
	return nil
}

func (b *birth) emptyDir(path, where string) *call {
	return b.call("mask", path, unix.SYS_MOUNT, b.str("tmpfs"), b.str(where), b.str("tmpfs"), num(unix.MS_RDONLY), b.str("size=0k"))
}

// plainly finds a path that must have no link in it: a mask that lay where a link leads would hide nothing.
func (b *birth) plainly(op, path string, flags uint64) *call {
	return b.openHow(op, path, unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_NO_SYMLINKS})
}

// maskFound masks what is found at a path that others may change: it is looked at once, and masked by its descriptor.
func (b *birth) maskFound(p string, null slot) {
	fd := b.slot()
	b.plainly("mask", p, unix.O_DIRECTORY).into(fd).thenSkip(2).orGoOn(unix.ENOTDIR, unix.ENOENT)
	b.plainly("mask", p, 0).into(fd).orSkip(5, unix.ENOENT)
	b.moveTo("/dev/null", null.value(), p, fd).thenSkip(3)
	b.call("mask", p, unix.SYS_FCHDIR, fd.value())
	b.emptyDir(p, ".")
	b.call("enter", "/", unix.SYS_CHDIR, b.str("/"))
	b.call("close", p, unix.SYS_CLOSE, fd.value())
}

// protectFound makes what is found at such a path read-only.
func (b *birth) protectFound(p string) {
	fd, tree := b.slot(), b.slot()
	b.plainly("make read-only", p, 0).into(fd).orSkip(5, unix.ENOENT)
	b.call("make read-only", p, unix.SYS_OPEN_TREE, fd.value(), b.str(""),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)).into(tree)
	b.mountSetattr(p, tree.value(), true, unix.MOUNT_ATTR_RDONLY, 0)
	b.moveTo(p, tree.value(), p, fd)
	b.call("close", p, unix.SYS_CLOSE, tree.value())
	b.call("close", p, unix.SYS_CLOSE, fd.value())
}

func (b *birth) readOnly(path string, recursive bool) {
	var flags uint
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	b.call("make read-only", path, unix.SYS_MOUNT_SETATTR, num(unix.AT_FDCWD), b.str(path), num(flags),
		b.bytes(mountAttr(unix.MOUNT_ATTR_RDONLY, 0)), num(32))
}

func (b *birth) readOnlyRoot() error {
	if b.spec.Root.Readonly {
		b.readOnly("/", false)
	}
	return nil
}
