package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ArchivedImage is an image in an archive, with the full names that it has there, if any.
type ArchivedImage struct {
	Names []string
	Image v1.Image
	// Bare means that the archive has no manifest of it, and Image's was written here.
	Bare bool
}

// OpenArchive finds all images in an archive, a tar of docker save's or of an OCI image layout. Where it is both, as newer
// versions of Docker make them, the layout counts, for it has the manifests that the images had in a registry. What has
// entries for several platforms is one image, for the platform that [Client.Pull] would choose.
//
// An archive that is compressed, or that comes through a pipe, is first unpacked to a nameless file in the directory spool
// ("" for $TMPDIR). Every byte is verified when it is read. The images read from f until closed is called, which closes f.
func OpenArchive(f *os.File, spool string, platform *v1.Platform) (images []ArchivedImage, closed func() error, err error) {
	files, closed, err := openTarFile(f, spool)
	if err != nil {
		return nil, nil, fmt.Errorf("open archive: %w", err)
	}
	images, err = archived(files, platform)
	if err != nil {
		closed()
		return nil, nil, fmt.Errorf("open archive: %w", err)
	}
	return images, closed, nil
}

func archived(files fs.FS, platform *v1.Platform) ([]ArchivedImage, error) {
	saved, err := readSaved(files)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	index, indexErr := readLayoutIndex(files)
	switch {
	case indexErr == nil:
		return layoutImages(files, index, saved, platform)
	case !errors.Is(indexErr, fs.ErrNotExist):
		return nil, indexErr
	case err != nil:
		return nil, problemf(ErrNotFound, "neither index.json nor manifest.json, so this is no archive of images (hull import takes a file system)")
	}
	images := make([]ArchivedImage, len(saved))
	for n, s := range saved {
		if images[n].Image, err = openSaved(files, s); err != nil {
			return nil, err
		}
		images[n].Names, images[n].Bare = fullNames("", s.RepoTags), true
	}
	return images, nil
}

// readSaved reads manifest.json.
func readSaved(files fs.FS) ([]savedImage, error) {
	raw, err := readFile(files, "manifest.json", maxManifestSize)
	if err != nil {
		return nil, err
	}
	if err := checkCount(raw, maxManifests, "images"); err != nil {
		return nil, err
	}
	var all []savedImage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, problemf(ErrCorrupt, "manifest.json: %w", err)
	}
	return all, nil
}

// readLayoutIndex reads index.json.
func readLayoutIndex(files fs.FS) (*document, error) {
	raw, err := readFile(files, "index.json", maxManifestSize)
	if err != nil {
		return nil, err
	}
	index, err := parseDocument(raw, string(types.OCIImageIndex), "", 0)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if index.index == nil {
		return nil, problemf(ErrCorrupt, "index.json is no index")
	}
	return index, nil
}

// layoutImages opens what index.json lists. An image that has several names has several entries, and an image for several
// platforms may have, too.
func layoutImages(files fs.FS, index *document, saved []savedImage, platform *v1.Platform) ([]ArchivedImage, error) {
	var images []ArchivedImage
	entries := slices.DeleteFunc(slices.Clone(index.index.Manifests), isAttestation)
	for len(entries) > 0 {
		var group []v1.Descriptor
		first := entries[0]
		entries = slices.DeleteFunc(entries, func(d v1.Descriptor) bool {
			if slices.ContainsFunc(group, func(e v1.Descriptor) bool { return !isVariant(d, e) }) {
				return false
			}
			same := slices.Equal(names(d), names(first)) && (d.Digest == first.Digest || len(names(d)) > 0 && isVariant(d, first))
			if same {
				group = append(group, d)
			}
			return same
		})
		img, err := layoutImage(files, index, group, platform)
		if err != nil {
			return nil, err
		}
		images = together(images, ArchivedImage{Names: layoutNames(img, names(first), saved), Image: img})
	}
	return images, nil
}

func layoutImage(files fs.FS, index *document, entries []v1.Descriptor, platform *v1.Platform) (*image, error) {
	src := layout{files}
	top := &document{desc: index.desc, index: &v1.IndexManifest{Manifests: entries}}
	if len(entries) == 1 {
		var err error
		if top, err = fetchDocument(context.Background(), src, entries[0]); err != nil {
			return nil, err
		}
	}
	return newImage(context.Background(), src, top, platform)
}

// layoutNames are an image's names in a layout, or if that knows of none, in manifest.json.
func layoutNames(img *image, names []string, saved []savedImage) []string {
	if full := fullNames("localhost/", names); len(full) > 0 {
		return full
	}
	for _, s := range saved {
		if strings.Contains(s.Config, img.doc.image.Config.Digest.Hex) {
			return fullNames("", s.RepoTags)
		}
	}
	return nil
}

// fullNames writes names out, and passes over those that are tags only. place is where a name without one belongs: in
// manifest.json to the Hub (""), but a layout's "busybox:1.38" must not be taken for that.
func fullNames(place string, names []string) (full []string) {
	for _, n := range names {
		if !strings.ContainsAny(n, "/:") {
			continue
		}
		if !strings.Contains(n, "/") {
			n = place + n
		}
		if ref, err := ParseReference(n); err == nil && !slices.Contains(full, ref.String()) {
			full = append(full, ref.String())
		}
	}
	return full
}

// together adds an image to a list, or its names to the same image there.
func together(images []ArchivedImage, more ArchivedImage) []ArchivedImage {
	digest, _ := more.Image.Digest()
	for n := range images {
		if d, _ := images[n].Image.Digest(); d == digest {
			for _, name := range more.Names {
				if !slices.Contains(images[n].Names, name) {
					images[n].Names = append(images[n].Names, name)
				}
			}
			return images
		}
	}
	return append(images, more)
}
