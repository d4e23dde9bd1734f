package layers

import (
	"os"
	"strings"
)

// Usage is what lies on the disk for images, and for whom: unpacked layers and blobs, each of which several images may need.
type Usage struct{ parts map[string]*part }

// part is a blob, or one form of a layer that was unpacked.
type part struct {
	size   int64           // bytes
	images map[string]bool // IDs
}

// Usage looks at all that the store holds. What no image needs is there too.
func (s *Store) Usage() (*Usage, error) {
	u := &Usage{make(map[string]*part)}
	if !s.exists() {
		return u, nil
	}
	blobs, err := os.ReadDir(s.path("images", "blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, e := range blobs {
		if st, err := e.Info(); err == nil { // else removed this moment
			u.add("blob "+e.Name(), st.Size())
		}
	}
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, e := range links {
		hex, one := strings.CutSuffix(e.Name(), oneSuffix)
		if _, facts, err := s.linked("sha256:"+hex, one); err == nil {
			u.add("layer "+e.Name(), facts.Size)
		}
	}
	return u, s.attribute(u)
}

func (u *Usage) add(key string, size int64) { u.parts[key] = &part{size, make(map[string]bool)} }

// attribute notes which image needs what.
func (s *Store) attribute(u *Usage) error {
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		e, err := s.entry(d)
		if err != nil {
			continue // of no kind that is listed
		}
		n := newNeeded()
		if err := s.need(n, d, 0); err != nil {
			return err
		}
		id := e.manifest.Config.Digest.String()
		for hex := range n.blobs {
			u.note("blob "+hex, id)
		}
		for diffID := range n.layers {
			u.note("layer "+hexOf(diffID), id)
			u.note("layer "+hexOf(diffID)+oneSuffix, id)
		}
	}
	return nil
}

func (u *Usage) note(key, id string) {
	if p := u.parts[key]; p != nil {
		p.images[id] = true
	}
}

// Total is all of it, in bytes.
func (u *Usage) Total() (bytes int64) {
	for _, p := range u.parts {
		bytes += p.size
	}
	return bytes
}

// Of is what an image shares with others, and what it has alone, in bytes.
func (u *Usage) Of(id string) (shared, unique int64) {
	for _, p := range u.parts {
		switch {
		case !p.images[id]:
		case len(p.images) > 1:
			shared += p.size
		default:
			unique += p.size
		}
	}
	return shared, unique
}

// Needed is what images together need, in bytes; needs says which.
func (u *Usage) Needed(needs func(id string) bool) (bytes int64) {
	for _, p := range u.parts {
		for id := range p.images {
			if needs(id) {
				bytes += p.size
				break
			}
		}
	}
	return bytes
}
