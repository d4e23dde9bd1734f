package layers

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usedEvery is how exactly it is known when an image was last used.
const usedEvery = time.Hour

// Used notes that an image is used, once an hour at most: the time of its manifest's file is that of its last use. Nothing
// waits for the disk, and a store that cannot be written does without.
func (s *Store) Used(img *Image) {
	if last := s.LastUsed(img); !last.IsZero() && time.Since(last) > usedEvery {
		now := time.Now()
		_ = os.Chtimes(s.blob(img.Digest), now, now)
	}
}

// LastUsed is when an image came, or when [Store.Used] noted it since; zero if it is not here.
func (s *Store) LastUsed(img *Image) time.Time {
	st, err := os.Stat(s.blob(img.Digest))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// Keep is what [Store.Shrink] must leave.
type Keep struct {
	Images func(id string) bool // those with containers
	Layers []string             // numbers of those that containers stand on
	// Digests are those of images, of their manifests, or of indexes that they were chosen from.
	Digests []string
}

// Shrink removes what nothing refers to: first blobs and layers that no image needs, and beginnings of blobs, then images
// without a name, those that were used last at the end, until so many bytes are free. It says what went, as RemoveWhere does,
// and how many bytes that were.
//
// What came or was used in the last five minutes stays, for somebody may be about to name it or to start a container. As long
// as another process adds an image, all that no image needs stays but what was needed until now. So whatever another process
// has added is there when it is done; what was there before it adds again itself if it has gone meanwhile.
func (s *Store) Shrink(bytes int64, keep Keep) (lines []RemovedLine, freed int64, err error) {
	if !s.exists() {
		return nil, 0, nil
	}
	before, err := s.Usage()
	if err != nil {
		return nil, 0, err
	}
	if lines, err = s.removeUnneeded(keep.Layers); err != nil {
		return lines, 0, err
	}
	now, err := s.Usage()
	if err != nil {
		return lines, 0, err
	}
	if freed = before.Total() - now.Total(); freed >= bytes {
		return lines, freed, nil
	}
	gone, err := s.leastUsed(now, bytes-freed, keep)
	if err != nil || len(gone) == 0 {
		return lines, freed, err
	}
	s.sweepRecords() // on a disk that is full there is no room for a new index else
	own := newNeeded()
	own.sparing, own.only = true, s.adding()
	// An image that was given a name this moment stays.
	more, err := s.removeWhere(func(img *Image) bool { return gone[img.ID] && img.Name == "" }, keep.Layers, own)
	lines = append(lines, more...)
	after, usageErr := s.Usage()
	if usageErr == nil {
		freed = before.Total() - after.Total()
	}
	return lines, freed, or(err, usageErr)
}

// removeUnneeded removes what no image needs, unless it is young.
func (s *Store) removeUnneeded(keep []string) (lines []RemovedLine, err error) {
	own := newNeeded()
	own.sparing, own.only = true, s.adding()
	swept, err := s.sweep(keep, own)
	for _, id := range swept.Layers {
		lines = append(lines, RemovedLine{Deleted: id})
	}
	_, tmpErr := s.sweepTemp(grace)
	return lines, or(err, tmpErr)
}

// leastUsed chooses images without a name that make so many bytes free together, or all that may go, by their IDs.
func (s *Store) leastUsed(u *Usage, bytes int64, keep Keep) (map[string]bool, error) {
	images, err := s.List()
	if err != nil {
		return nil, err
	}
	stays, err := s.held(keep)
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		if img.Name != "" {
			stays[img.ID] = true
		}
	}
	images = slices.DeleteFunc(images, func(img *Image) bool {
		return stays[img.ID] || time.Since(s.LastUsed(img)) < grace
	})
	slices.SortStableFunc(images, func(a, b *Image) int {
		return cmp.Or(s.LastUsed(a).Compare(s.LastUsed(b)), strings.Compare(a.ID, b.ID))
	})
	gone := make(map[string]bool)
	for _, img := range images {
		gone[img.ID] = true
		if u.Total()-u.Unneeded()-u.Needed(func(id string) bool { return !gone[id] }) >= bytes {
			break
		}
	}
	return gone, nil
}

// held gives the IDs of images that must stay whatever they are called.
func (s *Store) held(keep Keep) (map[string]bool, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	stays := make(map[string]bool)
	for _, d := range index.Manifests {
		e, err := s.entry(d)
		if err != nil {
			continue // of no kind that is listed
		}
		id := e.manifest.Config.Digest.String()
		for _, digest := range []string{id, e.top.Digest.String(), e.desc.Digest.String()} {
			stays[id] = stays[id] || slices.Contains(keep.Digests, digest)
		}
		stays[id] = stays[id] || keep.Images != nil && keep.Images(id)
	}
	return stays, nil
}

// adding says whether some living process adds an image.
func (s *Store) adding() bool {
	entries, _ := os.ReadDir(s.path("tmp"))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempName) {
			continue
		}
		lock, err := lockFile(s.path("tmp", e.Name()), unix.LOCK_SH|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return true
		}
		if err == nil {
			lock.Close()
		}
	}
	return false
}

// young says whether a layer was unpacked just now.
func (s *Store) young(number string) bool {
	st, err := os.Stat(s.path("layers", number+".json"))
	return err == nil && time.Since(st.ModTime()) < grace
}
