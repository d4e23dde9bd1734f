package ns

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// flagSet is what the options of a mount say: mount(2) flags to set, and the propagation to give.
type flagSet struct {
	set         uintptr
	propagation uintptr
	bind        bool
	recursive   bool // of a bind: submounts come along
	rro         bool // read-only for submounts too
}

// mountOptions splits options into flags and the data that the file system itself reads. The words are those of
// mount(8) and of the runtime specification.
func mountOptions(options []string) (f flagSet, data string, err error) {
	var rest []string
	for _, o := range options {
		switch o {
		case "bind":
			f.bind = true
		case "rbind":
			f.bind, f.recursive = true, true
		case "rro":
			f.set |= unix.MS_RDONLY
			f.rro = true
		case "defaults", "rw", "suid", "dev", "exec", "async", "atime", "nocopy", "copy", "z", "Z":
		default:
			if bit, ok := mountFlag(o); ok {
				f.set |= bit
			} else if bit, ok := propagationFlag(o); ok {
				f.propagation = bit
			} else {
				rest = append(rest, o)
			}
		}
	}
	data = strings.Join(rest, ",")
	if len(data) >= os.Getpagesize() {
		return f, "", fmt.Errorf("mount options %.60q...: %d bytes are more than the kernel takes (%d)", data, len(data), os.Getpagesize()-1)
	}
	return f, data, nil
}

func mountFlag(option string) (uintptr, bool) {
	switch option {
	case "ro":
		return unix.MS_RDONLY, true
	case "nosuid":
		return unix.MS_NOSUID, true
	case "nodev":
		return unix.MS_NODEV, true
	case "noexec":
		return unix.MS_NOEXEC, true
	case "noatime":
		return unix.MS_NOATIME, true
	case "nodiratime":
		return unix.MS_NODIRATIME, true
	case "relatime":
		return unix.MS_RELATIME, true
	case "strictatime":
		return unix.MS_STRICTATIME, true
	case "sync":
		return unix.MS_SYNCHRONOUS, true
	}
	return 0, false
}

func propagationFlag(option string) (uintptr, bool) {
	base, rec := strings.TrimPrefix(option, "r"), uintptr(0)
	if base != option {
		rec = unix.MS_REC
	}
	switch base {
	case "private":
		return unix.MS_PRIVATE | rec, true
	case "slave":
		return unix.MS_SLAVE | rec, true
	case "shared":
		return unix.MS_SHARED | rec, true
	case "unbindable":
		return unix.MS_UNBINDABLE | rec, true
	}
	return 0, false
}

// takeBinds copies what is bound from the host as detached mounts, with the rights that they get in the container.
// Setting these with mount_setattr(2) leaves flags alone that a user namespace may not lift.
func (b *birth) takeBinds() error {
	for i, m := range b.spec.Mounts {
		f, data, err := mountOptions(m.Options)
		if err != nil {
			return err
		}
		if m.Destination == "/" {
			continue
		}
		if !f.bind && m.Type != "bind" {
			if ownKind(m) {
				b.binds[i] = b.prepare(m, f, data)
			}
			continue
		}
		s := b.slot()
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if f.recursive {
			flags |= unix.AT_RECURSIVE
		}
		b.call("bind", m.Source, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(m.Source), num(flags)).into(s)
		b.setattr(m.Source, s.value(), f)
		b.binds[i] = s
	}
	if b.userns {
		b.takeDevices()
	}
	if !b.ownsDev() { // then who knows what its null is: each mask is taken from the host
		for _, p := range b.spec.Linux.MaskedPaths {
			s := b.slot()
			b.call("mask", p, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str("/dev/null"), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(s)
			b.masks = append(b.masks, s)
		}
	}
	return nil
}

// ownKind says whether a mount is one that stands at the root of much else: proc and sysfs, and the container's /dev. A
// link in the image may not turn it aside (CVE-2019-19921), so they are attached by a call that follows none.
func ownKind(m specs.Mount) bool {
	return m.Type == "proc" || m.Type == "sysfs" || m.Type == "tmpfs" && m.Destination == "/dev"
}

// prepare makes a file system that is attached to nothing yet, fsopen(2).
func (b *birth) prepare(m specs.Mount, f flagSet, data string) slot {
	const setFlag, setString, create = 0, 1, 6 // enum fsconfig_command
	fs, mnt, what := b.slot(), b.slot(), m.Destination
	b.call("mount "+m.Type+" on", what, unix.SYS_FSOPEN, b.str(m.Type), num(unix.FSOPEN_CLOEXEC)).into(fs)
	b.call("mount "+m.Type+" on", what, unix.SYS_FSCONFIG, fs.value(), num(setString), b.str("source"), b.str(m.Type), num(0))
	for o := range strings.SplitSeq(data, ",") {
		key, value, hasValue := strings.Cut(o, "=")
		switch {
		case o == "":
		case hasValue:
			b.call("mount "+m.Type+" on", what+" with "+o, unix.SYS_FSCONFIG, fs.value(), num(setString), b.str(key), b.str(value), num(0))
		default:
			b.call("mount "+m.Type+" on", what+" with "+o, unix.SYS_FSCONFIG, fs.value(), num(setFlag), b.str(key), num(0), num(0))
		}
	}
	b.call("mount "+m.Type+" on", what, unix.SYS_FSCONFIG, fs.value(), num(create), num(0), num(0), num(0))
	b.call("mount "+m.Type+" on", what, unix.SYS_FSMOUNT, fs.value(), num(unix.FSMOUNT_CLOEXEC), num(attrs(f.set))).into(mnt)
	b.call("close", what, unix.SYS_CLOSE, fs.value())
	return mnt
}

// setattr gives a detached mount its flags and its propagation, private unless something else was asked for.
func (b *birth) setattr(source string, fd arg, f flagSet) {
	set, propagation, flags := attrs(f.set), f.propagation, uint(unix.AT_EMPTY_PATH)
	if propagation == 0 {
		propagation = unix.MS_PRIVATE | unix.MS_REC
	}
	if propagation&unix.MS_REC != 0 {
		flags |= unix.AT_RECURSIVE
	}
	if set != 0 && f.rro != (flags&unix.AT_RECURSIVE != 0) { // the two reach differently far: two calls
		b.mountSetattr(source, fd, f.rro, set, 0)
		set = 0
	}
	b.call("set propagation of", source, unix.SYS_MOUNT_SETATTR, fd, b.str(""), num(flags),
		b.bytes(mountAttr(set, uint64(propagation&^unix.MS_REC))), num(32))
}

func (b *birth) mountSetattr(what string, fd arg, recursive bool, set, clear uint64) {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := mountAttr(set, 0)
	binary.NativeEndian.PutUint64(attr[8:], clear)
	b.call("set mount flags of", what, unix.SYS_MOUNT_SETATTR, fd, b.str(""), num(flags), b.bytes(attr), num(32))
}

// mountAttr is struct mount_attr: set, clear, propagation, user namespace.
func mountAttr(set, propagation uint64) []byte {
	var a [32]byte
	binary.NativeEndian.PutUint64(a[0:], set)
	binary.NativeEndian.PutUint64(a[16:], propagation)
	return a[:]
}

// attrs turns mount(2) flags into those of mount_setattr(2).
func attrs(flags uintptr) (a uint64) {
	for _, f := range [...]struct {
		old uintptr
		new uint64
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
	} {
		if flags&f.old != 0 {
			a |= f.new
		}
	}
	return a
}

// mounts mounts the rest of the specification's list, in its order.
func (b *birth) mounts() error {
	for i, m := range b.spec.Mounts {
		switch {
		case m.Destination == "/":
		case m.Type == "cgroup" || m.Type == "cgroup2":
			// After the cgroup namespace is there.
		default:
			if err := b.mount(i, m); err != nil {
				return fmt.Errorf("mount on %q: %w", m.Destination, err)
			}
		}
	}
	return nil
}

// mount first tries, and only if the target is missing makes it and tries again: most images have most targets.
func (b *birth) mount(i int, m specs.Mount) error {
	f, data, err := mountOptions(m.Options)
	if err != nil {
		return err
	}
	isDir, attach := true, func() *call {
		return b.call("mount "+m.Type+" on", m.Destination, unix.SYS_MOUNT, b.str(m.Type), b.str(m.Destination),
			b.str(m.Type), num(f.set), b.str(data))
	}
	if s, ok := b.binds[i]; ok && ownKind(m) {
		attach = func() *call { return b.moveMount(m.Type, s.value(), m.Destination, 0) }
	} else if ok {
		st, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		isDir = st.IsDir()
		attach = func() *call { return b.moveMount(m.Source, s.value(), m.Destination, followTarget) }
	}
	b.orMake(m.Destination, isDir, attach)
	return nil
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

// Whether a link at the last component of a mount's target is followed, as Docker does for volumes, or an error.
const followTarget = unix.MOVE_MOUNT_T_SYMLINKS

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

// putFiles makes the files of Cmd.Files. Each is bound to its place and loses its first name.
func (b *birth) putFiles() error {
	for i, f := range b.Files {
		own, name, flags := b.ownsDev() && !strings.HasPrefix(f.Path, "/dev/"), f.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC
		if own {
			name = "/dev/.file" + strconv.Itoa(i)
		}
		fd, tree := b.slot(), b.slot()
		b.call("create", f.Path, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(name), num(flags), num(0o644)).into(fd)
		b.call("write", f.Path, unix.SYS_WRITE, fd.value(), b.bytes(f.Data), num(len(f.Data)))
		b.call("close", f.Path, unix.SYS_CLOSE, fd.value())
		if !own {
			continue
		}
		b.call("bind", f.Path, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(name), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(tree)
		b.orMake(f.Path, false, func() *call { return b.moveMount("a file", tree.value(), f.Path, followTarget) })
		b.call("unlink", name, unix.SYS_UNLINKAT, num(unix.AT_FDCWD), b.str(name), num(0))
	}
	return nil
}

// cgroupNamespace makes the group that the parent has put us in the root of what the container sees, and mounts it. On
// v1 each hierarchy with a group of ours gets a directory.
func (b *birth) cgroupNamespace() error {
	if b.fresh(specs.CgroupNamespace) {
		b.call("create cgroup namespace", "", unix.SYS_UNSHARE, num(unix.CLONE_NEWCGROUP))
	}
	for _, m := range b.spec.Mounts {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		f, _, err := mountOptions(m.Options)
		if err != nil {
			return err
		}
		if m.Type == "cgroup2" || b.Cgroup != nil {
			b.orMake(m.Destination, true, func() *call {
				return b.call("mount cgroup2 on", m.Destination, unix.SYS_MOUNT, b.str("cgroup2"), b.str(m.Destination),
					b.str("cgroup2"), num(f.set), num(0))
			})
			continue
		}
		b.cgroupV1(m.Destination, f.set)
	}
	return nil
}

func (b *birth) cgroupV1(target string, flags uintptr) {
	if len(b.Hierarchies) == 0 {
		return
	}
	rw := flags &^ unix.MS_RDONLY
	b.orMake(target, true, func() *call {
		return b.call("mount tmpfs on", target, unix.SYS_MOUNT, b.str("tmpfs"), b.str(target), b.str("tmpfs"), num(rw), b.str("mode=755,size=16k"))
	})
	for _, h := range b.Hierarchies {
		dir, data := target+"/"+h, h
		if name, named := strings.CutPrefix(h, "name="); named {
			dir = target + "/" + name
		}
		b.mkdir(dir)
		b.call("mount cgroup on", dir, unix.SYS_MOUNT, b.str("cgroup"), b.str(dir), b.str("cgroup"), num(flags), b.str(data))
		for single := range strings.SplitSeq(h, ",") {
			if single != h { // cpu -> cpu,cpuacct, as programs expect
				b.call("link", target+"/"+single, unix.SYS_SYMLINKAT, b.str(h), num(unix.AT_FDCWD), b.str(target+"/"+single)).orGoOn()
			}
		}
	}
	if flags&unix.MS_RDONLY != 0 {
		b.call("make read-only", target, unix.SYS_MOUNT, num(0), b.str(target), num(0), num(flags|unix.MS_REMOUNT|unix.MS_BIND), num(0))
	}
}

// maskPaths hides what tells too much of the host: a directory under an empty one, a file under /dev/null. What this
// kernel does not have needs no mask.
func (b *birth) maskPaths() error {
	for i, p := range b.spec.Linux.MaskedPaths {
		if b.ownsDev() {
			b.call("mask", p, unix.SYS_MOUNT, b.str("/dev/null"), b.str(p), num(0), num(unix.MS_BIND), num(0)).thenSkip(1).orGoOn()
		} else {
			b.moveMount("/dev/null", b.masks[i].value(), p, 0).thenSkip(1).orGoOn()
		}
		b.call("mask", p, unix.SYS_MOUNT, b.str("tmpfs"), b.str(p), b.str("tmpfs"), num(unix.MS_RDONLY), b.str("size=0k")).orGoOn(unix.ENOENT)
	}
	for _, p := range b.spec.Linux.ReadonlyPaths {
		b.call("make read-only", p, unix.SYS_MOUNT, b.str(p), b.str(p), num(0), num(unix.MS_BIND|unix.MS_REC), num(0)).orSkip(1, unix.ENOENT)
		b.readOnly(p, true)
	}
	return nil
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
