package run

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// Cache is a choice of images, as one file that another machine's store, or this one's tomorrow, is filled from: an OCI image
// layout in a tar, whose bytes depend on nothing but which images it holds and what they are called.
type Cache struct {
	Images []string // names, or digests of those that have none, in order
	Left   []string // the same of images that were left out, and why
	saved  []registry.SavedImage
}

// What a tar of a layout needs besides the blobs: its end, the headers of folders and of index.json; and for each name of an
// image its entry in index.json. In bytes, and rather more than less.
const (
	cacheFrame = 8 << 10
	cacheEntry = 1 << 10
)

// ChooseCache chooses images by words as SaveImages does, or takes all that have a name if there are none. With most above 0
// the file becomes no larger than that many bytes: those that were used last go in first, and one that does not fit is left
// out.
func (h *Host) ChooseCache(words []string, most int64) (*Cache, error) {
	images, err := h.cacheImages(words)
	if err != nil {
		return nil, err
	}
	if most > 0 {
		if err := h.lastUsedFirst(images); err != nil {
			return nil, err
		}
	}
	c := &Cache{}
	seen := map[string]bool{}
	room := most - cacheFrame
	for _, group := range images {
		if len(words) == 0 && !h.Images.Complete(group[0]) {
			c.Left = append(c.Left, familiarName(group)+": some of its layers are not here as they were transferred")
			continue
		}
		need, blobs, err := h.cacheSize(group, seen)
		if err != nil {
			return nil, err
		}
		if most > 0 && need > room {
			c.Left = append(c.Left, familiarName(group)+": it does not fit")
			continue
		}
		room -= need
		for _, b := range blobs {
			seen[b] = true
		}
		if err := c.add(h, group); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.saved, func(a, b registry.SavedImage) int { return cmp.Compare(savedName(a), savedName(b)) })
	for _, s := range c.saved {
		c.Images = append(c.Images, s.Names...)
		if len(s.Names) == 0 {
			c.Images = append(c.Images, savedName(s))
		}
	}
	return c, nil
}

// cacheImages gives the images of some words, each with all names that were asked for.
func (h *Host) cacheImages(words []string) (groups [][]*layers.Image, err error) {
	var images []*layers.Image
	if len(words) == 0 {
		if images, err = h.Images.List(); err != nil {
			return nil, err
		}
		images = slices.DeleteFunc(images, func(img *layers.Image) bool { return img.Name == "" })
	}
	for _, word := range words {
		more, err := h.wanted(word)
		if err != nil {
			return nil, err
		}
		images = append(images, more...)
	}
	place := map[string]int{}
	for _, img := range images {
		n, known := place[img.Digest]
		if !known {
			n = len(groups)
			place[img.Digest] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], img)
	}
	return groups, nil
}

// add puts an image into the cache.
func (c *Cache) add(h *Host, group []*layers.Image) error {
	source, err := h.whole(group[0])
	if err != nil {
		return err
	}
	var names []string
	for _, img := range group {
		if img.Name != "" {
			names = append(names, img.Name)
		}
	}
	slices.Sort(names)
	c.saved = append(c.saved, registry.SavedImage{Names: slices.Compact(names), Image: source})
	return nil
}

// familiarName is what a message calls an image.
func familiarName(group []*layers.Image) string {
	if ref, err := registry.ParseReference(group[0].Name); err == nil {
		return ref.Familiar()
	}
	return group[0].Digest
}

func cacheName(group []*layers.Image) string { return cmp.Or(group[0].Name, group[0].Digest) }

// savedName is an image's first name, or its digest if it has none.
func savedName(s registry.SavedImage) string {
	if len(s.Names) > 0 {
		return s.Names[0]
	}
	digest, _ := s.Image.Digest() // read already when it was opened
	return digest.String()
}

// cacheSize is what an image adds to a file that has the blobs that were seen, in bytes, and which blobs.
func (h *Host) cacheSize(group []*layers.Image, seen map[string]bool) (need int64, fresh []string, err error) {
	list, err := h.Images.Blobs(group[0])
	if err != nil {
		return 0, nil, err
	}
	sizes := map[string]int64{}
	for _, b := range list {
		sizes[b.Digest.String()] = b.Size
	}
	for _, digest := range []string{group[0].Digest, group[0].ID} {
		st, err := os.Stat(h.Images.Blob(digest))
		if err != nil {
			return 0, nil, err
		}
		sizes[digest] = st.Size()
	}
	need = int64(len(group)) * cacheEntry
	for digest, size := range sizes {
		if !seen[digest] {
			need += 1024 + size // its header, and what fills the last block up
			fresh = append(fresh, digest)
		}
	}
	return need, fresh, nil
}

// lastUsedFirst sorts images by when a container was last made of them or started, or else when they came.
func (h *Host) lastUsedFirst(images [][]*layers.Image) error {
	users, err := h.ImageUsers()
	if err != nil {
		return err
	}
	used := func(group []*layers.Image) (last time.Time) {
		last = h.Images.LastUsed(group[0])
		for _, c := range users[group[0].ID] {
			for _, t := range []time.Time{c.Created, c.Started} {
				if t.After(last) {
					last = t
				}
			}
		}
		return last
	}
	slices.SortStableFunc(images, func(a, b [](*layers.Image)) int {
		return cmp.Or(used(b).Compare(used(a)), cmp.Compare(cacheName(a), cacheName(b)))
	})
	return nil
}

// Write writes the file. It can be called again, and writes the same.
func (c *Cache) Write(ctx context.Context, w io.Writer) error {
	return registry.Save(ctx, w, c.saved, false)
}

// ImportCache adds the images of a cache, or of any other archive of images, which it takes over. Nothing that is here
// changes: a name keeps the meaning that it has here, and an image of which no name is free is passed over. It gives what was
// added.
func (h *Host) ImportCache(ctx context.Context, archive *os.File, f Fetch) ([]*layers.Image, error) {
	spool := filepath.Join(h.Root, "tmp")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		archive.Close()
		return nil, fmt.Errorf("import cache: %w", err)
	}
	images, done, err := registry.OpenArchive(archive, spool, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	var fresh []registry.ArchivedImage
	for _, i := range images {
		digest, err := i.Image.Digest()
		if err != nil {
			return nil, err
		}
		if len(i.Names) == 0 && h.keeps(digest.String(), digest) {
			continue
		}
		if len(i.Names) > 0 {
			i.Names = slices.DeleteFunc(i.Names, func(name string) bool { return h.keeps(name, digest) })
			if len(i.Names) == 0 {
				continue
			}
		}
		fresh = append(fresh, i)
	}
	return h.addArchived(ctx, fresh, f)
}

// keeps says whether there is nothing to be added for a name, or a digest: it stands for another image here, or for the same
// one and all of that is here.
func (h *Host) keeps(query string, digest v1.Hash) bool {
	img, err := h.Images.Lookup(query)
	switch {
	case err != nil || img.Name != query && img.Digest != query:
		return false
	case img.Digest != digest.String():
		return true
	}
	return img.Layers != nil && h.Images.Complete(img)
}
