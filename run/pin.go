package run

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/lock"
	"github.com/hullrun/hull/registry"
)

// pin is what hull.lock says of an image's name. nil says nothing, and everything is allowed.
type pin struct {
	lock.Entry
	name, file string // full, and the path of hull.lock
}

// errOtherThanLocked is in the error about an image that is here, with other bytes than hull.lock names.
var errOtherThanLocked = errors.New("not the image of " + lock.Name)

// pin looks a name up in the hull.lock of the host's Dir. nil without an error means that any image of that name will do:
// nobody has locked it, or the name is its own lock (a digest, a whole ID, the image that hull is made of).
func (h *Host) pin(name string) (*pin, error) {
	if h.Dir == "" || isHello(name) {
		return nil, nil
	}
	file := lock.Find(h.Dir, h.warn)
	if file == "" && !h.Locked {
		return nil, nil
	}
	if file == "" {
		return nil, fmt.Errorf("image %q: --locked, but there is no %s in %s or, in a git work tree, above it\nhull lock %s makes one", name, lock.Name, h.Dir, name)
	}
	f, err := lock.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	ref, err := registry.ParseReference(name)
	if err == nil && ref.Digest != "" || isWholeID(name) {
		return nil, nil
	}
	if entry, ok := f.Entries[ref.String()]; ok && err == nil && !registry.IsArchive(name) {
		return &pin{entry, ref.String(), file}, nil
	}
	if h.Locked {
		return nil, fmt.Errorf("image %q: --locked, and %s lacks it\nhull lock %s adds it", name, file, name)
	}
	return nil, nil
}

// isWholeID tells an image's ID, which cannot come to mean another image.
func isWholeID(name string) bool {
	hex := strings.TrimPrefix(name, "sha256:")
	return len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// pinned gives img if the lock allows it, or else an image of this disk that has lost the name since, and gets it back. img
// nil is one that is not here.
func (h *Host) pinned(p *pin, img *layers.Image) (*layers.Image, error) {
	if img != nil && p.Allows(img.Digest) {
		return img, nil
	}
	digests := []string{p.Digest}
	for _, d := range p.Platforms {
		digests = append(digests, d)
	}
	for _, d := range digests {
		old, err := h.Images.Lookup(d)
		if err != nil || !p.Allows(old.Digest) || !h.Images.Complete(old) || len(p.Platforms) > 1 && !old.Platform.Satisfies(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}) {
			continue
		}
		if err := h.Images.Tag(d, p.name); err != nil {
			return nil, err
		}
		return h.Images.Lookup(p.name)
	}
	if img == nil {
		return nil, fmt.Errorf("look up %q: %w", p.name, layers.ErrNotFound)
	}
	return nil, fmt.Errorf("image %q: the one on this disk is %s, %s wants %s%w%w", p.name, img.Digest, p.file, p.Digest,
		errHidden{errOtherThanLocked}, errHidden{layers.ErrNotFound})
}

// pinnedHere is an image of this disk that a pull of the locked bytes would bring, ready to run; nil if there is none.
func (h *Host) pinnedHere(ctx context.Context, name string, f Fetch, p *pin) *layers.Image {
	if f.Platform == "" {
		f.Platform = "linux/" + runtime.GOARCH
	}
	img, err := h.local(ctx, name, f, p)
	if err != nil || !h.Images.Complete(img) {
		return nil
	}
	return img
}

// check refuses an image that was chosen from the locked index, but is not the one that the lock has for its platform.
func (p *pin) check(ref registry.Reference, img v1.Image) error {
	if p == nil {
		return nil
	}
	d, err := img.Digest()
	if err == nil && !p.Allows(d.String()) {
		err = fmt.Errorf("pull %q: its index has %s, which %s does not name", ref.Familiar(), d, p.file)
	}
	return err
}
