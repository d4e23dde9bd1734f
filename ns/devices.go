package ns

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// node is a device of the container, with the host's copy of it where it has to be bound.
type node struct {
	specs.LinuxDevice
	bind slot
}

// standardDevices are those that a runtime must supply (config-linux.md, Default Devices).
func standardDevices() []specs.LinuxDevice {
	mode := os.FileMode(0o666)
	dev := func(path string, major, minor int64) specs.LinuxDevice {
		return specs.LinuxDevice{Path: path, Type: "c", Major: major, Minor: minor, FileMode: &mode}
	}
	return []specs.LinuxDevice{
		dev("/dev/null", 1, 3), dev("/dev/zero", 1, 5), dev("/dev/full", 1, 7),
		dev("/dev/random", 1, 8), dev("/dev/urandom", 1, 9), dev("/dev/tty", 5, 0),
	}
}

// ownsDev says whether the container gets a /dev of its own; without one no device is made.
func (b *birth) ownsDev() bool {
	for _, m := range b.spec.Mounts {
		if m.Destination == "/dev" && m.Type == "tmpfs" {
			return true
		}
	}
	return false
}

// takeDevices opens the host's device nodes, because in a user namespace nobody may make any.
func (b *birth) takeDevices() {
	for _, d := range b.deviceList() {
		n := node{d, b.slot()}
		// The specification has no place for the host's path: a device keeps its name.
		b.call("bind device", d.Path, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(d.Path),
			num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).into(n.bind)
		b.nodes = append(b.nodes, n)
	}
}

func (b *birth) deviceList() (list []specs.LinuxDevice) {
	if b.ownsDev() {
		list = standardDevices()
	}
	return append(list, b.spec.Linux.Devices...)
}

// devices fills /dev: nodes, the links that programs expect there, and a place for the console.
func (b *birth) devices() error {
	if b.userns {
		for _, n := range b.nodes {
			b.attach(n.Path, n.bind.value(), n.Path, false)
		}
	} else if err := b.makeNodes(); err != nil {
		return err
	}
	if !b.ownsDev() {
		return nil
	}
	for _, l := range [...][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"/proc/kcore", "/dev/core"}, {"pts/ptmx", "/dev/ptmx"},
	} {
		b.call("link", l[1], unix.SYS_SYMLINKAT, b.str(l[0]), num(unix.AT_FDCWD), b.str(l[1])).orGoOn(unix.EEXIST)
	}
	return nil
}

func (b *birth) makeNodes() error {
	for _, d := range b.deviceList() {
		kind, ok := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
		if !ok {
			return fmt.Errorf("device %q: want type c, u, b or p, not %q", d.Path, d.Type)
		}
		mode := uint32(0o666)
		if d.FileMode != nil {
			mode = uint32(d.FileMode.Perm())
		}
		dir, name := b.folder(d.Path)
		b.call("make device", d.Path, unix.SYS_MKNODAT, dir, b.str(name), num(kind|mode),
			num(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))).orGoOn(unix.EEXIST)
		if d.UID != nil && *d.UID != 0 || d.GID != nil && *d.GID != 0 {
			b.call("set owner of", d.Path, unix.SYS_FCHOWNAT, dir, b.str(name), num(value(d.UID)), num(value(d.GID)), num(unix.AT_SYMLINK_NOFOLLOW))
		}
		b.letOpen(d.Path, dir, name)
		b.leave(dir)
	}
	return nil
}

// folder gives a node as a directory and a name in it, and makes the directory if it is missing.
func (b *birth) folder(node string) (dir arg, name string) {
	parent := path.Dir(node)
	if !b.trusted(node) {
		return b.reach("make device", parent, true).value(), path.Base(node)
	}
	if parent != "/dev" {
		b.makeTarget(parent, true)
	}
	return num(unix.AT_FDCWD), node
}

// letOpen mounts a node over itself without nodev, if the container's file systems have that: then it opens, and another
// node, which the container may make beside it, does not.
func (b *birth) letOpen(node string, dir arg, name string) {
	if !b.shutDev() {
		return
	}
	tree := b.slot()
	attr := mountAttr(0, 0)
	binary.NativeEndian.PutUint64(attr[8:], unix.MOUNT_ATTR_NODEV) // to clear
	b.call("bind device", node, unix.SYS_OPEN_TREE, dir, b.str(name),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)).into(tree)
	b.call("let device open", node, unix.SYS_MOUNT_SETATTR, tree.value(), b.str(""), num(unix.AT_EMPTY_PATH), b.bytes(attr), num(32))
	b.call("mount device on", node, unix.SYS_MOVE_MOUNT, tree.value(), b.str(""), dir, b.str(name), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// shutDev says whether the container's /dev is mounted nodev.
func (b *birth) shutDev() bool {
	for _, m := range b.spec.Mounts {
		if m.Destination == "/dev" {
			return slices.Contains(m.Options, "nodev")
		}
	}
	return false
}

func value(id *uint32) uint32 {
	if id == nil {
		return 0
	}
	return *id
}

// terminal opens a pseudo-terminal in the container's own devpts, makes its slave the program's streams, console and
// controlling terminal, and sends its master to the parent with the word that the world is ready.
func (b *birth) terminal() error {
	p := b.spec.Process
	if !p.Terminal {
		return nil
	}
	const op = "open a terminal"
	oob := make([]byte, 24) // struct cmsghdr and one descriptor, unix(7)
	binary.NativeEndian.PutUint64(oob[0:], 20)
	binary.NativeEndian.PutUint32(oob[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(oob[12:], unix.SCM_RIGHTS)
	control := b.bytes(oob)
	master, slave := slot(control.v+16), b.slot()
	b.call(op, "", unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str("/dev/pts/ptmx"), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).into(master)
	b.call(op, "", unix.SYS_IOCTL, master.value(), num(unix.TIOCSPTLCK), b.bytes(make([]byte, 8)))
	b.call(op, "", unix.SYS_IOCTL, master.value(), num(unix.TIOCGPTPEER), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).into(slave)
	if s := p.ConsoleSize; s != nil {
		ws := make([]byte, 8)
		binary.NativeEndian.PutUint16(ws[0:], uint16(s.Height))
		binary.NativeEndian.PutUint16(ws[2:], uint16(s.Width))
		b.call(op, "", unix.SYS_IOCTL, slave.value(), num(unix.TIOCSWINSZ), b.bytes(ws))
	}
	if p.User.UID != 0 {
		b.call("give the terminal to the user", "", unix.SYS_FCHOWN, slave.value(), num(p.User.UID), num(^uint32(0)))
	}
	if b.Join == nil { // else the console is another's, and the session begins with the program's own process
		b.console(slave)
		b.call("start a session", "", unix.SYS_SETSID)
		b.call("control the terminal", "", unix.SYS_IOCTL, slave.value(), num(unix.TIOCSCTTY), num(0))
	}
	for i := range 3 {
		b.call("place stream", "", unix.SYS_DUP3, slave.value(), num(i), num(0))
	}
	iov := b.array([]arg{b.bytes([]byte{early.KindReady}), num(1)})
	msg := b.array([]arg{num(0), num(0), iov, num(1), control, num(len(oob)), num(0)}) // struct msghdr, sendmsg(2)
	b.call("send the terminal", "", unix.SYS_SENDMSG, b.socket, msg, num(0))
	b.call(op, "", unix.SYS_CLOSE, master.value())
	return nil
}

// console binds the terminal over /dev/console, where programs like getty look for it.
func (b *birth) console(slave slot) {
	if !b.ownsDev() {
		return
	}
	tree := b.slot()
	b.makeTarget("/dev/console", false)
	b.call("open the console", "", unix.SYS_OPEN_TREE, slave.value(), b.str(""),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)).into(tree)
	b.moveMount("the terminal", tree.value(), "/dev/console", 0)
}

// HostDevice describes the device node at path on the host, or all nodes below it if path is a directory, under the
// name target. The error is that of stat(2), or says that path is no device.
func HostDevice(source, target string) ([]specs.LinuxDevice, error) {
	var list []specs.LinuxDevice
	err := filepath.WalkDir(source, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		look := unix.Lstat // a link in a directory may lead anywhere, to our own streams for one
		if p == source {
			look = unix.Stat
		}
		if err := look(p, &st); err != nil {
			return &os.PathError{Op: "stat", Path: p, Err: err}
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		if kind == "" {
			if p == source {
				return fmt.Errorf("device %q: not a device node", source)
			}
			return nil
		}
		mode := os.FileMode(st.Mode & 0o777)
		list = append(list, specs.LinuxDevice{
			Path: target + p[len(source):], Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
			FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		})
		return nil
	})
	return list, err
}
