package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unpackMarked unpacks like Unpack, with whiteouts as xattrs if asked.
func unpackMarked(t *testing.T, opt UnpackOptions, xattr bool, entries ...*tarEntry) (string, *Unpacked) {
	t.Helper()
	root := t.TempDir()
	u, err := newUnpacking(root, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer u.tree.close()
	u.marks.xattr = xattr
	if err := u.walk(t.Context(), bytes.NewReader(makeTar(t, entries...))); err != nil {
		t.Fatal(err)
	}
	if err := u.finishFolders(); err != nil {
		t.Fatal(err)
	}
	return root, &u.out
}

// mountOverlay mounts an overlay of dirs, topmost first, and gives where.
func mountOverlay(t *testing.T, options string, dirs ...string) string {
	t.Helper()
	at := t.TempDir()
	data := "lowerdir=" + strings.Join(dirs, ":") + options
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, data); err != nil {
		t.Fatalf("mount overlay, %s: %v", data, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return at
}

// overlayCases are layers, lowest first, and what is seen of them.
var overlayCases = []struct {
	name   string
	layers [][]*tarEntry
	want   string
}{
	{"file", [][]*tarEntry{{file("a", "1"), file("b", "1")}, {file(".wh.a", "")}}, `b "1"`},
	{"deep", [][]*tarEntry{{file("d/e/a", "1"), file("d/e/b", "1")}, {file("d/e/.wh.a", ""), file("d/c", "2")}},
		"d/\nd/c \"2\"\nd/e/\nd/e/b \"1\""},
	{"directory", [][]*tarEntry{{file("d/a", "1"), file("b", "1")}, {file(".wh.d", "")}}, `b "1"`},
	{"opaque", [][]*tarEntry{{file("d/a", "1"), file("d/e/b", "1")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/c", "2")}},
		"d/\nd/c \"2\""},
	{"opaque after files", [][]*tarEntry{{file("d/a", "1")}, {file("d/c", "2"), file("d/.wh..wh..opq", "")}}, "d/\nd/c \"2\""},
	{"opaque root", [][]*tarEntry{{file("a", "1")}, {file(".wh..wh..opq", ""), file("b", "2")}}, `b "2"`},
	{"whiteout then file", [][]*tarEntry{{file("a", "1")}, {file(".wh.a", ""), file("a", "2")}}, `a "2"`},
	{"file then whiteout", [][]*tarEntry{{file("a", "1")}, {file("a", "2"), file(".wh.a", "")}}, `a "2"`},
	{"whiteout then directory", [][]*tarEntry{{file("d/a", "1")}, {file(".wh.d", ""), dir("d"), file("d/b", "2")}},
		"d/\nd/b \"2\""},
	{"whiteout then file below", [][]*tarEntry{{file("d/a", "1")}, {file(".wh.d", ""), file("d/b", "2")}}, "d/\nd/b \"2\""},
	{"directory then whiteout", [][]*tarEntry{{file("d/a", "1")}, {file("d/b", "2"), file(".wh.d", "")}}, "d/\nd/b \"2\""},
	{"whiteout of nothing", [][]*tarEntry{{file("a", "1")}, {file(".wh.b", "")}}, `a "1"`},
	{"three layers", [][]*tarEntry{{file("d/a", "1")}, {file(".wh.d", "")}, {file("d/b", "3")}}, "d/\nd/b \"3\""},
	{"aufs", [][]*tarEntry{{file("a", "1")}, {dir(".wh..wh.plnk"), file(".wh..wh.aufs", "")}}, `a "1"`},
	{"device 0:0", [][]*tarEntry{{file("a", "1"), file("b", "1")}, {node(tar.TypeChar, "a", 0, 0)}}, `b "1"`},
}

// TestWhiteouts has the kernel's overlay read what Unpack writes, in each form it may take.
func TestWhiteouts(t *testing.T) {
	needRoot(t)
	forms := []struct {
		name    string
		oneID   bool
		xattr   bool
		options string
	}{
		{"root", false, false, ""},
		{"one id", true, false, ",userxattr"},
		{"root by xattrs", false, true, ""},
		{"one id by xattrs", true, true, ",userxattr"},
	}
	for _, form := range forms {
		for _, test := range overlayCases {
			t.Run(form.name+"/"+test.name, func(t *testing.T) {
				dirs := []string{t.TempDir(), t.TempDir()} // the kernel takes no overlay of one
				for _, layer := range test.layers {
					dir, u := unpackMarked(t, UnpackOptions{OneID: form.oneID}, form.xattr, layer...)
					if u.OpaqueRoot {
						dirs = dirs[len(dirs)-2:] // the empty ones
					}
					dirs = append([]string{dir}, dirs...)
				}
				if got := listing(t, mountOverlay(t, form.options, dirs...)); got != test.want {
					t.Errorf("the kernel sees\n%s\nwant\n%s", got, test.want)
				}
				if got := lookupListing(t, dirs); got != test.want {
					t.Errorf("OpenFile sees\n%s\nwant\n%s", got, test.want)
				}
				if got := listing(t, copied(t, dirs, "/", CopyOptions{OneID: form.oneID})); got != test.want {
					t.Errorf("CopyDir sees\n%s\nwant\n%s", got, test.want)
				}
			})
		}
	}
}

// lookupListing is listing through OpenFile: it tries every name that is in any of the layers.
func lookupListing(t *testing.T, dirs []string) string {
	t.Helper()
	seen := make(map[string]bool)
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(dir, p); err == nil && rel != "." {
				seen[rel] = true
			}
			return nil
		})
	}
	root := t.TempDir()
	for rel := range seen {
		f, err := OpenFile(dirs, rel)
		if err != nil {
			continue
		}
		copyTo(t, f, filepath.Join(root, rel))
	}
	return listing(t, root)
}

// copyTo makes path what f is, a directory or a small file.
func copyTo(t *testing.T, f *os.File, path string) {
	t.Helper()
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st.IsDir() {
		err = os.MkdirAll(path, 0o755)
	} else {
		b := make([]byte, st.Size())
		if len(b) > 0 {
			_, err = f.Read(b)
		}
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestForgedMarks gives a layer that brings overlay's own xattrs.
func TestForgedMarks(t *testing.T) {
	root, u := unpackTo(t, mine(),
		dir("d").xattr("trusted.overlay.opaque", "y").xattr("user.overlay.opaque", "y").xattr("trusted.overlay.redirect", "/etc"),
		file("f", "").xattr("user.overlay.whiteout", "y").xattr("user.kept", "v").xattr("security.selinux", "label"),
	)
	for _, name := range []string{"d", "f"} {
		fd, err := unix.Open(filepath.Join(root, name), unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		buf := make([]byte, 1000)
		n, err := unix.Flistxattr(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"d": "", "f": "user.kept\x00"}[name]
		if got := string(buf[:n]); got != want {
			t.Errorf("%s has xattrs %q, want %q", name, got, want)
		}
	}
	if !u.Both {
		t.Error("the xattrs that were dropped made a difference")
	}
}

// TestWhiteoutAsUser makes the device that stands for a whiteout without any right, as Linux allows since 5.8.
func TestWhiteoutAsUser(t *testing.T) {
	if !kernelAtLeast(5, 8) {
		t.Skip("Linux before 5.8")
	}
	root, _ := unpackTo(t, UnpackOptions{OneID: true}, file(".wh.a", ""))
	if st := stat(t, root+"/a"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("mode %o, device %d", st.Mode, st.Rdev)
	}
}

func TestOpenFile(t *testing.T) {
	low, _ := unpackTo(t, mine(), file("etc/passwd", "low"), symlink("etc/abs", "/etc/passwd"), symlink("etc/rel", "../etc/./passwd"),
		symlink("loop", "loop"), symlink("far", "/../../../etc/passwd"), symlink("var/run", "/run"), file("run/pid", "1"),
		node(tar.TypeFifo, "fifo", 0, 0), symlink("gone", "nowhere"))
	up, _ := unpackTo(t, mine(), file("etc/group", "up"), symlink("a/b/c", "../../etc"))
	dirs := []string{up, low}
	for path, want := range map[string]string{
		"/etc/passwd": "low", "etc/group": "up", "/etc/abs": "low", "/etc/rel": "low", "/far": "low", "var/run/pid": "1",
		"a/b/c/passwd": "low", "a/b/../../etc//passwd": "low", "/a/b/c/../etc/group": "up", "../../etc/group": "up",
	} {
		f, err := OpenFile(dirs, path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got := make([]byte, 10)
		n, _ := f.Read(got)
		f.Close()
		if string(got[:n]) != want {
			t.Errorf("%s: %q, want %q", path, got[:n], want)
		}
	}
	for path, want := range map[string]error{
		"/etc/shadow": unix.ENOENT, "/loop": unix.ELOOP, "/fifo": unix.EINVAL, "/gone": unix.ENOENT,
		"/etc/passwd/x": unix.ENOTDIR, "/nowhere/x": unix.ENOENT,
	} {
		if _, err := OpenFile(dirs, path); fmt.Sprint(err) != fmt.Sprintf("open %s: %v", path, want) && !os.IsNotExist(err) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	before := openFiles(t)
	for range 10 {
		_, _ = OpenFile(dirs, "/etc/shadow")
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}
