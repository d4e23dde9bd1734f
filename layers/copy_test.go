package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// copied copies a directory of an overlay to a new one, or fails the test.
func copied(t *testing.T, dirs []string, path string, opt CopyOptions) string {
	t.Helper()
	to := t.TempDir()
	if err := copyInto(t.Context(), dirs, path, to, opt); err != nil {
		t.Fatal(err)
	}
	return to
}

func copyInto(ctx context.Context, dirs []string, path, to string, opt CopyOptions) error {
	f, err := os.Open(to)
	if err != nil {
		return err
	}
	defer f.Close()
	return CopyDir(ctx, dirs, path, f, opt)
}

// TestCopyDir compares all that a copy keeps with the original.
func TestCopyDir(t *testing.T) {
	owner := func(e *tarEntry, mode int64) *tarEntry {
		if os.Geteuid() != 0 {
			return e.with(func(h *tar.Header) { h.Mode = mode })
		}
		return e.owned(42, 43, mode)
	}
	root, _ := unpackTo(t, mine(),
		owner(dir("srv/data"), 0o2750), file("srv/data/plain", "x").xattr("user.color", "red"), owner(file("srv/data/setuid", "y"), 0o4711),
		symlink("srv/data/link", "../../../outside"), hardlink("srv/data/again", "srv/data/plain"), hardlink("srv/data/sub/third", "srv/data/plain"),
		owner(node(tar.TypeFifo, "srv/data/fifo", 0, 0), 0o611), owner(dir("srv/data/sticky"), 0o1777).xattr("user.d", "1"),
		file("srv/data/empty", ""),
	)
	from := filepath.Join(root, "srv/data")
	to := copied(t, []string{root}, "/srv/data", CopyOptions{OneID: os.Geteuid() != 0})
	if a, b := listing(t, from), listing(t, to); a != b {
		t.Errorf("got\n%s\nwant\n%s", b, a)
	}
	for _, name := range []string{".", "plain", "setuid", "link", "again", "sub", "sub/third", "fifo", "sticky", "empty"} {
		a, b := stat(t, filepath.Join(from, name)), stat(t, filepath.Join(to, name))
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim || a.Nlink != b.Nlink && name != "." {
			t.Errorf("%s: %o %d:%d %v %d names, want %o %d:%d %v %d", name, b.Mode, b.Uid, b.Gid, b.Mtim, b.Nlink, a.Mode, a.Uid, a.Gid, a.Mtim, a.Nlink)
		}
	}
	for name, xattr := range map[string]string{"plain": "color", "sub/third": "color", "sticky": "d"} {
		value := make([]byte, 10)
		if _, err := unix.Getxattr(filepath.Join(to, name), "user."+xattr, value); err != nil {
			t.Errorf("%s: user.%s: %v", name, xattr, err)
		}
	}
}

// TestCopyDirRights copies what only root may: a capability, an ACL, a device. Overlay's own marks and labels stay behind.
func TestCopyDirRights(t *testing.T) {
	needRoot(t)
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	root, _ := unpackTo(t, mine(), file("d/ping", "x").owned(5, 5, 0o755).xattr("security.capability", capability),
		node(tar.TypeChar, "d/null", 1, 3), dir("d/sub"))
	for _, name := range []string{"trusted.overlay.opaque", "trusted.other", "security.ima"} {
		if err := unix.Setxattr(filepath.Join(root, "d/sub"), name, []byte("y"), 0); err != nil && name != "security.ima" {
			t.Fatal(err)
		}
	}
	to := copied(t, []string{root}, "d", CopyOptions{})
	var value [64]byte
	if n, err := unix.Getxattr(filepath.Join(to, "ping"), "security.capability", value[:]); err != nil || string(value[:n]) != capability {
		t.Errorf("capability %q, %v", value[:max(n, 0)], err)
	}
	if st := stat(t, filepath.Join(to, "null")); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device %o %d", st.Mode, st.Rdev)
	}
	if n, err := unix.Listxattr(filepath.Join(to, "sub"), value[:]); err != nil || strings.Contains(string(value[:n]), "trusted") {
		t.Errorf("xattrs %q, %v", value[:max(n, 0)], err)
	}
}

// TestCopyDirFinds follows links inside, and nowhere else.
func TestCopyDirFinds(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	low, _ := unpackTo(t, mine(), file("srv/real/a", "1"), symlink("data", "/srv/real"), symlink("var", "srv"), symlink("up", "../../../../srv"),
		symlink("abs", outside), symlink("climb", "../../../../../../../../"+outside), symlink("loop", "loop"), file("plain", ""), dir("gone"))
	top, _ := unpackTo(t, mine(), file("srv/real/b", "2"), file(".wh.gone", ""), symlink("srv/real/out", outside))
	dirs := []string{top, low}
	want := "a \"1\"\nb \"2\"\nout -> " + outside
	for _, path := range []string{"/data", "data/", "/var/real", "/up/real", "/../srv/real", "/srv/./real"} {
		if got := listing(t, copied(t, dirs, path, CopyOptions{OneID: os.Geteuid() != 0})); got != want {
			t.Errorf("%s:\n%s", path, got)
		}
	}
	for path, want := range map[string]error{
		"/abs": fs.ErrNotExist, "/climb": fs.ErrNotExist, "/nowhere": fs.ErrNotExist, "/gone": fs.ErrNotExist, "/loop": unix.ELOOP,
		"/plain": unix.ENOTDIR, "/plain/x": unix.ENOTDIR,
	} {
		to := t.TempDir()
		if err := copyInto(t.Context(), dirs, path, to, CopyOptions{}); !errors.Is(err, want) || listing(t, to) != "" {
			t.Errorf("%s: %v, and %q", path, err, listing(t, to))
		}
	}
}

// TestCopyDirSparse keeps holes, and copies more than one piece.
func TestCopyDirSparse(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 70 << 20, 150<<20 - 3} {
		if _, err := f.WriteAt([]byte("xyz"), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	to := copied(t, []string{root}, "/", CopyOptions{OneID: os.Geteuid() != 0})
	st := stat(t, filepath.Join(to, "big"))
	if st.Size != 200<<20 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes on %d of disk", st.Size, st.Blocks*512)
	}
	data, err := os.ReadFile(filepath.Join(to, "big"))
	if err != nil || strings.Count(string(data), "xyz") != 3 || string(data[70<<20:70<<20+3]) != "xyz" {
		t.Error(err, strings.Count(string(data), "xyz"))
	}
}

// TestCopyDirEnds gives up when asked to, and says what it could not do.
func TestCopyDirEnds(t *testing.T) {
	root, _ := unpackTo(t, mine(), file("d/a", "1"))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("enough"))
	if err := copyInto(ctx, []string{root}, "/", t.TempDir(), CopyOptions{}); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
	to := t.TempDir()
	if err := os.Mkdir(filepath.Join(to, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyInto(t.Context(), []string{root}, "/d", to, CopyOptions{}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), `copy "/a"`) {
		t.Error(err)
	}
}
