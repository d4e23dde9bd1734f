package registry

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxManifestSize and maxConfigSize are the largest documents that are read, in bytes. Registries take manifests up
	// to 4 MiB; the largest configurations in the wild have some hundred kB.
	maxManifestSize = 4 << 20
	maxConfigSize   = 8 << 20
	// maxIndexDepth is how many indexes may stand between a name and its image. Two occur (an index in a layout's index).
	maxIndexDepth = 4
	// maxLayers is how many layers an image may have. Docker takes 125 and a few, its overlay driver no more than 128.
	maxLayers = 128
	// maxManifests is how many entries an index may have. A layout that is somebody's whole store has some hundreds.
	maxManifests = 20_000
	// maxWords is how many words, variables, labels and the like a configuration may have. A program takes fewer (2 MiB of
	// them, execve(2)), and each costs more memory than the two bytes that it may be written in.
	maxWords = 100_000
)

// dockerZstdLayer is what Docker calls zstd layers in its own manifests; no list has it, but it exists.
const dockerZstdLayer types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// document is a verified manifest or index: exactly one of image and index is set.
type document struct {
	desc  v1.Descriptor
	raw   []byte
	image *v1.Manifest
	index *v1.IndexManifest
}

// fetchDocument gets the document that d describes, and verifies digest and size.
func fetchDocument(ctx context.Context, src source, d v1.Descriptor) (*document, error) {
	if d.Size > maxManifestSize {
		return nil, problemf(ErrUnsupported, "manifest %s has %d bytes, the limit is %d", d.Digest, d.Size, maxManifestSize)
	}
	raw, mediaType, err := src.document(ctx, d.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, explain(err))
	}
	if d.MediaType != "" {
		mediaType = string(d.MediaType)
	}
	return parseDocument(raw, mediaType, d.Digest.String(), d.Size)
}

// parseDocument verifies raw against the digest and size expected ("" and 0 for unknown) and finds out what it is. Its
// own mediaType field counts first, then what was said about it, then its shape; all must agree, because a document
// that is an image to one reader and an index to the other is an attack (OCI advisory GHSA-77vh-xpmg-72qh).
func parseDocument(raw []byte, mediaType, digest string, size int64) (*document, error) {
	sum, err := sumOf(raw, digest)
	if err != nil {
		return nil, err
	}
	if digest != "" && sum.String() != digest {
		return nil, problemf(ErrCorrupt, "manifest %s has the digest %s", digest, sum)
	}
	if size > 0 && size != int64(len(raw)) {
		return nil, problemf(ErrCorrupt, "manifest %s has %d bytes, its descriptor says %d", sum, len(raw), size)
	}
	if mediaType, err = documentType(raw, mediaType); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", sum, err)
	}
	doc := &document{raw: raw, desc: v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: sum, Size: int64(len(raw))}}
	if doc.desc.MediaType.IsIndex() {
		doc.index, err = v1.ParseIndexManifest(bytes.NewReader(raw))
	} else {
		doc.image, err = v1.ParseManifest(bytes.NewReader(raw))
	}
	if err != nil {
		return nil, problemf(ErrCorrupt, "manifest %s: %w", sum, err)
	}
	return doc, nil
}

// sumOf hashes raw by the algorithm of like, a digest or "".
func sumOf(raw []byte, like string) (v1.Hash, error) {
	algorithm, _, ok := strings.Cut(like, ":")
	if !ok {
		algorithm = "sha256"
	}
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, problemf(ErrUnsupported, "digest %s: %w", like, err)
	}
	h.Write(raw)
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}, nil
}

func documentType(raw []byte, told string) (string, error) {
	var shape struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &shape); err != nil {
		return "", problemf(ErrCorrupt, "not JSON (sent as %q): %w", told, err)
	}
	if told, _, _ = mime.ParseMediaType(told); !isDocumentType(told) && shape.MediaType == "" && !isGeneric(told) {
		return "", problemf(ErrUnsupported, "media type %q is no image and no index", told)
	}
	if types.MediaType(told).IsSchema1() || shape.SchemaVersion == 1 || shape.FSLayers != nil {
		return "", problemf(ErrUnsupported, "it is in Docker's schema 1, which was given up in 2017; pushing the image again with a present-day tool converts it")
	}
	if err := checkCount(shape.Layers, maxLayers, "layers"); err != nil {
		return "", err
	}
	if err := checkCount(shape.Manifests, maxManifests, "manifests"); err != nil {
		return "", err
	}
	isIndex, isImage := shape.Manifests != nil, shape.Layers != nil || shape.Config != nil
	if isIndex == isImage {
		return "", problemf(ErrUnsupported, "media type %q is neither clearly an image nor clearly an index", shape.MediaType)
	}
	t := shape.MediaType
	if t == "" {
		t = told
	}
	if t == "" || isGeneric(t) {
		t = string(types.OCIManifestSchema1)
		if isIndex {
			t = string(types.OCIImageIndex)
		}
	}
	if !isDocumentType(t) {
		return "", problemf(ErrUnsupported, "media type %q is no image and no index", t)
	}
	if types.MediaType(t).IsIndex() != isIndex || isDocumentType(told) && types.MediaType(told).IsIndex() != isIndex {
		return "", problemf(ErrCorrupt, "media type %q (sent as %q) does not fit what is in it", t, told)
	}
	return t, nil
}

// checkCount bounds the elements of a list before each of them is made a structure that is a hundred times as large as what
// it may be written in.
func checkCount(list json.RawMessage, most int, what string) error {
	var n []nothing
	if json.Unmarshal(list, &n) == nil && len(n) > most {
		return problemf(ErrUnsupported, "it has %d %s, the limit is %d", len(n), what, most)
	}
	return nil
}

// nothing is any JSON value that is not looked at.
type nothing struct{}

// UnmarshalJSON does not look.
func (*nothing) UnmarshalJSON([]byte) error { return nil }

func isDocumentType(s string) bool {
	t := types.MediaType(s)
	return t.IsImage() || t.IsIndex() || t.IsSchema1()
}

// isGeneric tells media types that say nothing, as simple file servers send them.
func isGeneric(s string) bool {
	return slices.Contains([]string{"", "application/json", "text/plain", "application/octet-stream"}, s)
}

// checkImage refuses, before anything large is fetched, what would fail later.
func checkImage(m *v1.Manifest) error {
	switch t := m.Config.MediaType; {
	case t.IsConfig(), isGeneric(string(t)):
	case t == types.DockerPluginConfig:
		return problemf(ErrUnsupported, "this is a Docker plugin, not an image")
	default:
		return problemf(ErrUnsupported, "this is not a container image but an artifact of type %q", t)
	}
	if m.Config.Size > maxConfigSize || m.Config.Size < 0 {
		return problemf(ErrUnsupported, "configuration %s has %d bytes, the limit is %d", m.Config.Digest, m.Config.Size, maxConfigSize)
	}
	// Blobs of both schemes may stand in one manifest; the tools around hull's store only know this one.
	if m.Config.Digest.Algorithm != "sha256" {
		return problemf(ErrUnsupported, "configuration %s: only sha256 digests are", m.Config.Digest)
	}
	for _, l := range m.Layers {
		if err := checkLayer(l); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	return nil
}

func checkLayer(l v1.Descriptor) error {
	switch {
	case !l.MediaType.IsDistributable():
		return problemf(ErrUnsupported, "a foreign (nondistributable) layer, which registries do not hold; media type %q", l.MediaType)
	case strings.HasSuffix(string(l.MediaType), "+encrypted"):
		return problemf(ErrUnsupported, "it is encrypted; media type %q", l.MediaType)
	case !l.MediaType.IsLayer() && l.MediaType != dockerZstdLayer:
		return problemf(ErrUnsupported, "unknown media type %q", l.MediaType)
	case l.Digest.Algorithm != "sha256":
		return problemf(ErrUnsupported, "only sha256 digests are")
	case l.Size < 0:
		return problemf(ErrCorrupt, "its descriptor says %d bytes", l.Size)
	}
	return nil
}

// parseConfig reads a verified configuration and checks that it has a diff ID for each layer.
func parseConfig(raw []byte, m *v1.Manifest) (*v1.ConfigFile, error) {
	if n := configWords(raw); n > maxWords {
		return nil, problemf(ErrUnsupported, "configuration %s has %d entries in its lists, the limit is %d", m.Config.Digest, n, maxWords)
	}
	cfg, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, problemf(ErrCorrupt, "configuration %s: %w", m.Config.Digest, err)
	}
	if n := len(cfg.RootFS.DiffIDs); n != len(m.Layers) {
		return nil, problemf(ErrCorrupt, "configuration %s has %d diff IDs for %d layers", m.Config.Digest, n, len(m.Layers))
	}
	return cfg, nil
}

// configWords counts the elements of a configuration's lists.
func configWords(raw []byte) int {
	var shape struct {
		Config struct {
			Cmd, Entrypoint, Env, Shell, OnBuild []nothing
			Labels, Volumes, ExposedPorts        map[string]nothing
			Healthcheck                          struct{ Test []nothing }
		} `json:"config"`
		History []nothing `json:"history"`
		RootFS  struct {
			DiffIDs []nothing `json:"diff_ids"`
		} `json:"rootfs"`
	}
	_ = json.Unmarshal(raw, &shape) // who parses it after us says what is wrong with it
	c := &shape.Config
	return len(c.Cmd) + len(c.Entrypoint) + len(c.Env) + len(c.Shell) + len(c.OnBuild) + len(c.Labels) + len(c.Volumes) +
		len(c.ExposedPorts) + len(c.Healthcheck.Test) + len(shape.History) + len(shape.RootFS.DiffIDs)
}
