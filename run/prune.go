package run

import (
	"errors"
	"io/fs"
	"time"

	"github.com/hullrun/hull/layers"
)

// PruneContainers removes the containers that do not run and that accept takes, and gives their IDs and the bytes that they
// have written. It goes on past one that cannot be removed; one that somebody starts meanwhile stays.
func (h *Host) PruneContainers(accept func(*Container) bool) (ids []string, freed int64, err error) {
	list, err := h.List()
	if err != nil {
		return nil, 0, err
	}
	var failed []error
	for _, c := range list {
		if c.Status.Alive() || !accept(c) {
			continue
		}
		size, gone, err := c.removeIdle()
		if err != nil {
			failed = append(failed, err)
		}
		if gone {
			ids, freed = append(ids, c.ID), freed+size
		}
	}
	return ids, freed, errors.Join(failed...)
}

// glanceTime is how long others may take for a glance at a container that does not run.
var glanceTime = 100 * time.Millisecond

// removeIdle removes a container, unless somebody has it, or has had it since we looked.
func (c *Container) removeIdle() (size int64, gone bool, err error) {
	err = c.takeLock()
	for begin := time.Now(); errors.Is(err, errLocked) && !c.isRun() && time.Since(begin) < glanceTime; err = c.takeLock() {
		time.Sleep(time.Millisecond) // another process has a glance at it
	}
	if err != nil {
		return 0, false, nil
	}
	now, err := c.host.load(c.ID)
	if err != nil || now.Status != c.Status || !now.Started.Equal(c.Started) {
		c.unlock()
		return 0, false, nil
	}
	if size, _, err = c.Size(); err != nil { // it can be removed all the same
		c.host.warn("%v", err)
	}
	c.removeGroups()
	c.Volumes = nil // volumes have a prune of their own
	if err := c.discard(); err != nil {
		return 0, false, err
	}
	return size, true, nil
}

// PruneImages removes the images that no container uses: those without a name, or with all set any, as long as accept takes
// them. What no image needs any more goes too, and it gives the bytes that are free now.
func (h *Host) PruneImages(all bool, accept func(*layers.Image) bool) (lines []layers.RemovedLine, freed int64, err error) {
	alone, err := h.HoldImages(true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil // no root directory, no image
	}
	if err != nil {
		return nil, 0, err
	}
	defer alone.Close()
	users, err := h.ImageUsers()
	if err != nil {
		return nil, 0, err
	}
	images, err := h.Images.List()
	if err != nil {
		return nil, 0, err
	}
	before, err := h.Images.Usage()
	if err != nil {
		return nil, 0, err
	}
	named := map[string]bool{}
	for _, img := range images {
		named[img.ID] = named[img.ID] || img.Name != ""
	}
	ids, gone := map[string]string{}, map[string]bool{} // by name, by ID
	lines, err = h.Images.RemoveWhere(func(img *layers.Image) bool {
		if len(users[img.ID]) > 0 || !all && named[img.ID] || !accept(img) {
			return false
		}
		ids[img.Name], gone[img.ID] = img.ID, true
		return true
	})
	failed := []error{err}
	h.noteRemoved(lines, func(name string) string { return ids[name] }, func(id string) bool { return gone[id] })
	if _, err := h.Images.Prune(h.layersInUse(users)...); err != nil {
		failed = append(failed, err)
	}
	after, err := h.Images.Usage()
	return lines, before.Total() - after.Total(), errors.Join(append(failed, err)...)
}

// layersInUse are the layers that containers stand on.
func (h *Host) layersInUse(users map[string][]*Container) (numbers []string) {
	for id := range users {
		if img, err := h.Images.Lookup(id); err == nil {
			numbers = append(numbers, img.Layers...)
		}
	}
	return numbers
}
