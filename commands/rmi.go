package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

func rmiCommand(s *session) ([]*option, action) {
	var force, keepParents bool
	flags := []*option{
		toggle(&force, "force,f", "remove it with all its names, or while containers use it"),
		hide(toggle(&keepParents, "no-prune", "")), // there are no untagged parents here
	}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			if err := s.removeImage(h, name, force); err != nil {
				failed = append(failed, err)
			}
		}
		if err := errors.Join(failed...); err != nil && !(force && allMissing(failed)) {
			return err
		} else if err != nil {
			report(s.err, err) // -f says so, and does not mind
		}
		return nil
	}
}

func allMissing(failed []error) bool {
	for _, err := range failed {
		if !errors.Is(err, layers.ErrNotFound) {
			return false
		}
	}
	return true
}

// removeImage removes one image and prints what is gone. Containers that use it are named in Docker's words.
func (s *session) removeImage(h *run.Host, name string, force bool) error {
	alone, err := h.HoldImages(true)
	if errors.Is(err, fs.ErrNotExist) {
		return noSuchImage(name, layers.ErrNotFound) // no root directory, no image
	}
	if err != nil {
		return err
	}
	defer alone.Close()
	users, err := imageUsers(h)
	if err != nil {
		return err
	}
	var inUse []string
	for id := range users {
		inUse = append(inUse, id)
	}
	img, err := h.Images.Lookup(name)
	if err != nil {
		return noSuchImage(name, err)
	}
	lines, err := h.Images.Remove(name, force, inUse...)
	for _, l := range lines {
		if ref, err := registry.ParseReference(l.Untagged); err == nil && l.Untagged != "" {
			l.Untagged = ref.Familiar()
		}
		fmt.Fprintln(s.out, l)
	}
	if errors.Is(err, layers.ErrInUse) && len(users[img.ID]) > 0 {
		c := users[img.ID][0]
		return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s%w",
			name, run.ShortID(c.ID), shortDigest(img.ID), silent{err})
	}
	return noSuchImage(name, err)
}
