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
	return h.addArchived(ctx, images, f)
}

// What is added to the store at a time, for each time waits for the disk: so many images, or layers of so many bytes.
const (
	togetherImages = 64
	togetherBytes  = 256 << 20
)

// addArchived adds images, several at a time. Each comes back as often as it has names.
func (h *Host) addArchived(ctx context.Context, images []registry.ArchivedImage, f Fetch) (loaded []*layers.Image, err error) {
	signers := map[string][]registry.Key{} // by digest
	defer h.KeepBudget()
	for len(images) > 0 {
		var batch []layers.Addition
		for size := int64(0); len(images) > 0 && len(batch) < togetherImages && size < togetherBytes; images = images[1:] {
			i := images[0]
			if i.Bare {
				i.Image = h.sameImage(i.Image)
			}
			m, err := i.Image.Manifest()
			if err == nil {
				err = h.verifyNames(ctx, i, signers)
			}
			if err != nil {
				return loaded, err
			}
			for _, l := range m.Layers {
				size += l.Size
			}
			batch = append(batch, layers.Addition{Names: i.Names, Image: i.Image})
		}
		added, err := h.Images.AddMany(ctx, batch, layers.AddOptions{Progress: f.Progress})
		for _, img := range added {
			h.noteLoad(img)
			if err == nil {
				err = h.noteVerified(img, signers[img.Digest])
			}
		}
		loaded = append(loaded, added...)
		if err != nil {
			return loaded, err
		}
	}
	return loaded, nil
}

// noteLoad notes that an image came out of an archive.
func (h *Host) noteLoad(img *layers.Image) {
	attributes := mergeLabels(img.Config.Config.Labels, nil)
	attributes["name"] = img.ID
	if ref, err := registry.ParseReference(img.Name); err == nil {
		attributes["name"] = ref.Familiar()
	}
	h.note(Event{Type: "image", Action: "load", ID: img.ID, Attributes: attributes})
}

// verifyNames verifies an archive's image for each name that it claims to have, and adds the keys that were found to signers, by
// digest.
func (h *Host) verifyNames(ctx context.Context, i registry.ArchivedImage, signers map[string][]registry.Key) error {
	digest, err := i.Image.Digest()
	if err != nil {
		return err
	}
	names := i.Names
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		var ref registry.Reference
		if name != "" {
			if ref, err = registry.ParseReference(name); err != nil {
				return err
			}
		}
		wanted, err := h.demands(ref)
		var keys []registry.Key
		if err == nil {
			keys, err = h.verify(ctx, i.Image, wanted)
		}
		if err != nil {
			return fmt.Errorf("load %q: %w", name, err)
		}
		signers[digest.String()] = append(signers[digest.String()], keys...)
	}
	return nil
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
