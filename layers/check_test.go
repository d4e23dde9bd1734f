package layers

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck breaks a store in each way it can break, and has it mended.
func TestCheck(t *testing.T) {
	nobody := CheckOptions{Used: func(string) bool { return false }, Idle: true}
	look := func(t *testing.T, s *Store, opt CheckOptions, mend bool) (lines []string) {
		t.Helper()
		flaws, err := s.Check(opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flaws {
			line := f.What
			if f.Mend == nil {
				line += " (not to be mended)"
			} else if mend {
				if err := f.Mend(); err != nil {
					t.Errorf("mend %s: %v", f.What, err)
				}
			}
			lines = append(lines, line)
		}
		return lines
	}
	s := newStore(t)
	if lines := look(t, s, nobody, false); lines != nil {
		t.Errorf("no store: %q", lines)
	}
	big := newTestLayer(t, "tar", makeTar(t, file("big", strings.Repeat("x", 200<<10))))
	img := newImage(t, big)
	got := add(t, s, full+"web:latest", img)
	manifest, blob := s.blob(got.Digest), s.blob(big.digest.String())
	link := s.link(got.DiffIDs[0], false)
	if _, err := os.Lstat(link); err != nil {
		link = s.link(got.DiffIDs[0], true)
	}
	edit := func(path string, change func([]byte) []byte) func() error {
		return func() error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(b), 0o644)
		}
	}
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-600] ^= 1
		return b
	}
	remove := func(path string) func() error { return func() error { return os.RemoveAll(path) } }
	used, busy, deep := nobody, nobody, nobody
	used.Used, busy.Idle, deep.Deep = func(name string) bool { return name == full+"web:latest" }, false, true
	for _, row := range []struct {
		name  string
		spoil func() error
		opt   CheckOptions
		want  string // part of the only flaw; "" if there is to be none
		after string // the same once it has been mended
	}{
		{"nothing", func() error { return nil }, deep, "", ""},
		{"blob cut off", edit(blob, func(b []byte) []byte { return b[:5] }), nobody, "blob " + big.digest.String() + ": has 5 bytes, and should have", "blob " + big.digest.String() + " is missing: a pull brings it (not to be mended)"},
		{"blob damaged, at a glance", edit(blob, flip), nobody, "", ""},
		{"blob damaged", edit(blob, flip), deep, "blob " + big.digest.String() + ": is damaged: its digest is sha256:", "is missing: a pull brings it (not to be mended)"},
		{"manifest damaged", edit(manifest, func(b []byte) []byte { b[0] = '['; return b }), nobody, "blob " + got.Digest + ": is damaged", "image " + full + "web:latest: its manifest is missing"},
		{"manifest missing", remove(manifest), nobody, "image " + full + "web:latest: its manifest is missing", ""},
		{"manifest missing, in use", remove(manifest), used, "its manifest is missing (not to be mended)", "its manifest is missing (not to be mended)"},
		{"config missing", remove(s.blob(got.ID)), nobody, "image " + full + "web:latest: its config is missing", ""},
		{"layer missing", remove(s.LayerDir(got.Layers[0])), busy, ": its files are missing", ": was never finished"},
		{"facts missing, in use", remove(s.path("layers", got.Layers[0]+".json")), busy, ": what is known of it is missing (not to be mended)", ": what is known of it is missing (not to be mended)"},
		{"facts missing", remove(s.path("layers", got.Layers[0]+".json")), nobody, ": what is known of it is missing", ": was never finished"},
		{"link missing", remove(link), nobody, "layer " + got.Layers[0] + ": was never finished", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			saved := t.TempDir()
			copyAll(t, saved, s.root)
			if err := row.spoil(); err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{row.want, row.after} {
				lines := look(t, s, row.opt, i == 0)
				if want == "" && lines != nil || want != "" && (len(lines) != 1 || !strings.Contains(lines[0], want)) {
					t.Errorf("round %d: %q, want %q", i, lines, want)
				}
			}
			// As it was.
			if err := RemoveTree(s.root); err != nil {
				t.Fatal(err)
			}
			copyAll(t, s.root, saved)
		})
	}
	if err := edit(s.indexFile(), func([]byte) []byte { return []byte("{") })(); err != nil {
		t.Fatal(err)
	}
	if lines := look(t, s, nobody, false); len(lines) != 1 || !strings.Contains(lines[0], "index.json") {
		t.Errorf("broken index: %q", lines)
	}
}

// TestCheckLeavesWork takes nothing for a flaw that somebody works on.
func TestCheckLeavesWork(t *testing.T) {
	s := newStore(t)
	got := add(t, s, full+"web:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "1")))))
	number, owners, err := s.newLayer()
	if err != nil {
		t.Fatal(err)
	}
	opt := CheckOptions{Used: func(string) bool { return false }, Idle: true}
	if flaws, err := s.Check(opt); err != nil || len(flaws) > 0 {
		t.Errorf("%v, %v", flaws, err)
	}
	owners.Close()
	flaws, err := s.Check(opt)
	if err != nil || len(flaws) != 1 || flaws[0].What != "layer "+number+": was never finished" {
		t.Fatalf("%v, %v", flaws, err)
	}
	if err := flaws[0].Mend(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.LayerDir(number)); !os.IsNotExist(err) {
		t.Errorf("is still there: %v", err)
	}
	if !s.Complete(got) {
		t.Error("the image is not complete")
	}
	if err := os.Remove(s.blob(newDigest(t, s, got))); err != nil {
		t.Fatal(err)
	}
	if s.Complete(got) {
		t.Error("an image without a blob is complete")
	}
}

// newDigest is the digest of an image's only layer.
func newDigest(t *testing.T, s *Store, img *Image) string {
	t.Helper()
	e, err := s.find(img.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return e.manifest.Layers[0].Digest.String()
}

// copyAll copies a tree of directories, links and files that belong to the caller.
func copyAll(t *testing.T, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type() == os.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
