package registry

import (
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BenchmarkPull reads a layer of 64 MiB from a registry in this process, verified: system calls, one hash, no copy worth
// a word. The server's half of the work is in the figure.
func BenchmarkPull(b *testing.B) {
	const size = 64 << 20
	host, _ := serve(b, b.TempDir())
	c := newTestClient(b, Options{})
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(noise(size, 1), types.OCIUncompressedLayer))
	if err != nil {
		b.Fatal(err)
	}
	ref := mustParse(b, host+"/big:v1")
	if err := c.Push(b.Context(), ref, img, PushOptions{}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		img, err := c.Pull(b.Context(), ref, nil)
		if err != nil {
			b.Fatal(err)
		}
		layers, _ := img.Layers()
		r, err := layers[0].Compressed()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkParseReference(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReference("quay.io/team/app:v1.2.3"); err != nil {
			b.Fatal(err)
		}
	}
}
