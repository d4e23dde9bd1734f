package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Content is an image or an index as [Client.Push] sends it: a v1.Image or a v1.ImageIndex.
type Content interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// Tree finds what ref's name stands for, an image or an index, with all that it names, byte for byte and whatever kind of
// artifact it is. Manifests are fetched when they are asked for, and layers when they are read, both verified; ctx rules that.
func (c *Client) Tree(ctx context.Context, ref Reference) (Content, error) {
	var tree Content
	err := c.each(ctx, ref, func(src *remoteSource) error {
		doc, err := src.top(ctx, ref)
		if err == nil {
			tree = treeOf(ctx, src, doc)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", ref.Familiar(), err)
	}
	return tree, nil
}

// PullAll is [Client.Pull], and gives with the image the index that it was chosen from, all platforms of it. The index is nil
// where the name stands for one image.
func (c *Client) PullAll(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Image, v1.ImageIndex, error) {
	var img *image
	var index v1.ImageIndex
	err := c.each(ctx, ref, func(src *remoteSource) error {
		top, err := src.top(ctx, ref)
		if err != nil {
			return err
		}
		index, _ = treeOf(ctx, src, top).(v1.ImageIndex)
		img, err = newImage(ctx, src, top, platform)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("pull %q: %w", ref.Familiar(), err)
	}
	return img, index, nil
}

func treeOf(ctx context.Context, src source, doc *document) Content {
	if doc.index != nil {
		return &index{ctx: ctx, doc: doc, from: func(v1.Hash) source { return src }}
	}
	img, _ := partial.CompressedToImage(&artifact{ctx, src, doc}) // has no error to give
	return img
}

// index is a v1.ImageIndex whose own document is in memory, verified, and whose children come from elsewhere.
type index struct {
	ctx  context.Context
	doc  *document
	from func(child v1.Hash) source
}

func (i *index) MediaType() (types.MediaType, error)       { return i.doc.desc.MediaType, nil }
func (i *index) Size() (int64, error)                      { return i.doc.desc.Size, nil }
func (i *index) Digest() (v1.Hash, error)                  { return i.doc.desc.Digest, nil }
func (i *index) RawManifest() ([]byte, error)              { return i.doc.raw, nil }
func (i *index) IndexManifest() (*v1.IndexManifest, error) { return i.doc.index.DeepCopy(), nil }

func (i *index) child(h v1.Hash) (Content, error) {
	for _, d := range i.doc.index.Manifests {
		if d.Digest == h {
			src := i.from(h)
			doc, err := fetchDocument(i.ctx, src, d)
			if err != nil {
				return nil, err
			}
			return treeOf(i.ctx, src, doc), nil
		}
	}
	return nil, problemf(ErrNotFound, "manifest %s of index %s", h, i.doc.desc.Digest)
}

// Image gives a child that is an image or another artifact.
func (i *index) Image(h v1.Hash) (v1.Image, error) {
	c, err := i.child(h)
	if err != nil {
		return nil, err
	}
	img, ok := c.(v1.Image)
	if !ok {
		return nil, problemf(ErrCorrupt, "manifest %s is an index", h)
	}
	return img, nil
}

// ImageIndex gives a child that is an index.
func (i *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	c, err := i.child(h)
	if err != nil {
		return nil, err
	}
	inner, ok := c.(v1.ImageIndex)
	if !ok {
		return nil, problemf(ErrCorrupt, "manifest %s is no index", h)
	}
	return inner, nil
}

// artifact is what partial makes an image of: a manifest of any kind. Nothing is presumed of its configuration.
type artifact struct {
	ctx context.Context
	src source
	doc *document
}

func (a *artifact) MediaType() (types.MediaType, error) { return a.doc.desc.MediaType, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.doc.raw, nil }

// RawConfigFile gets the configuration.
func (a *artifact) RawConfigFile() ([]byte, error) {
	d := a.doc.image.Config
	if d.Size > maxConfigSize || d.Size < 0 {
		return nil, problemf(ErrUnsupported, "configuration %s has %d bytes, the limit is %d", d.Digest, d.Size, maxConfigSize)
	}
	return readBlob(a.ctx, a.src, d)
}

// LayerByDigest finds a layer, or the configuration.
func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == a.doc.image.Config.Digest {
		return partial.ConfigLayer(a)
	}
	for _, d := range a.doc.image.Layers {
		if d.Digest == h {
			return &blobLayer{a, d}, nil
		}
	}
	return nil, problemf(ErrNotFound, "layer %s of manifest %s", h, a.doc.desc.Digest)
}

type blobLayer struct {
	a *artifact
	d v1.Descriptor
}

func (l *blobLayer) Digest() (v1.Hash, error)            { return l.d.Digest, nil }
func (l *blobLayer) Size() (int64, error)                { return l.d.Size, nil }
func (l *blobLayer) MediaType() (types.MediaType, error) { return l.d.MediaType, nil }
func (l *blobLayer) Compressed() (io.ReadCloser, error)  { return openBlob(l.a.ctx, l.a.src, l.d) }

// Part is a manifest that an index is put together of.
type Part struct {
	// From names the repository that has it; its tag and digest do not matter.
	From Reference
	// Descriptor is the entry in the index.
	v1.Descriptor
}

// Describe finds what ref stands for as the part of an index: of an image with the platform in its configuration.
func (c *Client) Describe(ctx context.Context, ref Reference) (Part, Content, error) {
	tree, err := c.Tree(ctx, ref)
	if err != nil {
		return Part{}, nil, err
	}
	d, err := partial.Descriptor(tree)
	if err != nil {
		return Part{}, nil, err
	}
	part := Part{From: ref, Descriptor: v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}}
	img, ok := tree.(v1.Image)
	if !ok {
		return part, tree, nil
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return Part{}, nil, fmt.Errorf("look up %q: configuration: %w", ref.Familiar(), explain(err))
	}
	var p v1.Platform
	if json.Unmarshal(raw, &p) == nil && p.OS != "" && p.Architecture != "" {
		p.Features = nil // no field of a configuration
		part.Platform = &p
	}
	return part, tree, nil
}

// Combine makes an index of parts, in their order. It is in Docker's format if all parts are and it has no annotations, else
// in OCI's. What the parts name is fetched when the index is pushed.
func (c *Client) Combine(ctx context.Context, parts []Part, annotations map[string]string) (v1.ImageIndex, error) {
	m := v1.IndexManifest{SchemaVersion: 2, MediaType: types.DockerManifestList, Manifests: []v1.Descriptor{}, Annotations: annotations}
	from := map[v1.Hash]source{}
	for _, p := range parts {
		if p.MediaType != types.DockerManifestSchema2 || len(p.Annotations) > 0 || len(annotations) > 0 {
			m.MediaType = types.OCIImageIndex
		}
		m.Manifests = append(m.Manifests, p.Descriptor)
		if from[p.Digest] == nil {
			from[p.Digest] = c.sourceOf(p.From)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("make index: %w", err)
	}
	doc, err := parseDocument(raw, string(m.MediaType), "", 0)
	if err != nil {
		return nil, fmt.Errorf("make index: %w", err)
	}
	return &index{ctx, doc, func(h v1.Hash) source { return from[h] }}, nil
}

// sourceOf is a repository as a source, at the registry itself.
func (c *Client) sourceOf(ref Reference) source {
	return &remoteSource{c: c, sessions: []*session{c.session(endpoint{host: ref.Domain}, ref, "pull")}}
}

// leaf is one manifest with layers below a content, and the repository that it comes from, "" for none.
type leaf struct {
	*v1.Manifest
	host, path string
}

// leaves lists the manifests of a content that have layers.
func leaves(content Content, depth int) ([]leaf, error) {
	if depth > maxIndexDepth {
		return nil, problemf(ErrUnsupported, "indexes are nested more than %d deep", maxIndexDepth)
	}
	idx, ok := content.(v1.ImageIndex)
	if !ok {
		raw, err := content.RawManifest()
		if err != nil {
			return nil, err
		}
		m, err := v1.ParseManifest(bytes.NewReader(raw))
		return []leaf{{Manifest: m}}, err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var all []leaf
	for _, d := range m.Manifests {
		more, err := leavesOf(idx, d, depth)
		if err != nil {
			return nil, err
		}
		if own, ok := idx.(*index); ok {
			if src, ok := own.from(d.Digest).(*remoteSource); ok {
				for i := range more {
					more[i].host, more[i].path = src.sessions[0].ep.host, src.sessions[0].path
				}
			}
		}
		all = append(all, more...)
	}
	return all, nil
}

// leavesOf lists those of an entry of an index; what is neither an image nor an index has none.
func leavesOf(idx v1.ImageIndex, d v1.Descriptor, depth int) ([]leaf, error) {
	var child Content
	var err error
	switch {
	case d.MediaType.IsImage():
		child, err = idx.Image(d.Digest)
	case d.MediaType.IsIndex():
		child, err = idx.ImageIndex(d.Digest)
	default:
		return nil, problemf(ErrUnsupported, "entry %s of an index: media type %q is no image and no index", d.Digest, d.MediaType)
	}
	if err != nil {
		return nil, err
	}
	return leaves(child, depth+1)
}

// ChoosePlatform gives the image of an index that runs on a platform: the best of those that name theirs.
func ChoosePlatform(idx v1.ImageIndex, want *v1.Platform) (v1.Image, error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	ch := &chooser{want: *want}
	named, _ := ch.sort(m.Manifests)
	for _, d := range named {
		if d.MediaType.IsImage() {
			return idx.Image(d.Digest)
		}
	}
	return nil, problemf(ErrNoPlatform, "%s; there is %s", want, ch.offer())
}
