package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// manyImages writes an archive of n images, which share busybox and have a small layer of their own each.
func (b *bench) manyImages(n int) (string, error) {
	ref, err := b.reference("busybox")
	if err != nil {
		return "", err
	}
	base, err := remote.Image(ref)
	if err != nil {
		return "", err
	}
	images := map[name.Reference]v1.Image{}
	for i := range n {
		layer, err := smallLayer(i)
		if err != nil {
			return "", err
		}
		img, err := mutate.AppendLayers(base, layer)
		if err != nil {
			return "", err
		}
		tag, err := name.NewTag(fmt.Sprintf("bench.test/many/image-%d:1", i))
		if err != nil {
			return "", err
		}
		images[tag] = img
	}
	file := filepath.Join(b.work, fmt.Sprintf("many-%d.tar", n))
	return file, tarball.MultiRefWriteToFile(file, images)
}

// smallLayer is a layer of one file.
func smallLayer(i int) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	content := fmt.Sprintf("image %d\n", i)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "number", Mode: 0o644, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
}

// images measures what a list of 500 images costs: the processor's time, for that is what others lose by it.
func (b *bench) images() error {
	file, err := b.manyImages(500)
	if err != nil || b.hull == "" {
		return err
	}
	p := b.people[0]
	t := &tool{name: "hull images", cli: []string{b.hull, "--root", filepath.Join(p.home, "many")}, env: p.env(), p: p}
	if _, err := b.do(t, "load", "-q", "-i", file); err != nil {
		return err
	}
	cs := []contestant{t.contestant("images")}
	got := b.measure(cs, b.n, warmups, 10*time.Millisecond)
	table(cs, got, nil)
	if f := got[cs[0].name]; len(f) > 0 {
		ms := 1e3 * f.by(cpu, 0.5)
		fmt.Printf("  hull's processor time  %.1f ms, must ≤ 20, aim ≤ 10: %s\n", ms, goal{"", 20, 10}.verdict(ms))
	}
	return nil
}

// prune removes 200 images that were loaded just before.
func (b *bench) prune() error {
	file, err := b.manyImages(200)
	if err != nil {
		return err
	}
	var cs []contestant
	for _, t := range b.tools(b.people[0]) {
		c := t.contestant("image", "prune", "-a", "-f")
		c.name += " prune"
		c.before = func(int) {
			if _, err := b.do(t, "load", "-q", "-i", file); err != nil {
				fmt.Printf("  %v\n", err)
			}
		}
		cs = append(cs, c)
	}
	if len(cs) > 0 {
		table(cs, b.atRest(cs), []goal{{"docker prune", 1, 0.5}})
	}
	return nil
}
