package layers

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// heavy is a layer of so many bytes that nothing makes smaller.
func heavy(t *testing.T, size int) *testLayer {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	return newTestLayer(t, "", makeTar(t, file("data", string(content))))
}

// age sets all times of a store back.
func age(t *testing.T, s *Store, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	err := filepath.WalkDir(s.root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chtimes(path, then, then)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Store) has(img *Image) bool {
	found, err := s.Lookup(img.ID)
	return err == nil && found.ID == img.ID && found.Layers != nil
}

func TestShrink(t *testing.T) {
	s := newStore(t)
	if lines, freed, err := s.Shrink(1<<40, Keep{}); lines != nil || freed != 0 || err != nil {
		t.Error("nothing:", lines, freed, err)
	}
	const size = 200_000
	common := heavy(t, size)
	made := map[string]*Image{}
	for _, name := range []string{"oldest", "older", "old", "container", "locked"} {
		made[name] = add(t, s, "", newImage(t, common, heavy(t, size)))
	}
	made["named"] = add(t, s, full+"named:1", newImage(t, common))
	age(t, s, 24*time.Hour)
	made["fresh"] = add(t, s, "", newImage(t, heavy(t, size)))
	for n, name := range []string{"oldest", "older", "old"} {
		at := time.Now().Add(-time.Duration(10-n) * 24 * time.Hour)
		if err := os.Chtimes(s.blob(made[name].Digest), at, at); err != nil {
			t.Fatal(err)
		}
	}
	keep := Keep{
		Images:  func(id string) bool { return id == made["container"].ID },
		Digests: []string{"sha256:0", made["locked"].Digest},
	}
	left := func() (list []string) {
		for name, img := range made {
			if s.has(img) {
				list = append(list, name)
			}
		}
		slices.Sort(list)
		return list
	}
	// Its layer and the blob of that, and less of what is small.
	lines, freed, err := s.Shrink(size*3/2, keep)
	want := []string{"container", "fresh", "locked", "named", "old", "older"}
	if err != nil || freed < 2*size || freed > 3*size || !slices.Equal(left(), want) {
		t.Errorf("the oldest: %v, %d, %v: %q", lines, freed, err, left())
	}
	if !slices.Contains(lines, RemovedLine{Deleted: made["oldest"].ID}) {
		t.Error(lines)
	}
	if _, freed, err = s.Shrink(1<<40, keep); err != nil || freed < 4*size {
		t.Errorf("as much as may go: %d, %v", freed, err)
	}
	if got, want := left(), []string{"container", "fresh", "locked", "named"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if lines, freed, err := s.Shrink(1<<40, keep); lines != nil || freed != 0 || err != nil {
		t.Errorf("once more: %v, %d, %v", lines, freed, err)
	}
	checkClean(t, s)
}

// TestShrinkUnneeded: what pulls left that were interrupted goes before any image, but not what is young, or while somebody adds.
func TestShrinkUnneeded(t *testing.T) {
	s := newStore(t)
	old := add(t, s, "", newImage(t, heavy(t, 100_000)))
	gone := add(t, s, "", newImage(t, heavy(t, 100_000)))
	if err := s.writeIndexWithout(gone); err != nil {
		t.Fatal(err)
	}
	part := s.path("tmp", claimName+hexOf(gone.ID))
	if err := os.WriteFile(part, bytes.Repeat([]byte("x"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		_, _, err := s.layer(gone.DiffIDs[0], false)
		return err == nil
	}
	if _, _, err := s.Shrink(1, Keep{}); err != nil || !there() {
		t.Error("young ones:", there(), err)
	}
	age(t, s, 24*time.Hour)
	working, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Shrink(1<<40, Keep{}); err != nil || !there() || s.has(old) {
		t.Error("while somebody adds:", there(), s.has(old), err)
	}
	if err := working.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	old = add(t, s, "", newImage(t, heavy(t, 100_000)))
	age(t, s, 24*time.Hour)
	if _, freed, err := s.Shrink(1, Keep{}); err != nil || freed < 100_000 || there() || !s.has(old) {
		t.Error(freed, there(), s.has(old), err)
	}
	checkClean(t, s)
}

// writeIndexWithout takes an image out of the index, as a process that is killed leaves it.
func (s *Store) writeIndexWithout(img *Image) error {
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	for i, d := range index.Manifests {
		if d.Digest.String() == img.Digest {
			index.Manifests = append(index.Manifests[:i], index.Manifests[i+1:]...)
			break
		}
	}
	return s.writeIndex(index)
}

func TestUsed(t *testing.T) {
	s := newStore(t)
	img := add(t, s, "", newImage(t, heavy(t, 10)))
	for _, ago := range []time.Duration{30 * time.Minute, 2 * time.Hour} {
		age(t, s, ago)
		before := s.LastUsed(img)
		s.Used(img)
		if touched := s.LastUsed(img).After(before); touched != (ago > time.Hour) {
			t.Errorf("after %v: %v", ago, touched)
		}
	}
	s.Used(&Image{Digest: "sha256:" + hexOf(img.ID)[:60] + "0000"}) // gone meanwhile
}
