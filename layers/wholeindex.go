package layers

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// addIndex has a plan keep an index, and make it what the name stands for.
func (p *plan) addIndex(index v1.ImageIndex) error {
	top, err := p.keepIndex(index, 0)
	if err != nil {
		return err
	}
	i := &p.images[0]
	if p.raw[i.desc.Digest] == nil {
		return fmt.Errorf("index %s: image %s is not in it", top.Digest, i.desc.Digest)
	}
	i.top, i.jobs = top, p.jobs
	p.counts = len(p.jobs)
	return nil
}

// keepIndex adds an index and all below it.
func (p *plan) keepIndex(index v1.ImageIndex, depth int) (v1.Descriptor, error) {
	raw, err := index.RawManifest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("read index: %w", err)
	}
	mediaType, err := index.MediaType()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("read index: %w", err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: sha256Of(raw), Size: int64(len(raw))}
	m, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return d, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	if depth == maxNesting {
		return d, fmt.Errorf("index %s: more than %d indexes deep", d.Digest, maxNesting)
	}
	p.raw[d.Digest] = raw
	for _, child := range m.Manifests {
		if err := p.keepChild(index, child, depth); err != nil {
			return d, err
		}
	}
	return d, nil
}

// keepChild adds an entry of an index.
func (p *plan) keepChild(index v1.ImageIndex, child v1.Descriptor, depth int) error {
	if err := validDigest(child.Digest); err != nil || p.raw[child.Digest] != nil {
		return err // the image of the plan, for one, is there already
	}
	switch {
	case child.MediaType.IsIndex():
		inner, err := index.ImageIndex(child.Digest)
		if err == nil {
			_, err = p.keepIndex(inner, depth+1)
		}
		return err
	case child.MediaType.IsImage():
		img, err := index.Image(child.Digest)
		if err != nil {
			return err
		}
		return p.keepManifest(img, child.Digest)
	}
	return fmt.Errorf("entry %s of an index: media type %q is no image and no index", child.Digest, child.MediaType)
}

// keepManifest adds an image for another machine, or another artifact, as it is.
func (p *plan) keepManifest(img v1.Image, digest v1.Hash) error {
	raw, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	if got := sha256Of(raw); got != digest {
		return fmt.Errorf("manifest %s: its digest is %s", digest, got)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	p.raw[digest] = raw
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if p.raw[d.Digest] != nil || slices.ContainsFunc(p.jobs, func(j *job) bool { return j.desc.Digest == d.Digest }) {
			continue
		}
		p.jobs = append(p.jobs, &job{desc: d, index: len(p.jobs), remote: func(off int64) (io.ReadCloser, error) {
			layer, err := img.LayerByDigest(d.Digest)
			if err != nil {
				return nil, err
			}
			return openAt(layer, off)
		}})
	}
	return nil
}

// Content gives back what an image's name stands for, byte for byte: a v1.ImageIndex if that is an index of which all is
// here, else the v1.Image that [Store.Image] gives. partial says that there is an index, and not all of it is here.
func (s *Store) Content(name string) (index v1.ImageIndex, img v1.Image, partial bool, err error) {
	img, err = s.Image(name)
	if err != nil {
		return nil, nil, false, err
	}
	e, err := s.find(name)
	if err != nil || !e.top.MediaType.IsIndex() {
		return nil, img, false, err
	}
	if !s.whole(e.top, 0) {
		return nil, img, true, nil
	}
	all, err := layout.Path(s.path("images")).ImageIndex()
	if err == nil {
		index, err = all.ImageIndex(e.top.Digest)
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("open image %q: %w", name, err)
	}
	return index, img, false, nil
}

// whole says whether all that an index names is here.
func (s *Store) whole(d v1.Descriptor, depth int) bool {
	b, err := s.readBlob(d.Digest)
	if err != nil || depth > maxNesting {
		return false
	}
	if d.MediaType.IsIndex() {
		m, err := v1.ParseIndexManifest(bytes.NewReader(b))
		return err == nil && !slices.ContainsFunc(m.Manifests, func(c v1.Descriptor) bool {
			return validDigest(c.Digest) != nil || !s.whole(c, depth+1)
		})
	}
	m, err := parseManifest(b)
	return err == nil && d.MediaType.IsImage() && s.hasBlob(m.Config) &&
		!slices.ContainsFunc(m.Layers, func(l v1.Descriptor) bool { return !s.hasBlob(l) })
}
