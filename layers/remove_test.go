package layers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lines prints what Remove says.
func lines(removed []RemovedLine) string {
	var all []string
	for _, l := range removed {
		all = append(all, l.String())
	}
	return strings.Join(all, "\n")
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	base, top := newTestLayer(t, "gzip", makeTar(t, file("a", "1"))), newTestLayer(t, "gzip", makeTar(t, file("b", "1")))
	one := add(t, s, full+"one:latest", newImage(t, base))
	two := add(t, s, full+"two:latest", newImage(t, base, top))
	if err := s.Tag("two", full+"two:v2"); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		query string
		force bool
		inUse []string
		want  string
		err   string
	}{
		{query: "three", err: "no such image"},
		{query: two.ID[7:20], err: "(must be forced) - image is referenced in multiple repositories: "},
		{query: "two:v2", inUse: []string{two.ID}, want: "Untagged: " + full + "two:v2"},
		{query: "two", inUse: []string{two.ID}, err: "image is in use"},
		{query: "two", inUse: []string{two.ID}, force: true, want: "Untagged: " + full + "two:latest"},
		{query: two.ID, inUse: []string{two.ID}, force: true, err: "image is in use"},
		{query: two.ID, want: "Deleted: " + two.ID + "\nDeleted: " + top.diffID.String()},
		{query: two.ID, err: "no such image"},
		{query: "one", want: "Untagged: " + full + "one:latest\nDeleted: " + one.ID + "\nDeleted: " + base.diffID.String()},
	}
	for _, step := range steps {
		got, err := s.Remove(step.query, step.force, step.inUse...)
		if lines(got) != step.want || (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("%s: %v\n%s\nwant\n%s", step.query, err, lines(got), step.want)
		}
	}
	checkClean(t, s)
	for _, dir := range []string{"images/blobs/sha256", "layers/sha256"} {
		if left, err := os.ReadDir(s.path(dir)); err != nil || len(left) != 0 {
			t.Errorf("%s holds %v, %v", dir, left, err)
		}
	}
	if n, err := s.nextNumber(); err != nil || n == one.Layers[0] {
		t.Errorf("number %s is given again", n)
	}
}

// TestRemoveKeepsWhatIsNamed pulls a name anew, so that the old image has none, and removes by ID.
func TestRemoveKeepsWhatIsNamed(t *testing.T) {
	s := newStore(t)
	old := add(t, s, full+"a:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "old")))))
	young := add(t, s, full+"a:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "new")))))
	images, err := s.List()
	if err != nil || len(images) != 2 || images[0].Name != "" || images[0].ID != old.ID || images[1].ID != young.ID {
		t.Fatalf("%v, %v", images, err)
	}
	if _, err := s.Remove(old.ID, false); err != nil {
		t.Error(err)
	}
	if got, err := s.Lookup("a"); err != nil || got.ID != young.ID || len(got.Layers) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Remove(young.ID, false); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPrune(t *testing.T) {
	s := newStore(t)
	if swept, err := s.Prune(); err != nil || len(swept.Layers) != 0 {
		t.Errorf("empty store: %+v, %v", swept, err)
	}
	kept := add(t, s, full+"kept:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "kept")))))
	stray := add(t, s, full+"stray:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "stray")))))
	used := add(t, s, full+"used:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "used")))))
	index, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	index.Manifests = index.Manifests[:1] // as another tool might
	if err := s.writeIndex(index); err != nil {
		t.Fatal(err)
	}
	// What a process that died leaves: a temporary directory, a layer without link, files without a layer.
	for _, d := range []string{"tmp/add-dead/0", "layers/zz/sub"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"layers/zz.owners", "layers/zy.json"} {
		if err := os.WriteFile(s.path(f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := filepath.Glob(s.path("images", "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 9 {
		t.Fatalf("%v, %v", blobs, err)
	}
	young := s.path("images", "blobs", "sha256", strings.Repeat("0", 64))
	for _, b := range blobs {
		if err := os.Chtimes(b, time.Now().Add(-grace), time.Now().Add(-grace)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(young, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alive, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	number, owners, err := s.newLayer()
	if err != nil {
		t.Fatal(err)
	}
	swept, err := s.Prune(used.Layers...)
	if err != nil || !slices.Equal(swept.Layers, stray.DiffIDs) || len(swept.Blobs) != 6 || swept.Bytes == 0 {
		t.Errorf("%+v, %v", swept, err)
	}
	for path, want := range map[string]bool{
		"tmp/add-dead": false, "layers/zz": false, "layers/zz.owners": false, "layers/zy.json": false,
		"layers/" + stray.Layers[0]: false, "layers/" + used.Layers[0]: true, "layers/" + kept.Layers[0]: true,
		"tmp/" + filepath.Base(alive.dir): true, "layers/" + number: true, "layers/0": true, "layers/sha256": true,
	} {
		if _, err := os.Lstat(s.path(path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Lstat(young); err != nil {
		t.Error("a blob that another tool may just have written is gone")
	}
	if err := alive.close(); err != nil {
		t.Error(err)
	}
	owners.Close()
	if got, err := s.Lookup("kept"); err != nil || got.ID != kept.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Prune(); err != nil {
		t.Error(err)
	}
	checkClean(t, s)
}

func TestMount(t *testing.T) {
	s, err := Open("/root,dir")
	if err != nil {
		t.Fatal(err)
	}
	img := &Image{Name: "x", DiffIDs: []string{"a", "b", "c"}, Layers: []string{"1", "a", "z"}}
	tests := []struct {
		img  *Image
		opt  MountOptions
		want string
	}{
		{img, MountOptions{}, `lowerdir=z:a:1 upperdir=../containers/c/upper workdir=/o\,ther/work redirect_dir=off metacopy=off`},
		{img, MountOptions{Volatile: true, UserXattr: true},
			`lowerdir=z:a:1 upperdir=../containers/c/upper workdir=/o\,ther/work volatile userxattr`},
		{img, MountOptions{ReadOnly: true, Volatile: true}, "lowerdir=z:a:1 ro"},
		{&Image{DiffIDs: []string{"a"}, Layers: []string{"1"}}, MountOptions{ReadOnly: true}, "lowerdir=1:0 ro"},
		{&Image{}, MountOptions{ReadOnly: true}, "lowerdir=0 ro"},
	}
	for _, test := range tests {
		m, err := s.Mount("/root,dir/containers/c/upper", "/o,ther/work", test.img, test.opt)
		if err != nil || strings.Join(m.Options, " ") != test.want || m.Source != "/root,dir/layers" || m.Type != "overlay" || m.Destination != "/" {
			t.Errorf("%+v, %v, want %s", m, err, test.want)
		}
	}
	for want, img := range map[string]*Image{
		"not unpacked":                  {DiffIDs: []string{"a"}},
		"501 layers, but overlay takes": {Layers: manyLayers(501)},
	} {
		if _, err := s.Mount("/u", "/w", img, MountOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
	if m, err := s.Mount("/u", "/w", &Image{Layers: manyLayers(500)}, MountOptions{}); err != nil || len(m.Options[0]) > 2100 {
		t.Errorf("500 layers: %v, %d bytes", err, len(m.Options[0]))
	}
	if _, err := s.Mount("/"+strings.Repeat("u", 4090), "/w", img, MountOptions{}); err == nil {
		t.Error("options longer than a page: no error")
	}
}

// manyLayers gives numbers.
func manyLayers(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(100+i))
	}
	return all
}

// TestMountReal mounts what Mount describes: one image with 1, 60 and 500 layers, and no layer at all.
func TestMountReal(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	for _, n := range []int{0, 1, 60, 500} {
		var all []*testLayer
		for i := range n {
			all = append(all, newTestLayer(t, "tar", makeTar(t, file(fmt.Sprintf("f%d", i), fmt.Sprint(n)))))
		}
		img := add(t, s, fmt.Sprintf("%sn%d:latest", full, n), newImage(t, all...))
		for _, opt := range []MountOptions{{}, {Volatile: true, UserXattr: true}, {ReadOnly: true}} {
			if opt.ReadOnly && n == 0 {
				continue // the kernel takes no overlay of one directory
			}
			if got := len(mountImage(t, s, img, opt)); got != n {
				t.Errorf("%d layers, %+v: %d files", n, opt, got)
			}
		}
	}
}

// mountImage mounts an image as ns does, and lists its root.
func mountImage(t *testing.T, s *Store, img *Image, opt MountOptions) []os.DirEntry {
	t.Helper()
	box := filepath.Join(s.Root(), "containers", fmt.Sprint(len(img.Layers), opt))
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(box, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m, err := s.Mount(filepath.Join(box, "upper"), filepath.Join(box, "work"), img, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(m.Source)
	flags, data := uintptr(0), m.Options
	if i := slices.Index(data, "ro"); i >= 0 {
		flags, data = unix.MS_RDONLY, slices.Delete(slices.Clone(data), i, i+1)
	}
	if err := unix.Mount("overlay", filepath.Join(box, "root"), "overlay", flags, strings.Join(data, ",")); err != nil {
		t.Fatalf("mount %v: %v", m.Options, err)
	}
	defer unix.Unmount(filepath.Join(box, "root"), 0)
	entries, err := os.ReadDir(filepath.Join(box, "root"))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestHistory(t *testing.T) {
	s := newStore(t)
	img := add(t, s, full+"a:latest", newImage(t, newTestLayer(t, "gzip", makeTar(t, file("a", "12345")))))
	img.Config.History = append(img.Config.History, img.Config.History[0])
	img.Config.History[1].EmptyLayer, img.Config.History[1].CreatedBy = true, "CMD"
	got := s.History(img)
	if len(got) != 2 || got[0].ID != img.ID || got[0].CreatedBy != "CMD" || got[0].Size != 0 || got[1].Size != 5 || got[1].ID != "" {
		t.Errorf("%+v", got)
	}
	img.Config.History[1].EmptyLayer = false // more layers than there are
	if got := s.History(img); got[1].Size != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := s.Remove("none", false); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestRemoveWhere: images that go take with them what no other needs, all of their names, and say so as Remove does.
func TestRemoveWhere(t *testing.T) {
	s := newStore(t)
	if got, err := s.RemoveWhere(func(*Image) bool { return true }); got != nil || err != nil {
		t.Error(got, err)
	}
	base, top := newTestLayer(t, "gzip", makeTar(t, file("a", "1"))), newTestLayer(t, "gzip", makeTar(t, file("b", "1")))
	one := add(t, s, full+"one:latest", newImage(t, base))
	two := add(t, s, full+"two:latest", newImage(t, base, top))
	nameless := add(t, s, "", newImage(t, top))
	if err := s.Tag("two", full+"two:v2"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.RemoveWhere(func(*Image) bool { return false }); got != nil || err != nil {
		t.Error(got, err)
	}
	// One of two names: the image stays.
	got, err := s.RemoveWhere(func(img *Image) bool { return img.Name == full+"two:v2" })
	if want := "Untagged: " + full + "two:v2"; lines(got) != want || err != nil {
		t.Errorf("%s, %v", lines(got), err)
	}
	if err := s.Tag("two", full+"two:v2"); err != nil {
		t.Fatal(err)
	}
	got, err = s.RemoveWhere(func(img *Image) bool { return img.ID != one.ID })
	want := []string{
		"Untagged: " + full + "two:latest", "Untagged: " + full + "two:v2", "Deleted: " + two.ID, "Deleted: " + nameless.ID,
		"Deleted: " + top.diffID.String(),
	}
	for _, line := range want {
		if strings.Count(lines(got), line) != 1 || len(got) != len(want) || err != nil {
			t.Errorf("want %q once in\n%s, %v", line, lines(got), err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].ID != one.ID || !s.Complete(list[0]) {
		t.Errorf("%v, %v", list, err)
	}
	checkClean(t, s)
}
