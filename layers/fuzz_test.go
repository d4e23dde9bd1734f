package layers

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzUnpack unpacks layers that are written as scripts, a line for each entry: "KIND NAME [TARGET]". Whatever they
// hold, nothing outside the directory changes, no call panics, and what was made can be removed. (A fuzzer of raw
// tars spends its time on checksums of headers.)
func FuzzUnpack(f *testing.F) {
	for _, script := range []string{
		"d a\nf a/b\nl c a\nf c/d\nh e a/b",
		"l d /OUT\nf d/f\nf d/secret",
		"l d ../OUT\nf d/secret\nh x d/secret\nf x",
		"l a b\nl b a\nf a/x",
		"l a .\nl b a/..\nl c b/../OUT\nf c/secret",
		"f ../OUT/secret\nf /../OUT/secret\nf a/../../OUT/secret",
		"d OUT\nl OUT/x ../../OUT\nf OUT/x/secret\nd OUT/x\nf OUT/x/secret",
		"f a/.wh.b\nd a/b\nf a/b/.wh..wh..opq\nf a/.wh...\nf .wh.a",
		"f .wh.a\nf a/b\nl a /OUT\nf a/secret\nd a\nf a/secret",
		"p a\nc b\nb c\nh d b\nf a\nd a\np a/b",
		"d ./\nl ./ /OUT\nf ./\nf secret",
		"d a/b/c\nl a/b /OUT\nf a/b/secret\nf a/b/c/d\nd a/b",
		"h a a\nl a a\nh b a\nf b\nd b\nh b/c b",
	} {
		f.Add(script, true)
		f.Add(script, false)
	}
	f.Fuzz(func(t *testing.T, script string, oneID bool) {
		base := t.TempDir()
		root, out := filepath.Join(base, "root"), filepath.Join(base, "OUT")
		for _, d := range []string{root, out} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(out, "secret"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := stat(t, filepath.Join(out, "secret"))
		opt := UnpackOptions{OneID: oneID || os.Geteuid() != 0, Limits: Limits{Entries: 100, Size: 1 << 20, Depth: 20}}
		var owners bytes.Buffer
		opt.Owners = &owners
		_, _ = Unpack(t.Context(), root, bytes.NewReader(scripted(script)), opt)
		if got := listing(t, out); got != `secret "secret"` {
			t.Fatalf("outside is now\n%s", got)
		}
		if after := stat(t, filepath.Join(out, "secret")); after.Ctim != before.Ctim {
			t.Fatal("a file outside was touched")
		}
		if names, err := os.ReadDir(base); err != nil || len(names) != 2 {
			t.Fatalf("%v, %v", names, err)
		}
		if _, err := ReadOwners(&owners); err != nil {
			t.Fatal(err)
		}
		if err := RemoveTree(root); err != nil {
			t.Fatal(err)
		}
	})
}

// scripted packs a script. Lines that tar cannot hold are left out.
func scripted(script string) []byte {
	kinds := map[string]byte{"f": tar.TypeReg, "d": tar.TypeDir, "l": tar.TypeSymlink, "h": tar.TypeLink,
		"p": tar.TypeFifo, "c": tar.TypeChar, "b": tar.TypeBlock}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.SplitSeq(script, "\n") {
		words := append(strings.SplitN(line, " ", 3), "", "")
		h := tar.Header{Typeflag: kinds[words[0]], Name: words[1], Linkname: words[2], Mode: int64(len(line)) * 37 & 0o7777,
			Uid: len(words[1]) % 3, Devmajor: int64(len(words[1]) % 2)}
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(words[2]))
		}
		if w.WriteHeader(&h) == nil && h.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte(words[2]))
		}
	}
	_ = w.Close()
	return b.Bytes()
}
