package run

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hullrun/hull/layers"
)

// DiskUsage is what lies below the root directory, and for whom. Each byte of it counts once, and sizes are those of the blocks
// that the disk has given to files and directories, as du(1) counts them.
type DiskUsage struct {
	Images     *layers.Usage
	ImageIDs   map[string]int // containers that were made from each image that is here
	Containers []ContainerSize
	Volumes    []VolumeSize
	// Own is what hull has for itself: locks, indexes, the journal, and directories as such.
	Own []OwnSize
}

// ContainerSize is a container with the bytes of all that is kept of it: what it has written, its logs, its state.
type ContainerSize struct {
	*Container
	Bytes int64
}

// VolumeSize is a volume with the bytes that it takes up and the number of containers that use it.
type VolumeSize struct {
	*Volume
	Bytes int64
	Links int
}

// OwnSize is a file or directory of the root directory, with what is in it for hull alone; Name is "." for the root itself.
type OwnSize struct {
	Name  string
	Bytes int64
}

// Total is all of it, in bytes.
func (u *DiskUsage) Total() int64 {
	total := u.Images.Total()
	for _, c := range u.Containers {
		total += c.Bytes
	}
	for _, v := range u.Volumes {
		total += v.Bytes
	}
	for _, o := range u.Own {
		total += o.Bytes
	}
	return total
}

// DiskUsage measures images, containers and volumes. It looks at every file that containers have written, but not at those of
// layers, which were counted when they came.
func (h *Host) DiskUsage() (*DiskUsage, error) {
	u := &DiskUsage{ImageIDs: map[string]int{}}
	users, err := h.ImageUsers()
	if err != nil {
		return nil, err
	}
	images, err := h.Images.List()
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		u.ImageIDs[img.ID] = len(users[img.ID])
	}
	if u.Images, err = h.Images.Usage(); err != nil {
		return nil, err
	}
	own := maps.Clone(u.Images.Rest)
	if err := h.containerSizes(u, own); err != nil {
		return nil, err
	}
	if err := h.volumeSizes(u, own); err != nil {
		return nil, err
	}
	if err := h.ownSizes(u, own); err != nil {
		return nil, err
	}
	return u, nil
}

func (h *Host) containerSizes(u *DiskUsage, own map[string]int64) error {
	containers, err := h.List()
	if err != nil {
		return err
	}
	sizes, err := h.measureEach(h.containers())
	if err != nil {
		return err
	}
	for _, c := range containers {
		u.Containers = append(u.Containers, ContainerSize{c, sizes[c.ID]})
		delete(sizes, c.ID)
	}
	own["containers"] = sum(sizes)
	return nil
}

func (h *Host) volumeSizes(u *DiskUsage, own map[string]int64) error {
	volumes, err := h.Volumes()
	if err != nil {
		return err
	}
	links, err := h.VolumeUsers()
	if err != nil {
		return err
	}
	sizes, err := h.measureEach(h.volumes())
	if err != nil {
		return err
	}
	for _, v := range volumes {
		u.Volumes = append(u.Volumes, VolumeSize{v, sizes[v.Name], len(links[v.Name])})
		delete(sizes, v.Name)
	}
	own["volumes"] = sum(sizes)
	return nil
}

// ownSizes measures what is left of the root directory. What of its tmp is the store's, images count.
func (h *Host) ownSizes(u *DiskUsage, own map[string]int64) error {
	sizes, err := h.measureEach(h.Root, slices.Collect(maps.Keys(own))...)
	if err != nil {
		return err
	}
	maps.Copy(own, sizes)
	if _, there := own["tmp"]; there {
		own["tmp"] -= u.Images.Temporary()
	}
	for name, size := range own {
		if size > 0 {
			u.Own = append(u.Own, OwnSize{name, size})
		}
	}
	slices.SortFunc(u.Own, func(a, b OwnSize) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// measureEach gives the bytes that each entry of a directory takes up, "." for the directory itself. Some can be left out. A
// directory that is not there has nothing.
func (h *Host) measureEach(dir string, without ...string) (map[string]int64, error) {
	sizes := map[string]int64{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return sizes, nil
	}
	if err != nil {
		return nil, err
	}
	sizes["."] = layers.OwnSpace(dir)
	for _, e := range entries {
		if slices.Contains(without, e.Name()) {
			continue
		}
		t, err := h.measure(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = t.Disk
	}
	return sizes, nil
}

func sum(sizes map[string]int64) (all int64) {
	for _, n := range sizes {
		all += n
	}
	return all
}
