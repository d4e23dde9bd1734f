package run

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns"
)

// overlayBind shows a directory of the host with a layer over it that takes what the container writes, and is thrown away
// at its next start or with it (podman's option O).
func (s *start) overlayBind(m MountSpec) (specs.Mount, error) {
	fail := func(err error) (specs.Mount, error) {
		return specs.Mount{}, fmt.Errorf("mount %q: option O: %w", m.Target, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(m.Source, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fail(&fs.PathError{Op: "overlay", Path: m.Source, Err: unix.ENOTDIR})
	}
	n := slices.IndexFunc(s.Mounts, func(o MountSpec) bool { return o.Target == m.Target })
	dir := s.path("overlay-" + strconv.Itoa(n))
	if s.looking && isThere(dir+"/work") {
		_ = os.Mkdir(dir+"/"+ns.LowerDir, 0o700) // older ones have none
		return s.overlaid(m, dir), nil
	}
	if err := s.host.removeTree(dir); err != nil {
		return fail(err)
	}
	if s.world.Identity.Mapped {
		s.lowers = append(s.lowers, ns.Mapped{From: m.Source, At: dir + "/" + ns.LowerDir})
	}
	for _, d := range []string{dir, dir + "/upper", dir + "/work", dir + "/" + ns.LowerDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return fail(err)
		}
	}
	// What is seen of the directory itself is the upper one.
	if err := unix.Chmod(dir+"/upper", st.Mode&0o7777); err != nil {
		return fail(err)
	}
	if err := os.Chown(dir+"/upper", int(st.Uid), int(st.Gid)); err != nil && !s.host.rootless {
		return fail(err)
	}
	return s.overlaid(m, dir), nil
}

// overlaid is the mount of a layer in dir over the source of a bind. Its options name neither: the container reads them.
func (s *start) overlaid(m MountSpec, dir string) specs.Mount {
	from, below, options := dir, "", []string{"nodev"}
	if s.world.Identity.Mapped && !s.looking { // the way there is closed to the container's ids: see ns.Mapped
		from, below = s.host.Images.LayersDir(), "../containers/"+s.ID+"/"+path.Base(dir)+"/"
	} else {
		options = append(options, ns.LowerOption+m.Source)
	}
	options = append(options, "lowerdir="+below+ns.LowerDir, "upperdir="+below+"upper", "workdir="+below+"work")
	if s.world.Identity.UserNS {
		options = append(options, "userxattr")
	}
	return specs.Mount{Destination: m.Target, Type: "overlay", Source: from, Options: append(options, m.Options...)}
}

// giveToUser makes the container's user the owner of a directory of the host and of all in it (podman's option U).
func (s *start) giveToUser(dir string) error {
	user, id := s.world.User, s.world.Identity
	if !id.UserNS || id.Mapped {
		return chownTree(dir, int(user.UID), int(user.GID))
	}
	if id.OneID {
		return chownTree(dir, int(id.UIDs[0].HostID), int(id.GIDs[0].HostID))
	}
	cmd, err := s.host.helper("chown", dir)
	if err != nil {
		return err
	}
	cmd.Spec.Process.Args = append(cmd.Spec.Process.Args, strconv.Itoa(int(user.UID)), strconv.Itoa(int(user.GID)))
	_, err = runHelper(cmd, nil)
	return err
}

// chownTree follows no link, and leaves alone what belongs to the owner already. A file of its own may be one, too.
func chownTree(path string, uid, gid int) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return os.Chown(path, uid, gid)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid && int(st.Gid) == gid {
			return nil
		}
		if err := root.Lchown(name, uid, gid); err != nil {
			return fmt.Errorf("in %s: %w", filepath.Clean(path), err)
		}
		return nil
	})
}
