package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Platforms finds what ref stands for and, by the name of the platform ("linux/arm64/v8"), the digest of the image's manifest
// that each platform would get: one for an image without an index. Attestations and artifacts are left out. Of several
// images for one platform the first counts, as in [Client.Pull].
func (c *Client) Platforms(ctx context.Context, ref Reference) (v1.Descriptor, map[string]string, error) {
	var d v1.Descriptor
	var l lister
	err := c.each(ctx, ref, func(src *remoteSource) error {
		top, err := src.top(ctx, ref)
		if err != nil {
			return err
		}
		d, l = top.desc, lister{src: src, found: map[string]string{}}
		return l.list(ctx, top, nil)
	})
	if err == nil && len(l.found) == 0 {
		err = problemf(ErrUnsupported, "no image at all in the index")
	}
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("look up %q: %w", ref.Familiar(), err)
	}
	return d, l.found, nil
}

type lister struct {
	src   source
	seen  []v1.Hash // the indexes on the way down
	found map[string]string
}

// list notes the images of a document. p is the platform that the entry for it names, if it does.
func (l *lister) list(ctx context.Context, doc *document, p *v1.Platform) error {
	if doc.image != nil {
		return l.image(ctx, doc, p)
	}
	if slices.Contains(l.seen, doc.desc.Digest) {
		return problemf(ErrCorrupt, "index %s contains itself", doc.desc.Digest)
	}
	if len(l.seen) == maxIndexDepth {
		return problemf(ErrUnsupported, "indexes are nested more than %d deep", maxIndexDepth)
	}
	l.seen = append(l.seen, doc.desc.Digest)
	defer func() { l.seen = l.seen[:len(l.seen)-1] }()
	for _, d := range doc.index.Manifests {
		named := d.Platform != nil && (d.Platform.OS != "" || d.Platform.Architecture != "")
		switch {
		case isAttestation(d) || !isDocumentType(string(d.MediaType)) && !isGeneric(string(d.MediaType)):
			continue
		case named && d.MediaType.IsImage():
			if err := l.note(*d.Platform, d.Digest); err != nil {
				return err
			}
			continue
		}
		child, err := fetchDocument(ctx, l.src, d)
		if err == nil {
			err = l.list(ctx, child, d.Platform)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) image(ctx context.Context, doc *document, p *v1.Platform) error {
	if p == nil || p.OS == "" && p.Architecture == "" {
		cfg, _, err := fetchConfig(ctx, l.src, doc.image)
		if errors.Is(err, ErrUnsupported) && len(l.seen) > 0 {
			return nil // an artifact beside images
		}
		if err != nil {
			return err
		}
		p = &v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant, OSVersion: cfg.OSVersion}
	}
	return l.note(*p, doc.desc.Digest)
}

// note refuses a platform that would be more than a word where it is written.
func (l *lister) note(p v1.Platform, digest v1.Hash) error {
	name := normal(p).String()
	if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_.:/-") != "" {
		return problemf(ErrCorrupt, "image %s is for a platform called %q", digest, name)
	}
	if l.found[name] == "" {
		l.found[name] = digest.String()
	}
	return nil
}
