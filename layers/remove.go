package layers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// RemovedLine is one line that "rmi" prints: one of the two is set, and JSON has it as Docker's API does.
type RemovedLine struct {
	Untagged string `json:",omitempty"` // a full name that is gone
	Deleted  string `json:",omitempty"` // an image ID or the diff ID of a layer, "sha256:…", that is gone
}

// String is the line itself, with the name in full.
func (l RemovedLine) String() string {
	if l.Untagged != "" {
		return "Untagged: " + l.Untagged
	}
	return "Deleted: " + l.Deleted
}

// Remove takes a name away, and the image with its layers if that was the last one and no other image needs them,
// as Docker's rmi does. Found by ID or digest, an image loses all its names; if it has more than one, only with
// force. inUse has the IDs of images that containers were made from: without force removing the last name of such an
// image is ErrInUse, with force the image stays without a name. Layers of another image that build on the same blobs
// stay.
func (s *Store) Remove(query string, force bool, inUse ...string) ([]RemovedLine, error) {
	if !s.exists() {
		return nil, fmt.Errorf("remove %q: %w", query, ErrNotFound)
	}
	var lines []RemovedLine
	var own *needed
	err := s.changeIndex(func(index *v1.IndexManifest) error {
		d, err := s.search(index, query)
		if err != nil {
			return err
		}
		own = newNeeded()
		if err := s.need(own, *d, 0); err != nil {
			return err
		}
		lines, err = s.untag(index, *d, query, force, inUse)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("remove %q: %w", query, err)
	}
	if !slices.ContainsFunc(lines, func(l RemovedLine) bool { return l.Deleted != "" }) {
		return lines, nil
	}
	swept, err := s.sweep(nil, own)
	for _, id := range swept.Layers {
		lines = append(lines, RemovedLine{Deleted: id})
	}
	if err != nil {
		return lines, fmt.Errorf("remove %q: %w", query, err)
	}
	return lines, nil
}

// RemoveWhere removes all images that goes takes, which is asked once for every name, and what no other image needs of them.
// It says what Remove would say of each. Many go as fast as one: names are changed and blobs looked for once.
func (s *Store) RemoveWhere(goes func(*Image) bool) ([]RemovedLine, error) {
	if !s.exists() {
		return nil, nil
	}
	return s.removeWhere(goes, nil, newNeeded())
}

// removeWhere is RemoveWhere with what sweep is told.
func (s *Store) removeWhere(goes func(*Image) bool, keep []string, own *needed) ([]RemovedLine, error) {
	var ids []string
	var lines []RemovedLine
	err := s.changeIndex(func(index *v1.IndexManifest) (err error) {
		stays, names := make(map[string]bool), make(map[string][]string)
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool {
			e, entryErr := s.entry(d)
			if entryErr != nil {
				return false // of no kind that is listed
			}
			img, imageErr := s.image(e)
			if imageErr != nil || !goes(img) {
				stays[e.manifest.Config.Digest.String()] = true
				return false
			}
			err = or(err, s.need(own, d, 0))
			if names[img.ID] == nil {
				ids = append(ids, img.ID)
			}
			names[img.ID] = append(names[img.ID], img.Name)
			return true
		})
		for _, id := range ids {
			lines = append(lines, removedNames(names[id])...)
			if !stays[id] {
				lines = append(lines, RemovedLine{Deleted: id})
			}
		}
		return err
	})
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	swept, err := s.sweep(keep, own)
	for _, id := range swept.Layers {
		lines = append(lines, RemovedLine{Deleted: id})
	}
	return lines, err
}

func removedNames(names []string) (lines []RemovedLine) {
	for _, name := range names {
		if name != "" {
			lines = append(lines, RemovedLine{Untagged: name})
		}
	}
	return lines
}

// exists says whether anything was ever added.
func (s *Store) exists() bool {
	_, err := os.Lstat(s.indexFile())
	return err == nil
}

// untag changes the index as Remove says.
func (s *Store) untag(index *v1.IndexManifest, d v1.Descriptor, query string, force bool, inUse []string) ([]RemovedLine, error) {
	e, err := s.entry(d)
	if err != nil {
		return nil, err
	}
	id := e.manifest.Config.Digest.String()
	byName := searchName(index, query) != nil
	all := s.namesOf(index, id)
	names := all
	if byName {
		names = []string{nameOf(&d)}
	} else if len(all) > 1 && !force {
		return nil, fmt.Errorf("conflict: unable to delete %.12s (must be forced) - image is referenced in multiple repositories: %s",
			hexOf(id), strings.Join(all, ", "))
	}
	last := len(all) <= len(names)
	used := slices.Contains(inUse, id)
	if last && used && (!force || len(names) == 0) {
		return nil, ErrInUse
	}
	var lines []RemovedLine
	for _, name := range names {
		dropName(index, name)
		lines = append(lines, RemovedLine{Untagged: name})
	}
	if last && !used {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool {
			e, err := s.entry(d)
			return err == nil && e.manifest.Config.Digest.String() == id
		})
		lines = append(lines, RemovedLine{Deleted: id})
	}
	return lines, nil
}

// namesOf gives all names of an image.
func (s *Store) namesOf(index *v1.IndexManifest, id string) []string {
	var names []string
	for _, d := range index.Manifests {
		e, err := s.entry(d)
		if err == nil && e.name != "" && e.manifest.Config.Digest.String() == id {
			names = append(names, e.name)
		}
	}
	return names
}

// Pruned says what Prune removed.
type Pruned struct {
	Layers []string // diff IDs of unpacked layers
	Blobs  []string // digests
	Bytes  int64    // disk space that was freed
}

// Prune removes what no image of the store needs: blobs and unpacked layers that no image names any more or that
// were never finished, temporary things whose maker died, and outdated records. A blob that came in the last five
// minutes stays, as another tool may be about to name it. Images without a name are images
// too: they go by Remove. keep has the numbers of layers (as in [Image.Layers]) that containers stand on, which stay
// even if another tool took their image out of the index.
func (s *Store) Prune(keep ...string) (*Pruned, error) {
	if !s.exists() {
		return &Pruned{}, nil
	}
	swept, err := s.sweep(keep, newNeeded())
	if err != nil {
		return swept, fmt.Errorf("prune: %w", err)
	}
	freed, err := s.sweepTemp(0)
	swept.Bytes += freed
	s.sweepRecords()
	s.sweepVerified()
	if err != nil {
		return swept, fmt.Errorf("prune: %w", err)
	}
	return swept, nil
}

// needed is what the images of the index hold on to.
type needed struct {
	blobs  map[string]bool // hex
	layers map[string]bool // diff IDs

	// Of what no image needs, and this did not either, sweep leaves layers that are young, or with only all.
	sparing, only bool
}

// newNeeded holds on to nothing.
func newNeeded() *needed { return &needed{blobs: make(map[string]bool), layers: make(map[string]bool)} }

// needed reads all images. What cannot be read is an error: nothing may be removed for want of knowledge.
func (s *Store) needed() (*needed, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	n := newNeeded()
	for _, d := range index.Manifests {
		if err := s.need(n, d, 0); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// need adds one descriptor and all it names. Blobs that are missing need nothing: tools write partial indexes.
func (s *Store) need(n *needed, d v1.Descriptor, depth int) error {
	if err := validDigest(d.Digest); err != nil || depth > maxNesting {
		return err
	}
	n.blobs[d.Digest.Hex] = true
	if !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
		return nil
	}
	b, err := s.readBlob(d.Digest)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.MediaType.IsIndex() {
		index, err := v1.ParseIndexManifest(strings.NewReader(string(b)))
		if err != nil {
			return fmt.Errorf("index %s: %w", d.Digest, err)
		}
		for _, inner := range index.Manifests {
			if err := s.need(n, inner, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return s.needManifest(n, d.Digest, b)
}

// needManifest adds an image's config, blobs and layers.
func (s *Store) needManifest(n *needed, digest v1.Hash, b []byte) error {
	m, err := parseManifest(b)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	n.blobs[m.Config.Digest.Hex] = true
	for _, l := range m.Layers {
		n.blobs[l.Digest.Hex] = true
	}
	b, err = s.readBlob(m.Config.Digest)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	config, err := v1.ParseConfigFile(strings.NewReader(string(b)))
	if err != nil {
		return nil // the config of an artifact; it has no layers to unpack
	}
	for _, id := range config.RootFS.DiffIDs {
		n.layers[id.String()] = true
	}
	return nil
}

// sweep removes all that is not needed: names under the lock, then, as it may take long, the trees without it. own
// has the blobs that were in use until now, see removeBlobs.
func (s *Store) sweep(keep []string, own *needed) (*Pruned, error) {
	swept := &Pruned{}
	if err := s.prepare(); err != nil {
		return swept, err
	}
	numbers, err := s.unlink(swept, keep, own)
	for _, number := range numbers {
		err = or(err, s.removeLayer(number))
	}
	return swept, err
}

// unlink is the part of sweep that holds the lock. It gives the layers that have no link any more.
func (s *Store) unlink(swept *Pruned, keep []string, own *needed) ([]string, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	n, err := s.needed()
	if err != nil {
		return nil, err
	}
	if err := s.removeBlobs(swept, n, own); err != nil {
		return nil, err
	}
	if err := s.removeLinks(swept, n, own, keep); err != nil {
		return nil, err
	}
	return s.unlinked(keep)
}

// unlinked gives the layers that no link leads to and nobody works on. The caller holds the lock.
func (s *Store) unlinked(keep []string) ([]string, error) {
	alive := make(map[string]bool)
	for _, number := range keep {
		alive[number] = true
	}
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, e := range links {
		target, err := os.Readlink(s.path("layers", "sha256", e.Name()))
		if err != nil {
			return nil, err
		}
		alive[filepath.Base(target)] = true
	}
	numbers, err := s.numbered()
	return slices.DeleteFunc(numbers, func(number string) bool {
		return alive[number] || s.beingMade(number)
	}), err
}

// sweepDead removes what processes left that died.
func (s *Store) sweepDead() error {
	err := s.removeUnlinked()
	_, tmpErr := s.sweepTemp(partialAge)
	return or(err, tmpErr)
}

// removeUnlinked removes the layers that no link leads to and nobody works on.
func (s *Store) removeUnlinked() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	numbers, err := s.unlinked(nil)
	unlock()
	for _, number := range numbers {
		err = or(err, s.removeLayer(number))
	}
	return err
}

// grace is how long a blob that no image names is left alone: another tool may be about to name it.
const grace = 5 * time.Minute

// removeBlobs removes the blobs that nothing needs, the young ones only if own has them.
func (s *Store) removeBlobs(swept *Pruned, n, own *needed) error {
	blobs, err := os.ReadDir(s.path("images", "blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range blobs {
		path := s.path("images", "blobs", "sha256", e.Name())
		st, err := os.Stat(path)
		if err != nil || n.blobs[e.Name()] || !own.blobs[e.Name()] && (own.only || time.Since(st.ModTime()) < grace) {
			continue
		}
		size := DiskSpace(path)
		if err := os.Remove(path); err != nil {
			return err
		}
		swept.Bytes += size
		swept.Blobs = append(swept.Blobs, "sha256:"+e.Name())
	}
	return nil
}

// removeLinks removes the links of layers that nothing needs, or those of them that own lets go.
func (s *Store) removeLinks(swept *Pruned, n, own *needed, keep []string) error {
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range links {
		path := s.path("layers", "sha256", e.Name())
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		hex, one := strings.CutSuffix(e.Name(), oneSuffix)
		if n.layers["sha256:"+hex] || slices.Contains(keep, filepath.Base(target)) {
			continue
		}
		if !own.layers["sha256:"+hex] && (own.only || own.sparing && s.young(filepath.Base(target))) {
			continue
		}
		if number, facts, err := s.linked("sha256:"+hex, one); err == nil {
			swept.Bytes += s.layerSpace(number, facts)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		swept.Layers = append(swept.Layers, "sha256:"+hex)
	}
	return nil
}

// sweepRecords removes all records; the good ones are soon written again.
func (s *Store) sweepRecords() {
	records, err := os.ReadDir(s.path("records"))
	if err != nil {
		return
	}
	for _, r := range records {
		_ = os.Remove(s.path("records", r.Name()))
	}
}
