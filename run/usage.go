package run

import "github.com/hullrun/hull/layers"

// DiskUsage is what lies below the root directory, and for whom.
type DiskUsage struct {
	Images     *layers.Usage
	ImageIDs   map[string]int // containers that were made from each image that is here
	Containers []ContainerSize
	Volumes    []VolumeSize
}

// ContainerSize is a container with the bytes it has written.
type ContainerSize struct {
	*Container
	Written int64
}

// VolumeSize is a volume with the bytes of its files and the number of containers that use it.
type VolumeSize struct {
	*Volume
	Bytes int64
	Links int
}

// DiskUsage measures images, containers and volumes. It looks at every file that containers have written.
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
	containers, err := h.List()
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		written, _, err := c.Size()
		if err != nil {
			return nil, err
		}
		u.Containers = append(u.Containers, ContainerSize{c, written})
	}
	volumes, err := h.Volumes()
	if err != nil {
		return nil, err
	}
	links, err := h.VolumeUsers()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		u.Volumes = append(u.Volumes, VolumeSize{v, v.Size(), len(links[v.Name])})
	}
	return u, nil
}
