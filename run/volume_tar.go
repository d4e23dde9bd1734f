package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// ExportVolume writes a volume's files as a tar.
func (h *Host) ExportVolume(ctx context.Context, name string, tar *os.File) error {
	return h.inVolume("export", name, func(root *os.File) error {
		return h.files(ctx, &fileWork{Do: "pack", Path: []byte("/"), Name: []byte(".")}, root, tar)
	})
}

// ImportVolume puts the files of a tar, which may be compressed, into a volume, in the place of those of the same names.
// Owners are the tar's.
func (h *Host) ImportVolume(ctx context.Context, name string, tar *os.File) error {
	return h.inVolume("import to", name, func(root *os.File) error {
		place := layers.PlaceOptions{Many: true, Keep: true, OneID: h.Images.OneID}
		return h.files(ctx, &fileWork{Do: "place", Path: []byte("/"), Place: place}, root, tar)
	})
}

// inVolume opens the directory of a volume, which cannot be removed meanwhile.
func (h *Host) inVolume(what, name string, do func(root *os.File) error) error {
	v, use, err := h.takeVolume(name)
	if err != nil {
		return err
	}
	defer use.Close()
	source, err := v.source(h.rootless)
	if err != nil {
		return err
	}
	m := MountSpec{}
	if source.bind(&m, v.Mountpoint); source.kind != "" && source.kind != "bind" {
		return fmt.Errorf("%s volume %s: a volume of type %s has no files but in a container", what, name, source.kind)
	}
	root, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		defer root.Close()
		err = do(root)
	}
	if err != nil {
		return fmt.Errorf("%s volume %s: %w", what, name, err)
	}
	return nil
}

// takeVolume finds a volume and keeps it from being removed until use is closed.
func (h *Host) takeVolume(name string) (v *Volume, use *os.File, err error) {
	held, err := h.holdVolumes(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, noVolume(name) // no root directory, no volume
	}
	if err != nil {
		return nil, nil, err
	}
	defer held.Close()
	if v, err = h.Volume(name); err != nil {
		return nil, nil, err
	}
	use, err = h.useVolume(name)
	return v, use, err
}

// useVolume opens a volume's directory and locks it, so that nobody removes it. The caller holds the volumes.
func (h *Host) useVolume(name string) (*os.File, error) {
	use, err := os.Open(h.volumeDir(name))
	if err != nil {
		return nil, fmt.Errorf("use volume %s: %w", name, err)
	}
	if err := flock(use, unix.LOCK_SH); err != nil { // its maker lets go in a moment
		use.Close()
		return nil, fmt.Errorf("use volume %s: %w", name, err)
	}
	return use, nil
}
