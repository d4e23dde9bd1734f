package layers

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestAddMany(t *testing.T) {
	s := newStore(t)
	base := newTestLayer(t, "gzip", makeTar(t, file("base", "of all")))
	own := newTestLayer(t, "zstd", makeTar(t, file("own", "of one")))
	one, two := newImage(t, base), newImage(t, base, own)
	got, err := s.AddMany(context.Background(), []Addition{
		{Names: []string{full + "one:1", full + "one:2"}, Image: one}, {Image: two}, {Names: []string{full + "one:2"}, Image: two},
	}, AddOptions{})
	if err != nil || len(got) != 3 { // the first one:2 lost its name to the second
		t.Fatalf("%v, %v", got, err)
	}
	if n := base.opened.Load(); n != 1 {
		t.Errorf("the common layer was read %d times", n)
	}
	for name, layers := range map[string]int{"one:1": 1, "one:2": 2} {
		if img, err := s.Lookup(full + name); err != nil || len(img.Layers) != layers {
			t.Errorf("%s: %+v, %v", name, img, err)
		}
	}
	if _, err := s.AddMany(context.Background(), nil, AddOptions{}); err != nil {
		t.Error("none:", err)
	}
	again, err := s.AddMany(context.Background(), []Addition{{Image: two}}, AddOptions{})
	if err != nil || len(again) != 1 || again[0].Name != "" || base.opened.Load() != 1 {
		t.Errorf("what is there: %v, %v", again, err)
	}
	checkClean(t, s)
}

// TestAddManyBroken: what is whole gets its name, and nothing else.
func TestAddManyBroken(t *testing.T) {
	s := newStore(t)
	good, bad := newTestLayer(t, "gzip", makeTar(t, file("a", "1"))), newTestLayer(t, "gzip", makeTar(t, file("b", "2")))
	broken := brokenImage{newImage(t, bad)}
	got, err := s.AddMany(context.Background(), []Addition{
		{Names: []string{full + "good:1"}, Image: newImage(t, good)}, {Names: []string{full + "bad:1"}, Image: broken},
	}, AddOptions{Jobs: 1})
	if err == nil || !strings.Contains(err.Error(), `add image "`+full+`bad:1"`) || !errors.Is(err, errSource) {
		t.Error(err)
	}
	if _, err := s.Lookup(full + "bad:1"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, img := range got {
		if img.Name != full+"good:1" {
			t.Errorf("%+v", img)
		}
	}
	if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) > 0 {
		t.Error(entries, err)
	}
	checkClean(t, s)
}

var errSource = errors.New("source is broken")

// brokenImage is an image whose layers cannot be read.
type brokenImage struct{ v1.Image }

func (b brokenImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := b.Image.LayerByDigest(h)
	return brokenLayer{l}, err
}

type brokenLayer struct{ v1.Layer }

func (brokenLayer) Compressed() (io.ReadCloser, error) { return nil, errSource }
