package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// SavedImage is an image that is to be put into an archive, with its names there, in full; it may have none.
type SavedImage struct {
	Names []string
	Image v1.Image
}

// Save writes images as one tar, which is an OCI image layout: manifests, configurations and layers byte for byte, each
// once. With docker set it has a manifest.json besides, as docker save makes them since version 25, so that all versions of
// docker load, podman and skopeo read it. Layers stay compressed there; all of them look at what a layer begins with.
// The same images in the same order make the same tar.
//
// Nothing is verified here: whoever reads the archive does, and whatever reads and writes files only can leave the copying
// to the kernel.
func Save(ctx context.Context, w io.Writer, images []SavedImage, docker bool) error {
	s := &saving{ctx: ctx, w: w, seen: map[v1.Hash]bool{}}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	var saved []savedImage
	for _, i := range images {
		entries, entry, err := s.add(i)
		if err != nil {
			return fmt.Errorf("save image: %w", err)
		}
		index.Manifests = append(index.Manifests, entries...)
		saved = append(saved, *entry)
	}
	s.document("oci-layout", map[string]string{"imageLayoutVersion": layoutVersion})
	s.document("index.json", index)
	if docker {
		s.document("manifest.json", saved)
	}
	if err := s.write(); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

// saving is an archive on its way.
type saving struct {
	ctx   context.Context
	w     io.Writer
	seen  map[v1.Hash]bool
	docs  []savedFile // what a reader wants first
	blobs []savedFile
	err   error
}

// savedFile is a file of the archive.
type savedFile struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
}

// document adds a JSON file.
func (s *saving) document(name string, v any) {
	text, err := json.Marshal(v)
	s.err = errors.Join(s.err, err)
	s.docs = append(s.docs, bytesFile(name, text))
}

func bytesFile(name string, content []byte) savedFile {
	return savedFile{name, int64(len(content)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}

// blob adds a blob, once.
func (s *saving) blob(d v1.Descriptor, open func() (io.ReadCloser, error)) {
	if !s.seen[d.Digest] {
		s.seen[d.Digest] = true
		s.blobs = append(s.blobs, savedFile{blobPath(d.Digest), d.Size, open})
	}
}

// add adds an image's blobs, and gives its entries for index.json and manifest.json.
func (s *saving) add(i SavedImage) ([]v1.Descriptor, *savedImage, error) {
	m, err := i.Image.Manifest()
	if err != nil {
		return nil, nil, err
	}
	manifest, err := i.Image.RawManifest()
	if err != nil {
		return nil, nil, err
	}
	config, err := i.Image.RawConfigFile()
	if err != nil {
		return nil, nil, err
	}
	mediaType, err := i.Image.MediaType()
	if err != nil {
		return nil, nil, err
	}
	digest, err := sumOf(manifest, "")
	if err != nil {
		return nil, nil, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(manifest))}
	s.blob(d, bytesFile("", manifest).open)
	s.blob(m.Config, bytesFile("", config).open)
	entry := &savedImage{Config: blobPath(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		entry.Layers = append(entry.Layers, blobPath(l.Digest))
		s.blob(l, func() (io.ReadCloser, error) {
			layer, err := i.Image.LayerByDigest(l.Digest)
			if err != nil {
				return nil, err
			}
			return layer.Compressed()
		})
	}
	if cfg, err := v1.ParseConfigFile(bytes.NewReader(config)); err == nil {
		d.Platform = cfg.Platform()
	}
	for _, n := range i.Names {
		if ref, err := ParseReference(n); err == nil {
			entry.RepoTags = append(entry.RepoTags, ref.Familiar())
		}
	}
	return nameEntries(d, i.Names), entry, nil
}

// nameEntries gives an entry of index.json for each name. Both annotations have it in full, as in hull's own store: it is
// unique in the archive then, which a tag alone would not be.
func nameEntries(d v1.Descriptor, names []string) []v1.Descriptor {
	if len(names) == 0 {
		return []v1.Descriptor{d}
	}
	entries := make([]v1.Descriptor, len(names))
	for n, full := range names {
		entries[n] = d
		entries[n].Annotations = map[string]string{refNameAnnotation: full, containerdAnnotation: full}
	}
	return entries
}

// write writes the tar: documents first, so that who reads a pipe knows what comes.
func (s *saving) write() error {
	if s.err != nil {
		return s.err
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := s.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, f := range append(s.docs, s.blobs...) {
		if err := s.file(f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	_, err := s.w.Write(make([]byte, 2*tarBlock)) // the end of a tar
	return err
}

// tarBlock is what all parts of a tar are multiples of, in bytes.
const tarBlock = 512

// header writes what stands before a file's bytes. A tar.Writer would have the bytes, too, and they would all pass its
// buffer.
func (s *saving) header(h *tar.Header) error {
	var text bytes.Buffer
	if err := tar.NewWriter(&text).WriteHeader(h); err != nil {
		return err
	}
	_, err := s.w.Write(text.Bytes())
	return err
}

// saveChunk is how much is copied, in bytes, between two looks at whether somebody has had enough.
const saveChunk = 64 << 20

func (s *saving) file(f savedFile) error {
	r, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := s.header(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: f.size}); err != nil {
		return err
	}
	for left := f.size; left > 0; {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		n, err := io.CopyN(s.w, r, min(left, saveChunk))
		left -= n
		if err == io.EOF {
			return problemf(ErrCorrupt, "%d bytes are missing", left)
		}
		if err != nil {
			return err
		}
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 {
		return problemf(ErrCorrupt, "there are more than %d bytes", f.size)
	}
	_, err = s.w.Write(make([]byte, (tarBlock-f.size%tarBlock)%tarBlock))
	return err
}
