package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hullrun/hull/internal/decompress"
)

// savedImage is an entry of docker save's manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive is a source over one image of a docker-save archive. Such archives have no manifest of the registry's
// kind, so one is written here. A layer is uncompressed as a rule; then its digest is its diff ID, which the configuration
// names, and nothing has to be compressed or hashed to know it (go-containerregistry's tarball package compresses each
// layer for its digest).
type dockerArchive struct {
	files    fs.FS
	manifest []byte
	blobs    map[v1.Hash]string // digest to the file's name
	packed   map[v1.Hash]bool   // and whether that has to be unpacked
}

func openDockerArchive(files fs.FS, tag, local string, _ *v1.Platform) (*image, string, error) {
	all, err := readSaved(files)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", problemf(ErrNotFound, "no manifest.json, so this is no archive of docker save")
	}
	if err != nil {
		return nil, "", err
	}
	saved, repoTag, err := pickSaved(all, tag)
	if err != nil {
		return nil, "", err
	}
	img, err := openSaved(files, saved)
	if err != nil {
		return nil, "", err
	}
	if ref, err := ParseReference(repoTag); err == nil {
		return img, ref.String(), nil
	}
	return img, local + ":" + defaultTag, nil
}

// openSaved opens an image of manifest.json.
func openSaved(files fs.FS, saved savedImage) (*image, error) {
	src := &dockerArchive{files: files, blobs: map[v1.Hash]string{}, packed: map[v1.Hash]bool{}}
	doc, err := src.describe(saved)
	if err != nil {
		return nil, err
	}
	return newImage(context.Background(), src, doc, nil)
}

// pickSaved finds the image that has tag, in any spelling of the same name, or the only one.
func pickSaved(all []savedImage, tag string) (saved savedImage, repoTag string, err error) {
	var tags []string
	want, _ := ParseReference(tag)
	for _, s := range all {
		tags = append(tags, s.RepoTags...)
		for _, t := range s.RepoTags {
			if ref, err := ParseReference(t); tag != "" && (t == tag || err == nil && ref == want) {
				return s, t, nil
			}
		}
	}
	switch {
	case len(all) == 0:
		return savedImage{}, "", problemf(ErrNotFound, "the archive holds no image")
	case tag != "":
		return savedImage{}, "", problemf(ErrNotFound, "no image %q; there is %s", tag, quoted(tags))
	case len(all) > 1:
		return savedImage{}, "", problemf(ErrNotFound, "which of %d images? Add one of %s, after a colon", len(all), quoted(tags))
	}
	repoTag = strings.Join(all[0].RepoTags[:min(1, len(all[0].RepoTags))], "")
	return all[0], repoTag, nil
}

// describe writes the manifest that the image would have in a registry.
func (a *dockerArchive) describe(saved savedImage) (*document, error) {
	raw, err := readFile(a.files, path.Clean(saved.Config), maxConfigSize)
	if err != nil {
		return nil, problemf(ErrCorrupt, "configuration: %w", err)
	}
	sum, err := sumOf(raw, "")
	if err != nil {
		return nil, err
	}
	// docker save names the file by its digest.
	if name := strings.TrimSuffix(path.Base(saved.Config), ".json"); isHex(name, 64) && name != sum.Hex {
		return nil, problemf(ErrCorrupt, "configuration %s has the digest %s", saved.Config, sum)
	}
	a.blobs[sum] = path.Clean(saved.Config)
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: sum, Size: int64(len(raw))},
		Layers:        make([]v1.Descriptor, len(saved.Layers)),
	}
	cfg, err := parseConfig(raw, &m)
	if err != nil {
		return nil, err
	}
	for i, name := range saved.Layers {
		if m.Layers[i], err = a.layer(path.Clean(name), cfg.RootFS.DiffIDs[i]); err != nil {
			return nil, err
		}
	}
	if a.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return parseDocument(a.manifest, string(m.MediaType), "", 0)
}

func (a *dockerArchive) layer(name string, diffID v1.Hash) (v1.Descriptor, error) {
	f, err := a.files.Open(name)
	if err != nil {
		return v1.Descriptor{}, problemf(ErrCorrupt, "layer: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: diffID, Size: fi.Size()}
	head := make([]byte, decompress.HeadSize)
	n, _ := io.ReadFull(f, head)
	switch decompress.Kind(head[:n]) {
	case "gzip":
		d.MediaType = types.OCILayer
	case "zstd":
		d.MediaType = types.OCILayerZStd
	case "bzip2", "xz": // docker load takes them, but no manifest can say so: such a layer is handed on as a plain one
		a.packed[diffID] = true
		if d.Size, err = a.plainSize(name); err != nil {
			return v1.Descriptor{}, fmt.Errorf("layer %s: %w", name, err)
		}
	}
	if d.MediaType != types.OCIUncompressedLayer {
		if d.Digest, _, err = v1.SHA256(io.MultiReader(bytes.NewReader(head[:n]), f)); err != nil {
			return v1.Descriptor{}, err
		}
	}
	a.blobs[d.Digest] = name
	return d, nil
}

// plainSize is what a layer unpacks to, in bytes.
func (a *dockerArchive) plainSize(name string) (int64, error) {
	r, err := a.plain(name)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, bufferSize))
}

// plain opens a file of the archive, and unpacks it.
func (a *dockerArchive) plain(name string) (io.ReadCloser, error) {
	f, err := a.files.Open(name) // part of the archive, so there is nothing to close
	if err != nil {
		return nil, err
	}
	return unpacked(f)
}

// document is source's; there is only the one manifest.
func (a *dockerArchive) document(context.Context, string) ([]byte, string, error) {
	return slices.Clone(a.manifest), string(types.OCIManifestSchema1), nil
}

// blob is source's.
func (a *dockerArchive) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if a.packed[d.Digest] {
		return a.plain(a.blobs[d.Digest])
	}
	return openSized(a.files, a.blobs[d.Digest], d.Size)
}
