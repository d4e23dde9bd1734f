package lock

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var digest = "sha256:" + strings.Repeat("a1", 32)

func TestParse(t *testing.T) {
	name := "docker.io/library/x:1 " + digest + "\n"
	for _, test := range []struct{ text, want string }{
		{"hull.lock 1\n", ""},
		{"hull.lock 1\r\n\r\n" + strings.ReplaceAll(name, "\n", "\r\n"), ""},
		{"hull.lock 1\n" + name + "  linux/amd64 " + digest, ""},
		{"", "line 1: it is empty, want hull.lock 1"},
		{"hull.lock 2\n", `line 1: version "2" of the format is not known to this hull, which knows 1`},
		{"\x7fELF", `line 1: "\x7fELF": want "hull.lock 1"`},
		{"hull.lock 1\n\n<<<<<<< HEAD\n", `line 3: parse image reference "<<<<<<<"`},
		{"hull.lock 1\nx:1 " + digest, `line 2: "x:1": want a full name with a tag and no digest`},
		{"hull.lock 1\ndocker.io/library/x@" + digest + " " + digest, "line 2: \"docker.io/library/x@"},
		{"hull.lock 1\ndocker.io/library/x:1 sha256:12", `line 2: "sha256:12": want sha256: and 64`},
		{"hull.lock 1\ndocker.io/library/x:1 sha512:" + strings.Repeat("a", 64), "line 2: \"sha512:"},
		{"hull.lock 1\ndocker.io/library/x:1\n", `line 2: "docker.io/library/x:1": want NAME:TAG sha256:DIGEST`},
		{"hull.lock 1\n" + name + "\n" + name, "line 4: docker.io/library/x:1 stands there twice"},
		{"hull.lock 1\n linux/amd64 " + digest, `line 2: platform "linux/amd64" of no image`},
		{"hull.lock 1\n" + name + " linux/amd64 " + digest + "\n linux/amd64 " + digest, `line 4: platform "linux/amd64" stands there twice`},
		{"hull.lock 1\n" + name + " linux/amd64\n", `line 3: "linux/amd64": want OS/ARCH[/VARIANT] sha256:DIGEST`},
	} {
		f := &File{}
		err := f.parse(test.text)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.text, err, test.want)
		}
	}
}

// TestWrite: the same entries are the same bytes, a file that is there keeps its mode and a link stays a link.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real"), filepath.Join(dir, Name)
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := &File{Path: link, Entries: map[string]Entry{}}
	for _, n := range []int{3, 1, 2} {
		f.Entries[fmt.Sprintf("docker.io/library/x:%d", n)] = Entry{digest, map[string]string{"linux/arm64": digest, "linux/amd64": digest}}
	}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(link)
	if err != nil || got.String() != f.String() || !strings.Contains(f.String(), "x:1 "+digest+"\n\tlinux/amd64 ") {
		t.Errorf("%v\n%s", err, got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real" {
		t.Errorf("%q %v", to, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"tree/.git", "tree/a/b", "tree/sub/.git", "plain/a"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"tree", "tree/a", "plain"} {
		if err := os.WriteFile(filepath.Join(dir, f, Name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range [][2]string{
		{"tree", "tree"}, {"tree/a", "tree/a"}, {"tree/a/b", "tree/a"}, {"tree/sub", ""}, {"plain", "plain"}, {"plain/a", ""},
	} {
		want := ""
		if test[1] != "" {
			want = filepath.Join(dir, test[1], Name)
		}
		if got := Find(filepath.Join(dir, test[0]), t.Errorf); got != want {
			t.Errorf("%s: %q, want %q", test[0], got, want)
		}
	}
}

// TestFindStranger: what somebody else has put where anybody may write does not count.
func TestFindStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a file of somebody else's")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, Name)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	if got := Find(dir, t.Errorf); got != file {
		t.Errorf("where nobody else may write: %q", got)
	}
	if err := os.Chmod(dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	said := ""
	if got := Find(dir, func(format string, a ...any) { said = fmt.Sprintf(format, a...) }); got != "" || !strings.Contains(said, "user 1234") {
		t.Errorf("%q, said %q", got, said)
	}
}

// FuzzParse: what is read and written again is the same.
func FuzzParse(f *testing.F) {
	f.Add("hull.lock 1\n\ndocker.io/library/x:1 " + digest + "\n\tlinux/amd64 " + digest + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		one, two := &File{}, &File{}
		if one.parse(text) != nil {
			return
		}
		if err := two.parse(one.String()); err != nil || one.String() != two.String() {
			t.Errorf("%v\n%s\n%s", err, one, two)
		}
	})
}
