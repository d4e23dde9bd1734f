package layers

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// openRoot opens a directory as a container's root.
func openRoot(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// populate makes files of a script, a line each: "d NAME", "f NAME CONTENT", "l NAME TARGET", "h NAME TARGET", "p NAME".
func populate(t testing.TB, root, script string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		w := append(strings.SplitN(strings.TrimSpace(line), " ", 3), "", "")
		path := filepath.Join(root, w[1])
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch w[0] {
		case "d":
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case "f":
			err = errors.Join(err, os.WriteFile(path, []byte(w[2]), 0o644))
		case "l":
			err = errors.Join(err, os.Symlink(w[2], path))
		case "h":
			err = errors.Join(err, os.Link(filepath.Join(root, w[2]), path))
		case "p":
			err = errors.Join(err, unix.Mkfifo(path, 0o644))
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
}

// copyTree copies by way of a tar, as cp does.
func copyTree(t testing.TB, fromRoot *os.File, from, name string, toRoot *os.File, to string) error {
	t.Helper()
	var b bytes.Buffer
	if err := PackTree(t.Context(), &b, fromRoot, from, TreeOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	return Place(t.Context(), to, &b, PlaceOptions{Root: toRoot, OneID: true})
}

// TestPlaceRules are the destinations that docker cp knows, as they came out with Docker 20.10.
func TestPlaceRules(t *testing.T) {
	const tree = "f in/a one\nf in/sub/b two\nl in/link a\nh in/hard in/a"
	all := func(dir string) string {
		return strings.ReplaceAll("D/\nD/a \"one\"\nD/hard \"one\"\nD/link -> a\nD/sub/\nD/sub/b \"two\"", "D", dir)
	}
	tests := []struct {
		name, there, from, to string
		want                  string // a listing, or a part of the error
	}{
		{"directory to new name", "d etc", "in", "/new", "etc/\n" + all("new")},
		{"directory to new name with slash", "d etc", "in", "/new/", "etc/\n" + all("new")},
		{"directory into another", "d dst", "in", "/dst", "dst/\n" + strings.ReplaceAll(all("dst/in"), "\nD", "\n")},
		{"content to new name", "d etc", "in/.", "/new", "etc/\n" + all("new")},
		{"content into another", "d dst", "in/.", "/dst", all("dst")},
		{"over a file", "f dst x", "in", "/dst", "cannot copy directory"},
		{"over a link to a directory", "d real\nl dst real", "in/.", "/dst", "dst -> real\n" + all("real")},
		{"file to new name", "d etc", "in/a", "/new", "etc/\nnew \"one\""},
		{"file to new directory", "d etc", "in/a", "/new/", "no such directory"},
		{"file into directory", "d dst", "in/a", "/dst", "dst/\ndst/a \"one\""},
		{"file over file", "f dst x\nh other dst", "in/a", "/dst", "dst \"one\"\nother \"x\""},
		{"file over directory of its name", "d dst/a", "in/a", "/dst", "cannot overwrite directory with non-directory"},
		{"file over link to file", "f real x\nl dst /real", "in/a", "/dst", "dst -> /real\nreal \"one\""},
		{"file over link to nothing", "l dst d/../gone\nd d", "in/a", "/dst", "d/\ndst -> d/../gone\ngone \"one\""},
		{"link of its name", "d dst\nl dst/a /nowhere", "in/a", "/dst", "dst/\ndst/a \"one\""},
		{"parent missing", "d etc", "in/a", "/no/new", "no such file"},
		{"parent is a file", "f etc x", "in/a", "/etc/new", "not a directory"},
		{"over a FIFO", "p dst", "in/a", "/dst", "must be a directory or a regular file"},
		{"directory over file inside", "f dst/sub x", "in/.", "/dst", "cannot overwrite non-directory"},
		{"directory over link inside", "d real\nl dst/sub /real", "in/.", "/dst", "cannot overwrite non-directory"},
		{"loop", "l a b\nl b a", "in/a", "/a", "too many levels"},
		{"dots", "d dst/x", "in/a", "/dst/x/../../../../dst/new", "dst/\ndst/new \"one\"\ndst/x/"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			populate(t, base, tree)
			root := filepath.Join(base, "root")
			populate(t, root, test.there)
			name := filepath.Base(test.from)
			err := copyTree(t, nil, filepath.Join(base, "in")+strings.TrimPrefix(test.from, "in"), name, openRoot(t, root), test.to)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			if got := listing(t, root); got != sorted(test.want) {
				t.Errorf("got\n%s\nwant\n%s", got, sorted(test.want))
			}
		})
	}
}

func sorted(lines string) string {
	list := strings.Split(lines, "\n")
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// TestPlaceKeeps looks at what belongs to files: modes, times, links, xattrs.
func TestPlaceKeeps(t *testing.T) {
	base := t.TempDir()
	in, root := filepath.Join(base, "in"), filepath.Join(base, "root")
	populate(t, in, "f shut/a one\nh hard shut/a\nf odd 2\np fifo\nl link shut")
	populate(t, root, "d dst/in")
	when := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1e9 + 1, Nsec: 123456789}}
	for name, mode := range map[string]uint32{"shut/a": 0o640, "shut": 0o555, "odd": 0o4755, "fifo": 0o600, ".": 0o710} {
		if err := errors.Join(unix.Chmod(in+"/"+name, mode), unix.UtimesNanoAt(unix.AT_FDCWD, in+"/"+name, when, 0)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Chmod(in+"/shut", 0o755); _ = unix.Chmod(root+"/dst/in/shut", 0o755) })
	_ = unix.Setxattr(in+"/odd", "user.note", []byte("n\x00"), 0)
	hasXattr := unix.Setxattr(in+"/odd", "user.other", nil, 0) == nil
	if err := copyTree(t, nil, in, "in", openRoot(t, root), "dst"); err != nil {
		t.Fatal(err)
	}
	out := root + "/dst/in"
	for _, name := range []string{"shut/a", "shut", "odd", "fifo", "."} {
		a, b := stat(t, in+"/"+name), stat(t, out+"/"+name)
		if a.Mode != b.Mode || a.Mtim != b.Mtim || a.Size != b.Size && name == "odd" || a.Nlink != b.Nlink {
			t.Errorf("%s: %o %v %d, want %o %v %d", name, b.Mode, b.Mtim, b.Nlink, a.Mode, a.Mtim, a.Nlink)
		}
	}
	if stat(t, out+"/hard").Ino != stat(t, out+"/shut/a").Ino {
		t.Error("no hard link")
	}
	buf := make([]byte, 10)
	if n, err := unix.Getxattr(out+"/odd", "user.note", buf); hasXattr && (err != nil || string(buf[:n]) != "n\x00") {
		t.Errorf("xattr %q, %v", buf[:max(n, 0)], err)
	}
	// The same to the host: what was set-uid is not.
	if err := copyTree(t, openRoot(t, root), "/dst/in/odd", "odd", nil, base+"/odd"); err != nil {
		t.Fatal(err)
	}
	if st := stat(t, base+"/odd"); st.Mode&0o7777 != 0o755 {
		t.Errorf("mode %o", st.Mode)
	}
}

// TestPlaceMany extracts tars as they come.
func TestPlaceMany(t *testing.T) {
	root := t.TempDir()
	populate(t, root, "d usr/lib\nl lib usr/lib\nl abs /usr\nf file x")
	zipped := func(b []byte) []byte { return newTestLayer(t, "gzip", b).blob }
	tests := []struct {
		name, to string
		tar      []byte
		want     string // a part of the error, or a name that is there
	}{
		{"nothing at all", "/", nil, "usr"},
		{"nothing at all to nowhere", "/no", nil, "must be a directory"},
		{"to a file", "/file", makeTar(t, file("a", "")), "must be a directory"},
		{"junk", "/", bytes.Repeat([]byte("junk"), 512), "read tar"},
		{"cut", "/", makeTar(t, file("a", strings.Repeat("x", 2000)))[:2000], "unexpected EOF"},
		{"through a link", "/", makeTar(t, file("lib/x", "1")), "usr/lib/x"},
		{"through an absolute link", "/", makeTar(t, file("abs/y", "1")), "usr/y"},
		{"below a link", "/lib", makeTar(t, file("deep/er/z", "1")), "usr/lib/deep/er/z"},
		{"compressed", "/", zipped(makeTar(t, file("zip", "1"))), "zip"},
		{"out", "/usr", makeTar(t, file("../../out", "1")), "path leaves"},
		{"whiteouts are nothing special", "/", makeTar(t, file("usr/.wh.lib", "")), "usr/.wh.lib"},
		{"hard link", "/usr", makeTar(t, file("h/a", "1"), hardlink("h/b", "h/a")), "usr/h/b"},
		{"hard link out", "/usr", makeTar(t, hardlink("h/c", "../../file")), "hard link to"},
		{"directory over link", "/", makeTar(t, dir("lib/")), "cannot overwrite non-directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := Place(t.Context(), test.to, bytes.NewReader(test.tar), PlaceOptions{Root: openRoot(t, root), Many: true, Keep: true, OneID: true})
			if _, there := os.Lstat(filepath.Join(root, test.want)); err == nil && there != nil || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

// TestPlaceOwners: to root in a container, to the caller outside, or as they were.
func TestPlaceOwners(t *testing.T) {
	needRoot(t)
	content := makeTar(t, dir("t/").owned(5, 6, 0o755), file("t/a", "").owned(5, 6, 0o6755).xattr("security.capability", capPing),
		symlink("t/l", "a").owned(5, 6, 0o777), node(tar.TypeChar, "t/null", 1, 3).owned(5, 6, 0o666), hardlink("t/zero", "t/null").owned(5, 6, 0o666))
	for _, test := range []struct {
		inside, keep bool
		uid          uint32
		mode         uint32
		device, caps bool
	}{
		{true, false, 0, 0o6755, true, true}, {true, true, 5, 0o6755, true, true},
		{false, false, 0, 0o755, false, false}, {false, true, 5, 0o6755, true, true},
	} {
		dir := t.TempDir()
		opt, to := PlaceOptions{Keep: test.keep}, dir+"/new"
		if test.inside {
			opt.Root, to = openRoot(t, dir), "/new"
		}
		if err := Place(t.Context(), to, bytes.NewReader(content), opt); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "/a", "/l"} {
			if st := stat(t, dir+"/new"+name); st.Uid != test.uid || name == "/a" && st.Mode&0o7777 != test.mode {
				t.Errorf("%+v: %q: owner %d mode %o", test, name, st.Uid, st.Mode)
			}
		}
		for _, name := range []string{"/new/null", "/new/zero"} {
			if _, err := os.Lstat(dir + name); (err == nil) != test.device {
				t.Errorf("%+v: device: %v", test, err)
			}
		}
		if _, err := unix.Getxattr(dir+"/new/a", "security.capability", nil); (err == nil) != test.caps {
			t.Errorf("%+v: capabilities: %v", test, err)
		}
	}
}

// swapper exchanges a directory and a link that leads out, as fast as it can, until stop is called.
func swapper(t *testing.T, dir, one, other string) (stop func()) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Renameat2(fd, one, fd, other, unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() { close(done); swapping.Wait(); unix.Close(fd) }
}

// attacked makes a root whose directory "d" keeps turning into a link to a directory outside, which holds a secret and
// must stay as it is.
func attacked(t *testing.T) (root, outside string, stop func()) {
	base := t.TempDir()
	root, outside = base+"/root", base+"/outside"
	populate(t, outside, "f secret SECRET\nf a/secret SECRET\nf a/b SECRET")
	populate(t, root, fmt.Sprintf("f d/a/b inside\nf d/secret inside\nl x %s\nl d/up ../../outside", outside))
	return root, outside, swapper(t, root, "d", "x")
}

// TestPlaceAttacked writes below a directory that somebody swaps for links.
func TestPlaceAttacked(t *testing.T) {
	root, outside, stop := attacked(t)
	defer stop()
	before := listing(t, outside)
	content := makeTar(t, dir("t/"), dir("t/a/"), file("t/a/b", "mine"), symlink("t/l", "a"), hardlink("t/a/h", "t/a/b"), file("t/secret", "mine"),
		node(tar.TypeFifo, "t/p", 0, 0).owned(0, 0, 0o777))
	many := makeTar(t, file("d/a/b", "mine"), dir("d/a/c/"), symlink("d/l", "/etc"), hardlink("d/h", "d/a/b"), node(tar.TypeFifo, "d/p", 0, 0), file("d/up/secret", "mine"))
	r := openRoot(t, root)
	fine := 0
	for range 1000 {
		for _, err := range []error{
			Place(t.Context(), "/d", bytes.NewReader(content), PlaceOptions{Root: r, OneID: true}),
			Place(t.Context(), "/d/a/../a/.", bytes.NewReader(content), PlaceOptions{Root: r, OneID: true}),
			Place(t.Context(), "/", bytes.NewReader(many), PlaceOptions{Root: r, OneID: true, Many: true}),
		} {
			if err == nil {
				fine++
			}
		}
	}
	if got := listing(t, outside); got != before {
		t.Errorf("outside is now\n%s", got)
	}
	if fine == 0 {
		t.Error("no copy went well: nothing was tried")
	}
}

// TestPackAttacked reads below such a directory.
func TestPackAttacked(t *testing.T) {
	root, _, stop := attacked(t)
	defer stop()
	r := openRoot(t, root)
	read := 0
	for range 1000 {
		for _, path := range []string{"/", "/d", "/d/.", "/d/a", "/d/a/b", "/d/up/secret", "/d/a/../secret"} {
			var b bytes.Buffer
			_ = PackTree(t.Context(), &b, r, path, TreeOptions{Name: "t", Follow: true})
			if bytes.Contains(b.Bytes(), []byte("SECRET")) {
				t.Fatalf("%s: what lies outside came out", path)
			}
			read += bytes.Count(b.Bytes(), []byte("inside"))
		}
	}
	if read == 0 {
		t.Error("nothing was read")
	}
}

// TestPackOdd: nothing waits for a FIFO, and a socket is left out.
func TestPackOdd(t *testing.T) {
	root := t.TempDir()
	populate(t, root, "p fifo\nf file x")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: root + "/socket"}); err != nil {
		t.Skip(err) // the path is too long for a socket's
	}
	var b bytes.Buffer
	var warnings []string
	err = PackTree(t.Context(), &b, nil, root, TreeOptions{Name: ".", Warn: func(line string) { warnings = append(warnings, line) }})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "socket") {
		t.Errorf("%v, %q", err, warnings)
	}
	if got := strings.Join(names(t, b.Bytes()), " "); got != "./ ./fifo ./file" {
		t.Errorf("%q", got)
	}
}

// names lists the entries of a tar.
func names(t testing.TB, content []byte) (list []string) {
	t.Helper()
	for _, h := range headers(t, content) {
		list = append(list, h.Name)
	}
	return list
}

func headers(t testing.TB, content []byte) (list []*tar.Header) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
}

// TestPackUnreadable: one file that cannot be read is an error at the end, and the others are there.
func TestPackUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	root := t.TempDir()
	populate(t, root, "f a x\nf b x\nh c b\nf d x")
	if err := os.Chmod(root+"/b", 0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err := PackTree(t.Context(), &b, nil, root, TreeOptions{Name: "t"})
	if !errors.Is(err, os.ErrPermission) || strings.Join(names(t, b.Bytes()), " ") != "t/ t/a t/d" {
		t.Errorf("%v, %q", err, names(t, b.Bytes()))
	}
}

// TestPlaceMountPoint: what is mounted in another mount namespace is written to, not unmounted there.
func TestPlaceMountPoint(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	populate(t, dir, "f host host\nf root/etc/hosts image")
	if err := unix.Mount(dir+"/host", dir+"/root/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(dir+"/root/etc/hosts", unix.MNT_DETACH) }()
	r := openRoot(t, dir+"/root")
	if err := Place(t.Context(), "/etc/hosts", bytes.NewReader(makeTar(t, file("hosts", "new"))), PlaceOptions{Root: r}); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(dir + "/host"); string(b) != "new" {
		t.Errorf("%q", b)
	}
	err := Place(t.Context(), "/etc", bytes.NewReader(makeTar(t, symlink("hosts", "x"))), PlaceOptions{Root: r})
	if !errors.Is(err, unix.EBUSY) {
		t.Error(err)
	}
}

// FuzzPlace places tars of scripts (see scripted) into a root beside which nothing may change.
func FuzzPlace(f *testing.F) {
	for _, script := range []string{
		"d t\nf t/a\nl t/l a", "d t\nl t/x /OUT\nf t/x/secret", "f t", "l t /OUT", "d ./\nf ./a\nl ./b ../OUT\nd ./b", "f ../OUT/secret",
		"d t\nh t/a ../OUT/secret\nh t/b t/c", "p t\nc t\nf t/x", "d t\nd t/l\nf t/l/x\nl t/l /OUT\nf t/l/secret", "f l/secret\nd l\nf l/sub/x",
	} {
		f.Add(script, "/", true)
		f.Add(script, "/d", false)
		f.Add(script, "/l/../x/.", false)
	}
	f.Fuzz(func(t *testing.T, script, to string, many bool) {
		if strings.ContainsRune(to, 0) {
			t.Skip()
		}
		base := t.TempDir()
		root, out := filepath.Join(base, "root"), filepath.Join(base, "OUT")
		populate(t, out, "f secret secret")
		populate(t, root, "d d\nl l ../OUT\nl up ../../../../../.."+out+"\nf f x")
		before := stat(t, filepath.Join(out, "secret"))
		_ = Place(t.Context(), to, bytes.NewReader(scripted(script)), PlaceOptions{Root: openRoot(t, root), Many: many, Keep: true, OneID: true})
		if got := listing(t, out); got != `secret "secret"` {
			t.Fatalf("outside is now\n%s", got)
		}
		if after := stat(t, filepath.Join(out, "secret")); after.Ctim != before.Ctim {
			t.Fatal("a file outside was touched")
		}
		if names, err := os.ReadDir(base); err != nil || len(names) != 2 {
			t.Fatalf("%v, %v", names, err)
		}
		if err := RemoveTree(root); err != nil {
			t.Fatal(err)
		}
	})
}
