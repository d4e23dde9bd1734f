package layers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// plan is an image that is to be added.
type plan struct {
	name   string
	oneID  bool
	desc   v1.Descriptor
	top    v1.Descriptor // what the index is to name: desc, or the index that holds it
	raw    map[v1.Hash][]byte
	config *v1.ConfigFile
	jobs   []*job
	counts int

	mu       sync.Mutex
	finished []*job // whose results wait to be made durable
}

// newPlan asks an image for its manifest and config, and refuses what this store cannot keep.
func newPlan(name string, img v1.Image) (*plan, error) {
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if !mediaType.IsImage() {
		return nil, fmt.Errorf("manifest: media type %q is not an image", mediaType)
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	p := &plan{name: name, counts: len(m.Layers)}
	p.desc = v1.Descriptor{MediaType: mediaType, Digest: sha256Of(manifest), Size: int64(len(manifest))}
	p.raw = map[v1.Hash][]byte{p.desc.Digest: manifest, m.Config.Digest: config}
	if got := sha256Of(config); got != m.Config.Digest || int64(len(config)) != m.Config.Size {
		return nil, fmt.Errorf("config: digest is %s, but the manifest says %s", got, m.Config.Digest)
	}
	if p.config, err = v1.ParseConfigFile(bytes.NewReader(config)); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	p.desc.Platform = p.config.Platform()
	p.top = p.desc
	return p, p.addLayers(m, img)
}

// addLayers makes a job for every blob, once.
func (p *plan) addLayers(m *v1.Manifest, img v1.Image) error {
	ids := p.config.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return fmt.Errorf("manifest: %d layers, but the config has %d diff IDs", len(m.Layers), len(ids))
	}
	seen := make(map[v1.Hash]v1.Hash)
	for i, l := range m.Layers {
		if err := or(layerMediaType(l.MediaType), validDigest(ids[i])); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if id, ok := seen[l.Digest]; ok {
			if id != ids[i] {
				return fmt.Errorf("layer %s: the config has two diff IDs for it", l.Digest)
			}
			continue
		}
		seen[l.Digest] = ids[i]
		p.jobs = append(p.jobs, &job{desc: l, diffID: ids[i].String(), index: i, remote: func(off int64) (io.ReadCloser, error) {
			layer, err := img.LayerByDigest(l.Digest)
			if err != nil {
				return nil, err
			}
			return openAt(layer, off)
		}})
	}
	return nil
}

// openAt opens a layer's compressed bytes from one on. An image that can do so by itself, as one in a registry can, has
// layers with CompressedFrom.
func openAt(layer v1.Layer, off int64) (io.ReadCloser, error) {
	if from, ok := layer.(interface {
		CompressedFrom(off int64) (io.ReadCloser, error)
	}); ok && off > 0 {
		return from.CompressedFrom(off)
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, off); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// sha256Of is the digest of a small blob.
func sha256Of(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// plan finds out what a blob still needs. The same tree is unpacked once, even from two blobs.
func (j *job) plan(s *Store, oneID bool, wanted map[string]bool) {
	j.oneID, j.limits = oneID, s.Limits.withDefaults()
	j.blob, j.number, j.done, j.published, j.verified = "", "", false, false, false
	j.downloaded.Store(false)
	j.wantBlob, j.wantTree = !s.hasBlob(j.desc), false
	if j.diffID != "" {
		_, _, err := s.layer(j.diffID, oneID)
		j.wantTree = errors.Is(err, fs.ErrNotExist) && !wanted[j.diffID]
		wanted[j.diffID] = true
	}
	j.source = j.remote
	if !j.wantBlob {
		j.source = func(int64) (io.ReadCloser, error) { return os.Open(s.blob(j.desc.Digest.String())) }
	}
}

// writeRaw writes manifest and config where commit finds them.
func (p *plan) writeRaw(t *temp) error {
	for h, b := range p.raw {
		if err := os.WriteFile(t.path(h.Hex), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
