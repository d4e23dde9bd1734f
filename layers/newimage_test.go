package layers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestCommit(t *testing.T) {
	s := newStore(t)
	s.OneID = mine().OneID
	base := add(t, s, full+"base:latest", newImage(t,
		newTestLayer(t, "gzip", makeTar(t, file("a", "low"), file("b", "low"))), newTestLayer(t, "gzip", makeTar(t, file("c", "mid")))))
	upper := t.TempDir()
	populate(t, upper, "f a high\nf d/new x")
	opt := CommitOptions{
		Name: full + "made:latest", Config: v1.Config{Cmd: []string{"/new"}, Env: []string{"A=b"}}, Author: "ann", Comment: "note",
		CreatedBy: "sh", Created: time.Unix(1700000000, 0), Container: "id",
	}
	packed := false
	opt.Packed = func() { packed = true }
	got, err := s.Commit(t.Context(), base, s.Stack(upper, base), opt)
	if err != nil {
		t.Fatal(err)
	}
	h := got.Config.History
	if len(got.Layers) != 3 || got.Name != opt.Name || !got.Created.Equal(opt.Created) || got.Config.Author != "ann" || !packed ||
		!slices.Equal(got.Config.Config.Cmd, opt.Config.Cmd) || len(h) != 3 || h[2].Comment != "note" || h[2].CreatedBy != "sh" || h[2].EmptyLayer {
		t.Errorf("%+v, %+v", got, got.Config)
	}
	for path, want := range map[string]string{"a": "high", "b": "low", "c": "mid", "d/new": "x"} {
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
	checkLayout(t, s, opt.Name)
	img, err := s.Image(opt.Name)
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Error(err)
	}

	// Nothing changed, and no name: the same layers under another configuration.
	opt.Name = ""
	same, err := s.Commit(t.Context(), got, s.Stack(t.TempDir(), got), opt)
	if err != nil || !slices.Equal(same.Layers, got.Layers) || same.ID == got.ID || !same.Config.History[3].EmptyLayer {
		t.Errorf("%+v, %v", same, err)
	}
	checkClean(t, s)
}

// TestCommitFails leaves nothing behind.
func TestCommitFails(t *testing.T) {
	s := newStore(t)
	s.OneID = mine().OneID
	base := add(t, s, full+"base:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "low")))))
	stack := s.Stack(t.TempDir(), base)
	s.Packer = func(_ context.Context, w io.Writer, _ Stack, _ func(string)) error {
		_, _ = io.WriteString(w, "half a tar")
		return errors.New("packer fell over")
	}
	if _, err := s.Commit(t.Context(), base, stack, CommitOptions{Name: full + "made:latest"}); err == nil || !strings.Contains(err.Error(), "fell over") {
		t.Error(err)
	}
	s.Packer = nil
	gone := *base
	gone.ID, gone.Name = "sha256:"+strings.Repeat("0", 64), ""
	if _, err := s.Commit(t.Context(), &gone, stack, CommitOptions{}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Commit(t.Context(), base, Stack{Dirs: []string{"/nowhere"}}, CommitOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%d images, %v", len(list), err)
	}
	checkClean(t, s)
}

func TestImport(t *testing.T) {
	s := newStore(t)
	s.OneID = mine().OneID
	plain := makeTar(t, file("etc/one", "1"), file("two", "22"))
	here := v1.Platform{OS: "linux", Architecture: "riscv64"}
	opt := CommitOptions{Name: full + "in:latest", Config: v1.Config{Cmd: []string{"/two"}}, Created: time.Unix(1700000000, 0), Comment: "note"}
	for how, kept := range map[string]bool{"": false, "gzip": true, "zstd": true} {
		layer := newTestLayer(t, how, plain)
		got, err := s.Import(t.Context(), bytes.NewReader(layer.blob), here, opt)
		if err != nil {
			t.Fatal(how, err)
		}
		if got.DiffIDs[0] != layer.diffID.String() || len(got.Layers) != 1 || got.Platform.Architecture != "riscv64" || got.Name != opt.Name ||
			!slices.Equal(got.Config.Config.Cmd, opt.Config.Cmd) || !got.Created.Equal(opt.Created) || got.Config.History[0].Comment != "note" {
			t.Errorf("%q: %+v, %+v", how, got, got.Config)
		}
		blobs, err := s.Blobs(got)
		if err != nil || len(blobs) != 1 {
			t.Fatal(how, blobs, err)
		}
		b, err := os.ReadFile(s.blob(blobs[0].Digest.String()))
		if err != nil || bytes.Equal(b, layer.blob) != kept {
			t.Errorf("%q: the layer is as it was: %v, %v", how, !kept, err)
		}
		img, err := s.Image(got.ID)
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil && how != "zstd" { // which validate does not know
			t.Error(how, err)
		}
		checkClean(t, s)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	gzipped := newTestLayer(t, "gzip", plain).blob
	for name, bad := range map[string][]byte{
		"nothing": {}, "no tar": []byte(strings.Repeat("no tar", 1000)), "cut": gzipped[:len(gzipped)-9], "cut tar": plain[:1300],
		"xz": []byte("\xfd7zXZ\x00 and so on"),
	} {
		if got, err := s.Import(t.Context(), bytes.NewReader(bad), here, opt); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		checkClean(t, s)
	}
	s.Limits.Size = 2000
	if _, err := s.Import(t.Context(), bytes.NewReader(gzipped), here, opt); !errors.As(err, new(*LimitError)) {
		t.Errorf("too large: %v", err)
	}
	if after, err := s.List(); err != nil || len(after) != len(list) {
		t.Errorf("%d images, then %d, %v", len(list), len(after), err)
	}
}
