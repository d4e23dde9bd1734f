package run

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// Pushed is an image that is at a registry now.
type Pushed struct {
	Ref    registry.Reference
	Digest string // of the manifest
	Size   int64  // bytes of the manifest
}

// Push uploads the image that name stands for on this disk to where its name says: of its blobs those that the registry
// has neither there nor in another repository of which this disk has an image. progress may be nil.
func (h *Host) Push(ctx context.Context, client *registry.Client, name string, progress func(registry.Sent)) (*Pushed, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	img, err := h.Images.Image(ref.String())
	if errors.Is(err, layers.ErrNotFound) {
		return nil, notTagged(ref.Familiar(), err)
	}
	if err != nil {
		return nil, err
	}
	opt := registry.PushOptions{Progress: progress, From: h.elsewhere(ref)}
	if err := client.Push(ctx, ref, img, opt); err != nil {
		return nil, err
	}
	h.note(Event{Type: "image", Action: "push", ID: ref.Familiar(), Attributes: map[string]string{"name": bare(ref)}})
	p := &Pushed{Ref: ref}
	digest, err := img.Digest()
	if err == nil {
		p.Digest = digest.String()
		p.Size, err = img.Size()
	}
	return p, err
}

// notTagged says that there is nothing to push.
func notTagged(name string, cause error) error {
	//lint:ignore ST1005 Docker's words, which scripts look for
	return fmt.Errorf("An image does not exist locally with the tag: %s%w", name, errHidden{cause})
}

// Tagged gives the familiar names of all images of the repository that name names, which has no tag.
func (h *Host) Tagged(name string) ([]string, error) {
	want, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	images, err := h.Images.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, img := range images {
		ref, err := registry.ParseReference(img.Name)
		if err == nil && ref.Domain == want.Domain && ref.Path == want.Path && ref.Tag != "" {
			names = append(names, ref.Familiar())
		}
	}
	if len(names) == 0 {
		return nil, notTagged(bare(want), layers.ErrNotFound)
	}
	return names, nil
}

// elsewhere tells in which other repositories of ref's registry a layer is likely to be: those that an image on this disk is
// named after that has it too.
func (h *Host) elsewhere(ref registry.Reference) func(v1.Hash) []string {
	var known map[v1.Hash][]string
	return func(layer v1.Hash) []string {
		if known == nil {
			known = h.repositories(ref.Domain, ref.Path)
		}
		return known[layer]
	}
}

// repositories gives, for each layer, the repositories at a registry that have it, as far as names tell; except one.
func (h *Host) repositories(domain, except string) map[v1.Hash][]string {
	known := map[v1.Hash][]string{}
	images, err := h.Images.List()
	if err != nil {
		return known // then all is sent
	}
	for _, img := range images {
		ref, err := registry.ParseReference(img.Name)
		if err != nil || ref.Domain != domain || ref.Path == except {
			continue
		}
		blobs, err := h.Images.Blobs(img)
		if err != nil {
			continue
		}
		for _, b := range blobs {
			if !slices.Contains(known[b.Digest], ref.Path) {
				known[b.Digest] = append(known[b.Digest], ref.Path)
			}
		}
	}
	return known
}
