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
// has neither there nor in another repository of which this disk has an image. Where the name stands for an index that is
// all here, all of it goes, unless opt asks for a platform.
func (h *Host) Push(ctx context.Context, client *registry.Client, name string, opt PushOptions) (*Pushed, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	img, err := h.pushed(ref, opt)
	if errors.Is(err, layers.ErrNotFound) {
		return nil, notTagged(ref.Familiar(), err)
	}
	if err != nil {
		return nil, err
	}
	if err := client.Push(ctx, ref, img, registry.PushOptions{Progress: opt.Progress, From: h.elsewhere(ref)}); err != nil {
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

// PushOptions say how [Host.Push] works. The zero value will do.
type PushOptions struct {
	Platform string // only the image for it goes: "os[/arch[/variant]]"
	All      bool   // it is an error if not all platforms of an index are here
	Progress func(registry.Sent)
}

// pushed finds what is to go.
func (h *Host) pushed(ref registry.Reference, opt PushOptions) (registry.Content, error) {
	index, img, missing, err := h.Images.Content(ref.String())
	if err != nil {
		return nil, err
	}
	if opt.Platform != "" {
		return h.pushedPlatform(ref, index, img, opt.Platform)
	}
	if missing && opt.All {
		return nil, fmt.Errorf("push %q: not all platforms are here\npull --all-platforms brings them", ref.Familiar())
	}
	if missing {
		h.warn("%s: not all platforms of it are here: pushing the image for this machine's alone", ref.Familiar())
	}
	if index != nil {
		return index, nil
	}
	return img, nil
}

// pushedPlatform is the image for one platform.
func (h *Host) pushedPlatform(ref registry.Reference, index v1.ImageIndex, img v1.Image, platform string) (registry.Content, error) {
	want, err := registry.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	if index != nil {
		return registry.ChoosePlatform(index, want)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if have := cfg.Platform(); have == nil || !have.Satisfies(*want) {
		return nil, fmt.Errorf("push %q: the image here is for %s, not %s", ref.Familiar(), have, want)
	}
	return img, nil
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
