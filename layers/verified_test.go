package layers

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestVerified: notes are by digest and key, do not push one another out, and go with the manifest.
func TestVerified(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here, gone := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	if keys, err := s.Verified(here); err != nil || keys != nil {
		t.Errorf("nothing noted: %v, %v", keys, err)
	}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, n := range [][2]string{{here, "a"}, {here, "b"}, {here, "a"}, {gone, "a"}} {
		if err := s.NoteVerified(n[0], n[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.Blob(here), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Verified(here); err != nil || !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("%v, %v", keys, err)
	}
	s.sweepVerified()
	if keys, _ := s.Verified(here); len(keys) != 2 {
		t.Errorf("swept though its manifest is here: %v", keys)
	}
	if keys, _ := s.Verified(gone); keys != nil {
		t.Errorf("kept without a manifest: %v", keys)
	}
}
