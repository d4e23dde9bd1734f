package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
)

// The big image: what a usual application image weighs, with 487 MB of gzip to fetch in the measurements before.
const (
	bigFiles = 75_000
	bigBytes = 1_100_000_000
	bigName  = "big-1" // another number when the content changes: the registry keeps it
)

var bigLayers = []float64{0.36, 0.27, 0.17, 0.11, 0.06, 0.03} // shares of the files and bytes

func (b *bench) reference(image string) (name.Tag, error) {
	return name.NewTag(b.registry+"/"+image+":latest", name.Insecure)
}

func (b *bench) push(image string, img v1.Image) error {
	ref, err := b.reference(image)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, remote.WithJobs(2))
}

// smallImage puts into the registry what everybody starts: the busybox of ../shared/images, or one made of Debian's
// static busybox.
func (b *bench) smallImage() error {
	img, err := sharedImage("../shared/images/busybox")
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("Setting: ../shared/images is missing, so the image is this machine's static busybox.")
		img, err = madeImage(b.work)
	}
	if err != nil {
		return err
	}
	return b.push("busybox", img)
}

func sharedImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func madeImage(work string) (v1.Image, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("make an image: %w (busybox-static)", err)
	}
	script := `mkdir -p r/bin r/tmp r/etc && cp "$0" r/bin/busybox && for a in $(r/bin/busybox --list); do [ $a = busybox ] || ln -s busybox r/bin/$a; done && tar -cf r.tar -C r .`
	cmd := exec.Command("sh", "-ec", script, busybox)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make an image: %w: %s", err, out)
	}
	layer, err := tarball.LayerFromFile(filepath.Join(work, "r.tar"))
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(empty.Image, layer)
}

// rootfs unpacks the small image for those that need a folder, as p owns it.
func (b *bench) rootfs(p person) (string, error) {
	dir := filepath.Join(p.home, "rootfs")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	ref, err := b.reference("busybox")
	if err != nil {
		return "", err
	}
	img, err := remote.Image(ref)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("tar", "-x", "-C", dir)
	cmd.Stdin = mutate.Extract(img)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tar -x: %w: %s", err, out)
	}
	return dir, exec.Command("chown", "-R", fmt.Sprintf("%d:%d", p.uid, p.uid), dir).Run()
}

// bigImage makes sure that the registry has the big image, which is made once and stays in the cache.
func (b *bench) bigImage() (v1.Image, error) {
	ref, err := b.reference(bigName)
	if err != nil {
		return nil, err
	}
	if img, err := remote.Image(ref); err == nil {
		return img, nil
	}
	fmt.Println("  making the big image (once)")
	dir := filepath.Join(b.work, "layers")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	layers, err := makeLayers(dir)
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	if img, err = mutate.ConfigFile(img, bigConfig(img)); err != nil {
		return nil, err
	}
	if err := b.push(bigName, img); err != nil {
		return nil, err
	}
	return remote.Image(ref)
}

func bigConfig(img v1.Image) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil {
		return nil
	}
	c.OS, c.Architecture, c.Config.Cmd = "linux", runtime.GOARCH, []string{"true"}
	return c
}

func makeLayers(dir string) ([]v1.Layer, error) {
	layers, errs := make([]v1.Layer, len(bigLayers)), make([]error, len(bigLayers))
	var wg sync.WaitGroup
	for i, share := range bigLayers {
		wg.Go(func() {
			file := filepath.Join(dir, fmt.Sprintf("%d.tar.gz", i))
			if errs[i] = makeLayer(file, uint64(i), share); errs[i] == nil {
				layers[i], errs[i] = tarball.LayerFromFile(file)
			}
		})
	}
	wg.Wait()
	return layers, errors.Join(errs...)
}

func makeLayer(path string, seed uint64, share float64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriterSize(f, 1<<20)
	gz := gzip.NewWriter(buffer)
	tw := tar.NewWriter(gz)
	err = fill(tw, rand.New(rand.NewPCG(seed, 7)), seed, int(share*bigFiles), share*bigBytes)
	return errors.Join(err, tw.Close(), gz.Close(), buffer.Flush(), f.Close())
}

// fill writes n files that have about the given number of bytes together: mostly small ones, a few large, 25 to a
// folder, one in twenty a link, and content that gzip brings down to two fifths.
func fill(tw *tar.Writer, r *rand.Rand, layer uint64, n int, bytes float64) error {
	words := vocabulary(r)
	mean := bytes / float64(n)
	var dir, last string
	for i := range n {
		if i%25 == 0 {
			dir = fmt.Sprintf("usr/lib/part%d/%02x/%04x/", layer, i/25%64, i/25)
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
				return err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile-%05d.dat", dir, i), Mode: 0o644}
		switch {
		case i%40 == 19:
			h.Typeflag, h.Linkname = tar.TypeSymlink, filepath.Base(last)
		case i%40 == 39:
			h.Typeflag, h.Linkname = tar.TypeLink, last
		default:
			h.Size = int64(mean * 0.55 * r.ExpFloat64() * (0.4 + r.ExpFloat64()))
			if i%500 == 1 {
				h.Size += int64(mean * 130)
			}
			last = h.Name
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if err := content(tw, r, words, h.Size); err != nil {
			return err
		}
	}
	return nil
}

// content is prose of made-up words, with random bytes in between.
func content(w io.Writer, r *rand.Rand, words []string, size int64) error {
	var text strings.Builder
	for int64(text.Len()) < size {
		if r.IntN(60) == 0 {
			for range 4 {
				var raw [8]byte
				v := r.Uint64()
				for k := range raw {
					raw[k] = byte(v >> (8 * k))
				}
				text.Write(raw[:])
			}
		}
		text.WriteString(words[int(float64(len(words))*r.Float64()*r.Float64())])
	}
	_, err := io.WriteString(w, text.String()[:size])
	return err
}

func vocabulary(r *rand.Rand) []string {
	words := make([]string, 4000)
	for i := range words {
		word := make([]byte, 3+r.IntN(9))
		for k := range word {
			word[k] = byte('a' + r.IntN(26))
		}
		words[i] = string(word) + " "
	}
	return words
}
