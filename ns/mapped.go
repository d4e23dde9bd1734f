package ns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container whose ids on the host are none of the host's own has no right to the files that it is made of, and needs none:
// they are shown to it by id-mapped mounts, mount_setattr(2), in which the owner 0 on the disk is the container's 0, and so
// for all others. Only root of the host makes such mounts, so they are made by the parent, and attached to nothing; the child
// puts them over the places that they show, in its own mount namespace, before it looks there.

// Mapped is a directory of the host's, shown at a place of the host's with its ids as the container's.
type Mapped struct{ From, At string }

// IDMapOption is how the runtime specification (since 1.2) asks for a bind in which the ids on the disk are the container's.
const IDMapOption = "idmap"

// UserNamespace makes a user namespace with these maps, for Cmd.IDMap. It takes root. The namespace lasts as long as the file
// is open, or a mount refers to it.
func UserNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	list := func(maps []specs.LinuxIDMapping) (l []syscall.SysProcIDMap) {
		for _, m := range maps {
			l = append(l, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
		}
		return l
	}
	// With Ptrace it stops before it has executed a single instruction of its own.
	p, err := os.StartProcess("/proc/self/exe", []string{"hull"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: list(uids), GidMappings: list(gids), GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	f, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	err = errors.Join(err, p.Kill())
	_, _ = p.Wait()
	return f, err
}

// Mappable says why dir cannot be shown with the ids of a user namespace, if so: the kernel may be too old for an overlay of
// such mounts (before 5.19), or have no such mounts of this kind of file system.
func Mappable(userns *os.File, dir string) error {
	if !release(5, 19) {
		return fmt.Errorf("an overlay with mapped ids needs Linux 5.19: %w", unix.ENOSYS)
	}
	fd, err := cloneMapped(userns, dir)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// release says whether the running kernel is that one or a later one.
func release(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	words := append(strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3), "", "")
	m, _ := strconv.Atoi(words[0])
	n, _ := strconv.Atoi(strings.TrimRight(words[1], "-+abcdefghijklmnopqrstuvwxyz"))
	return m > major || m == major && n >= minor
}

// cloneMapped makes a mount of a directory, attached to nothing, with the ids of a user namespace.
func cloneMapped(userns *os.File, dir string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, pathError("open_tree", dir, err)
	}
	if err := mapIDs(userns, fd, 0); err != nil {
		unix.Close(fd)
		return -1, pathError("map the ids of", dir, err)
	}
	return fd, nil
}

func mapIDs(userns *os.File, fd int, flags uint) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
}

// showMapped attaches Cmd.Mapped. The child is still the host's root here by its number, though not by its rights: that is
// enough to find the places. The first becomes the working directory, from where it finds the others later, see enter.
func (b *birth) showMapped() error {
	for i, m := range b.Mapped {
		fd, err := cloneMapped(b.IDMap, m.From)
		if err != nil {
			return err
		}
		tree := b.keep(os.NewFile(uintptr(fd), m.From))
		b.moveMount(m.From, tree, m.At, 0)
		b.call("close", m.From, unix.SYS_CLOSE, tree)
		if i == 0 {
			b.here = m.At
		}
	}
	if b.here != "" {
		b.call("enter", b.here, unix.SYS_CHDIR, b.str(b.here))
	}
	return nil
}

// enter makes a directory of the host the working directory. With Cmd.Mapped all of them are within its first, and the way
// leads from one to the next: those above may be closed to the container's ids.
func (b *birth) enter(dir string) {
	b.call("enter", dir, unix.SYS_CHDIR, b.str(b.seen(dir)))
	if b.here != "" {
		b.here = dir
	}
}

// seen is how a path of the host is spelled in the working directory.
func (b *birth) seen(path string) string {
	if b.here == "" {
		return path
	}
	rel, err := filepath.Rel(b.here, path)
	if err != nil {
		return path
	}
	return rel
}

// bindHere makes a bind in the parent, attached to nothing, for a child whose ids have no right to its source. Where the kind
// of file system has no mapped ids, or the source is one that has them already, its owners show as nobody.
func (b *birth) bindHere(m specs.Mount, f flagSet) (slot, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	deep := uint(0)
	if f.recursive {
		deep = unix.AT_RECURSIVE
	}
	dir, name := unix.AT_FDCWD, m.Source
	if f.subdir != "" {
		top, err := openBelow(m.Source, f.subdir)
		if err != nil {
			return 0, err
		}
		defer unix.Close(top)
		dir, name, flags = top, "", flags|unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dir, name, flags|deep)
	if err != nil {
		return 0, pathError("bind", m.Source, err)
	}
	s := b.slot()
	b.setWord(s, b.keep(os.NewFile(uintptr(fd), m.Source)).v)
	if f.idmap {
		if err := mapIDs(b.IDMap, fd, deep); err != nil && deep != 0 {
			_ = mapIDs(b.IDMap, fd, 0)
		}
	}
	b.setattr(m.Source, s.value(), f)
	return s, nil
}
