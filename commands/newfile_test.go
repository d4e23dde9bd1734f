package commands

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestExportTo: nothing but the file itself is ever seen in its folder, for whoever is killed cannot clean up.
func TestExportTo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	write := func(content string, before int) error {
		return exportTo(t.Context(), path, func(f *os.File) error {
			_, err := f.WriteString(content)
			if n := names(); len(n) != before {
				t.Errorf("while it is written: %q", n)
			}
			return err
		})
	}
	for before, content := range []string{"first", "second"} {
		if err := write(content, before); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content || len(names()) != 1 {
			t.Errorf("%q, %v, %q", b, err, names())
		}
	}
	failed := errors.New("failed")
	if err := exportTo(t.Context(), path, func(*os.File) error { return failed }); !errors.Is(err, failed) || len(names()) != 1 {
		t.Errorf("%v, %q", err, names())
	}
}

// TestNamed: where there are no nameless files, only the end leaves one.
func TestNamed(t *testing.T) {
	dir := t.TempDir()
	for _, to := range []string{filepath.Join(dir, "file"), filepath.Join(dir, "no/where"), ""} {
		f, place, err := named(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := place(to); (err != nil) != (filepath.Base(to) == "where") {
			t.Errorf("%q: %v", to, err)
		}
		f.Close()
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "file" {
		t.Error(entries, err)
	}
}
