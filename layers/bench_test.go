package layers

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// BenchmarkAddBig adds the only image of the OCI layout HULL_BENCH_IMAGE, its layers fetched over HTTP from HULL_BENCH_URL
// if that is set, each time to a new store in HULL_BENCH_ROOT. The stores stay: for up to five minutes after files
// were removed, ext4 looks at each of their inodes whenever it makes a file (recently_deleted in fs/ext4/ialloc.c), and
// measures nothing else. A new file system for each run is best.
func BenchmarkAddBig(b *testing.B) {
	dir := os.Getenv("HULL_BENCH_IMAGE")
	if dir == "" {
		b.Skip("HULL_BENCH_IMAGE is not set")
	}
	img := benchImage(b, dir)
	if url := os.Getenv("HULL_BENCH_URL"); url != "" {
		img = overHTTP{img, url}
	}
	for b.Loop() {
		root, err := os.MkdirTemp(os.Getenv("HULL_BENCH_ROOT"), "store-")
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(root)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Add(b.Context(), full+"big:latest", img, AddOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchImage opens the only image of a layout.
func benchImage(t testing.TB, dir string) v1.Image {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// overHTTP is an image whose layers come from a web server.
type overHTTP struct {
	v1.Image
	url string
}

func (i overHTTP) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := i.Image.LayerByDigest(h)
	return webLayer{l, i.url + filepath.Join("/blobs/sha256", h.Hex)}, err
}

type webLayer struct {
	v1.Layer
	url string
}

func (l webLayer) Compressed() (io.ReadCloser, error) {
	r, err := http.Get(l.url)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", l.url, r.Status)
	}
	return r.Body, nil
}
