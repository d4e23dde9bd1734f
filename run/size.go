package run

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// Size is how many bytes of files the container has written or changed, and how many its root has in all, with the image's. A
// file with several names counts once, directories do not count.
func (c *Container) Size() (written, all int64, err error) {
	if written, err = c.host.treeSize(c.path("upper")); err != nil {
		return 0, 0, fmt.Errorf("size of container %s: %w", c.Name, err)
	}
	all = written
	if img, err := c.host.Images.Lookup(c.ImageID); err == nil {
		all += img.Size
	}
	return written, all, nil
}

// treeSize sums up the files below dir. Somebody with subordinate ids has a helper look into what his containers' users keep
// to themselves.
func (h *Host) treeSize(dir string) (int64, error) {
	size, err := treeSize(dir)
	if !errors.Is(err, fs.ErrPermission) || !h.rootless {
		return size, err
	}
	cmd, err := h.helper("measure", dir)
	if err != nil {
		return 0, err
	}
	out, err := runHelper(cmd, nil)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// treeSize is the same for somebody who may look at all there is. What disappears meanwhile does not count.
func treeSize(dir string) (sum int64, err error) {
	type file struct{ dev, ino uint64 }
	seen := map[file]bool{}
	err = layers.Walk(dir, func(st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return
		}
		if st.Nlink > 1 {
			f := file{uint64(st.Dev), st.Ino}
			if seen[f] {
				return
			}
			seen[f] = true
		}
		sum += st.Size
	})
	return sum, err
}
