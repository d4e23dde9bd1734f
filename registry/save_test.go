package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// archiveOf saves images to a file.
func archiveOf(t *testing.T, docker bool, images ...SavedImage) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "archive.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := Save(t.Context(), f, images, docker); err != nil {
		t.Fatal(err)
	}
	return f
}

// openedAll opens a copy of an archive, for OpenArchive closes what it is given.
func openedAll(t *testing.T, f *os.File) ([]ArchivedImage, error) {
	t.Helper()
	again, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	images, done, err := OpenArchive(again, t.TempDir(), nil)
	if err == nil {
		t.Cleanup(func() { done() })
	}
	return images, err
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(5000, 3)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestIs(t *testing.T, got, want v1.Image) {
	t.Helper()
	a, err := got.Digest()
	b, wantErr := want.Digest()
	if err != nil || wantErr != nil || a != b {
		t.Errorf("digest %s, %v; want %s", a, err, b)
	}
}

func TestSaveAndOpen(t *testing.T) {
	one, two := randomImage(t), randomImage(t)
	images := []SavedImage{
		{[]string{"docker.io/library/one:1", "docker.io/library/one:latest"}, one},
		{nil, two},
	}
	var before []byte
	for range 2 {
		f := archiveOf(t, true, images...)
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !bytes.Equal(before, text) {
			t.Error("the same images make another archive")
		}
		before = text
		got, err := openedAll(t, f)
		if err != nil || len(got) != 2 || got[0].Bare || len(got[1].Names) > 0 || !slices.Equal(got[0].Names, images[0].Names) {
			t.Fatalf("%+v, %v", got, err)
		}
		for n := range got {
			digestIs(t, got[n].Image, images[n].Image)
			list, err := got[n].Image.Layers()
			if err != nil || len(list) != 3 {
				t.Fatalf("%d layers, %v", len(list), err)
			}
			for _, l := range list {
				r, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					t.Error(err)
				}
			}
		}
	}
	// What others make of it: all entries are where tar expects them.
	names := map[string]int{}
	for r := tar.NewReader(bytes.NewReader(before)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[h.Name]++
	}
	if len(names) != 2+3+2*(2+3) || names["manifest.json"] != 1 {
		t.Errorf("entries %v", names)
	}
	f := archiveOf(t, false, images...)
	files, done, err := openTar(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if _, err := files.Open("manifest.json"); err == nil {
		t.Error("an OCI archive with manifest.json")
	}
}

// TestOpenOthers reads what go-containerregistry writes for docker load, and what has no index of its own.
func TestOpenOthers(t *testing.T) {
	one, two := randomImage(t), randomImage(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "docker.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tags := map[name.Tag]v1.Image{}
	for n, img := range map[string]v1.Image{"one:1": one, "other.test/two:2": two, "one:latest": one} {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	if err := tarball.MultiWrite(tags, f); err != nil {
		t.Fatal(err)
	}
	got, err := openedAll(t, f)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, i := range got {
		slices.Sort(i.Names)
		id, err := i.Image.ConfigName()
		if err != nil || !i.Bare {
			t.Errorf("%+v, %v", i, err)
		}
		want, names := two, []string{"other.test/two:2"}
		if len(i.Names) == 2 {
			want, names = one, []string{"docker.io/library/one:1", "docker.io/library/one:latest"}
		}
		wantID, err := want.ConfigName()
		if err != nil || id != wantID || !slices.Equal(i.Names, names) {
			t.Errorf("%s by %v; want %s by %v", id, i.Names, wantID, names)
		}
	}
	for _, content := range []string{"", "no tar at all, but longer than a block of it" + strings.Repeat(" ", 512)} {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if got, err := openedAll(t, f); err == nil || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v, %v", content, got, err)
		}
		f.Close()
	}
}

// TestOpenNames: names in an index are as people have written them.
func TestOpenNames(t *testing.T) {
	for _, tt := range []struct {
		place string
		names []string
		want  []string
	}{
		{"localhost/", []string{"latest", "docker.io/library/x:1"}, []string{"docker.io/library/x:1"}},
		{"localhost/", []string{"latest"}, nil},
		{"localhost/", []string{"x:1"}, []string{"localhost/x:1"}},
		{"", []string{"x:1", "docker.io/library/x:1", "a.test/y"}, []string{"docker.io/library/x:1", "a.test/y:latest"}},
		{"", []string{"BAD:1", "no/t:"}, nil},
	} {
		if got := fullNames(tt.place, tt.names); !slices.Equal(got, tt.want) {
			t.Errorf("%q %v: %v, want %v", tt.place, tt.names, got, tt.want)
		}
	}
}

// shortLayer says another size than it has.
type shortLayer struct {
	v1.Image
	more string
	cut  int64
}

type shortenedLayer struct {
	v1.Layer
	i shortLayer
}

func (i shortLayer) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := i.Image.LayerByDigest(h)
	return shortenedLayer{l, i}, err
}

func (l shortenedLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	b = append(b[:int64(len(b))-l.i.cut], l.i.more...)
	return io.NopCloser(bytes.NewReader(b)), err
}

func TestSaveFails(t *testing.T) {
	img := randomImage(t)
	for _, bad := range []v1.Image{shortLayer{img, "x", 0}, shortLayer{img, "", 7}} {
		if err := Save(t.Context(), io.Discard, []SavedImage{{Image: bad}}, true); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "blobs/sha256/") {
			t.Errorf("%v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Save(ctx, io.Discard, []SavedImage{{Image: img}}, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
