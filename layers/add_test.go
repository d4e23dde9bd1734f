package layers

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/decompress"
)

func TestAdd(t *testing.T) {
	s := newStore(t)
	layers := []*testLayer{
		newTestLayer(t, "gzip", makeTar(t, file("a", "low"), file("b", "low"))),
		newTestLayer(t, "zstd", makeTar(t, file("a", "mid"))),
		newTestLayer(t, "tar", makeTar(t, file("c", "top"))),
	}
	img := newImage(t, layers...)
	phases := make(map[string][]string)
	got, err := s.Add(t.Context(), full+"one:latest", img, AddOptions{Progress: func(e Event) {
		phases[e.Layer] = append(phases[e.Layer], e.Phase)
		if e.Count != 3 || e.Done > e.Total {
			t.Errorf("%+v", e)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range phases {
		if p = slices.Compact(p); p[0] != "download" || p[len(p)-1] != "done" {
			t.Errorf("phases %v", p)
		}
	}
	digest, _ := img.Digest()
	id, _ := img.ConfigName()
	if got.Digest != digest.String() || got.ID != id.String() || len(got.Layers) != 3 || !got.OneIDSafe ||
		got.Size != int64(len("lowlowmidtop")) {
		t.Errorf("%+v", got)
	}
	for path, want := range map[string]string{"a": "mid", "b": "low", "c": "top"} {
		f, err := OpenFile(s.Dirs(got), path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(f)
		f.Close()
		if string(b) != want {
			t.Errorf("%s: %q", path, b)
		}
	}
	checkLayout(t, s, full+"one:latest")
	again := add(t, s, full+"two:latest", img)
	add(t, s, full+"one:latest", img)
	for _, l := range layers {
		if n := l.opened.Load(); n != 1 {
			t.Errorf("a layer was fetched %d times", n)
		}
	}
	if again.Name != full+"two:latest" || again.ID != got.ID {
		t.Errorf("%+v", again)
	}
	checkClean(t, s)
}

// checkLayout verifies the layout and that an image comes out of it as it went in.
func checkLayout(t *testing.T, s *Store, name string) {
	t.Helper()
	back, err := s.Image(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(back, validate.Fast); err != nil {
		t.Error(err)
	}
	index, err := layout.ImageIndexFromPath(s.path("images"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index, validate.Fast); err != nil {
		t.Error(err)
	}
}

// TestAddSharesLayers adds images that have layers in common, and one layer several times.
func TestAddSharesLayers(t *testing.T) {
	s := newStore(t)
	base, top := newTestLayer(t, "gzip", makeTar(t, file("a", "1"))), newTestLayer(t, "gzip", makeTar(t, file("b", "1")))
	other := newTestLayer(t, "zstd", makeTar(t, file("a", "1"))) // the same tar in another blob
	one := add(t, s, full+"one:latest", newImage(t, base, base, other))
	two := add(t, s, full+"two:latest", newImage(t, base, top))
	if n := base.opened.Load(); n != 1 {
		t.Errorf("base was fetched %d times", n)
	}
	if one.Layers[0] != one.Layers[1] || one.Layers[0] != one.Layers[2] || one.Layers[0] != two.Layers[0] {
		t.Errorf("%v, %v", one.Layers, two.Layers)
	}
	m, err := s.Mount("/up", "/work", one, MountOptions{})
	if err != nil || m.Options[0] != "lowerdir="+one.Layers[0] {
		t.Errorf("%v, %v", m.Options, err)
	}
}

// TestAddOtherCompression adds layers that say gzip and are compressed with xz and bzip2: old Dockers' registries have some.
func TestAddOtherCompression(t *testing.T) {
	for kind, sample := range map[string]string{
		"xz":    "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Af/AEVdADCAM1AYaImDAdzibiEFSnA3hjWJZw8eIY8uSiOtHtARCfMV9h9qc66B0oLOphpaIZtFw2CpF3yvvfhzyXoLfj9qm32wAAAAAABPeqotMbZ5FgABYYAQAAAAL+8C4bHEZ/sCAAAAAARZWg==",
		"bzip2": "QlpoOTFBWSZTWY48hGoAADh7kMmQAEBAAHcAAADgAJ4ABAAACCAAVDSAA0GhoJJTZQyYjQaZ9MUeIRvIQnezFvOI1EMK+ivy6EYfphSyyQ2aOiAhjo5aqvCrQi+LuSKcKEhHHkI1AA==",
	} {
		blob, err := base64.StdEncoding.DecodeString(sample)
		if err != nil {
			t.Fatal(err)
		}
		r, done, err := decompress.NewReader(bytes.NewReader(blob), decompress.MaxWindow)
		if err != nil {
			t.Fatal(err)
		}
		tar, err := io.ReadAll(r)
		done()
		if err != nil {
			t.Fatal(err)
		}
		l := newTestLayer(t, "tar", tar)
		l.blob, l.digest, l.media = blob, sha256Of(blob), types.DockerLayer
		s := newStore(t)
		f, err := OpenFile(s.Dirs(add(t, s, full+"old:latest", newImage(t, l))), "a")
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		content, _ := io.ReadAll(f)
		f.Close()
		if string(content) != "1\n" {
			t.Errorf("%s: %q", kind, content)
		}
	}
}

// TestAddHidesBelow adds an image whose second layer hides the first.
func TestAddHidesBelow(t *testing.T) {
	s := newStore(t)
	img := add(t, s, full+"a:latest", newImage(t, newTestLayer(t, "tar", makeTar(t, file("a", ""))),
		newTestLayer(t, "tar", makeTar(t, file(".wh..wh..opq", ""))), newTestLayer(t, "tar", makeTar(t, file("b", "")))))
	if len(img.Layers) != 2 || len(img.DiffIDs) != 3 {
		t.Errorf("%+v", img)
	}
	if f, err := OpenFile(s.Dirs(img), "a"); err == nil {
		f.Close()
		t.Error("the hidden file is there")
	}
}

// TestAddRefuses gives images that lie or end early; the store stays as it was.
func TestAddRefuses(t *testing.T) {
	tar := makeTar(t, file("a", strings.Repeat("content ", 20000)))
	fine := func() *testLayer { return newTestLayer(t, "gzip", makeTar(t, file("fine", "1"))) }
	broken := errors.New("connection lost")
	tests := []struct {
		name  string
		spoil func(l *testLayer)
		want  string
	}{
		{"digest", func(l *testLayer) { l.blob = bytes.Clone(l.blob); l.blob[4] ^= 1 }, "download: damaged: digest is sha256:"},
		{"short", func(l *testLayer) { l.fail = io.EOF }, "bytes, but the manifest says"},
		{"lost", func(l *testLayer) { l.fail = broken }, "connection lost"},
		{"diff ID", func(l *testLayer) { l.diffID = sha256Of([]byte("else")) }, "diff ID is sha256:"},
		{"evil", func(l *testLayer) { *l = *newTestLayer(t, "gzip", makeTar(t, file("../a", ""))) }, "path leaves the layer"},
		{"no tar", func(l *testLayer) { *l = *newTestLayer(t, "gzip", []byte(strings.Repeat("text", 1000))) }, "read tar"},
		{"foreign", func(l *testLayer) { l.media = types.DockerForeignLayer }, "foreign layers are not supported"},
		{"media type", func(l *testLayer) { l.media = "text/html" }, "not a layer"},
		{"xz", func(l *testLayer) { l.blob = []byte("\xfd7zXZ\x00..."); l.digest = sha256Of(l.blob) }, "xz: data is truncated"},
		{"gzip cut", func(l *testLayer) { l.blob = l.blob[:len(l.blob)-9]; l.digest = sha256Of(l.blob) }, "unexpected EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			bad := newTestLayer(t, "gzip", tar)
			test.spoil(bad)
			_, err := s.Add(t.Context(), full+"bad:latest", newImage(t, fine(), bad), AddOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v, want %q in it", err, test.want)
			}
			if strings.Contains(test.want, "lost") && !errors.Is(err, broken) {
				t.Error("the cause is lost")
			}
			if images, err := s.List(); err != nil || len(images) != 0 {
				t.Errorf("%v, %v", images, err)
			}
			if _, err := os.Stat(s.blob(bad.digest.String())); err == nil {
				t.Error("the bad blob is in the store")
			}
			checkClean(t, s)
			add(t, s, full+"good:latest", newImage(t, fine()))
		})
	}
}

// TestAddOverDamage adds an image again whose blob in the store has other bytes by now.
func TestAddOverDamage(t *testing.T) {
	s := newStore(t)
	l := newTestLayer(t, "gzip", makeTar(t, file("a", "x")))
	img := add(t, s, full+"a:latest", newImage(t, l))
	if err := os.WriteFile(s.blob(l.digest.String()), make([]byte, len(l.blob)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.link(l.diffID.String(), false)); err != nil { // so that it is unpacked again
		t.Fatal(err)
	}
	again := add(t, s, full+"a:latest", newImage(t, l))
	if again.ID != img.ID || len(again.Layers) != 1 || again.Layers[0] == img.Layers[0] {
		t.Errorf("%+v", again)
	}
	if b, err := os.ReadFile(s.blob(l.digest.String())); err != nil || !bytes.Equal(b, l.blob) {
		t.Errorf("the blob is still damaged: %v", err)
	}
	checkClean(t, s) // the layer that lost its link is gone too
}

// TestAddOneID unpacks for one user id what differs, next to the usual form.
func TestAddOneID(t *testing.T) {
	s := newStore(t)
	l := newTestLayer(t, "gzip", makeTar(t, file("a", "x").owned(7, 7, 0o600)))
	img := newImage(t, l)
	one, err := s.Add(t.Context(), full+"one:latest", img, AddOptions{OneID: true})
	if err != nil {
		t.Fatal(err)
	}
	owners, err := s.Owners(one.Layers[0])
	if err != nil || owners["a"].UID != 7 || one.OneIDSafe {
		t.Errorf("%v, %v, %+v", owners, err, one)
	}
	if _, err := os.Readlink(s.link(l.diffID.String(), true)); err != nil {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		if got, err := s.Lookup(full + "one:latest"); err != nil || got.Layers != nil {
			t.Errorf("the form for one id was given to root: %+v, %v", got, err)
		}
		got := add(t, s, full+"one:latest", img)
		if st := stat(t, s.LayerDir(got.Layers[0])+"/a"); st.Uid != 7 || got.Layers[0] == one.Layers[0] {
			t.Errorf("layers %v and %v, owner %d", got.Layers, one.Layers, st.Uid)
		}
	}
	if n := l.opened.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	checkClean(t, s)
}

// TestAddTogether adds the same and different images at the same time from several stores, as processes do.
func TestAddTogether(t *testing.T) {
	s := newStore(t)
	base := newTestLayer(t, "gzip", makeTar(t, file("a", strings.Repeat("x", 100000))))
	var running sync.WaitGroup
	for i := range 8 {
		own := newTestLayer(t, "gzip", makeTar(t, file("own", fmt.Sprint(i%4))))
		img := newImage(t, base, own)
		running.Go(func() {
			mine := *s
			name := fmt.Sprintf("%simg%d:latest", full, i%4)
			if _, err := mine.Add(t.Context(), name, img, AddOptions{}); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() {
			mine := *s
			if _, err := mine.Prune(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	images, err := s.List()
	if err != nil || len(images) != 4 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for _, img := range images {
		if len(img.Layers) != 2 || img.Layers[0] != images[0].Layers[0] {
			t.Errorf("%+v", img)
		}
	}
	checkClean(t, s)
	if n, _ := s.numbered(); len(n) != 5 {
		t.Errorf("layers %v", n)
	}
}

// TestAddCancelled ends an Add whose download hangs.
func TestAddCancelled(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	img := hanging{newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "x")))), cancel}
	if _, err := s.Add(ctx, full+"a:latest", img, AddOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	checkClean(t, s)
}

// hanging is an image whose layers never come; asking for one cancels.
type hanging struct {
	v1.Image
	cancel func()
}

func (h hanging) LayerByDigest(d v1.Hash) (v1.Layer, error) {
	l, err := h.Image.LayerByDigest(d)
	r, _ := io.Pipe()
	return hangingLayer{l, r, h.cancel}, err
}

type hangingLayer struct {
	v1.Layer
	r      *io.PipeReader
	cancel func()
}

func (l hangingLayer) Compressed() (io.ReadCloser, error) {
	l.cancel()
	return l.r, nil
}

func TestLimitsOfAdd(t *testing.T) {
	s := newStore(t)
	s.Limits.Size = 100 << 10
	bomb := newTestLayer(t, "gzip", makeTar(t, file("a", string(make([]byte, 1<<20)))))
	_, err := s.Add(t.Context(), full+"bomb:latest", newImage(t, bomb), AddOptions{})
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != "Size" {
		t.Error(err)
	}
	if err := (Limits{}).withDefaults().checkRatio(1<<20, 2<<30); !errors.As(err, &limit) || limit.Limit != "Ratio" {
		t.Error(err)
	}
	checkClean(t, s)
}

// TestUnpackerHook has somebody else unpack, and somebody who does not do all of it.
func TestUnpackerHook(t *testing.T) {
	s := newStore(t)
	img := newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", strings.Repeat("x", 1<<20)))))
	s.Unpacker = func(ctx context.Context, dir string, tar io.Reader, opt UnpackOptions) (*Unpacked, error) {
		_, err := tar.Read(make([]byte, 1))
		return &Unpacked{}, err
	}
	if _, err := s.Add(t.Context(), full+"a:latest", img, AddOptions{}); err == nil || !strings.Contains(err.Error(), "to its end") {
		t.Errorf("error is %v", err)
	}
	called, removed := 0, 0
	s.Unpacker = func(ctx context.Context, dir string, tar io.Reader, opt UnpackOptions) (*Unpacked, error) {
		called++
		return Unpack(ctx, dir, tar, opt)
	}
	s.Remover = func(dir string) error { removed++; return RemoveTree(dir) }
	add(t, s, full+"a:latest", img)
	if _, err := s.Remove("a", false); err != nil {
		t.Error(err)
	}
	if called != 1 || removed != 1 {
		t.Errorf("unpacked %d times, removed %d times", called, removed)
	}
}

// TestAddFullDisk adds to a disk that is too small, then what fits.
func TestAddFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(dir + "/hull")
	if err != nil {
		t.Fatal(err)
	}
	big := newTestLayer(t, "gzip", makeTar(t, file("a", strings.Repeat("x", 4<<20))))
	_, err = s.Add(t.Context(), full+"big:latest", newImage(t, big), AddOptions{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `unpack "a": write`) {
		t.Error(err)
	}
	checkClean(t, s)
	add(t, s, full+"small:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "x")))))
}
