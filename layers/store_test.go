package layers

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// testLayer is a layer in memory; what it says of itself can be made a lie.
type testLayer struct {
	blob   []byte
	digest v1.Hash
	diffID v1.Hash
	media  types.MediaType
	opened *atomic.Int32
	fail   error // ends the download half-way
}

func (l *testLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *testLayer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *testLayer) Size() (int64, error)                 { return int64(len(l.blob)), nil }
func (l *testLayer) MediaType() (types.MediaType, error)  { return l.media, nil }
func (l *testLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not asked for") }
func (l *testLayer) Compressed() (io.ReadCloser, error) {
	l.opened.Add(1)
	if l.fail != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(l.blob[:len(l.blob)/2]), errReader{l.fail})), nil
	}
	return io.NopCloser(bytes.NewReader(l.blob)), nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// newTestLayer packs a tar as one of "gzip", "zstd" or "tar".
func newTestLayer(t testing.TB, how string, tar []byte) *testLayer {
	t.Helper()
	l := &testLayer{blob: tar, media: types.OCIUncompressedLayer, opened: new(atomic.Int32)}
	var b bytes.Buffer
	switch how {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, _ = w.Write(tar)
		_ = w.Close()
		l.blob, l.media = b.Bytes(), types.DockerLayer
	case "zstd":
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(tar)
		_ = w.Close()
		l.blob, l.media = b.Bytes(), types.OCILayerZStd
	}
	l.digest, l.diffID = sha256Of(l.blob), sha256Of(tar)
	return l
}

// newImage makes an image of layers.
func newImage(t testing.TB, layers ...*testLayer) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Cmd = []string{"sh"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	var adds []mutate.Addendum
	for i, l := range layers {
		history := v1.History{CreatedBy: fmt.Sprintf("layer %d", i)}
		adds = append(adds, mutate.Addendum{Layer: l, History: history, MediaType: l.media})
	}
	if img, err = mutate.Append(img, adds...); err != nil {
		t.Fatal(err)
	}
	return img
}

// newStore opens a store in a new directory; it works for whoever runs the tests.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "hull"))
	if err != nil {
		t.Fatal(err)
	}
	s.OneID = os.Geteuid() != 0
	return s
}

// add stores an image, or fails the test.
func add(t testing.TB, s *Store, name string, img v1.Image) *Image {
	t.Helper()
	got, err := s.Add(t.Context(), name, img, AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// full is the test names' beginning.
const full = "docker.io/library/"

// checkClean says whether nothing is left in tmp and every layer is linked.
func checkClean(t testing.TB, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("tmp holds %v, %v", left, err)
	}
	links, err := os.ReadDir(s.path("layers", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	linked := make(map[string]bool)
	for _, l := range links {
		to, err := os.Readlink(s.path("layers", "sha256", l.Name()))
		if err != nil {
			t.Error(err)
		}
		linked[filepath.Base(to)] = true
	}
	numbers, err := s.numbered()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		if !linked[n] {
			t.Errorf("layer %s has no link", n)
		}
	}
}

// TestReady unpacks an image that another tool put into the store.
func TestReady(t *testing.T) {
	s := newStore(t)
	add(t, s, full+"own:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("own", "")))))
	img := newImage(t, newTestLayer(t, "gzip", makeTar(t, file("foreign", "x"))))
	name := layout.WithAnnotations(map[string]string{refAnnotation: "foreign:1"})
	if err := layout.Path(s.path("images")).AppendImage(img, name); err != nil {
		t.Fatal(err)
	}
	got, err := s.Lookup(full + "foreign:1")
	if err != nil || got.Layers != nil || got.Name != "foreign:1" {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = s.Ready(t.Context(), got, AddOptions{}); err != nil || len(got.Layers) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = s.Lookup("foreign:1"); err != nil || len(got.Layers) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	checkClean(t, s)
}

// TestSkopeo has skopeo read an image of the store, and write one.
func TestSkopeo(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	s := newStore(t)
	want := add(t, s, full+"one:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "x")))))
	copies := filepath.Join(t.TempDir(), "copies")
	for _, args := range [][]string{
		{"oci:" + s.path("images") + ":" + full + "one:latest", "oci:" + copies + ":one"},
		{"oci:" + copies + ":one", "oci:" + s.path("images") + ":foreign:2"},
	} {
		cmd := exec.Command(skopeo, append([]string{"--insecure-policy", "copy", "-q"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	got, err := s.Lookup("foreign:2")
	if err != nil || got.ID != want.ID || len(got.Layers) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLookup(t *testing.T) {
	s := newStore(t)
	if _, err := s.Lookup("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("in no store: %v", err)
	}
	one := add(t, s, full+"one:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "1")))))
	two := add(t, s, full+"two:v1", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "2")))))
	for range 2 { // the second time from the records
		for query, want := range map[string]*Image{
			full + "one:latest": one, "one": one, "library/one": one, "two:v1": two, full + "two:v1": two,
			one.ID: one, one.ID[7:]: one, one.ID[7:19]: one, one.Digest: one, "sha256:" + two.Digest[7:30]: two,
			"one@" + one.Digest: one, full + "two@" + two.Digest: two,
		} {
			got, err := s.Lookup(query)
			if err != nil || got.ID != want.ID || got.Name != want.Name || !slices.Equal(got.Layers, want.Layers) ||
				got.Config.Config.Cmd[0] != "sh" {
				t.Errorf("%s: %+v, %v", query, got, err)
			}
		}
		for _, query := range []string{
			"two", "three", "two:latest", "one@" + two.Digest, "", "sha256:", "sha256:xyz", strings.Repeat("a", 300),
		} {
			if got, err := s.Lookup(query); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %+v, %v", query, got, err)
			}
		}
	}
}

func TestTag(t *testing.T) {
	s := newStore(t)
	one := add(t, s, full+"one:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "1")))))
	two := add(t, s, full+"two:v1", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "2")))))
	long := full + strings.Repeat("n", 120) + ":" + strings.Repeat("t", 128)
	if err := s.Tag("one", long); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := s.Lookup(long); err != nil || got.ID != one.ID {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := s.Tag("two:v1", full+"one:latest"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup("one"); err != nil || got.ID != two.ID {
		t.Errorf("after the tag moved: %+v, %v", got, err)
	}
	for src, dst := range map[string]string{"none": full + "x:y", "one": "x:y"} {
		if err := s.Tag(src, dst); err == nil {
			t.Errorf("tag %s as %s: no error", src, dst)
		}
	}
}

// TestAmbiguous makes images until two IDs begin with the same digit.
func TestAmbiguous(t *testing.T) {
	s := newStore(t)
	seen := make(map[string]bool)
	for i := range 20 {
		l := newTestLayer(t, "tar", makeTar(t, file("a", fmt.Sprint(i))))
		img := add(t, s, fmt.Sprintf("%sn%d:latest", full, i), newImage(t, l))
		first := img.ID[7:8]
		if seen[first] {
			if _, err := s.Lookup("sha256:" + first); !errors.Is(err, ErrAmbiguous) {
				t.Errorf("%q: %v", first, err)
			}
			return
		}
		seen[first] = true
	}
	t.Error("no two IDs begin with the same digit")
}

func TestBadStores(t *testing.T) {
	s := newStore(t)
	if err := os.WriteFile(s.root, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), full+"a:latest", newImage(t), AddOptions{}); err == nil {
		t.Error("add: no error")
	}
	if _, err := s.Lookup("a"); err == nil {
		t.Error("look up: no error")
	}
	if _, err := s.Prune(); err != nil {
		t.Error(err)
	}
	if _, err := Open(""); err == nil {
		t.Error("no root: no error")
	}
}

// TestBadIndex has an index with a digest that would lead out of the store.
func TestBadIndex(t *testing.T) {
	s := newStore(t)
	add(t, s, full+"a:latest", newImage(t))
	bad, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{map[string]any{
		"mediaType": types.OCIManifestSchema1, "size": 1, "digest": "sha256:" + strings.Repeat("../", 21) + "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.indexFile(), bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup("a"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v", err)
	}
}

// BenchmarkLookup is the hot path of every start.
func BenchmarkLookup(b *testing.B) {
	s := newStore(b)
	var all []*testLayer
	for i := range 8 {
		all = append(all, newTestLayer(b, "gzip", makeTar(b, file("a", fmt.Sprint(i)))))
	}
	add(b, s, full+"one:latest", newImage(b, all...))
	for b.Loop() {
		if _, err := s.Lookup(full + "one:latest"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTempFileSwept makes small files while others sweep: none goes before it is locked.
func TestTempFileSwept(t *testing.T) {
	s := newStore(t)
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	var sweeper sync.WaitGroup
	defer sweeper.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sweeper.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.sweepTemp(0); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3000 {
		f, err := s.tempFile()
		if err == nil {
			err = os.Remove(f.Name())
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
