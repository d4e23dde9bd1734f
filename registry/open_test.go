package registry

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// testLayout writes OCI layouts.
type testLayout struct {
	dir   string
	index v1.IndexManifest
}

func newLayout(t testing.TB, dir string) *testLayout {
	t.Helper()
	writeFile(t, dir+"/oci-layout", `{"imageLayoutVersion":"1.0.0"}`, 0o644)
	return &testLayout{dir, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}}
}

func (l *testLayout) blob(t testing.TB, mediaType types.MediaType, content []byte) v1.Descriptor {
	t.Helper()
	d := describe(mediaType, content)
	writeFile(t, filepath.Join(l.dir, blobPath(d.Digest)), string(content), 0o644)
	return d
}

// add puts an image in, under a name ("" for none).
func (l *testLayout) add(t testing.TB, img *testImage, name string, platform *v1.Platform) v1.Descriptor {
	t.Helper()
	for _, b := range append([][]byte{img.config}, img.layers...) {
		l.blob(t, "", b)
	}
	raw, err := json.Marshal(img.manifest)
	if err != nil {
		t.Fatal(err)
	}
	d := l.blob(t, types.OCIManifestSchema1, raw)
	d.Platform = platform
	if name != "" {
		d.Annotations = map[string]string{refNameAnnotation: name}
	}
	l.index.Manifests = append(l.index.Manifests, d)
	l.write(t)
	return d
}

func (l *testLayout) write(t testing.TB) {
	t.Helper()
	raw, err := json.Marshal(l.index)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, l.dir+"/index.json", string(raw), 0o644)
}

// tarOf packs a folder, with names as "tar -C dir ." writes them.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(fi, "")
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		h.Name = "./" + filepath.ToSlash(rel)
		if err := w.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// opened opens name and reads all layers.
func opened(t testing.TB, name string, platform *v1.Platform) ([][]byte, string, error) {
	t.Helper()
	img, ref, done, err := Open(name, platform)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err := done(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, l := range layers {
		b, err := readLayer(l)
		if err != nil {
			return nil, ref, err
		}
		all = append(all, b)
	}
	return all, ref, nil
}

func TestIsArchive(t *testing.T) {
	for name, want := range map[string]bool{"oci:x": true, "oci-archive:x": true, "docker-archive:x": true, "oci": false, "docker.io/oci:x": false, "ocix:y": false} {
		if IsArchive(name) != want {
			t.Errorf("IsArchive(%q) = %v", name, !want)
		}
	}
}

func TestOpenLayout(t *testing.T) {
	clean(t)
	tmp := t.TempDir()
	one, other := makeImage(t, hostHere(), 5000, 0), makeImage(t, hostHere(), 77)
	single := newLayout(t, tmp+"/My Image")
	single.add(t, one, "", nil)
	several := newLayout(t, tmp+"/se:veral")
	several.add(t, one, "latest", nil)
	several.add(t, other, "quay.io/a/b:c", nil)
	d := several.add(t, other, "short:1.0", nil)
	several.index.Manifests[0].Annotations[containerdAnnotation] = "docker.io/library/one:latest"
	several.write(t)
	arm, err := ParsePlatform("linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	amd, _ := ParsePlatform("linux/amd64")
	multi := newLayout(t, tmp+"/multi")
	multi.add(t, one, "v1", amd)
	multi.add(t, other, "v1", arm)
	attestation := multi.add(t, other, "", &v1.Platform{OS: "unknown", Architecture: "unknown"})
	nested := newLayout(t, tmp+"/nested")
	nested.add(t, one, "", amd)
	nested.add(t, other, "", arm)
	inner, _ := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append(nested.index.Manifests, attestation)})
	top := nested.blob(t, types.OCIImageIndex, inner)
	nested.index.Manifests = []v1.Descriptor{top}
	nested.write(t)
	writeFile(t, tmp+"/no layout/x", "", 0o644)
	empty := newLayout(t, tmp+"/empty")
	empty.write(t)

	for _, tt := range []struct {
		name     string
		platform *v1.Platform
		want     *testImage
		ref      string
		text     string
	}{
		{"oci:My Image", nil, one, "localhost/my-image:latest", ""},
		{"oci:My Image:nope", nil, nil, "", `not found: no image "nope"; there is "sha256:`},
		{"oci:se:veral:latest", nil, one, "docker.io/library/one:latest", ""},
		{"oci:se:veral:docker.io/library/one:latest", nil, one, "docker.io/library/one:latest", ""},
		{"oci:se:veral:quay.io/a/b:c", nil, other, "quay.io/a/b:c", ""},
		{"oci:se:veral:short:1.0", nil, other, "localhost/short:1.0", ""},
		{"oci:se:veral:" + d.Digest.String(), nil, other, "quay.io/a/b:c", ""}, // the first of its two names
		{"oci:se:veral", nil, nil, "", `Add one of "latest", "quay.io/a/b:c", "short:1.0"`},
		{"oci:multi", amd, one, "localhost/multi:v1", ""},
		{"oci:multi:v1", arm, other, "localhost/multi:v1", ""},
		{"oci:nested", amd, one, "localhost/nested:latest", ""},
		{"oci:nested", arm, other, "localhost/nested:latest", ""},
		{"oci:nested", &v1.Platform{OS: "linux", Architecture: "s390x"}, nil, "", "no image for the platform: linux/s390x; there is linux/amd64, linux/arm64"},
		{"oci:no layout", nil, nil, "", "no index.json"},
		{"oci:empty", nil, nil, "", "holds no image"},
		{"oci:nowhere:x", nil, nil, "", "nowhere: no such file"},
		{"oci:", nil, nil, "", "want oci:DIR[:TAG]"},
		{"oci:no layout/x", nil, nil, "", "is not a folder"},
		{"busybox", nil, nil, "", "want oci:DIR[:TAG]"},
	} {
		name := tt.name
		if kind, rest, ok := cutKind(name); ok && rest != "" {
			name = kind + tmp + "/" + rest
		}
		got, ref, err := opened(t, name, tt.platform)
		if tt.text != "" {
			if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), fmt.Sprintf("open %q: ", name)) {
				t.Errorf("%s: %v, want … %s", tt.name, err, tt.text)
			}
			continue
		}
		if err != nil || ref != tt.ref {
			t.Errorf("%s: %q, %v, want %q", tt.name, ref, err, tt.ref)
			continue
		}
		checkLayers(t, got, tt.want)
	}
}

// TestOpenLayoutLies damages a layout in each of its files.
func TestOpenLayoutLies(t *testing.T) {
	clean(t)
	for name, damage := range map[string]func(t *testing.T, l *testLayout, img *testImage){
		"layer flipped": func(t *testing.T, l *testLayout, img *testImage) {
			b := bytes.Clone(img.layers[0])
			b[5000] ^= 1
			writeFile(t, filepath.Join(l.dir, blobPath(img.manifest.Layers[0].Digest)), string(b), 0o644)
		},
		"layer short": func(t *testing.T, l *testLayout, img *testImage) {
			writeFile(t, filepath.Join(l.dir, blobPath(img.manifest.Layers[0].Digest)), "x", 0o644)
		},
		"config flipped": func(t *testing.T, l *testLayout, img *testImage) {
			writeFile(t, filepath.Join(l.dir, blobPath(img.manifest.Config.Digest)), strings.Replace(string(img.config), "true", "evil", 1), 0o644)
		},
		"manifest flipped": func(t *testing.T, l *testLayout, img *testImage) {
			file := filepath.Join(l.dir, blobPath(l.index.Manifests[0].Digest))
			b, _ := os.ReadFile(file)
			writeFile(t, file, strings.Replace(string(b), "image", "imaga", 1), 0o644)
		},
		"manifest size": func(t *testing.T, l *testLayout, img *testImage) {
			l.index.Manifests[0].Size++
			l.write(t)
		},
		"index not JSON": func(t *testing.T, l *testLayout, _ *testImage) { writeFile(t, l.dir+"/index.json", "{", 0o644) },
		"index is an image": func(t *testing.T, l *testLayout, _ *testImage) {
			writeFile(t, l.dir+"/index.json", `{"layers":[]}`, 0o644)
		},
		"blob is a folder": func(t *testing.T, l *testLayout, img *testImage) {
			file := filepath.Join(l.dir, blobPath(img.manifest.Layers[0].Digest))
			os.Remove(file)
			os.Mkdir(file, 0o755)
		},
		"digest leads aside": func(t *testing.T, l *testLayout, _ *testImage) {
			writeFile(t, l.dir+"/index.json", `{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}`, 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			img := makeImage(t, hostHere(), 10_000)
			l := newLayout(t, t.TempDir())
			l.add(t, img, "", nil)
			damage(t, l, img)
			if _, _, err := opened(t, "oci:"+l.dir, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("layer missing", func(t *testing.T) {
		img := makeImage(t, hostHere(), 10_000)
		l := newLayout(t, t.TempDir())
		l.add(t, img, "", nil)
		os.Remove(filepath.Join(l.dir, blobPath(img.manifest.Layers[0].Digest)))
		if _, _, err := opened(t, "oci:"+l.dir, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOpenOCIArchive(t *testing.T) {
	clean(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	img := makeImage(t, hostHere(), 400_000, 3)
	l := newLayout(t, tmp+"/layout")
	l.add(t, img, "v1:2", nil)
	packed := tarOf(t, l.dir)
	for name, content := range map[string][]byte{"plain.tar": packed, "image.tar.gz": gzipped(packed), "image.tar.zst": zstded(t, packed)} {
		file := writeFile(t, tmp+"/"+name, string(content), 0o644)
		for _, suffix := range []string{"", ":v1:2"} {
			got, ref, err := opened(t, "oci-archive:"+file+suffix, nil)
			if err != nil || ref != "localhost/v1:2" {
				t.Fatalf("%s: %q, %v", name, ref, err)
			}
			checkLayers(t, got, img)
		}
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for name, content := range map[string][]byte{"cut": packed[:len(packed)/2], "cut gzip": gzipped(packed)[:1000], "text": []byte("hello, this is no tar")} {
		_, _, err := opened(t, "oci-archive:"+writeFile(t, tmp+"/"+name, string(content), 0o644), nil)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestOpenDockerArchive reads what docker save writes: old (a folder per layer, a link for one that occurs twice) and
// new (blobs), and what other tools write (compressed layers).
func TestOpenDockerArchive(t *testing.T) {
	clean(t)
	tmp := t.TempDir()
	img := makeImage(t, hostHere(), 100_000, 3, 100_000)
	// Make the third layer the first once more.
	img.layers[2] = img.layers[0]
	var cfg v1.ConfigFile
	json.Unmarshal(img.config, &cfg)
	cfg.RootFS.DiffIDs[2] = cfg.RootFS.DiffIDs[0]
	img.config, _ = json.Marshal(cfg)
	id := describe("", img.config).Digest.Hex
	type entry struct {
		name, link string
		content    []byte
	}
	save := func(file string, images []savedImage, entries ...entry) string {
		raw, _ := json.Marshal(images)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range append(entries, entry{name: "manifest.json", content: raw}) {
			h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content))}
			if e.link != "" {
				h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			w.Write(e.content)
		}
		w.Close()
		return writeFile(t, tmp+"/"+file, b.String(), 0o644)
	}
	config := entry{name: id + ".json", content: img.config}
	old := save("old.tar", []savedImage{{id + ".json", []string{"busybox:1.0", "quay.io/x/y:z"}, []string{"a/layer.tar", "b/layer.tar", "c/layer.tar"}}},
		config, entry{"a/layer.tar", "", img.layers[0]}, entry{"b/layer.tar", "", img.layers[1]}, entry{"c/layer.tar", "../a/layer.tar", nil})
	for name, want := range map[string]string{"": "docker.io/library/busybox:1.0", ":docker.io/library/busybox:1.0": "docker.io/library/busybox:1.0", ":quay.io/x/y:z": "quay.io/x/y:z"} {
		got, ref, err := opened(t, "docker-archive:"+old+name, nil)
		if err != nil || ref != want {
			t.Fatalf("old%s: %q, %v, want %q", name, ref, err, want)
		}
		checkLayers(t, got, img)
	}
	if opened, _, done, err := Open("docker-archive:"+old, nil); err != nil {
		t.Error(err)
	} else {
		if name, _ := opened.ConfigName(); name.Hex != id {
			t.Errorf("image ID %s, want %s", name.Hex, id)
		}
		done()
	}

	zipped := save("zipped.tar", []savedImage{{"blobs/sha256/" + id, nil, []string{"1.tar.gz", "2.tar.gz", "3.tar.zst"}}},
		entry{"blobs/sha256/" + id, "", img.config}, entry{"1.tar.gz", "", gzipped(img.layers[0])}, entry{"2.tar.gz", "", gzipped(img.layers[1])}, entry{"3.tar.zst", "", zstded(t, img.layers[2])})
	z, ref, done, err := Open("docker-archive:"+zipped, nil)
	if err != nil || ref != "localhost/zipped:latest" {
		t.Fatalf("zipped: %q, %v", ref, err)
	}
	defer done()
	layers, _ := z.Layers()
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, img.layers[i]) {
			t.Errorf("zipped layer %d: %v", i, err)
		}
	}

	two := []savedImage{{id + ".json", []string{"a:1"}, nil}, {id + ".json", []string{"b:1"}, nil}}
	for _, tt := range []struct {
		file, text string
		kind       error
	}{
		{save("two.tar", two, config), `Add one of "a:1", "b:1"`, ErrNotFound},
		{save("two.tar", two, config) + ":c", `no image "c"; there is "a:1", "b:1"`, ErrNotFound},
		{save("none.tar", []savedImage{}), "holds no image", ErrNotFound},
		{save("noconfig.tar", two[:1]), "configuration: open", ErrCorrupt},
		{save("nolayer.tar", []savedImage{{id + ".json", nil, []string{"a", "b", "c"}}}, config), "layer: open a", ErrCorrupt},
		{save("fewer.tar", []savedImage{{id + ".json", nil, []string{"a"}}}, config, entry{"a", "", nil}), "3 diff IDs for 1 layers", ErrCorrupt},
		{save("loop.tar", []savedImage{{id + ".json", nil, []string{"a", "b", "c"}}}, config, entry{"a", "b", nil}, entry{"b", "a", nil}), "layer: open a", ErrCorrupt},
		{save("id.tar", []savedImage{{digestA[7:] + ".json", nil, nil}}, entry{digestA[7:] + ".json", "", img.config}), "has the digest", ErrCorrupt},
		{save("flipped.tar", []savedImage{{id + ".json", nil, []string{"a", "b", "a"}}}, config, entry{"a", "", append([]byte("x"), img.layers[0][1:]...)}, entry{"b", "", img.layers[1]}), "has the digest", ErrCorrupt},
		{writeFile(t, tmp+"/other.tar", string(makeTar(t, map[string][]byte{"x": nil})), 0o644), "no manifest.json", ErrNotFound},
	} {
		if _, _, err := opened(t, "docker-archive:"+tt.file, nil); !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.text) {
			t.Errorf("%s: %v, want %v … %s", filepath.Base(tt.file), err, tt.kind, tt.text)
		}
	}
}

func TestLocalName(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/busybox": "localhost/busybox", "/tmp/My Image.tar.gz": "localhost/my-image", "/x/a_b.OCI": "localhost/a-b", "/": "localhost/image",
		"/tmp/…": "localhost/image", "/x/y.tgz": "localhost/y", "/x/" + strings.Repeat("a", 200): "localhost/image",
	} {
		if got := localName(in); got != want {
			t.Errorf("localName(%q) = %q, want %q", in, got, want)
		}
		if _, err := ParseReference(localName(in)); err != nil {
			t.Error(err)
		}
	}
}

// TestSharedImages opens the images that their projects publish, and carries them through a registry.
func TestSharedImages(t *testing.T) {
	dir := os.Getenv("HULL_SHARED")
	if dir == "" {
		dir = "../../shared"
	}
	if _, err := os.Stat(dir + "/images"); err != nil {
		t.Skipf("no published images at hand: %v (HULL_SHARED may say where they are)", err)
	}
	reg := newRegistry(t)
	c := newTestClient(t, Options{})
	for name, ref := range map[string]string{
		"busybox": "localhost/busybox:1.38.0-glibc", "busybox:busybox:1.38.0-glibc": "localhost/busybox:1.38.0-glibc", "alpine": "localhost/alpine:3.20.3",
	} {
		img, got, done, err := Open("oci:"+dir+"/images/"+name, &v1.Platform{OS: "linux", Architecture: "amd64"})
		if err != nil || got != ref {
			t.Fatalf("%s: %q, %v, want %q", name, got, err, ref)
		}
		if err := validate.Image(img); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		to := reg.ref(t, "published:v1")
		if err := c.Push(t.Context(), to, img, PushOptions{}); err != nil {
			t.Fatal(err)
		}
		back, err := c.Pull(t.Context(), to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want, _ := img.Digest()
		if d, _ := back.Digest(); d != want {
			t.Errorf("%s: %v came back as %v", name, want, d)
		}
		done()
	}
}
