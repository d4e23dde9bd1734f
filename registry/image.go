package registry

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is a v1.Image whose manifest and configuration are in memory, verified, and whose layers are streamed from where
// it came from. ctx is that of the call that made it.
type image struct {
	ctx    context.Context
	src    source
	top    v1.Descriptor
	doc    *document
	config []byte
	cfg    *v1.ConfigFile
}

// newImage finds the image for a platform below top, checks it and gets its configuration.
func newImage(ctx context.Context, src source, top *document, want *v1.Platform) (*image, error) {
	doc, err := choose(ctx, src, top, want)
	if err != nil {
		return nil, err
	}
	cfg, raw, err := fetchConfig(ctx, src, doc.image)
	if err != nil {
		return nil, err
	}
	return &image{ctx: ctx, src: src, top: top.desc, doc: doc, config: raw, cfg: cfg}, nil
}

// Named returns the descriptor of what an image's name stood for where it came from: the index for an image that was
// chosen from one by platform, else its manifest. It is the digest that docker prints after a pull, and the one to compare
// with [Client.Head] to learn whether the name means something new. Images of other packages give their manifest's.
func Named(img v1.Image) (v1.Descriptor, error) {
	if i, ok := img.(*image); ok {
		return i.top, nil
	}
	d, err := partial.Descriptor(img)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return *d, nil
}

func (i *image) MediaType() (types.MediaType, error) { return i.doc.desc.MediaType, nil }
func (i *image) Size() (int64, error)                { return i.doc.desc.Size, nil }
func (i *image) Digest() (v1.Hash, error)            { return i.doc.desc.Digest, nil }
func (i *image) Manifest() (*v1.Manifest, error)     { return i.doc.image.DeepCopy(), nil }
func (i *image) RawManifest() ([]byte, error)        { return i.doc.raw, nil }
func (i *image) ConfigName() (v1.Hash, error)        { return i.doc.image.Config.Digest, nil }
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return i.cfg.DeepCopy(), nil }
func (i *image) RawConfigFile() ([]byte, error)      { return i.config, nil }
func (i *image) Descriptor() (*v1.Descriptor, error) { d := i.doc.desc; return &d, nil }
func (i *image) at(n int) (v1.Layer, error) {
	whole, err := partial.CompressedToLayer(&layer{i, n})
	if err != nil {
		return nil, err
	}
	return &resumable{whole, &layer{i, n}}, nil
}
func (i *image) blob(d v1.Descriptor) (io.ReadCloser, error) { return openBlob(i.ctx, i.src, d) }

// Layers gives the layers, lowest first.
func (i *image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.doc.image.Layers))
	for n := range layers {
		var err error
		if layers[n], err = i.at(n); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

// LayerByDigest finds a layer, or the configuration, by the digest of its bytes as transferred.
func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.doc.image.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for n, d := range i.doc.image.Layers {
		if d.Digest == h {
			return i.at(n)
		}
	}
	return nil, problemf(ErrNotFound, "layer %s of image %s", h, i.doc.desc.Digest)
}

// LayerByDiffID finds a layer by the digest of its uncompressed bytes.
func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for n, id := range i.cfg.RootFS.DiffIDs {
		if id == h {
			return i.at(n)
		}
	}
	return nil, problemf(ErrNotFound, "layer with diff ID %s of image %s", h, i.doc.desc.Digest)
}

// layer is the nth of an image; partial adds Uncompressed.
type layer struct {
	i *image
	n int
}

func (l *layer) desc() v1.Descriptor                 { return l.i.doc.image.Layers[l.n] }
func (l *layer) Digest() (v1.Hash, error)            { return l.desc().Digest, nil }
func (l *layer) Size() (int64, error)                { return l.desc().Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.desc().MediaType, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.i.cfg.RootFS.DiffIDs[l.n], nil }
func (l *layer) Descriptor() (*v1.Descriptor, error) { d := l.desc(); return &d, nil }

// Compressed opens the layer's bytes as the manifest describes them; see the package comment for who verifies what.
func (l *layer) Compressed() (io.ReadCloser, error) {
	rc, err := l.i.blob(l.desc())
	if err != nil {
		return nil, fmt.Errorf("layer %d: %w", l.n+1, err)
	}
	return rc, nil
}

// resumable is a layer that can be read from a byte on.
type resumable struct {
	v1.Layer
	l *layer
}

// Descriptor is that of the manifest.
func (r *resumable) Descriptor() (*v1.Descriptor, error) { return r.l.Descriptor() }

// CompressedFrom opens the layer's bytes from one on. Nothing is verified: who has the ones before must do it.
func (r *resumable) CompressedFrom(off int64) (io.ReadCloser, error) {
	d := r.l.desc()
	if src, ok := r.l.i.src.(*remoteSource); ok {
		dl := src.download(r.l.i.ctx, d, off)
		if off == d.Size {
			return dl, nil
		}
		if err := dl.start(); err != nil {
			return nil, fmt.Errorf("layer %d: blob %s: %w", r.l.n+1, d.Digest, explain(err))
		}
		return dl, nil
	}
	body, err := r.l.i.src.blob(r.l.i.ctx, d)
	if err != nil {
		return nil, fmt.Errorf("layer %d: blob %s: %w", r.l.n+1, d.Digest, explain(err))
	}
	if _, err := io.CopyN(io.Discard, body, off); err != nil {
		body.Close()
		return nil, fmt.Errorf("layer %d: blob %s: %w", r.l.n+1, d.Digest, explain(err))
	}
	return body, nil
}
