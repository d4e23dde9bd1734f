package registry

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// FuzzOpenArchive: whatever hull load is given, it is opened or refused, and an image that is opened has as many layers as it says,
// each of which can be read or fails.
func FuzzOpenArchive(f *testing.F) {
	clean(f)
	img := makeImage(f, hostHere(), 100, 3)
	config := string(img.config)
	sum := describe("", img.config).Digest.Hex
	for _, manifest := range []string{
		`[{"Config":"c","RepoTags":["a:1"],"Layers":["l","m"]}]`, `[{"Config":"c","Layers":["l"]},{"Config":"../c"}]`, `[null]`, `{`, `[{"Config":"l","Layers":["c","c"]}]`,
		`[{"Config":"x","Layers":["x","y"]}]`, `[{"Config":"blobs/sha256/` + sum + `"}]`, "",
	} {
		f.Add("", manifest, config, img.layers[0], gzipped(img.layers[1]))
	}
	// "hull\n", as bzip2 and xz write it.
	bz, _ := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWVVF5WIAAADBgAAQAEQCACAAIZpoM00wLxdyRThQkFVF5WI=")
	xz, _ := base64.StdEncoding.DecodeString("/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAEaHVsbAoAAAAAm37w46w2UYAAAR0FuC2Arx+2830BAAAAAARZWg==")
	f.Add("", `[{"Config":"c","Layers":["l","m"]}]`, config, bz, xz)
	raw, err := json.Marshal(img.manifest)
	if err != nil {
		f.Fatal(err)
	}
	d := describe(img.manifest.MediaType, raw)
	for _, index := range []string{
		fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"annotations":{"io.containerd.image.name":"x/y:1"}}]}`, d.MediaType, d.Size, d.Digest),
		`{"schemaVersion":2,"manifests":[{"size":1}]}`, `{"manifests":[]}`, "[]",
	} {
		f.Add(index, "", string(raw), img.layers[0], img.config)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, index, manifest, c string, l, m []byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		files := map[string]string{
			"index.json": index, "manifest.json": manifest, "c": c, "l": string(l), "m": string(m), blobPath(describe("", []byte(c)).Digest): c,
			blobPath(describe("", l).Digest): string(l), blobPath(describe("", m).Digest): string(m),
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			content := files[name]
			if name == "index.json" && index == "" || name == "manifest.json" && manifest == "" {
				continue
			}
			if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content))}); err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write([]byte(content))
		}
		for _, link := range [][2]string{{"x", "x"}, {"y", "z"}, {"z", "c"}} {
			_ = w.WriteHeader(&tar.Header{Name: link[0], Linkname: link[1], Typeflag: tar.TypeSymlink})
		}
		w.Close()
		name := filepath.Join(dir, "archive")
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		images, done, err := OpenArchive(file, dir, nil)
		if err != nil {
			return
		}
		defer done()
		for _, i := range images {
			m, err := i.Image.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			list, err := i.Image.Layers()
			if err != nil || len(list) != len(m.Layers) {
				t.Errorf("%d layers of %d, %v", len(list), len(m.Layers), err)
			}
			for _, l := range list {
				if r, err := l.Compressed(); err == nil {
					_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
					r.Close()
				}
			}
		}
	})
}
