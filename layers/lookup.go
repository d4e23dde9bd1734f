package layers

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Lookup finds an image by what somebody typed: a name (missing parts are those of Docker's short form), a name with
// a digest, an image ID or manifest digest with or without "sha256:", or an unambiguous beginning of one. A name
// goes before an ID. Errors: ErrNotFound, ErrAmbiguous, or what is wrong with the store.
func (s *Store) Lookup(query string) (*Image, error) {
	now, err := s.stamp()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look up %q: %w", query, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", query, err)
	}
	if img := s.recorded(query, now); img != nil {
		img.found = now
		return img, nil
	}
	e, err := s.find(query)
	if err != nil {
		return nil, err
	}
	img, err := s.image(e)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", query, err)
	}
	img.found = now
	s.record(query, now, img)
	return img, nil
}

// Still is an error if an image that Lookup gave has been removed since, ErrNotFound, or unpacked anew. It is for who has
// taken a lock meanwhile that keeps images from being removed, and mostly one look at a file.
func (s *Store) Still(img *Image) error {
	if now, err := s.stamp(); err == nil && now == img.found {
		return nil
	}
	now, err := s.Lookup(img.ID)
	if err == nil && !slices.Equal(now.Layers, img.Layers) {
		err = fmt.Errorf("look up %q: its layers are others: %w", img.ID, ErrNotFound)
	}
	return err
}

// find searches the index for what somebody typed.
func (s *Store) find(query string) (*entry, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", query, err)
	}
	d, err := s.search(index, query)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", query, err)
	}
	e, err := s.entry(*d)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", query, err)
	}
	return e, nil
}

// search tries the ways to spell an image one after the other.
func (s *Store) search(index *v1.IndexManifest, query string) (*v1.Descriptor, error) {
	if query == "" {
		return nil, ErrNotFound
	}
	if d := searchName(index, query); d != nil {
		return d, nil
	}
	return s.searchID(index, query)
}

// searchName finds an entry by name. The last one counts where another tool wrote a name twice.
func searchName(index *v1.IndexManifest, query string) *v1.Descriptor {
	full := fullName(query)
	matches := []func(d *v1.Descriptor) bool{
		func(d *v1.Descriptor) bool { return nameOf(d) == query },
		func(d *v1.Descriptor) bool { return full != "" && fullName(nameOf(d)) == full },
		func(d *v1.Descriptor) bool {
			repo, digest, ok := strings.Cut(full, "@")
			return ok && d.Digest.String() == digest && repository(fullName(nameOf(d))) == repo
		},
	}
	for _, match := range matches {
		for _, d := range slices.Backward(index.Manifests) {
			if match(&d) {
				return &d
			}
		}
	}
	return nil
}

// searchID finds an entry by the beginning of its image ID or manifest digest.
func (s *Store) searchID(index *v1.IndexManifest, query string) (*v1.Descriptor, error) {
	prefix := strings.TrimPrefix(query, "sha256:")
	if prefix == "" || !isHex(prefix) || len(prefix) > 64 {
		return nil, ErrNotFound
	}
	var found *v1.Descriptor
	var id string
	for i := range index.Manifests {
		e, err := s.entry(index.Manifests[i])
		if err != nil {
			continue // somebody else's entry, of no kind that has an ID
		}
		config := e.manifest.Config.Digest
		if !hasPrefix(prefix, config.Hex, e.desc.Digest.Hex, e.top.Digest.Hex) {
			continue
		}
		if found != nil && id != config.Hex {
			return nil, ErrAmbiguous
		}
		if found == nil || nameOf(found) == "" {
			found, id = &index.Manifests[i], config.Hex
		}
	}
	if found == nil {
		return nil, ErrNotFound
	}
	return found, nil
}

// hasPrefix says whether one of the digests begins so.
func hasPrefix(prefix string, digests ...string) bool {
	return slices.ContainsFunc(digests, func(d string) bool { return strings.HasPrefix(d, prefix) })
}

// Tag gives the image that src finds one more name, dst, a full name. Another image that had it loses it.
func (s *Store) Tag(src, dst string) error {
	if fullName(dst) != dst || strings.Contains(dst, "@") {
		return fmt.Errorf("tag %q: not a full image name", dst)
	}
	return s.changeIndex(func(index *v1.IndexManifest) error {
		d, err := s.search(index, src)
		if err != nil {
			return fmt.Errorf("tag %q: %w", src, err)
		}
		setName(index, dst, *d)
		return nil
	})
}

// Untag takes a name away from the image that it finds. The image stays, without one if that was its last.
func (s *Store) Untag(name string) error {
	return s.changeIndex(func(index *v1.IndexManifest) error {
		d := searchName(index, name)
		if d == nil {
			return fmt.Errorf("untag %q: %w", name, ErrNotFound)
		}
		dropName(index, nameOf(d))
		return nil
	})
}
