package run

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// helloName is an image that every hull has: it is made of hull's own executable.
const helloName = "docker.io/library/hello:latest"

// helloLabel tells which executable a hello image was made of.
const helloLabel = "run.hull.executable"

func isHello(name string) bool {
	if !strings.Contains(name, "hello") { // the answer for nearly every start, and at no cost
		return false
	}
	ref, err := registry.ParseReference(name)
	return err == nil && ref.String() == helloName
}

func isCurrentHello(img *layers.Image) bool {
	self, err := os.Executable()
	return err == nil && img.Config.Config.Labels[helloLabel] == fileStamp(self)
}

// addHello makes the hello image: one layer with hull in it, and the command that shows its world.
func (h *Host) addHello(ctx context.Context, f Fetch) (*layers.Image, error) {
	img, err := hello()
	if err != nil {
		return nil, fmt.Errorf("make image %q: %w", "hello", err)
	}
	added, err := h.Images.Add(ctx, helloName, img, layers.AddOptions{Progress: f.Progress})
	if err == nil {
		err = h.Images.NoteVerified(added.Digest, builtIn)
	}
	return added, err
}

func hello() (v1.Image, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"dev/", "etc/", "proc/", "sys/", "tmp/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "hull", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	base := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer),
		History: v1.History{CreatedBy: "COPY hull /", Comment: "made of hull's own executable"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = []string{"/hull", "hello"}
	config.Config.Labels = map[string]string{helloLabel: fileStamp(self)}
	return mutate.ConfigFile(img, config)
}
