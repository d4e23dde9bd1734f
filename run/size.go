package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hullrun/hull/layers"
)

// Size is how many bytes of files the container has written or changed, and how many its root has in all, with the image's. A
// file with several names counts once, directories do not count.
func (c *Container) Size() (written, all int64, err error) {
	size, err := c.host.measure(c.path("upper"))
	if err != nil {
		return 0, 0, fmt.Errorf("size of container %s: %w", c.Name, err)
	}
	all = size.Files
	if img, err := c.host.Images.Lookup(c.ImageID); err == nil {
		all += img.Size
	}
	return size.Files, all, nil
}

// measure adds up the files below dir. Somebody with subordinate ids has a helper look into what his containers' users keep
// to themselves. What disappears meanwhile does not count.
func (h *Host) measure(dir string) (t layers.Tally, err error) {
	err = layers.Walk(dir, t.Add)
	if !errors.Is(err, fs.ErrPermission) || !h.rootless {
		return t, err
	}
	cmd, err := h.helper("measure", dir)
	if err != nil {
		return t, err
	}
	out, err := runHelper(cmd, nil)
	if err != nil {
		return t, err
	}
	t = layers.Tally{}
	return t, json.Unmarshal(out, &t)
}
