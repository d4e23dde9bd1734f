package layers

import (
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestListRecord has List answer from what it wrote down, and afresh whenever that may be wrong.
func TestListRecord(t *testing.T) {
	s := newStore(t)
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Fatalf("a store that is not there has %v, %v", list, err)
	}
	add(t, s, full+"one:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("one", "")))))
	foreign := newImage(t, newTestLayer(t, "gzip", makeTar(t, file("foreign", "x"))))
	name := layout.WithAnnotations(map[string]string{refAnnotation: "foreign:1"})
	if err := layout.Path(s.path("images")).AppendImage(foreign, name); err != nil {
		t.Fatal(err)
	}
	first := listNamed(t, s, full+"one:latest", "foreign:1")
	if again := listNamed(t, s, full+"one:latest", "foreign:1"); !reflect.DeepEqual(again, first) {
		t.Errorf("recorded %+v, read %+v", again, first)
	}
	for range 2 { // the foreign one is looked at again
		brief, err := s.Brief()
		for i, img := range brief {
			if img.Config != nil {
				t.Errorf("%s has a Config", img.Name)
			}
			img.Config = first[i].Config
		}
		if err != nil || !reflect.DeepEqual(brief, first) {
			t.Errorf("brief %+v, %v; whole %+v", brief, err, first)
		}
		_ = os.Remove(s.listFile())
	}
	if _, err := s.Ready(t.Context(), first[1], AddOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := listNamed(t, s, full+"one:latest", "foreign:1"); got[1].Layers == nil {
		t.Error("an image that was unpacked meanwhile is not shown so")
	}

	// The record is what answers: one that says something else, for the same index, is believed.
	now, err := s.stamp()
	if err != nil {
		t.Fatal(err)
	}
	s.recordList(now, []listed{{image: *first[0]}})
	listNamed(t, s, full+"one:latest")
	whole, err := os.ReadFile(s.listFile())
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(s.listFile(), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.recordedList(now, false); got != nil {
			t.Fatalf("%d of %d bytes pass for a list", cut, len(whole))
		}
	}
	list := listNamed(t, s, full+"one:latest", "foreign:1")
	torn := wire{out: []byte(listForm)}
	torn.list(&now, &[]listed{{image: *list[0], config: "\xff"}})
	if err := os.WriteFile(s.listFile(), torn.out, 0o600); err != nil {
		t.Fatal(err)
	}
	listNamed(t, s, full+"one:latest", "foreign:1")
	if err := s.Tag(full+"one:latest", full+"two:latest"); err != nil {
		t.Fatal(err)
	}
	listNamed(t, s, full+"one:latest", "foreign:1", full+"two:latest")
}

// listNamed checks which names there are.
func listNamed(t *testing.T, s *Store, want ...string) []*Image {
	t.Helper()
	images, err := s.List()
	var names []string
	for _, img := range images {
		names = append(names, img.Name)
	}
	if err != nil || !slices.Equal(names, want) {
		t.Fatalf("list %q, %v; want %q", names, err, want)
	}
	return images
}
