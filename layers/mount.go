package layers

import (
	"fmt"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxLowers is how many lower directories one overlay takes (OVL_MAX_STACK in the kernel's fs/overlayfs).
const maxLowers = 500

// maxOptions is how long a mount's options may be together, in bytes: one page less its final zero (mount(2)).
const maxOptions = 4095

// MountOptions says what kind of overlay is wanted.
type MountOptions struct {
	Volatile  bool // do not sync what is written when it is unmounted: for a container that goes with it
	UserXattr bool // read user.overlay.* for trusted.overlay.*: for everybody but real root (see [Unpack])
	ReadOnly  bool // no upper directory at all; upper and work are not used
}

// Mount describes the overlay that shows an image with a writable directory upper on top. Nothing is mounted or
// made. The mount's Source is the directory that must be the working directory of whoever calls mount(2), because
// the layers in lowerdir are named relative to it: with full paths, 60 of them would not fit in the one page that a
// mount's options have. upper and work are absolute, on one file system; where they lie in the store they are made
// relative to Source too. An error says that there are too many layers (500), or that the image is not unpacked.
func (s *Store) Mount(upper, work string, img *Image, opt MountOptions) (specs.Mount, error) {
	m := specs.Mount{Destination: "/", Type: "overlay", Source: s.LayersDir()}
	if img.Layers == nil && len(img.DiffIDs) > 0 {
		return m, fmt.Errorf("mount image %q: not unpacked", or2(img.Name, img.ID))
	}
	lowers := lowerDirs(img.Layers)
	if len(lowers) == 0 || opt.ReadOnly && len(lowers) == 1 {
		lowers = append(lowers, emptyLayer)
	}
	if len(lowers) > maxLowers {
		return m, fmt.Errorf("mount image %q: %d layers, but overlay takes %d", or2(img.Name, img.ID), len(lowers), maxLowers)
	}
	m.Options = append(m.Options, "lowerdir="+strings.Join(lowers, ":"))
	if opt.ReadOnly {
		m.Options = append(m.Options, "ro")
	} else {
		m.Options = append(m.Options, "upperdir="+s.inOptions(upper), "workdir="+s.inOptions(work))
	}
	if opt.Volatile && !opt.ReadOnly {
		m.Options = append(m.Options, "volatile")
	}
	if opt.UserXattr {
		m.Options = append(m.Options, "userxattr")
	} else if !opt.ReadOnly {
		// Some kernels are built to write such shortcuts into upper, for which a layer made of it has no words. With userxattr
		// they never do.
		m.Options = append(m.Options, "redirect_dir=off", "metacopy=off")
	}
	if n := len(strings.Join(m.Options, ",")); n > maxOptions {
		return m, fmt.Errorf("mount image %q: %d bytes of options for its %d layers, but the kernel takes %d",
			or2(img.Name, img.ID), n, len(lowers), maxOptions)
	}
	return m, nil
}

// lowerDirs turns layers round, for overlay wants the topmost first, and leaves out all but the topmost place of a
// layer that is there twice: overlay refuses to have one directory in two places, and what a layer does to a path
// it does again at its upper place.
func lowerDirs(layers []string) []string {
	seen := make(map[string]bool)
	var lowers []string
	for i := len(layers) - 1; i >= 0; i-- {
		if !seen[layers[i]] {
			seen[layers[i]] = true
			lowers = append(lowers, layers[i])
		}
	}
	return lowers
}

// inOptions spells a path as one of overlay's options, short where it can be. A backslash keeps a comma from
// ending it.
func (s *Store) inOptions(path string) string {
	if rel, err := filepath.Rel(s.LayersDir(), path); err == nil && strings.HasPrefix(path, s.root+"/") {
		path = rel
	}
	return strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(path)
}

// Dirs gives the directories of an image's layers, topmost first, as [OpenFile] takes them.
func (s *Store) Dirs(img *Image) []string {
	var dirs []string
	for _, number := range lowerDirs(img.Layers) {
		dirs = append(dirs, s.LayerDir(number))
	}
	return dirs
}
