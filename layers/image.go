package layers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what a start needs to know of an image.
type Image struct {
	Name     string // as in index.json, "docker.io/library/busybox:latest"; "" for an image without a name
	Digest   string // of the manifest, "sha256:…"
	ID       string // digest of the config, "sha256:…"
	Platform v1.Platform
	Config   *v1.ConfigFile
	DiffIDs  []string // "sha256:…" of the plain tars, lowest layer first
	// Layers has the short numbers of the unpacked layers, lowest first, without those that a layer above
	// hides altogether. It is nil when one of them is not unpacked here: see [Store.Ready].
	Layers  []string
	Size    int64     // bytes of all files of all layers; while a layer is not unpacked, of the blobs
	Created time.Time // zero if the image does not say
	// OneIDSafe is true when every file belongs to 0:0 and the program starts as root, so that mapping one
	// user id shows the image as it is. It is false while a layer is not unpacked.
	OneIDSafe bool

	found stamp // of the index that Lookup found it in
}

// Facts is what a store keeps of an unpacked layer, as JSON.
type Facts struct {
	DiffID string `json:"diff_id"`
	Unpacked
}

// entry is one image of the index, down to its manifest and config.
type entry struct {
	name     string
	top      v1.Descriptor // as in index.json
	inner    []v1.Hash     // the indexes that lead from there to the manifest, if top is one
	desc     v1.Descriptor // of the manifest
	manifest *v1.Manifest
}

// maxNesting is how many indexes may lead to a manifest.
const maxNesting = 4

// entry follows a descriptor to a manifest for this machine.
func (s *Store) entry(d v1.Descriptor) (*entry, error) {
	e := &entry{name: nameOf(&d), top: d, desc: d}
	for e.desc.MediaType.IsIndex() {
		if len(e.inner) == maxNesting {
			return nil, fmt.Errorf("index %s: more than %d indexes deep", d.Digest, maxNesting)
		}
		e.inner = append(e.inner, e.desc.Digest)
		next, err := s.choose(e.desc.Digest)
		if err != nil {
			return nil, err
		}
		e.desc = *next
	}
	if !e.desc.MediaType.IsImage() {
		return nil, fmt.Errorf("manifest %s: media type %q is not an image", e.desc.Digest, e.desc.MediaType)
	}
	b, err := s.readBlob(e.desc.Digest)
	if err != nil {
		return nil, err
	}
	if e.manifest, err = parseManifest(b); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", e.desc.Digest, err)
	}
	return e, nil
}

// parseManifest reads a manifest, and refuses digests that could not be file names.
func parseManifest(b []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	err = validDigest(m.Config.Digest)
	for _, l := range m.Layers {
		err = or(err, validDigest(l.Digest))
	}
	return m, err
}

// choose picks the manifest of an index that this machine can run.
func (s *Store) choose(index v1.Hash) (*v1.Descriptor, error) {
	b, err := s.readBlob(index)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", index, err)
	}
	for _, d := range m.Manifests {
		if p := d.Platform; p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return &d, validDigest(d.Digest)
		}
	}
	return nil, fmt.Errorf("index %s: nothing for linux/%s", index, runtime.GOARCH)
}

// readBlob reads a small blob.
func (s *Store) readBlob(h v1.Hash) ([]byte, error) {
	b, err := os.ReadFile(s.blob(h.String()))
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	return b, nil
}

// image reads config and layers of an entry.
func (s *Store) image(e *entry) (*Image, error) {
	b, err := s.readBlob(e.manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", e.manifest.Config.Digest, err)
	}
	img := &Image{
		Name: e.name, Digest: e.desc.Digest.String(), ID: e.manifest.Config.Digest.String(), Config: config,
		Created: config.Created.Time,
	}
	if p := config.Platform(); p != nil {
		img.Platform = *p
	}
	for _, d := range config.RootFS.DiffIDs {
		if err := validDigest(d); err != nil {
			return nil, fmt.Errorf("config %s: %w", img.ID, err)
		}
		img.DiffIDs = append(img.DiffIDs, d.String())
	}
	if len(img.DiffIDs) != len(e.manifest.Layers) {
		return nil, fmt.Errorf("manifest %s: %d layers, but the config has %d diff IDs", img.Digest, len(e.manifest.Layers), len(img.DiffIDs))
	}
	return img, s.layersOf(img, e.manifest)
}

// layersOf looks up the unpacked layers.
func (s *Store) layersOf(img *Image, m *v1.Manifest) error {
	numbers, size, safe := make([]string, 0, len(img.DiffIDs)), int64(0), rootUser(img.Config.Config.User)
	for _, id := range img.DiffIDs {
		number, facts, err := s.layer(id, s.OneID)
		if errors.Is(err, fs.ErrNotExist) {
			for _, l := range m.Layers {
				img.Size += l.Size
			}
			return nil
		}
		if err != nil {
			return err
		}
		if facts.OpaqueRoot {
			numbers = numbers[:0]
		}
		numbers = append(numbers, number)
		size += facts.Size
		safe = safe && facts.AllRoot
	}
	img.Layers, img.Size, img.OneIDSafe = numbers, size, safe
	return nil
}

// rootUser says whether an image's USER is root without looking into the image.
func rootUser(user string) bool {
	switch user {
	case "", "0", "root", "0:0", "root:root", "0:root", "root:0":
		return true
	}
	return false
}

// Image gives an image back as it came, byte for byte, to be pushed or saved. The name is one that Lookup takes.
// What it returns reads the store's files; they are gone after the image was removed.
func (s *Store) Image(name string) (v1.Image, error) {
	e, err := s.find(name)
	if err != nil {
		return nil, err
	}
	index, err := layout.Path(s.path("images")).ImageIndex()
	for _, h := range e.inner {
		if err == nil {
			index, err = index.ImageIndex(h)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open image %q: %w", name, err)
	}
	img, err := index.Image(e.desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("open image %q: %w", name, err)
	}
	return img, nil
}

// Blobs describes the layers of an image as they are transferred, lowest first. They need not all be here.
func (s *Store) Blobs(img *Image) ([]v1.Descriptor, error) {
	h, err := v1.NewHash(img.Digest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	b, err := s.readBlob(h)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", h, err)
	}
	return m.Layers, nil
}

// layerMediaType says whether a blob of this type is a layer that can be unpacked.
func layerMediaType(t types.MediaType) error {
	switch t {
	case types.DockerLayer, types.DockerUncompressedLayer, types.OCILayer, types.OCIUncompressedLayer, types.OCILayerZStd,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":
		return nil
	case types.DockerForeignLayer, types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return fmt.Errorf("media type %q: foreign layers are not supported", t)
	}
	return fmt.Errorf("media type %q: not a layer", t)
}
