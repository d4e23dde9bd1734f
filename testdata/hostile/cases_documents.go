package hostile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// documents are manifests and indexes that lie or are absurd, and layouts and archives with such.
func documents() []Case {
	lie := func(name, pull string, f func(m *Image, first Doc)) Case {
		return Case{Name: "doc-" + name, Pull: pull, Make: func(m *Image) {
			m.Lie(func() { f(m, m.Manifest["layers"].([]any)[0].(Doc)) })
		}}
	}
	raw := func(name, pull, manifest string) Case {
		return Case{Name: "doc-" + name, Pull: pull, Make: func(m *Image) { m.RawManifest = []byte(manifest) }}
	}
	kind := func(name, pull, mediaType string) Case {
		return lie(name, pull, func(_ *Image, first Doc) { first["mediaType"] = mediaType })
	}
	config := func(m *Image) Doc { return m.Manifest["config"].(Doc) }
	const nought = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	return append([]Case{
		lie("layer-digest", "wrong content", func(m *Image, first Doc) {
			m.Blobs[nought] = m.Layers[0].Blob
			first["digest"] = nought
		}),
		lie("layer-missing", "not found", func(_ *Image, first Doc) { first["digest"] = nought }),
		lie("layer-size-small", "the manifest says 7", func(_ *Image, first Doc) { first["size"] = 7 }),
		lie("layer-size-large", "the manifest says 9223372036854775807", func(_ *Image, first Doc) { first["size"] = int64(1<<63 - 1) }),
		lie("layer-size-negative", "-1 bytes", func(_ *Image, first Doc) { first["size"] = -1 }),
		lie("layer-size-overflow", "wrong content", func(_ *Image, first Doc) { first["size"] = 1e300 }),
		lie("digest-path", "wrong content", func(_ *Image, first Doc) { first["digest"] = "sha256:../../../../canary" }),
		lie("digest-algorithm", "wrong content", func(_ *Image, first Doc) { first["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e" }),
		lie("config-digest", "wrong content", func(m *Image, _ Doc) {
			m.Blobs[nought] = []byte("{}")
			config(m)["digest"] = nought
		}),
		lie("config-digest-path", "wrong content", func(m *Image, _ Doc) { config(m)["digest"] = "sha256:" + strings.Repeat("../", 20) }),
		lie("config-size", "wrong content", func(m *Image, _ Doc) { config(m)["size"] = 3 }),
		lie("config-huge", "the limit is", func(m *Image, _ Doc) { config(m)["size"] = int64(1 << 40) }),
		lie("config-type", "artifact", func(m *Image, _ Doc) { config(m)["mediaType"] = "application/\x1b[31mred" }),
		lie("diff-id", "diff ID", func(m *Image, _ Doc) { diffIDs(m, nought) }),
		lie("diff-id-path", "wrong content", func(m *Image, _ Doc) { diffIDs(m, "sha256:../../../../../canary/secret") }),
		lie("diff-ids-few", "0 diff IDs for 1 layers", func(m *Image, _ Doc) { diffIDs(m) }),
		lie("diff-ids-many", "3 diff IDs for 1 layers", func(m *Image, _ Doc) { diffIDs(m, nought, nought, nought) }),
		lie("layers-null", "diff IDs for 0 layers", func(m *Image, _ Doc) { m.Manifest["layers"] = []any{} }),
		lie("layers-object", "wrong content", func(m *Image, _ Doc) { m.Manifest["layers"] = Doc{} }),
		lie("two-minds", "neither clearly", func(m *Image, _ Doc) { m.Manifest["manifests"] = []any{} }),
		kind("foreign", "foreign", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		kind("unknown-type", "unknown media type", "application/x-\x1b]0;owned\x07\nhull: all is well"),
		kind("encrypted", "encrypted", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
		raw("schema1", "schema 1", `{"schemaVersion":1,"name":"x","fsLayers":[{"blobSum":"`+nought+`"}],"history":[]}`),
		raw("not-json", "wrong content", "\x1b[2Jnot json"),
		raw("null", "not supported", "null"),
		raw("array", "wrong content", "[[[[[[]]]]]]"),
		raw("deep", "wrong content", strings.Repeat(`{"config":`, 300_000)),
		raw("empty", "wrong content", ""),
		raw("too-large", "the limit", `{"schemaVersion":2,"x":"`+strings.Repeat("x", 5<<20)+`"}`),
		raw("many-layers", "layers", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+nought+
			`","size":2},"layers":[`+strings.Repeat(`{},`, 900_000)+`{}]}`),
	}, indexes()...)
}

func diffIDs(m *Image, ids ...any) {
	if ids == nil {
		ids = []any{}
	}
	m.Config["rootfs"].(Doc)["diff_ids"] = ids
}

// indexes are indexes, and images on disk.
func indexes() []Case {
	disk := func(name, pull string, f func(dir string) error) Case {
		return Case{Name: "doc-" + name, Pull: pull, Make: func(m *Image) { m.Layout = f }}
	}
	archive := func(name, pull string, f func(*Tar)) Case {
		return Case{Name: "doc-" + name, Pull: pull, Make: func(m *Image) { m.Archive = f }}
	}
	blobs := func(dir string, do func(path string) error) error {
		list, err := filepath.Glob(dir + "/blobs/sha256/*")
		for _, path := range list {
			err = errors.Join(err, do(path))
		}
		return err
	}
	return []Case{
		nested("index-deep", "indexes", 50, false),
		nested("index-deep-allowed", "", 3, false),
		nested("index-of-itself", "wrong content", 1, true),
		{Name: "doc-index-empty", Pull: "no image for the platform", Make: func(m *Image) { m.Lie(func() { m.top(index()) }) }},
		{Name: "doc-index-huge", Pull: "", Make: func(m *Image) {
			m.Lie(func() {
				m.encode()
				m.top(index(slices.Repeat([][]byte{m.RawManifest}, 5000)...))
			})
		}},
		disk("layout-blobs-are-links", "", func(dir string) error {
			return blobs(dir, func(path string) error {
				return errors.Join(os.Rename(path, path+"x"), os.Symlink(filepath.Base(path)+"x", path))
			})
		}),
		disk("layout-blobs-are-folders", "file", func(dir string) error {
			return blobs(dir, func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) })
		}),
		disk("layout-blobs-are-fifos", "file", func(dir string) error {
			return blobs(dir, func(path string) error { return errors.Join(os.Remove(path), mkfifo(path)) })
		}),
		disk("layout-index-is-fifo", "file", func(dir string) error {
			return errors.Join(os.Remove(dir+"/index.json"), mkfifo(dir+"/index.json"))
		}),
		disk("layout-index-is-zero", "file", func(dir string) error {
			return errors.Join(os.Remove(dir+"/index.json"), os.Symlink("/dev/zero", dir+"/index.json"))
		}),
		archive("archive-path", "does not exist", func(t *Tar) { t.File("manifest.json", `[{"Config":"../../../../../etc/passwd","Layers":[]}]`) }),
		archive("archive-link", "wrong content", func(t *Tar) {
			t.Symlink("c.json", "/etc/passwd")
			t.File("manifest.json", `[{"Config":"c.json","Layers":[]}]`)
		}),
		archive("archive-link-loop", "wrong content", func(t *Tar) {
			t.Symlink("c.json", "d.json")
			t.Symlink("d.json", "c.json")
			t.File("manifest.json", `[{"Config":"c.json","Layers":[]}]`)
		}),
		{Name: "doc-archive-name", Run: "no command", Make: func(m *Image) {
			m.Archive = func(t *Tar) {
				t.File("c.json", string(encode(Doc{"os": "linux", "architecture": "amd64", "rootfs": Doc{"type": "layers", "diff_ids": []any{}}})))
				t.File("manifest.json", `[{"Config":"c.json","RepoTags":["../../../canary:\u001b[31m"],"Layers":[]}]`)
			}
		}},
		archive("archive-layers-many", "0 diff IDs for 3 layers", func(t *Tar) {
			t.File("c.json", `{"rootfs":{"type":"layers"}}`)
			t.File("manifest.json", `[{"Config":"c.json","Layers":["a","b","c"]}]`)
		}),
		archive("archive-entries", "no manifest.json", func(t *Tar) {
			for range 50_000 {
				t.Add(Head{Name: "x"}, "")
			}
		}),
		archive("archive-huge-document", "the limit is", func(t *Tar) {
			t.Add(Head{Name: "manifest.json", Size: 100 << 20}, strings.Repeat("[", 100<<20/1000*1000))
		}),
		archive("archive-sparse", "sparse", func(t *Tar) {
			t.Pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "manifest.json", "GNU.sparse.realsize", "9223372036854775807")
			t.File("x", "1\n0\n0\n"+string(bytes.Repeat([]byte{0}, 506)))
		}),
	}
}

// nested is so many indexes one in the other. One that names itself must lie about its digest, for nobody can solve that.
func nested(name, pull string, depth int, itself bool) Case {
	return Case{Name: "doc-" + name, Pull: pull, Make: func(m *Image) {
		m.Lie(func() {
			m.encode()
			inner := m.RawManifest
			m.Manifests[digest(inner)] = inner
			for range depth {
				inner = index(inner)
				m.Manifests[digest(inner)] = inner
			}
			m.top(inner)
			if itself {
				for sum := range m.Manifests {
					m.Manifests[sum] = inner
				}
			}
		})
	}}
}
