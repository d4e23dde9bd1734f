package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stackOf unpacks tars as layers, the lowest first; the last one stands for a container's upper directory.
func stackOf(t testing.TB, layers ...[]*tarEntry) Stack {
	t.Helper()
	var s Stack
	for _, entries := range layers {
		owners, err := os.Create(filepath.Join(t.TempDir(), "owners"))
		if err != nil {
			t.Fatal(err)
		}
		opt := mine()
		opt.Owners = owners
		dir, _ := unpackTo(t, opt, entries...)
		owners.Close()
		s.Dirs, s.Owners = append([]string{dir}, s.Dirs...), append([]string{owners.Name()}, s.Owners...)
	}
	s.Owners[0] = ""
	s.OneID = mine().OneID
	return s
}

// lower is an image of two layers.
func lower() [][]*tarEntry {
	return [][]*tarEntry{
		{dir("etc"), file("etc/passwd", "p"), file("etc/group", "g"), dir("usr/share"), dir("usr/share/doc"), file("usr/share/doc/a", "a"), file("usr/share/doc/b", "b"),
			dir("home/ann"), file("home/ann/x", "x"), symlink("lib", "usr/lib"), dir("usr/lib"), file("gone", "")},
		{dir("etc"), file("etc/.wh.group", ""), dir("usr"), file(".wh.gone", ""), file("home/ann/y", "y")},
	}
}

func TestDiff(t *testing.T) {
	changed := func(mode int64) func(h *tar.Header) { return func(h *tar.Header) { h.Mode = mode } }
	tests := []struct {
		name  string
		upper []*tarEntry
		want  string
	}{
		{"nothing", nil, ""},
		{"added", []*tarEntry{dir("etc"), file("etc/new", "")}, "C /etc,A /etc/new"},
		{"added in a directory that nothing else shows", []*tarEntry{dir("usr"), dir("usr/share"), dir("usr/share/doc"), file("usr/share/doc/c", "")},
			"C /usr,C /usr/share,C /usr/share/doc,A /usr/share/doc/c"},
		{"changed", []*tarEntry{dir("etc"), file("etc/passwd", "q")}, "C /etc/passwd"},
		{"deleted", []*tarEntry{dir("etc"), file("etc/.wh.passwd", "")}, "C /etc,D /etc/passwd"},
		{"mode of a directory", []*tarEntry{dir("etc").with(changed(0o711))}, "C /etc"},
		{"was deleted below", []*tarEntry{dir("etc"), file("etc/group", ""), file("gone", "")}, "C /etc,A /etc/group,A /gone"},
		{"directory deleted", []*tarEntry{dir("usr"), file("usr/.wh.share", "")}, "C /usr,D /usr/share"},
		{"directory made anew", []*tarEntry{dir("home"), dir("home/ann"), file("home/ann/.wh..wh..opq", ""), file("home/ann/x", "z"), file("home/ann/z", "")},
			"C /home,C /home/ann,C /home/ann/x,D /home/ann/y,A /home/ann/z"},
		{"all made anew", []*tarEntry{dir("usr"), file("usr/.wh..wh..opq", ""), dir("usr/share"), file("usr/new", "")},
			"C /usr,D /usr/lib,A /usr/new,C /usr/share,D /usr/share/doc"},
		{"directory over file", []*tarEntry{dir("etc"), dir("etc/passwd"), file("etc/passwd/x", "")}, "C /etc,C /etc/passwd,A /etc/passwd/x"},
		{"file over directory", []*tarEntry{file("usr", "")}, "C /usr"},
		{"order", []*tarEntry{dir("a"), file("a/z", ""), file("a-b", ""), file("a.b", "")}, "A /a,A /a-b,A /a.b,A /a/z"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stack := stackOf(t, append(lower(), test.upper)...)
			changes, err := Diff(stack)
			var got []string
			for _, c := range changes {
				got = append(got, c.Kind+" "+c.Path)
			}
			if err != nil || strings.Join(got, ",") != test.want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// TestPackChangesBack packs what an unpacked layer has become, and unpacks it again: nothing may be lost on the way.
func TestPackChangesBack(t *testing.T) {
	upper := []*tarEntry{
		dir("./").owned(0, 0, 0o750), dir("etc"), file("etc/passwd", "q").owned(0, 0, 0o4711), file("etc/.wh.group", ""), dir("home"), dir("home/ann"),
		file("home/ann/.wh..wh..opq", ""), file("home/ann/x", "z").xattr("user.note", "n"), hardlink("home/ann/hard", "home/ann/x"), symlink("lib", "elsewhere"),
		node(tar.TypeFifo, "fifo", 0, 0), file("usr", "now a file"), file("\xff\n odd", strings.Repeat("long", 5000)), dir(strings.Repeat("deep/", 40)),
	}
	stack := stackOf(t, append(lower(), upper)...)
	var first bytes.Buffer
	var warned []string
	warn := func(line string) { warned = append(warned, line) }
	if err := PackChanges(t.Context(), &first, stack, warn); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if _, err := Unpack(t.Context(), again, bytes.NewReader(first.Bytes()), mine()); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, again), listing(t, stack.Dirs[0]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, name := range []string{".", "etc/passwd", "home/ann/x", "fifo"} {
		a, b := stat(t, stack.Dirs[0]+"/"+name), stat(t, again+"/"+name)
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Nlink != b.Nlink || a.Mtim.Sec != b.Mtim.Sec {
			t.Errorf("%s: %o %d %d", name, b.Mode, b.Uid, b.Nlink)
		}
	}
	stack.Dirs[0] = again
	var second bytes.Buffer
	if err := PackChanges(t.Context(), &second, stack, warn); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("packed twice: %v, %q and %q", err, names(t, first.Bytes()), names(t, second.Bytes()))
	}
	if len(warned) > 0 {
		t.Errorf("%q", warned)
	}
}

// TestPackChangesNothing: no change is the empty tar, whose diff ID says so.
func TestPackChangesNothing(t *testing.T) {
	stack := stackOf(t, append(lower(), nil)...)
	var b bytes.Buffer
	if err := PackChanges(t.Context(), &b, stack, nil); err != nil || sha256Of(b.Bytes()).String() != emptyTar {
		t.Errorf("%v, %q", err, names(t, b.Bytes()))
	}
	if err := os.Chmod(stack.Dirs[0], 0o711); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := PackChanges(t.Context(), &b, stack, nil); err != nil || !slices.Equal(names(t, b.Bytes()), []string{"./"}) {
		t.Errorf("%v, %q", err, names(t, b.Bytes()))
	}
}

// TestPackChangesForged: names that mean deletion in a layer are not a program's to make.
func TestPackChangesForged(t *testing.T) {
	stack := stackOf(t, append(lower(), nil)...)
	populate(t, stack.Dirs[0], "f etc/.wh.passwd x\nf .wh..wh..opq x\nd .wh.usr/sub\nf etc/fine x")
	var b bytes.Buffer
	warned := 0
	if err := PackChanges(t.Context(), &b, stack, func(string) { warned++ }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, b.Bytes()), " "); got != "./ etc/ etc/fine" || warned != 3 {
		t.Errorf("%q, %d warnings", got, warned)
	}
}

// TestOwnersInherited: where programs have one id, what they changed still belongs to whom the image says.
func TestOwnersInherited(t *testing.T) {
	stack := Stack{OneID: true}
	var lines bytes.Buffer
	image, _ := unpackTo(t, UnpackOptions{OneID: true, Owners: &lines}, ownedLayer()...)
	owners := filepath.Join(t.TempDir(), "owners")
	if err := os.WriteFile(owners, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	upper := t.TempDir()
	stack.Dirs, stack.Owners = []string{upper, image}, []string{"", owners}
	// As overlay does it: a copy with the same mode and, unless it is written to, the same time.
	populate(t, upper, "f shadow changed\nd www\nf www/new x\nf ping x\nf null \nf plain y\nd twice")
	for name, mode := range map[string]uint32{"shadow": 0o640, "www": 0o755, "ping": 0o755, "null": 0o666, "plain": 0o600} {
		if err := unix.Chmod(upper+"/"+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ping"} {
		st := stat(t, image+"/"+name)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, upper+"/"+name, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
			t.Fatal(err)
		}
	}
	me, my := os.Geteuid(), os.Getegid()
	want := map[string]string{
		"shadow": "0:42 640 0 ", "www/": "33:33 555 5 ", "www/new": fmt.Sprintf("%d:%d 644 0 ", me, my), "ping": "0:0 755 0 " + capPing,
		"null": "0:0 666 3 1:3", "plain": fmt.Sprintf("%d:%d 600 0 ", me, my), "twice/": fmt.Sprintf("%d:%d 755 5 ", me, my),
	}
	describe := func(h *tar.Header) string {
		s := fmt.Sprintf("%d:%d %o %c %s", h.Uid, h.Gid, h.Mode, h.Typeflag, h.PAXRecords[xattrPrefix+"security.capability"])
		if h.Typeflag == tar.TypeChar {
			s += fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
		}
		return s
	}
	pack := func(f func(*bytes.Buffer) error) map[string]string {
		var b bytes.Buffer
		if err := f(&b); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, h := range headers(t, b.Bytes()) {
			got[h.Name] = describe(h)
		}
		delete(got, "./")
		return got
	}
	changes := pack(func(b *bytes.Buffer) error { return PackChanges(t.Context(), b, stack, nil) })
	if !reflect.DeepEqual(changes, want) {
		t.Errorf("changes: %q\nwant %q", changes, want)
	}
	all := pack(func(b *bytes.Buffer) error { return PackMerged(t.Context(), b, stack, nil) })
	want["www/secret"], want["sda"], want["link"] = "33:33 0 0 ", "0:6 660 4 ", "5:5 777 2 "
	for name, w := range want {
		if got := all[name]; got != w {
			t.Errorf("all: %s: %q, want %q", name, got, w)
		}
	}
	stack.OneID = false
	if got := pack(func(b *bytes.Buffer) error { return PackChanges(t.Context(), b, stack, nil) }); got["shadow"] == want["shadow"] {
		t.Error("what belongs to somebody else now is given back to its owner")
	}
}

// TestPackMerged compares with what an overlay of the same layers shows.
func TestPackMerged(t *testing.T) {
	upper := []*tarEntry{dir("etc"), file("etc/passwd", "q"), dir("home"), dir("home/ann"), file("home/ann/.wh..wh..opq", ""), file("home/ann/z", ""),
		file("usr/share/doc/.wh.a", ""), file(".wh.lib", ""), hardlink("hard", "etc/passwd")}
	stack := stackOf(t, append(lower(), upper)...)
	var b bytes.Buffer
	if err := PackMerged(t.Context(), &b, stack, nil); err != nil {
		t.Fatal(err)
	}
	const want = "etc/ etc/passwd hard home/ home/ann/ home/ann/z usr/ usr/lib/ usr/share/ usr/share/doc/ usr/share/doc/b"
	if got := strings.Join(names(t, b.Bytes()), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if os.Geteuid() != 0 {
		return
	}
	mnt, work := t.TempDir(), t.TempDir()
	if err := unix.Mount("overlay", mnt, "overlay", 0, "lowerdir="+strings.Join(stack.Dirs, ":")); err != nil {
		t.Skip(err, work)
	}
	defer func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) }()
	out := t.TempDir()
	if _, err := Unpack(t.Context(), out, &b, mine()); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, out), listing(t, mnt); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPackChangesAttacked packs an upper directory in which somebody swaps a directory for a link that leads out.
func TestPackChangesAttacked(t *testing.T) {
	root, _, stop := attacked(t)
	defer stop()
	for _, pack := range []func(b *bytes.Buffer, s Stack) error{
		func(b *bytes.Buffer, s Stack) error { return PackChanges(t.Context(), b, s, nil) },
		func(b *bytes.Buffer, s Stack) error { return PackMerged(t.Context(), b, s, nil) },
	} {
		inside := 0
		for range 1000 {
			var b bytes.Buffer
			_ = pack(&b, Stack{Dirs: []string{root, t.TempDir()}, Owners: []string{"", ""}})
			if bytes.Contains(b.Bytes(), []byte("SECRET")) {
				t.Fatal("what lies outside came out")
			}
			inside += bytes.Count(b.Bytes(), []byte("inside"))
		}
		if inside == 0 {
			t.Error("nothing was packed")
		}
	}
}
