package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// skeleton is a directory with the places that every container mounts something on. It lies below an image's lowest
// layer, so that nothing has to be made in the container's own directory for a mount: what the program has not written is
// not there, and a container that wrote nothing is removed without a look.
const skeleton = "skeleton"

// layIn adds the skeleton to the lower directories of a root file system, unless they are as many already as overlay
// takes. It is made at its first use.
func (h *Host) layIn(root *specs.Mount) error {
	for i, o := range root.Options {
		lower, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok || strings.Count(lower, ":") >= 498 || len(strings.Join(root.Options, ",")) > 4000 {
			continue
		}
		if err := h.makeSkeleton(); err != nil {
			return err
		}
		root.Options[i] = o + ":../" + skeleton
	}
	return nil
}

// makeSkeleton makes it under another name first, so that no container starts on a half of it.
func (h *Host) makeSkeleton() error {
	dir := filepath.Join(h.Root, skeleton)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.MkdirTemp(h.Root, skeleton+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	err = os.Chmod(tmp, 0o755)
	// The modes are set once more, because the caller's umask cuts them.
	for _, d := range []string{"dev", "etc", "proc", "sys"} {
		d = filepath.Join(tmp, d)
		err = errors.Join(err, os.Mkdir(d, 0o755), os.Chmod(d, 0o755))
	}
	for _, f := range []string{"hostname", "hosts", "resolv.conf"} {
		f = filepath.Join(tmp, "etc", f)
		err = errors.Join(err, os.WriteFile(f, nil, 0o644), os.Chmod(f, 0o644))
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
