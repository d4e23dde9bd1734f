package run

import (
	"context"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// A signature is of a digest. What was verified is noted in the store by digest and key, so that a name which is moved to
// another image, by tag or by anybody who writes index.json, takes no trust along. An image is verified before anything of
// it is unpacked, and again, by the note, whenever a container is to be made of it.

// builtIn stands for a key in the note about hull's own image.
const builtIn = "hull"

// verify finds a key for each demand, for an image that is about to be added: by what is noted, or beside the image where it
// comes from.
func (h *Host) verify(ctx context.Context, img v1.Image, all []demand) (keys []registry.Key, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	verified, err := h.Images.Verified(digest.String())
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		key, known := d.noted(verified)
		if !known {
			if key, err = registry.Verify(ctx, img, d.keys); err != nil {
				return nil, err
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// noteVerified notes the keys that verify found.
func (h *Host) noteVerified(img *layers.Image, keys []registry.Key) error {
	for _, k := range keys {
		if err := h.Images.NoteVerified(img.Digest, k.Fingerprint); err != nil {
			return err
		}
	}
	return nil
}

// trust sees to it that an image which is here, found by what somebody typed, is signed as it must be. An image that was asked
// for by its ID may be used if it might be by one of its names.
func (h *Host) trust(ctx context.Context, query string, img *layers.Image) error {
	verified, err := h.Images.Verified(img.Digest)
	if err != nil {
		return err
	}
	if len(verified) > 0 && verified[0] == builtIn && isHello(query) {
		return nil
	}
	refs, err := h.meant(query, img)
	if err != nil {
		return err
	}
	var first error
	for _, ref := range refs {
		all, err := h.demands(ref)
		if err == nil {
			err = h.meet(ctx, ref, img, verified, all)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("image %q: %w", query, err)
		}
	}
	return first
}

// meant gives the names under which somebody asks for an image: the one that was typed, or for an ID all that the image has.
// Where it has none there is one empty one.
func (h *Host) meant(query string, img *layers.Image) ([]registry.Reference, error) {
	if ref, err := registry.ParseReference(query); err == nil {
		its, err := registry.ParseReference(img.Name)
		if err == nil && policyName(its) == policyName(ref) {
			return []registry.Reference{ref}, nil
		}
	}
	list, err := h.Images.List()
	if err != nil {
		return nil, err
	}
	var refs []registry.Reference
	for _, other := range list {
		if ref, err := registry.ParseReference(other.Name); err == nil && other.Digest == img.Digest {
			refs = append(refs, ref)
		}
	}
	if len(refs) == 0 {
		refs = []registry.Reference{{}}
	}
	return refs, nil
}

// meet asks the image's registry for the signatures that are not noted.
func (h *Host) meet(ctx context.Context, ref registry.Reference, img *layers.Image, verified []string, all []demand) error {
	for _, d := range all {
		if _, known := d.noted(verified); known {
			continue
		}
		if h.Offline || ref.Path == "" {
			why := "and --offline forbids to ask the registry"
			if ref.Path == "" {
				why = "and without a name there is no registry to ask"
			}
			return fmt.Errorf("%w: no signature by %s is known here for %s, %s", registry.ErrUnsigned, keyNames(d.keys), img.Digest, why)
		}
		client, err := h.Client()
		if err != nil {
			return err
		}
		key, err := client.Verify(ctx, ref, img.Digest, &img.Platform, d.keys)
		if err != nil {
			return err
		}
		if err := h.noteVerified(img, []registry.Key{key}); err != nil {
			return err
		}
	}
	return nil
}

func keyNames(keys []registry.Key) string {
	names := make([]string, len(keys))
	for n, k := range keys {
		names[n] = k.Name
	}
	return strings.Join(names, " or ")
}
