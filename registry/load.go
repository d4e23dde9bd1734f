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

const (
	// maxDocuments bounds the manifests and configurations of an archive, which are held in memory, in bytes. Those of a
	// thousand images have that many, and parsed they take several times as much.
	maxDocuments = 12 << 20
	// maxTags is how many names one image may have in an archive, maxVariants how many entries of index.json one name.
	maxTags     = 1000
	maxVariants = 100
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
	var all gathered
	for _, s := range saved {
		img, err := openSaved(files, s)
		if err == nil {
			err = all.add(img, fullNames("", s.RepoTags), true)
		}
		if err != nil {
			return nil, err
		}
	}
	return all.images, nil
}

// gathered are an archive's images, each once.
type gathered struct {
	images []ArchivedImage
	place  map[v1.Hash]int // in images, by the manifest's digest
	size   int             // of their documents, in bytes
}

// add adds an image, or its names to the same image there.
func (g *gathered) add(img *image, names []string, bare bool) error {
	if g.place == nil {
		g.place = map[v1.Hash]int{}
	}
	digest := img.doc.desc.Digest
	n, known := g.place[digest]
	if !known {
		n = len(g.images)
		g.place[digest] = n
		g.images = append(g.images, ArchivedImage{Image: img, Bare: bare})
		if g.size += len(img.config) + len(img.doc.raw); g.size > maxDocuments {
			return problemf(ErrUnsupported, "the archive's manifests and configurations have more than %d bytes, the limit", maxDocuments)
		}
	}
	i := &g.images[n]
	for _, name := range names {
		if !slices.Contains(i.Names, name) {
			i.Names = append(i.Names, name)
		}
	}
	if len(i.Names) > maxTags {
		return problemf(ErrUnsupported, "image %s has more than %d names in the archive, the limit", digest, maxTags)
	}
	return nil
}

// readSaved reads manifest.json.
func readSaved(files fs.FS) ([]savedImage, error) {
	raw, err := readFile(files, "manifest.json", maxManifestSize)
	if err != nil {
		return nil, err
	}
	if err := checkSaved(raw); err != nil {
		return nil, err
	}
	var all []savedImage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, problemf(ErrCorrupt, "manifest.json: %w", err)
	}
	return all, nil
}

// checkSaved bounds the lists in manifest.json before they are read.
func checkSaved(raw []byte) error {
	if err := checkCount(raw, maxManifests, "images"); err != nil {
		return err
	}
	var all []struct{ RepoTags, Layers []nothing }
	_ = json.Unmarshal(raw, &all) // who parses it after us says what is wrong with it
	for _, s := range all {
		if len(s.Layers) > maxLayers {
			return problemf(ErrUnsupported, "an image in manifest.json has %d layers, the limit is %d", len(s.Layers), maxLayers)
		}
		if len(s.RepoTags) > maxTags {
			return problemf(ErrUnsupported, "an image in manifest.json has %d names, the limit is %d", len(s.RepoTags), maxTags)
		}
	}
	return nil
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
	var all gathered
	groups, err := namesakes(slices.DeleteFunc(slices.Clone(index.index.Manifests), isAttestation))
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		for len(group) > 0 {
			var one []v1.Descriptor
			one, group = variants(group)
			img, err := layoutImage(files, index, one, platform)
			if err == nil {
				err = all.add(img, layoutNames(img, names(one[0]), saved), false)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return all.images, nil
}

// namesakes groups the entries of index.json that have the same names, or none and the same digest.
func namesakes(entries []v1.Descriptor) ([][]v1.Descriptor, error) {
	var groups [][]v1.Descriptor
	place := map[string]int{}
	for _, d := range entries {
		key := strings.Join(names(d), "\x00")
		if key == "" {
			key = d.Digest.String()
		}
		n, known := place[key]
		if !known {
			n = len(groups)
			place[key] = n
			groups = append(groups, nil)
		}
		if groups[n] = append(groups[n], d); len(groups[n]) > maxVariants {
			return nil, problemf(ErrUnsupported, "more than %d entries of index.json are called %q, the limit", maxVariants, names(d))
		}
	}
	return groups, nil
}

// variants takes those out of a group that are one image with the first, each for another platform.
func variants(group []v1.Descriptor) (one, rest []v1.Descriptor) {
	for _, d := range group {
		if slices.ContainsFunc(one, func(e v1.Descriptor) bool { return !isVariant(d, e) }) {
			rest = append(rest, d)
		} else {
			one = append(one, d)
		}
	}
	return one, rest
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
