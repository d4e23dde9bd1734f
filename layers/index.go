package layers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations of index.json that name an image: the OCI image layout's own, and the one that containerd reads.
const (
	refAnnotation        = "org.opencontainers.image.ref.name"
	containerdAnnotation = "io.containerd.image.name"
)

// indexFile is where names are kept.
func (s *Store) indexFile() string { return s.path("images", "index.json") }

// emptyIndex names nothing.
func emptyIndex() *v1.IndexManifest {
	return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
}

// readIndex reads index.json; a store that is not there has an empty one.
func (s *Store) readIndex() (*v1.IndexManifest, error) {
	b, err := os.ReadFile(s.indexFile())
	if os.IsNotExist(err) {
		return emptyIndex(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", s.indexFile(), err)
	}
	for _, d := range index.Manifests {
		if err := validDigest(d.Digest); err != nil {
			return nil, fmt.Errorf("read %q: %w", s.indexFile(), err)
		}
	}
	return index, nil
}

// writeIndex replaces index.json. The caller holds the store's lock and read the index under it.
func (s *Store) writeIndex(index *v1.IndexManifest) error {
	b, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return s.writeFile(s.indexFile(), b)
}

// changeIndex reads the index under the lock, lets change work on it and writes it back.
func (s *Store) changeIndex(change func(*v1.IndexManifest) error) error {
	if err := s.prepare(); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := change(index); err != nil {
		return err
	}
	return s.writeIndex(index)
}

// validDigest keeps anything but a sha256 out of file names.
func validDigest(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 || !isHex(h.Hex) {
		return fmt.Errorf("digest %q: want sha256 and 64 hex digits", h.String())
	}
	return nil
}

// isHex says whether s has only the digits of a digest.
func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// nameOf is the name that an entry of the index bears, "" for none.
func nameOf(d *v1.Descriptor) string {
	if ref := d.Annotations[refAnnotation]; ref != "" {
		return ref
	}
	return d.Annotations[containerdAnnotation]
}

// setName makes name mean d, in place of what it meant. An image whose last name goes stays, without one, as in
// Docker; a nameless entry of d gives way.
func setName(index *v1.IndexManifest, name string, d v1.Descriptor) {
	if isNamed(index, name, d.Digest) {
		return
	}
	dropName(index, name)
	index.Manifests = slices.DeleteFunc(index.Manifests, func(e v1.Descriptor) bool {
		return e.Digest == d.Digest && nameOf(&e) == ""
	})
	d.Annotations = named(d.Annotations, name)
	index.Manifests = append(index.Manifests, d)
}

// isNamed says whether the index has this name for this image already; "" stands for any name.
func isNamed(index *v1.IndexManifest, name string, digest v1.Hash) bool {
	return slices.ContainsFunc(index.Manifests, func(e v1.Descriptor) bool {
		return e.Digest == digest && (name == "" || nameOf(&e) == name)
	})
}

// dropName takes a name away from the entries that bear it.
func dropName(index *v1.IndexManifest, name string) {
	if name == "" {
		return
	}
	for i := range index.Manifests {
		if e := &index.Manifests[i]; nameOf(e) == name || fullName(nameOf(e)) == name {
			e.Annotations = named(e.Annotations, "")
		}
	}
	dropSpare(index)
}

// dropSpare removes nameless entries of images that have another entry.
func dropSpare(index *v1.IndexManifest) {
	count := make(map[v1.Hash]int)
	for _, e := range index.Manifests {
		count[e.Digest]++
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(e v1.Descriptor) bool {
		if nameOf(&e) != "" || count[e.Digest] == 1 {
			return false
		}
		count[e.Digest]--
		return true
	})
}

// named gives a copy of annotations with another name.
func named(old map[string]string, name string) map[string]string {
	annotations := make(map[string]string)
	for k, v := range old {
		if k != refAnnotation && k != containerdAnnotation {
			annotations[k] = v
		}
	}
	if name != "" {
		annotations[refAnnotation] = name
		annotations[containerdAnnotation] = name
	}
	if len(annotations) == 0 {
		return nil
	}
	return annotations
}

// fullName writes out what is left unsaid in a name that somebody typed, or that another tool wrote into the
// index: busybox means docker.io/library/busybox:latest. It is "" for what is no image name.
func fullName(s string) string {
	if s == "" {
		return ""
	}
	ref, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return ""
	}
	full := ref.Name()
	if rest, ok := strings.CutPrefix(full, name.DefaultRegistry+"/"); ok {
		full = "docker.io/" + rest
	}
	return full
}

// repository cuts tag or digest off a full name.
func repository(full string) string {
	if repo, _, ok := strings.Cut(full, "@"); ok {
		full = repo
	}
	if i := strings.LastIndexByte(full, ':'); i > strings.LastIndexByte(full, '/') {
		full = full[:i]
	}
	return full
}
