package layers

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Usage is what lies on the disk for images, and for whom: unpacked layers and blobs, each of which several images may need.
// All sizes are those of the blocks that files and directories take up, in bytes.
type Usage struct {
	// Rest is what the store needs besides, by the names of its directories and files: its indexes, records and locks, and the
	// directories themselves.
	Rest map[string]int64

	parts map[string]*part
}

// part is a blob, or one form of a layer that was unpacked, or something that was never finished.
type part struct {
	size   int64           // bytes
	images map[string]bool // IDs
}

// Usage looks at all that the store holds. What no image needs is there too.
func (s *Store) Usage() (*Usage, error) {
	u := &Usage{Rest: make(map[string]int64), parts: make(map[string]*part)}
	if !s.exists() {
		return u, nil
	}
	if err := or(u.blobs(s), u.layers(s)); err != nil {
		return nil, err
	}
	u.unfinished(s)
	for _, name := range []string{"records", "lock"} {
		u.Rest[name] = DiskSpace(s.path(name))
	}
	return u, s.attribute(u)
}

// blobs measures the layout.
func (u *Usage) blobs(s *Store) error {
	blobs, err := os.ReadDir(s.path("images", "blobs", "sha256"))
	if err != nil {
		return err
	}
	u.Rest["images"] = DiskSpace(s.path("images"))
	for _, e := range blobs {
		if size := DiskSpace(s.path("images", "blobs", "sha256", e.Name())); size > 0 { // else removed this moment
			u.add("blob "+e.Name(), size)
			u.Rest["images"] -= size
		}
	}
	return nil
}

// layers measures what is unpacked. A layer does not change any more, so it was measured when it came.
func (u *Usage) layers(s *Store) error {
	numbers, err := s.numbered()
	if err != nil {
		return err
	}
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		return err
	}
	linked := make(map[string]bool)
	for _, e := range links {
		hex, one := strings.CutSuffix(e.Name(), oneSuffix)
		number, facts, err := s.linked("sha256:"+hex, one)
		if err == nil {
			u.add("layer "+e.Name(), s.layerSpace(number, facts))
			linked[number] = true
		}
	}
	for _, number := range numbers {
		if !linked[number] { // being made, or left by somebody who died, or in the way out
			u.add("unfinished "+number, s.layerSpace(number, &Facts{}))
		}
	}
	u.Rest["layers"] = OwnSpace(s.LayersDir()) + DiskSpace(s.path("layers", "sha256"))
	for _, name := range []string{".last", emptyLayer} {
		u.Rest["layers"] += OwnSpace(s.path("layers", name))
	}
	return nil
}

// layerSpace is what a layer takes up with what is written about it.
func (s *Store) layerSpace(number string, facts *Facts) int64 {
	size := facts.Disk
	if size == 0 { // of an older hull, or not finished
		size = DiskSpace(s.LayerDir(number))
	}
	return size + OwnSpace(s.path("layers", number+".json")) + OwnSpace(s.path("layers", number+".owners"))
}

// OwnSpace is what a file or directory takes up on the disk without what is in it, in bytes; 0 if it is not there.
func OwnSpace(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// temporary begins the keys of what lies in tmp/.
const temporary = "temporary "

// unfinished measures what of ours is in tmp/.
func (u *Usage) unfinished(s *Store) {
	entries, _ := os.ReadDir(s.path("tmp")) // there is none before the first image
	for _, e := range entries {
		if isOurs(e.Name()) {
			u.add(temporary+e.Name(), DiskSpace(s.path("tmp", e.Name())))
		}
	}
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

// Unneeded is what no image needs, in bytes: it is being fetched, or goes with the next Prune.
func (u *Usage) Unneeded() (bytes int64) {
	for _, p := range u.parts {
		if len(p.images) == 0 {
			bytes += p.size
		}
	}
	return bytes
}

// Temporary is what of all that lies in tmp/, in bytes: what is being fetched or written, or was.
func (u *Usage) Temporary() (bytes int64) {
	for key, p := range u.parts {
		if strings.HasPrefix(key, temporary) {
			bytes += p.size
		}
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
