package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxPlatformsShown bounds the list in the error for a platform that an image lacks.
const maxPlatformsShown = 20

// chooser finds, below a document, the image for a platform.
type chooser struct {
	src  source
	want v1.Platform
	seen []v1.Hash // the indexes on the way down
	has  []string  // the platforms met, for the error
}

// choose returns doc itself if it is an image, whatever its platform (the caller sees that in the configuration and may
// warn, as Docker does), and the best image below it if it is an index. want nil is this machine's platform.
func choose(ctx context.Context, src source, doc *document, want *v1.Platform) (*document, error) {
	if doc.image != nil {
		return doc, nil
	}
	ch := &chooser{src: src, want: hostPlatform()}
	if want != nil {
		ch.want = *want
	}
	image, err := ch.pick(ctx, doc)
	if err != nil || image != nil {
		return image, err
	}
	return nil, problemf(ErrNoPlatform, "%s; there is %s", ch.want, ch.offer())
}

func (ch *chooser) offer() string {
	slices.Sort(ch.has)
	has := slices.Compact(ch.has)
	if len(has) == 0 {
		return "no image at all in the index"
	}
	if len(has) > maxPlatformsShown {
		has = append(has[:maxPlatformsShown:maxPlatformsShown], "…")
	}
	return strings.Join(has, ", ")
}

// pick returns nil and no error where no image below doc runs on the platform. Entries that name a platform are tried
// from the best down; then those that name none, whose platform is in their configuration.
func (ch *chooser) pick(ctx context.Context, doc *document) (*document, error) {
	if slices.Contains(ch.seen, doc.desc.Digest) {
		return nil, problemf(ErrCorrupt, "index %s contains itself", doc.desc.Digest)
	}
	if len(ch.seen) == maxIndexDepth {
		return nil, problemf(ErrUnsupported, "indexes are nested more than %d deep", maxIndexDepth)
	}
	ch.seen = append(ch.seen, doc.desc.Digest)
	defer func() { ch.seen = ch.seen[:len(ch.seen)-1] }()

	named, unnamed := ch.sort(doc.index.Manifests)
	for _, d := range named {
		if image, err := ch.descend(ctx, d, true); image != nil || err != nil {
			return image, err
		}
	}
	for _, d := range unnamed {
		if image, err := ch.descend(ctx, d, len(unnamed) == 1 && len(ch.has) == 0); image != nil || err != nil {
			return image, err
		}
	}
	return nil, nil
}

// sort parts the entries of an index into those for our platform, best first, and those that do not say.
func (ch *chooser) sort(entries []v1.Descriptor) (named, unnamed []v1.Descriptor) {
	for _, d := range entries {
		switch {
		case isAttestation(d) || !isDocumentType(string(d.MediaType)) && !isGeneric(string(d.MediaType)):
		case d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "":
			unnamed = append(unnamed, d)
		case platformDistance(ch.want, *d.Platform) >= 0:
			named = append(named, d)
			fallthrough
		default:
			ch.has = append(ch.has, normal(*d.Platform).String())
		}
	}
	slices.SortStableFunc(named, func(a, b v1.Descriptor) int {
		return platformDistance(ch.want, *a.Platform) - platformDistance(ch.want, *b.Platform)
	})
	return named, unnamed
}

// descend looks at one entry. trusted means that an image need not be asked for its platform.
func (ch *chooser) descend(ctx context.Context, d v1.Descriptor, trusted bool) (*document, error) {
	doc, err := fetchDocument(ctx, ch.src, d)
	if err != nil {
		return nil, err
	}
	if doc.index != nil {
		return ch.pick(ctx, doc)
	}
	if trusted {
		return doc, nil
	}
	cfg, _, err := fetchConfig(ctx, ch.src, doc.image)
	if errors.Is(err, ErrUnsupported) {
		return nil, nil // an artifact beside images
	}
	if err != nil {
		return nil, err
	}
	have := v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant}
	if platformDistance(ch.want, have) < 0 {
		ch.has = append(ch.has, normal(have).String())
		return nil, nil
	}
	return doc, nil
}

// fetchConfig checks an image's manifest and gets its configuration.
func fetchConfig(ctx context.Context, src source, m *v1.Manifest) (*v1.ConfigFile, []byte, error) {
	if err := checkImage(m); err != nil {
		return nil, nil, err
	}
	raw, err := readBlob(ctx, src, m.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	cfg, err := parseConfig(raw, m)
	return cfg, raw, err
}
