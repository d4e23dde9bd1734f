package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// when is the time of all test files; it has nanoseconds.
var when = time.Unix(1700000000, 123456789)

// file, dir and so on describe tar entries. Owners are the caller's, so that tests need no root.
func file(name, content string) *tarEntry {
	return &tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}
func dir(name string) *tarEntry {
	return &tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}
func symlink(name, to string) *tarEntry {
	return &tarEntry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}
func hardlink(name, to string) *tarEntry {
	return &tarEntry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}, ""}
}
func node(kind byte, name string, major, minor int64) *tarEntry {
	return &tarEntry{tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}, ""}
}

type tarEntry struct {
	h       tar.Header
	content string
}

// with changes an entry's header.
func (e *tarEntry) with(change func(h *tar.Header)) *tarEntry {
	change(&e.h)
	return e
}

// owned sets owner and mode.
func (e *tarEntry) owned(uid, gid int, mode int64) *tarEntry {
	e.h.Uid, e.h.Gid, e.h.Mode = uid, gid, mode
	return e
}

// xattr adds an xattr.
func (e *tarEntry) xattr(name, value string) *tarEntry {
	if e.h.PAXRecords == nil {
		e.h.PAXRecords = map[string]string{}
	}
	e.h.PAXRecords[xattrPrefix+name] = value
	return e
}

// makeTar packs entries. An owner of 0:0 becomes the caller unless it is root or asked for one id.
func makeTar(t testing.TB, entries ...*tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.h
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() && h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = when
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mine is the options that work for whoever runs the tests.
func mine() UnpackOptions { return UnpackOptions{OneID: os.Geteuid() != 0} }

// unpackTo unpacks into a new directory, or fails the test.
func unpackTo(t testing.TB, opt UnpackOptions, entries ...*tarEntry) (string, *Unpacked) {
	t.Helper()
	to := t.TempDir()
	u, err := Unpack(context.Background(), to, bytes.NewReader(makeTar(t, entries...)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return to, u
}

// listing shows a tree, a line for each name: type, and content or target.
func listing(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		switch d.Type() {
		case os.ModeDir:
			lines = append(lines, rel+"/")
		case os.ModeSymlink:
			to, _ := os.Readlink(p)
			lines = append(lines, rel+" -> "+to)
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s %q", rel, b))
		default:
			lines = append(lines, rel+" "+d.Type().String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// needRoot skips what only root can do.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners, devices or mounts")
	}
}

// stat looks at a file itself.
func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("lstat %s: %v", path, err)
	}
	return st
}

func TestUnpackKinds(t *testing.T) {
	long := strings.Repeat("long/", 60) + strings.Repeat("n", 200)
	root, u := unpackTo(t, mine(),
		dir("./"), dir("etc/"), file("etc/motd", "hello"), symlink("etc/link", "../../../motd"),
		hardlink("etc/hard", "/etc/motd"), hardlink("etc/hardlink-to-link", "etc/link"),
		node(tar.TypeFifo, "fifo", 0, 0), file(long, "x"), file("/abs", "abs"), file("a/../b", "b"),
		file("empty", ""), &tarEntry{h: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}}},
	)
	for path, want := range map[string]string{"etc/motd": "hello", "etc/hard": "hello", long: "x", "abs": "abs", "b": "b", "empty": ""} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if to, _ := os.Readlink(filepath.Join(root, "etc/hardlink-to-link")); to != "../../../motd" {
		t.Errorf("a hard link to a link leads to %q", to)
	}
	if a, b := stat(t, root+"/etc/motd"), stat(t, root+"/etc/hard"); a.Ino != b.Ino {
		t.Error("hard link is another file")
	}
	if st := stat(t, root+"/fifo"); st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("fifo has mode %o", st.Mode)
	}
	for _, path := range []string{"", "etc", "etc/motd", "etc/link", "fifo", "empty"} {
		if st := stat(t, filepath.Join(root, path)); st.Mtim.Nano() != when.UnixNano() {
			t.Errorf("%q: modified at %v", path, time.Unix(st.Mtim.Unix()))
		}
	}
	if u.Entries != 12 || u.Size != int64(len("hello"+"x"+"abs"+"b")) {
		t.Errorf("%+v", u)
	}
}

func TestUnpackModes(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	root, _ := unpackTo(t, mine(),
		file("suid", "x").owned(0, 0, 0o4755), dir("shared").owned(0, 0, 0o2775), dir("tmp").owned(0, 0, 0o1777),
		file("shared/f", "").owned(0, 0, 0o666), dir("shared/d").owned(0, 0, 0o755), file("ro", "").owned(0, 0, 0o444),
		file("implied/f", ""),
	)
	for path, want := range map[string]uint32{
		"suid": 0o4755, "shared": 0o2775, "tmp": 0o1777, "shared/f": 0o666, "shared/d": 0o755, "ro": 0o444, "implied": 0o755,
	} {
		if st := stat(t, filepath.Join(root, path)); st.Mode&0o7777 != want {
			t.Errorf("%s: mode %o, want %o", path, st.Mode&0o7777, want)
		}
	}
}

func TestUnpackReplaces(t *testing.T) {
	tests := []struct {
		name    string
		entries []*tarEntry
		want    string
	}{
		{"file over file", []*tarEntry{file("a", "1"), hardlink("b", "a"), file("a", "2")}, "a \"2\"\nb \"1\""},
		{"directory over directory", []*tarEntry{dir("d"), file("d/a", "1"), dir("d").owned(0, 0, 0o700)}, "d/\nd/a \"1\""},
		{"file over directory", []*tarEntry{dir("d"), file("d/a/b", "1"), file("d", "2")}, `d "2"`},
		{"directory over file", []*tarEntry{file("d", "1"), dir("d"), file("d/a", "2")}, "d/\nd/a \"2\""},
		{"directory over link", []*tarEntry{dir("real"), symlink("d", "real"), dir("d"), file("d/a", "1")}, "d/\nd/a \"1\"\nreal/"},
		{"link over directory", []*tarEntry{dir("real"), dir("d"), file("d/a", "1"), symlink("d", "real"), file("d/b", "2")},
			"d -> real\nreal/\nreal/b \"2\""},
		{"link over link", []*tarEntry{dir("x"), dir("y"), symlink("d", "x"), file("d/1", ""), symlink("d", "/y"), file("d/2", "")},
			"d -> /y\nx/\nx/1 \"\"\ny/\ny/2 \"\""},
		{"hard link over file", []*tarEntry{file("a", "1"), file("b", "2"), hardlink("b", "a")}, "a \"1\"\nb \"1\""},
		{"hard link to itself", []*tarEntry{file("a", "1"), hardlink("a", "./a")}, `a "1"`},
		{"hard link twice", []*tarEntry{file("a", "1"), hardlink("b", "a"), hardlink("b", "a")}, "a \"1\"\nb \"1\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, _ := unpackTo(t, mine(), test.entries...)
			if got := listing(t, root); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestUnpackStaysInside gives links that lead out of the layer, in every way, and things to put behind them.
func TestUnpackStaysInside(t *testing.T) {
	tests := []struct {
		name    string
		entries []*tarEntry
		want    string // "" for an error
	}{
		{"absolute link", []*tarEntry{symlink("d", "/OUT"), file("d/f", "x")}, "OUT/\nOUT/f \"x\"\nd -> /OUT"},
		{"climbing link", []*tarEntry{symlink("d", "../../OUT"), file("d/f", "x")}, "OUT/\nOUT/f \"x\"\nd -> ../../OUT"},
		{"link through link", []*tarEntry{symlink("a", "b/.."), symlink("b", "/"), symlink("c", "a/../../OUT"), file("c/f", "x")},
			"OUT/\nOUT/f \"x\"\na -> b/..\nb -> /\nc -> a/../../OUT"},
		{"file over link", []*tarEntry{symlink("f", "/OUT/f"), file("f", "x")}, `f "x"`},
		{"hard link through link", []*tarEntry{symlink("d", "/OUT"), hardlink("f", "d/secret")}, ""},
		{"hard link up", []*tarEntry{hardlink("f", "../OUT/secret")}, ""},
		{"hard link to root", []*tarEntry{hardlink("f", "/")}, ""},
		{"dots", []*tarEntry{file("../OUT/f", "x")}, ""},
		{"dots inside", []*tarEntry{file("a/../../OUT/f", "x")}, ""},
		{"absolute dots", []*tarEntry{file("/../OUT/f", "x")}, ""},
		{"link to itself", []*tarEntry{symlink("d", "d"), file("d/f", "x")}, ""},
		{"links in a circle", []*tarEntry{symlink("a", "b"), symlink("b", "a"), file("a/f", "x")}, ""},
		{"file as parent", []*tarEntry{file("a", ""), file("a/f", "x")}, ""},
		{"root as file", []*tarEntry{file("/", "x").with(func(h *tar.Header) { h.Name = "." })}, ""},
		{"root as link", []*tarEntry{symlink("./", "/OUT"), file("f", "x")}, ""},
		{"whiteout of dots", []*tarEntry{file("a/.wh...", "")}, ""},
		{"whiteout of dot", []*tarEntry{file("a/.wh..", "")}, ""},
		{"whiteout of nothing", []*tarEntry{file("a/.wh.", "")}, ""},
		{"below a whiteout", []*tarEntry{file("a/.wh.b/.wh.c", "")}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			root, out := filepath.Join(base, "root"), filepath.Join(base, "OUT")
			for _, d := range []string{root, out} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(out+"/secret", []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Unpack(t.Context(), root, bytes.NewReader(makeTar(t, test.entries...)), mine())
			if got := listing(t, out); got != `secret "secret"` {
				t.Fatalf("outside is now:\n%s", got)
			}
			if test.want == "" {
				if err == nil {
					t.Errorf("no error, and:\n%s", listing(t, root))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, root); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	opt := mine()
	opt.Limits = Limits{Entries: 3, Path: 30, Depth: 4, Size: 4096}
	tests := []struct {
		name string
		tar  []byte
		want string
	}{
		{"entries", makeTar(t, file("a", ""), file("b", ""), file("c", ""), file("d", "")), "limit Entries"},
		{"path", makeTar(t, file(strings.Repeat("p", 31), "")), "limit Path"},
		{"target", makeTar(t, symlink("a", strings.Repeat("p", 31))), "limit Path"},
		{"depth", makeTar(t, file("a/b/c/d/e", "")), "limit Depth"},
		{"size", makeTar(t, file("a", strings.Repeat("x", 5000))), "limit Size"},
		{"drain", append(makeTar(t), make([]byte, 8192)...), "limit Size"},
		{"type", makeTar(t, &tarEntry{h: tar.Header{Typeflag: 'V', Name: "a"}}), `entry type 'V': not supported`},
		{"no target", makeTar(t, symlink("a", "")), "without a target"},
		{"hard link to nothing", makeTar(t, hardlink("a", "b")), "not in this layer"},
		{"cut short", makeTar(t, file("a", "content"))[:1300], "unexpected EOF"},
		{"no tar", bytes.Repeat([]byte("x"), 2048), "read tar"},
		{"owner", makeTar(t, file("a", "").owned(1<<32-1, 0, 0o644)), "not an id"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(test.tar), opt)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q in it", err, test.want)
			}
		})
	}
	var limit *LimitError
	_, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(tests[0].tar), opt)
	if !errors.As(err, &limit) || limit.Limit != "Entries" || limit.Max != 3 {
		t.Errorf("no LimitError: %v", err)
	}
}

// TestUnpackLower links to files of layers below, one of them hidden.
func TestUnpackLower(t *testing.T) {
	low, _ := unpackTo(t, mine(), file("d/a", "low"), file("gone", ""), symlink("l", "/d"))
	mid, _ := unpackTo(t, mine(), file(".wh.gone", ""))
	opt := mine()
	opt.Lower = []string{mid, low}
	root, _ := unpackTo(t, opt, hardlink("b", "d/a"), hardlink("c", "l/a"))
	if got := listing(t, root); got != "b \"low\"\nc \"low\"" {
		t.Errorf("got\n%s", got)
	}
	for _, target := range []string{"gone", "d", "none"} {
		_, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(makeTar(t, hardlink("x", target))), opt)
		if err == nil {
			t.Errorf("link to %s: no error", target)
		}
	}
}

func TestUnpackCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, t.TempDir(), bytes.NewReader(makeTar(t, file("a", ""))), mine()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestUnpackSparse reads a file that GNU tar packed with its holes left out, in the form of --format=posix.
func TestUnpackSparse(t *testing.T) {
	const size = 4 << 20
	content := "1\n2097152\n5\n" // one piece: at 2 MiB, 5 bytes
	content += strings.Repeat("\x00", 512-len(content)) + "piece"
	var b bytes.Buffer
	pax := ""
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=sparse", fmt.Sprintf("GNU.sparse.realsize=%d", size)} {
		n := len(kv) + 2
		for len(fmt.Sprint(n))+len(kv)+2 != n {
			n++
		}
		pax += fmt.Sprintf("%d %s\n", n, kv)
	}
	raw := func(kind byte, name, body string) {
		var head bytes.Buffer
		w := tar.NewWriter(&head)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		h := head.Bytes()
		h[156] = kind
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h[:512] {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h[:512])
		b.WriteString(body)
		b.Write(make([]byte, (512-len(body)%512)%512))
	}
	raw('x', "PaxHeaders/sparse", pax)
	raw('0', "GNUSparseFile.0/sparse", content)
	b.Write(make([]byte, 1024))
	root := t.TempDir()
	if _, err := Unpack(t.Context(), root, &b, mine()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(root + "/sparse")
	if err != nil || len(got) != size || string(got[2<<20:2<<20+5]) != "piece" || !allZero(got[:2<<20]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if st := stat(t, root+"/sparse"); st.Blocks*512 > 64<<10 {
		t.Errorf("takes %d bytes of disk", st.Blocks*512)
	}
}

func TestUnpackManyFolders(t *testing.T) {
	var entries []*tarEntry
	for round := range 3 { // more folders than are kept open, come back to again and again
		for i := range 3 * maxFolders {
			entries = append(entries, file(fmt.Sprintf("d%d/sub/f%d", i, round), "x"))
		}
	}
	before := openFiles(t)
	root, _ := unpackTo(t, mine(), entries...)
	if got := strings.Count(listing(t, root), `"x"`); got != len(entries) {
		t.Errorf("%d files", got)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t testing.TB) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
