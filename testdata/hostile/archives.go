package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Archive is a file for hull load that wants more of the machine than it has.
type Archive struct {
	Name string
	// Make writes the file.
	Make func(w io.Writer) error
	// Load is a part of hull load's error.
	Load string
}

// Archives lists them.
func Archives() []Archive {
	plain := func(name, load string, write func(*Tar)) Archive {
		return Archive{name, func(w io.Writer) error { return WriteTar(w, write) }, load}
	}
	raw := func(name, load string, parts func() [][]byte) Archive {
		return Archive{name, func(w io.Writer) error {
			for _, p := range parts() {
				if _, err := w.Write(p); err != nil {
					return err
				}
			}
			return nil
		}, load}
	}
	list := func(one string, n int) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	return []Archive{
		raw("bomb-zstd", "unpacks to more than 1100 times its size, the limit", func() [][]byte { return [][]byte{zstdBomb(2<<30, 8<<20)} }),
		raw("bomb-gzip-of-files", "more than 250000 files, the limit", func() [][]byte {
			return repeated(gz(tarEntries(1000)), 251)
		}),
		raw("xz-dictionary", "LZMA2 dictionary size exceeds max\nunpack it on the way: xz -dc FILE | hull load", func() [][]byte {
			return [][]byte{[]byte("\xfd7zXZ\x00\x00\x00\xff\x12\xd9\x41\x02\x00\x21\x01\x28\x00\x00\x00\xe6\xa0\x11\xb3")}
		}),
		plain("names", "names have more than 33554432 bytes, the limit", func(t *Tar) {
			for i := range 40 {
				t.Pax("path", strings.Repeat("x", 1<<20-100)+fmt.Sprint(i))
				t.File("x", "")
			}
		}),
		plain("manifest", "manifest.json has 5242880 bytes, the limit is", func(t *Tar) { t.File("manifest.json", strings.Repeat(" ", 5<<20)) }),
		plain("configuration", "c has 9437184 bytes, the limit is", func(t *Tar) {
			t.File("c", strings.Repeat(" ", 9<<20))
			t.File("manifest.json", `[{"Config":"c"}]`)
		}),
		plain("images", "it has 1000000 images, the limit is", func(t *Tar) { t.File("manifest.json", "["+list("{}", 1_000_000)+"]") }),
		plain("layers", "has 1000000 layers, the limit is", func(t *Tar) {
			t.File("manifest.json", `[{"Layers":[`+list(`""`, 1_000_000)+"]}]")
		}),
		plain("names-of-one", "has 100000 names, the limit is", func(t *Tar) {
			t.File("manifest.json", `[{"RepoTags":[`+list(`"a:1"`, 100_000)+"]}]")
		}),
		plain("configurations", "manifests and configurations have more than 12582912 bytes, the limit", func(t *Tar) {
			var entries []string
			for i := range 8 {
				name := fmt.Sprintf("c%d", i)
				config, _ := json.Marshal(Doc{"architecture": "amd64", "os": "linux", "rootfs": Doc{"type": "layers", "diff_ids": []any{}},
					"config": Doc{"Labels": Doc{name: strings.Repeat("x", 6<<20)}}})
				t.File(name, string(config))
				entries = append(entries, fmt.Sprintf(`{"Config":%q}`, name))
			}
			t.File("manifest.json", "["+strings.Join(entries, ",")+"]")
		}),
		plain("index-of-one-name", `entries of index.json are called ["x/y:1"]`, func(t *Tar) {
			t.File("index.json", layoutIndex(20_000, func(int) string { return "x/y:1" }))
		}),
		plain("index-of-many-names", "no such blob", func(t *Tar) {
			t.File("index.json", layoutIndex(20_000, func(i int) string { return fmt.Sprint("x/y:", i) }))
		}),
	}
}

// tarEntries is so many entries of a tar, without an end.
func tarEntries(n int) string {
	return strings.TrimSuffix(tarBytes(func(t *Tar) {
		for i := range n {
			t.File(fmt.Sprint(i), "")
		}
	}), strings.Repeat("\x00", 1024))
}

func repeated(part []byte, n int) [][]byte {
	parts := make([][]byte, n)
	for i := range parts {
		parts[i] = part
	}
	return parts
}

// layoutIndex is an index.json of n entries for manifests that are not there.
func layoutIndex(n int, name func(i int) string) string {
	var b bytes.Buffer
	b.WriteString(`{"schemaVersion":2,"manifests":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:%064x","annotations":{%q:%q}}`,
			i, "io.containerd.image.name", name(i))
	}
	b.WriteString("]}")
	return b.String()
}
