package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
)

// resolveMounts puts together what is to be mounted: what other containers have (--volumes-from), what was asked for, and
// a volume for each directory that the image calls one. A later mount takes the place of an earlier one at the same
// target. A volume that nobody named gets a name, and is the container's own.
func (c *Container) resolveMounts() error {
	var list []MountSpec
	add := func(m MountSpec) {
		list = slices.DeleteFunc(list, func(old MountSpec) bool { return old.Target == m.Target })
		list = append(list, m)
	}
	theirs := map[string]bool{} // anonymous volumes of other containers
	for _, spec := range c.Config.Files.VolumesFrom {
		mounts, anonymous, err := c.host.mountsOf(spec)
		if err != nil {
			return fmt.Errorf("volumes-from %q: %w", spec, err)
		}
		for _, m := range mounts {
			add(m)
		}
		for _, name := range anonymous {
			theirs[name] = true
		}
	}
	for _, m := range c.Config.Files.Mounts {
		add(m)
	}
	targets, refused := imageVolumes(&c.image.Config.Config)
	for _, v := range refused {
		c.host.warn("image %s: volume %q: left out: that place is not the image's", c.Config.Image, v)
	}
	for _, target := range targets {
		if !slices.ContainsFunc(list, func(m MountSpec) bool { return m.Target == target }) {
			add(MountSpec{Type: MountVolume, Target: target})
		}
	}
	for i := range list {
		m := &list[i]
		if m.Type != MountVolume {
			continue
		}
		if m.Source == "" {
			m.Source = NewID()
			c.Volumes = append(c.Volumes, m.Source)
		} else if theirs[m.Source] && !slices.Contains(c.Volumes, m.Source) {
			c.Volumes = append(c.Volumes, m.Source)
		}
	}
	c.Mounts = list
	return nil
}

// findImages looks up the images that are to be mounted. From then on they are in use.
func (c *Container) findImages(ctx context.Context) error {
	for i, m := range c.Mounts {
		if m.Type != MountImage {
			continue
		}
		p, err := c.host.pin(m.Source)
		if err != nil {
			return err
		}
		img, err := c.host.local(ctx, m.Source, Fetch{}, p)
		if errors.Is(err, layers.ErrNotFound) {
			//lint:ignore ST1005 Docker's words, which scripts look for
			err = fmt.Errorf("No such image: %s%w", m.Source, errHidden{err})
		}
		if err != nil {
			return err
		}
		c.Mounts[i].Image = img.ID
	}
	return nil
}

// imageVolumes are the directories that an image wants a volume for, and those that it may not have: with a volume in
// the place of /proc, an image could tell the container's programs anything (CVE-2019-16884).
func imageVolumes(image *v1.Config) (targets, refused []string) {
	for _, v := range slices.Sorted(maps.Keys(image.Volumes)) {
		target := path.Clean("/" + v)
		top, _, _ := strings.Cut(target[1:], "/")
		switch {
		case top == "" || top == "proc" || top == "sys" || top == "dev" || strings.ContainsRune(v, 0):
			refused = append(refused, v)
		case !slices.Contains(targets, target):
			targets = append(targets, target)
		}
	}
	return targets, refused
}

// ParseVolumesFrom reads the value of --volumes-from: CONTAINER[:ro|rw]. z and Z have no meaning here.
func ParseVolumesFrom(s string) (container string, readOnly bool, err error) {
	container, mode, hasMode := strings.Cut(s, ":")
	for word := range strings.SplitSeq(mode, ",") {
		switch {
		case word == "ro":
			readOnly = true
		case word == "rw", word == "z", word == "Z", !hasMode:
		default:
			return "", false, fmt.Errorf("invalid mode %q: want ro or rw", mode)
		}
	}
	if container == "" {
		return "", false, fmt.Errorf("want CONTAINER[:ro|rw]")
	}
	return container, readOnly, nil
}

// mountsOf are the volumes and binds of another container, and which of the volumes are anonymous.
func (h *Host) mountsOf(spec string) (mounts []MountSpec, anonymous []string, err error) {
	ref, readOnly, err := ParseVolumesFrom(spec)
	if err != nil {
		return nil, nil, err
	}
	other, err := h.Find(ref)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range other.Mounts {
		if m.Type != MountVolume && m.Type != MountBind {
			continue
		}
		m.ReadOnly, m.NoCopy = m.ReadOnly || readOnly, true // whoever had it first has copied
		mounts = append(mounts, m)
	}
	return mounts, other.Volumes, nil
}

// makeVolumes settles what is mounted in a container that is being made, and makes and fills the volumes that are new.
// They stay in its hands until its state, written down, says that it uses them.
func (c *Container) makeVolumes(ctx context.Context) error {
	f := &c.Config.Files
	isVolume := func(m MountSpec) bool { return m.Type == MountVolume }
	if len(f.VolumesFrom) == 0 && len(c.image.Config.Config.Volumes) == 0 && !slices.ContainsFunc(f.Mounts, isVolume) {
		c.Mounts = slices.Clone(f.Mounts)
		return c.findImages(ctx)
	}
	volumes, err := c.takeVolumes()
	if err == nil {
		err = c.findImages(ctx)
	}
	if err != nil {
		return err
	}
	for i, m := range c.Mounts {
		if volumes[i] == nil || m.NoCopy || m.Subpath != "" {
			continue
		}
		volatile := c.Config.Lifetime.Remove && slices.Contains(c.Volumes, m.Source)
		if err := c.host.populate(ctx, volumes[i], c.image, m.Target, volatile); err != nil {
			return fmt.Errorf("copy the image's %s to volume %s: %w", m.Target, m.Source, err)
		}
	}
	return nil
}

// takeVolumes gives the volumes among the mounts, in their places. None of them can be removed from now on.
func (c *Container) takeVolumes() ([]*Volume, error) {
	held, err := c.host.holdVolumes(false)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if err := c.resolveMounts(); err != nil {
		return nil, err
	}
	volumes := make([]*Volume, len(c.Mounts))
	for i, m := range c.Mounts {
		if m.Type != MountVolume {
			continue
		}
		wish := VolumeConfig{Name: m.Source, Driver: m.Driver, Options: m.DriverOpts, Labels: m.Labels}
		maker := ""
		if slices.Contains(c.Volumes, m.Source) {
			maker = c.ID
		}
		if volumes[i], err = c.host.createVolume(wish, maker); err != nil {
			return nil, err
		}
		use, err := c.host.useVolume(m.Source)
		if err != nil {
			return nil, err
		}
		c.volumesInUse = append(c.volumesInUse, use)
	}
	return volumes, nil
}

// removeVolumes removes anonymous volumes of a container, but for those that another container uses. The caller must hold
// no volumes, for it would wait for itself.
func (h *Host) removeVolumes(id string, names []string) {
	if len(names) == 0 {
		return
	}
	alone, err := h.holdVolumes(true)
	if err != nil {
		h.warn("%v", err)
		return
	}
	defer alone.Close()
	var free []string
	for _, name := range names {
		if _, err := h.Volume(name); err != nil {
			continue // never made, or removed by hand
		}
		if err := h.checkNotTaken(name); err == nil {
			free = append(free, name)
		} else if !errors.Is(err, errLocked) {
			h.warn("%v", err)
		}
	}
	users, err := h.VolumeUsers()
	if err != nil {
		h.warn("%v", err)
		return
	}
	for _, name := range free {
		if slices.ContainsFunc(users[name], func(user string) bool { return user != id }) {
			continue
		}
		if err := h.removeVolume(name); err != nil {
			h.warn("%v", err)
		}
	}
}

// noteVolumes appends an event for each volume that is mounted in the container, or no longer is.
func (c *Container) noteVolumes(action string) {
	for _, m := range c.Mounts {
		switch {
		case m.Type != MountVolume:
		case action == "mount":
			c.host.noteVolume(action, m.Source, "container", c.ID, "destination", m.Target,
				"propagation", m.Propagation, "read/write", strconv.FormatBool(!m.ReadOnly))
		default:
			c.host.noteVolume(action, m.Source, "container", c.ID)
		}
	}
}

// volumesMadeFor names the anonymous volumes that were made for a container.
func (h *Host) volumesMadeFor(id string) (names []string) {
	records, err := h.volumeRecords()
	if err != nil {
		return nil
	}
	for _, r := range records {
		if r.Container == id {
			names = append(names, r.Name)
		}
	}
	return names
}
