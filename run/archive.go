package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// SaveImages writes images to an archive as [registry.Save] does. A name without a tag means all images of its repository;
// an image that is asked for by its ID has no name in the archive.
func (h *Host) SaveImages(ctx context.Context, w io.Writer, names []string, docker bool) error {
	var saved []registry.SavedImage
	place := map[string]int{} // in saved, by digest
	for _, query := range names {
		images, err := h.wanted(query)
		if err != nil {
			return err
		}
		for _, img := range images {
			n, known := place[img.Digest]
			if !known {
				source, err := h.whole(img)
				if err != nil {
					return err
				}
				n = len(saved)
				place[img.Digest] = n
				saved = append(saved, registry.SavedImage{Image: source})
			}
			if img.Name != "" && !slices.Contains(saved[n].Names, img.Name) {
				saved[n].Names = append(saved[n].Names, img.Name)
			}
		}
	}
	return registry.Save(ctx, w, saved, docker)
}

// wanted finds what a word for save means. The images bear the names that they are to have.
func (h *Host) wanted(query string) ([]*layers.Image, error) {
	img, err := h.Images.Lookup(query)
	ref, refErr := registry.ParseReference(query)
	if refErr == nil && ref.Digest == "" && !strings.HasSuffix(query, ":"+ref.Tag) {
		names, tagErr := h.Tagged(query)
		var images []*layers.Image
		for _, name := range names {
			img, err := h.Images.Lookup(name)
			if err != nil {
				return nil, err
			}
			images = append(images, img)
		}
		if tagErr == nil {
			return images, nil
		}
	}
	if err != nil {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return nil, fmt.Errorf("No such image: %s%w", query, errHidden{err})
	}
	if refErr != nil || ref.String() != img.Name {
		nameless := *img
		nameless.Name = ""
		img = &nameless
	}
	return []*layers.Image{img}, nil
}

// whole opens an image that is to be written, of which all blobs must be here.
func (h *Host) whole(img *layers.Image) (v1.Image, error) {
	if !h.Images.Complete(img) {
		return nil, fmt.Errorf("image %q: some of its layers are not here as they were transferred: pull it again", img.ID)
	}
	return h.Images.Image(img.Digest)
}

// LoadImages adds all images of an archive, which it takes over, see [registry.OpenArchive]. Each comes back as often as it
// has names; Name is empty for one that has none.
func (h *Host) LoadImages(ctx context.Context, archive *os.File, f Fetch) ([]*layers.Image, error) {
	platform, err := parsePlatform(f.Platform)
	if err != nil {
		archive.Close()
		return nil, err
	}
	spool := filepath.Join(h.Root, "tmp") // images are big, and $TMPDIR is often memory
	if err := os.MkdirAll(spool, 0o700); err != nil {
		archive.Close()
		return nil, fmt.Errorf("load images: %w", err)
	}
	images, done, err := registry.OpenArchive(archive, spool, platform)
	if err != nil {
		return nil, err
	}
	defer done()
	var loaded []*layers.Image
	for _, i := range images {
		added, err := h.loadImage(ctx, i, f)
		loaded = append(loaded, added...)
		if err != nil {
			return loaded, err
		}
	}
	return loaded, nil
}

// loadImage adds one image, by all its names.
func (h *Host) loadImage(ctx context.Context, i registry.ArchivedImage, f Fetch) (loaded []*layers.Image, err error) {
	names := i.Names
	if len(names) == 0 {
		names = []string{""}
	}
	source := i.Image
	if i.Bare {
		source = h.sameImage(source)
	}
	for _, name := range names {
		img, err := h.Images.Add(ctx, name, source, layers.AddOptions{Progress: f.Progress})
		if err != nil {
			return loaded, err
		}
		named := *img
		named.Name = name
		loaded = append(loaded, &named)
		attributes := mergeLabels(img.Config.Config.Labels, nil)
		attributes["name"] = img.ID
		if ref, err := registry.ParseReference(name); err == nil {
			attributes["name"] = ref.Familiar()
		}
		h.note(Event{Type: "image", Action: "load", ID: img.ID, Attributes: attributes})
	}
	return loaded, nil
}

// sameImage gives an image that is here already and has the same configuration, so that one without a manifest of its own
// does not become a second image of that ID, with other blobs.
func (h *Host) sameImage(img v1.Image) v1.Image {
	id, err := img.ConfigName()
	if err != nil {
		return img
	}
	here, err := h.Images.Lookup(id.String())
	if err != nil || here.ID != id.String() || !h.Images.Complete(here) {
		return img
	}
	if same, err := h.Images.Image(here.Digest); err == nil {
		return same
	}
	return img
}
