package ns

import (
	"cmp"
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
	idmap       bool // see IDMapOption
	// subdir is a path below the source of a bind, which counts as the root on the way there.
	subdir string
	// lower is a directory of the host's that an overlay has for its lower one.
	lower string
}

// SubdirOption is how mount(8) spells that what is mounted of a bind is a path below its source. Links on the way lead to
// places below the source only.
const SubdirOption = "X-mount.subdir="

// LowerOption gives an overlay the directory named LowerDir in its Source as a bind of a directory of the host's, made for the
// purpose. The container sees an overlay's options, and this way no path of the host's in them.
const (
	LowerOption = "X-hull.lower="
	LowerDir    = "lower"
)

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
		case IDMapOption:
			f.idmap = true
		case "defaults", "rw", "suid", "dev", "exec", "async", "atime", "nocopy", "copy", "z", "Z":
		default:
			if bit, ok := mountFlag(o); ok {
				f.set |= bit
			} else if bit, ok := propagationFlag(o); ok {
				f.propagation = bit
			} else if dir, ok := strings.CutPrefix(o, SubdirOption); ok {
				f.subdir = dir
			} else if dir, ok := strings.CutPrefix(o, LowerOption); ok {
				f.lower = dir
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
			switch {
			case ownKind(m):
				b.binds[i] = b.prepare(m, f, data)
			case !inChild(m.Type):
				if b.binds[i], err = b.mountHere(m, f, data); err != nil {
					return fmt.Errorf("mount %s on %s: %w", m.Type, m.Destination, err)
				}
			}
			continue
		}
		if len(b.Mapped) > 0 {
			if b.binds[i], err = b.bindHere(m, f); err != nil {
				return err
			}
			continue
		}
		s := b.slot()
		dir, name, flags := num(unix.AT_FDCWD), m.Source, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if f.subdir != "" {
			dir, name, flags = b.within(m.Source, f.subdir), "", flags|unix.AT_EMPTY_PATH
		}
		if f.recursive {
			flags |= unix.AT_RECURSIVE
		}
		b.call("bind", m.Source, unix.SYS_OPEN_TREE, dir, b.str(name), num(flags)).into(s)
		b.leave(dir)
		b.setattr(m.Source, s.value(), f)
		b.binds[i] = s
	}
	if b.userns {
		b.takeDevices()
	}
	b.takeMasks()
	return nil
}

// inRoot is how a path below a directory is opened as if the directory were the root. A program that shares it may have
// put links in the way, or put them there this moment: none leads out.
var inRoot = unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}

// openTries is how often that is tried: the kernel gives up on a .. if anything is renamed meanwhile, anywhere.
const openTries = 32

// within opens a path below a directory, openat2(2).
func (b *birth) within(dir, path string) arg {
	var how [24]byte
	binary.NativeEndian.PutUint64(how[0:], inRoot.Flags)
	binary.NativeEndian.PutUint64(how[16:], inRoot.Resolve)
	top, sub := b.slot(), b.slot()
	b.call("open", dir, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(dir), num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), num(0)).into(top)
	for left := openTries - 1; left >= 0; left-- {
		c := b.call("open "+path+" in", dir, unix.SYS_OPENAT2, top.value(), b.str(path), b.bytes(how[:]), num(len(how)))
		if c.into(sub).thenSkip(left); left > 0 {
			c.orGoOn(unix.EAGAIN)
		}
	}
	b.call("close", dir, unix.SYS_CLOSE, top.value())
	return sub.value()
}

// leave closes what within has opened: a .. from there leads to the host.
func (b *birth) leave(dir arg) {
	if dir.kind == load {
		b.call("close descriptor", "", unix.SYS_CLOSE, dir)
	}
}

// isDir looks at the source of a bind.
func isDir(source, subdir string) (bool, error) {
	var st unix.Stat_t
	if subdir == "" {
		err := unix.Stat(source, &st)
		return st.Mode&unix.S_IFMT == unix.S_IFDIR, pathError("stat", source, err)
	}
	fd, err := openBelow(source, subdir)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	err = unix.Fstat(fd, &st)
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, pathError("stat", source+"/"+subdir, err)
}

// openBelow is within, for the parent.
func openBelow(source, subdir string) (int, error) {
	top, err := unix.Open(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, pathError("open", source, err)
	}
	defer unix.Close(top)
	fd, err := -1, error(unix.EAGAIN)
	for try := 0; try < openTries && err == unix.EAGAIN; try++ {
		fd, err = unix.Openat2(top, subdir, &inRoot)
	}
	return fd, pathError("open", source+"/"+subdir, err)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// takeOverlays makes the overlays that do not become the root: each is mounted where the root will be, and a detached
// copy taken.
func (b *birth) takeOverlays() error {
	root := b.spec.Root.Path
	for i, m := range b.spec.Mounts {
		if m.Type != "overlay" || m.Destination == "/" {
			continue
		}
		f, data, err := mountOptions(m.Options)
		if err != nil {
			return err
		}
		s := b.slot()
		if f.lower != "" {
			below := b.slot()
			b.call("bind", f.lower, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(f.lower), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(below)
			b.moveMount(f.lower, below.value(), m.Source+"/"+LowerDir, 0)
			b.call("close", f.lower, unix.SYS_CLOSE, below.value())
		}
		b.enter(m.Source)
		root := b.seen(root)
		b.call("mount overlay on", m.Destination, unix.SYS_MOUNT, b.str("overlay"), b.str(root), b.str("overlay"), num(f.set), b.str(data))
		dir, name, flags := num(unix.AT_FDCWD), root, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if f.subdir != "" {
			dir, name, flags = b.within(root, f.subdir), "", flags|unix.AT_EMPTY_PATH
		}
		b.call("bind", m.Destination, unix.SYS_OPEN_TREE, dir, b.str(name), num(flags)).into(s)
		b.leave(dir)
		b.call("unmount", root, unix.SYS_UMOUNT2, b.str(root), num(unix.MNT_DETACH))
		b.binds[i] = s
	}
	return nil
}

// inChild says whether a type of file system is one that the child mounts. Any other comes from a device or a server, which
// a container, in a network of its own, may not reach: the parent mounts it, attached to nothing.
func inChild(kind string) bool {
	switch kind {
	case "tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2":
		return true
	}
	return false
}

// mountHere makes a mount in the parent.
func (b *birth) mountHere(m specs.Mount, f flagSet, data string) (slot, error) {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fs)
	if err := configure(fs, m.Source, f, data); err != nil {
		return 0, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attrs(f.set)))
	if err != nil {
		return 0, err
	}
	s := b.slot()
	b.setWord(s, b.keep(os.NewFile(uintptr(fd), m.Destination)).v)
	return s, nil
}

// configure tells a file system that is being opened what to be. Its own words on an error are the better ones.
func configure(fs int, source string, f flagSet, data string) error {
	err := unix.FsconfigSetString(fs, "source", source)
	if f.set&unix.MS_RDONLY != 0 && err == nil {
		err = unix.FsconfigSetFlag(fs, "ro")
	}
	for o := range strings.SplitSeq(data, ",") {
		key, value, hasValue := strings.Cut(o, "=")
		switch {
		case o == "" || err != nil:
		case hasValue:
			err = unix.FsconfigSetString(fs, key, value)
		default:
			err = unix.FsconfigSetFlag(fs, key)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err == nil {
		return nil
	}
	said := make([]byte, 1024)
	if n, _ := unix.Read(fs, said); n > 2 { // "e " and the message, fsopen(2)
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(said[2:n])), err)
	}
	return err
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
	b.call("mount "+m.Type+" on", what, unix.SYS_FSCONFIG, fs.value(), num(setString), b.str("source"), b.str(cmp.Or(m.Source, m.Type)), num(0))
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
	own, ok := b.binds[i]
	switch {
	case ok && ownKind(m):
		b.orMake(m.Destination, true, func() *call { return b.moveMount(m.Type, own.value(), m.Destination, 0) })
	case ok:
		dir := true
		if f.bind || m.Type == "bind" {
			if dir, err = isDir(m.Source, f.subdir); err != nil {
				return err
			}
		}
		b.attach(m.Source, own.value(), m.Destination, dir)
	default:
		b.mountOn(m.Destination, m.Type, m.Source, f.set, data)
	}
	return nil
}

// putFiles makes the files of Cmd.Files. Each is bound to its place and loses its first name.
func (b *birth) putFiles() error {
	for i, f := range b.Files {
		own, name, flags := b.ownsDev() && !strings.HasPrefix(f.Path, "/dev/"), f.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_CLOEXEC
		if own {
			name = "/dev/.file" + strconv.Itoa(i)
		}
		fd, tree := b.slot(), b.slot()
		b.openHow("create", name, unix.OpenHow{Flags: uint64(flags), Mode: 0o644, Resolve: unix.RESOLVE_NO_MAGICLINKS}).into(fd)
		b.call("write", f.Path, unix.SYS_WRITE, fd.value(), b.bytes(f.Data), num(len(f.Data)))
		b.call("close", f.Path, unix.SYS_CLOSE, fd.value())
		if !own {
			continue
		}
		b.call("bind", f.Path, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(name), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(tree)
		b.attach("a file", tree.value(), f.Path, false)
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
			if b.bindsSys() { // and with it the host's groups, over which the kernel mounts none of the same file system
				b.call("mount tmpfs on", m.Destination, unix.SYS_MOUNT, b.str("tmpfs"), b.str(m.Destination), b.str("tmpfs"),
					num(f.set&^unix.MS_RDONLY), b.str("mode=755,size=0k"))
			}
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

// bindsSys says whether /sys is the host's.
func (b *birth) bindsSys() bool {
	for _, m := range b.spec.Mounts {
		if m.Destination == "/sys" {
			return m.Type == "bind"
		}
	}
	return false
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
