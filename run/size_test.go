package run

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("one", 1000)
	write("a/b/two", 200)
	if err := os.Link(one, filepath.Join(dir, "a/again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("1234567", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	h := emptyHost(t)
	if n, err := h.measure(dir); n.Files != 1207 || err != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := h.measure(filepath.Join(dir, "nothing")); n.Files != 0 || n.Disk != 0 || err != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if err := os.Chmod(filepath.Join(dir, "a/b"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := h.measure(dir); n.Files != 1207 || err != nil {
		t.Errorf("with a closed directory: %+v, %v", n, err)
	}
	if err := os.Chmod(filepath.Join(dir, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
}
