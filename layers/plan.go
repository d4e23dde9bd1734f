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
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// plan is what is to be done to add images.
type plan struct {
	images []planned
	oneID  bool
	raw    map[v1.Hash][]byte // manifests and configs
	jobs   []*job             // one for each blob
	counts int                // layers that somebody hears of

	// partly says that images are worth having without those that fail.
	partly bool

	mu       sync.Mutex
	finished []*job // whose results wait to be made durable
}

// planned is an image of a plan.
type planned struct {
	name string
	desc v1.Descriptor // of its manifest
	top  v1.Descriptor // what the index is to name: desc, or the index that holds it
	jobs []*job        // those of the plan that it needs
}

// newPlan is the plan for one image.
func newPlan(name string, img v1.Image) (*plan, error) {
	p := &plan{raw: make(map[v1.Hash][]byte)}
	return p, p.addImage(name, img)
}

// addImage asks an image for its manifest and config, and refuses what this store cannot keep.
func (p *plan) addImage(name string, img v1.Image) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	if !mediaType.IsImage() {
		return fmt.Errorf("manifest: media type %q is not an image", mediaType)
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if got := sha256Of(config); got != m.Config.Digest || int64(len(config)) != m.Config.Size {
		return fmt.Errorf("config: digest is %s, but the manifest says %s", got, m.Config.Digest)
	}
	parsed, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	i := planned{name: name, desc: v1.Descriptor{
		MediaType: mediaType, Digest: sha256Of(manifest), Size: int64(len(manifest)), Platform: parsed.Platform(),
	}}
	i.top = i.desc
	if i.jobs, err = p.addLayers(m, img, parsed.RootFS.DiffIDs); err != nil {
		return err
	}
	p.raw[i.desc.Digest], p.raw[m.Config.Digest] = manifest, config
	p.images = append(p.images, i)
	return nil
}

// addLayers makes a job for every blob, once, and gives those of an image.
func (p *plan) addLayers(m *v1.Manifest, img v1.Image, ids []v1.Hash) (needs []*job, err error) {
	if len(ids) != len(m.Layers) {
		return nil, fmt.Errorf("manifest: %d layers, but the config has %d diff IDs", len(m.Layers), len(ids))
	}
	var fresh []*job
	for i, l := range m.Layers {
		if err := or(layerMediaType(l.MediaType), validDigest(ids[i])); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		j := findJob(p.jobs, l)
		if j == nil {
			j = findJob(fresh, l)
		}
		if j == nil {
			j = &job{desc: l, diffID: ids[i].String(), index: p.counts + i, remote: func(off int64) (io.ReadCloser, error) {
				layer, err := img.LayerByDigest(l.Digest)
				if err != nil {
					return nil, err
				}
				return openAt(layer, off)
			}}
			fresh = append(fresh, j)
		}
		if j.diffID != ids[i].String() {
			return nil, fmt.Errorf("layer %s: there are two diff IDs for it", l.Digest)
		}
		if j.desc.Size != l.Size {
			return nil, fmt.Errorf("layer %s: there are two sizes for it", l.Digest)
		}
		needs = append(needs, j)
	}
	p.jobs, p.counts = append(p.jobs, fresh...), p.counts+len(m.Layers)
	return needs, nil
}

// findJob finds the job for a blob.
func findJob(jobs []*job, d v1.Descriptor) *job {
	i := slices.IndexFunc(jobs, func(j *job) bool { return j.desc.Digest == d.Digest })
	if i < 0 {
		return nil
	}
	return jobs[i]
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
