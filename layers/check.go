package layers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Flaw is something that is wrong with a store.
type Flaw struct {
	What string // a line: "blob sha256:…: …"
	// Mend sets it right, or does nothing if it is right by now; nil where that is beyond the store.
	Mend func() error
}

// CheckOptions says how Check looks.
type CheckOptions struct {
	// Deep compares every blob with its digest. Else only small ones are, which manifests are among.
	Deep bool
	// Used says that something was made from the image of this name, so that the image is not given up.
	Used func(name string) bool
	// Idle says that no layer is mounted anywhere.
	Idle bool
}

// Check looks for what a power loss, a failing disk or a killed process has left of images and layers. What a living process
// works on is no flaw, nor what was finished for an image that never came: Prune removes that.
func (s *Store) Check(opt CheckOptions) ([]Flaw, error) {
	if !s.exists() {
		return nil, nil
	}
	index, err := s.readIndex()
	if err != nil {
		return []Flaw{{What: fmt.Sprintf("images: %v", err)}}, nil
	}
	var flaws []Flaw
	needed := map[string]int64{} // size of each blob that an image names, by digest
	for _, d := range index.Manifests {
		flaws = append(flaws, s.checkEntry(d, opt, needed)...)
	}
	blobs, err := s.checkBlobs(needed, opt)
	if err != nil {
		return nil, err
	}
	trees, err := s.checkLayers(opt)
	return append(append(flaws, blobs...), trees...), err
}

// imageName is how an entry of the index is called in a line.
func imageName(d *v1.Descriptor) string { return "image " + or2(nameOf(d), d.Digest.String()) }

// checkEntry follows an entry of the index to all its blobs, and notes what size they have.
func (s *Store) checkEntry(d v1.Descriptor, opt CheckOptions, needed map[string]int64) []Flaw {
	if !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
		return nil // another tool's
	}
	lost := func(err error) []Flaw {
		f := Flaw{What: fmt.Sprintf("%s: %v", imageName(&d), err)}
		if !opt.Used(nameOf(&d)) {
			f.Mend = func() error { return s.dropEntry(d) }
		}
		return []Flaw{f}
	}
	needed[d.Digest.String()] = d.Size
	e, err := s.entry(d)
	if errors.Is(err, fs.ErrNotExist) {
		return lost(fmt.Errorf("its manifest is missing"))
	}
	if err != nil {
		return nil // nothing for this machine; checkBlobs sees to what is damaged
	}
	needed[e.desc.Digest.String()] = e.desc.Size
	needed[e.manifest.Config.Digest.String()] = e.manifest.Config.Size
	if _, err := os.Stat(s.blob(e.manifest.Config.Digest.String())); errors.Is(err, fs.ErrNotExist) {
		return lost(fmt.Errorf("its config is missing"))
	}
	var flaws []Flaw
	for _, l := range e.manifest.Layers {
		if layerMediaType(l.MediaType) != nil {
			continue
		}
		digest := l.Digest.String()
		needed[digest] = l.Size
		if _, err := os.Stat(s.blob(digest)); errors.Is(err, fs.ErrNotExist) {
			flaws = append(flaws, Flaw{What: fmt.Sprintf("%s: blob %s is missing: a pull brings it", imageName(&d), digest)})
		}
	}
	return flaws
}

// dropEntry takes an entry out of the index whose manifest or config is not there.
func (s *Store) dropEntry(d v1.Descriptor) error {
	return s.changeIndex(func(index *v1.IndexManifest) error {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(other v1.Descriptor) bool {
			if other.Digest != d.Digest || nameOf(&other) != nameOf(&d) {
				return false
			}
			e, err := s.entry(other)
			if err == nil {
				_, err = os.Stat(s.blob(e.manifest.Config.Digest.String()))
			}
			return errors.Is(err, fs.ErrNotExist)
		})
		return nil
	})
}

// checkBlobs compares blobs with their sizes, and if asked to with their digests. One that is damaged is as good as none.
func (s *Store) checkBlobs(needed map[string]int64, opt CheckOptions) ([]Flaw, error) {
	entries, err := os.ReadDir(s.path("images", "blobs", "sha256"))
	if err != nil {
		return nil, fmt.Errorf("read blobs: %w", err)
	}
	var flaws []Flaw
	for _, e := range entries {
		digest := "sha256:" + e.Name()
		size, isNeeded := needed[digest]
		if !isNeeded {
			size = -1
		}
		why := s.damage(digest, size, opt.Deep)
		if why == "" {
			continue
		}
		flaws = append(flaws, Flaw{"blob " + digest + ": " + why, func() error {
			if s.damage(digest, size, opt.Deep) == "" {
				return nil // somebody has brought it anew
			}
			return os.Remove(s.blob(digest))
		}})
	}
	return flaws, nil
}

// smallBlob is so many bytes that they are read as fast as looked for.
const smallBlob = 64 << 10

// damage says what is wrong with a blob, "" for nothing. A negative size is not known.
func (s *Store) damage(digest string, size int64, deep bool) string {
	f, err := os.Open(s.blob(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return err.Error()
	case !st.Mode().IsRegular():
		return "is no file"
	case size >= 0 && st.Size() != size:
		return fmt.Sprintf("has %d bytes, and should have %d", st.Size(), size)
	case !deep && st.Size() > smallBlob:
		return ""
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err.Error()
	}
	if got := digestOf(sum); got != digest {
		return "is damaged: its digest is " + got
	}
	return ""
}

// checkLayers looks for unpacked layers that nothing leads to, and for links that lead to none.
func (s *Store) checkLayers(opt CheckOptions) ([]Flaw, error) {
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		return nil, fmt.Errorf("read layers: %w", err)
	}
	var flaws []Flaw
	for _, e := range links {
		link := s.path("layers", "sha256", e.Name())
		what, tree := s.brokenLink(link)
		if what == "" {
			continue
		}
		f := Flaw{What: fmt.Sprintf("layer sha256:%s: %s", e.Name(), what)}
		if !tree || opt.Idle { // else a container may stand on it
			f.Mend = func() error { return s.dropLink(link) }
		}
		flaws = append(flaws, f)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	numbers, err := s.unlinked(nil)
	unlock()
	for _, number := range numbers {
		flaws = append(flaws, Flaw{"layer " + number + ": was never finished", s.removeUnlinked})
	}
	return flaws, err
}

// brokenLink says what a layer's link lacks, "" for nothing, and whether its tree is there all the same.
func (s *Store) brokenLink(link string) (what string, tree bool) {
	target, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false // removed this moment
	}
	if err != nil {
		return err.Error(), true
	}
	number := filepath.Base(target)
	if st, err := os.Stat(s.LayerDir(number)); err != nil || !st.IsDir() {
		return "its files are missing", false
	}
	if _, err := os.Stat(s.path("layers", number+".json")); err != nil {
		return "what is known of it is missing", true
	}
	return "", true
}

// dropLink removes the link of a layer that is not there, so that it is unpacked anew when it is needed.
func (s *Store) dropLink(link string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if what, _ := s.brokenLink(link); what == "" {
		return nil
	}
	if err := os.Remove(link); err != nil {
		return err
	}
	// Answers that were kept name the layer still, and are right for as long as the index stays.
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	return s.writeIndex(index)
}

// Complete says whether all blobs of an image are here, so that it can be sent elsewhere.
func (s *Store) Complete(img *Image) bool {
	e, err := s.find(img.Digest)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(e.manifest.Layers, func(l v1.Descriptor) bool {
		return layerMediaType(l.MediaType) == nil && !s.hasBlob(l)
	})
}
