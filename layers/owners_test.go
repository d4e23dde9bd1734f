package layers

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// capPing is cap_net_raw=ep, as in an image's ping.
const capPing = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// owned is a layer with everything that one user cannot have.
func ownedLayer() []*tarEntry {
	return []*tarEntry{
		dir("./"), file("plain", "x"), file("shadow", "x").owned(0, 42, 0o640), dir("www").owned(33, 33, 0o555),
		file("www/secret", "x").owned(33, 33, 0), symlink("link", "x").owned(5, 5, 0o777),
		node(tar.TypeChar, "null", 1, 3).owned(0, 0, 0o666), node(tar.TypeBlock, "sda", 8, 0).owned(0, 6, 0o660),
		file("ping", "x").owned(0, 0, 0o755).xattr("security.capability", capPing).xattr("user.note", "n"),
		file("name \"with\"\nall\xff", "x").owned(7, 0, 0o644),
		hardlink("hard", "shadow").owned(0, 42, 0o640),
		file("twice", "1").owned(9, 9, 0o644), file("twice", "2"),
		dir("was"), file("was/in", "").owned(9, 9, 0o644), file("was", "file"),
	}
}

func TestOneID(t *testing.T) {
	var lines bytes.Buffer
	root, u := unpackTo(t, UnpackOptions{OneID: true, Owners: &lines}, ownedLayer()...)
	owners, err := ReadOwners(bytes.NewReader(lines.Bytes()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, &lines)
	}
	want := map[string]Owner{
		"shadow":                 {UID: 0, GID: 42, Mode: unix.S_IFREG | 0o640},
		"hard":                   {UID: 0, GID: 42, Mode: unix.S_IFREG | 0o640},
		"www":                    {UID: 33, GID: 33, Mode: unix.S_IFDIR | 0o555},
		"www/secret":             {UID: 33, GID: 33, Mode: unix.S_IFREG},
		"link":                   {UID: 5, GID: 5, Mode: unix.S_IFLNK | 0o777},
		"null":                   {Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3},
		"sda":                    {GID: 6, Mode: unix.S_IFBLK | 0o660, Major: 8},
		"ping":                   {Mode: unix.S_IFREG | 0o755, Xattrs: map[string]string{"security.capability": capPing}},
		"name \"with\"\nall\xff": {UID: 7, Mode: unix.S_IFREG | 0o644},
		"twice":                  {Mode: unix.S_IFREG | 0o644},
		"was":                    {Mode: unix.S_IFREG | 0o644},
	}
	for path, o := range want {
		o.Path = path
		if got := owners[path]; !reflect.DeepEqual(got, o) {
			t.Errorf("%q: %+v, want %+v", path, got, o)
		}
		delete(owners, path)
	}
	if len(owners) > 1 || len(owners) == 1 && owners[""].Mode == 0 { // the layer's own line does no harm
		t.Errorf("more lines: %q", slices.Collect(maps.Keys(owners)))
	}
	if u.AllRoot || u.Both {
		t.Errorf("%+v", u)
	}
	for path, mode := range map[string]uint32{"www": 0o755, "www/secret": 0o400, "null": 0o666, "plain": 0o644} {
		st := stat(t, root+"/"+path)
		if st.Mode&0o7777 != mode || int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT == unix.S_IFCHR {
			t.Errorf("%s: mode %o, owner %d", path, st.Mode, st.Uid)
		}
	}
	if err := RemoveTree(root); err != nil {
		t.Error(err)
	}
}

// TestOwnersAsRoot unpacks the same with every right.
func TestOwnersAsRoot(t *testing.T) {
	needRoot(t)
	var lines bytes.Buffer
	root, u := unpackTo(t, UnpackOptions{Owners: &lines}, ownedLayer()...)
	if lines.Len() != 0 || u.AllRoot || u.Both {
		t.Errorf("%+v, and owners\n%s", u, &lines)
	}
	for path, want := range map[string]unix.Stat_t{
		"shadow": {Gid: 42, Mode: unix.S_IFREG | 0o640}, "www/secret": {Uid: 33, Gid: 33, Mode: unix.S_IFREG},
		"link": {Uid: 5, Gid: 5, Mode: unix.S_IFLNK | 0o777}, "null": {Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)},
		"sda": {Gid: 6, Mode: unix.S_IFBLK | 0o660, Rdev: unix.Mkdev(8, 0)}, "twice": {Mode: unix.S_IFREG | 0o644},
	} {
		got := stat(t, root+"/"+path)
		if got.Uid != want.Uid || got.Gid != want.Gid || got.Mode != want.Mode || got.Rdev != want.Rdev {
			t.Errorf("%s: %d:%d %o %d", path, got.Uid, got.Gid, got.Mode, got.Rdev)
		}
	}
	buf := make([]byte, 100)
	n, err := unix.Lgetxattr(root+"/ping", "security.capability", buf)
	if err != nil || string(buf[:n]) != capPing {
		t.Errorf("capabilities %q, %v", buf[:max(n, 0)], err)
	}
}

// TestBothForms finds out when one form will do for root and for somebody with one id.
func TestBothForms(t *testing.T) {
	tests := []struct {
		name string
		both bool
		e    *tarEntry
	}{
		{"plain", true, file("a", "")}, {"other owner", false, file("a", "").owned(1, 0, 0o644)},
		{"unreadable", false, file("a", "").owned(0, 0, 0)}, {"read-only directory", false, dir("a").owned(0, 0, 0o555)},
		{"setuid", true, file("a", "").owned(0, 0, 0o4755)}, {"whiteout", true, file(".wh.a", "")},
		{"device", false, node(tar.TypeChar, "a", 1, 3)}, {"FIFO", true, node(tar.TypeFifo, "a", 0, 0)},
		{"capability", false, file("a", "").xattr("security.capability", capPing)},
		{"user xattr", true, file("a", "").xattr("user.a", "b")},
		{"opaque", os.Geteuid() != 0, file("a/.wh..wh..opq", "")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			forms := []bool{true}
			if os.Geteuid() == 0 {
				forms = append(forms, false)
			}
			for _, oneID := range forms {
				var lines bytes.Buffer
				_, u := unpackTo(t, UnpackOptions{OneID: oneID, Owners: &lines}, test.e)
				if u.Both != test.both {
					t.Errorf("one id %v: Both is %v", oneID, u.Both)
				}
				if u.Both && lines.Len() > 0 {
					t.Errorf("one id %v: same in both forms, but\n%s", oneID, &lines)
				}
			}
		})
	}
}

func TestReadOwnersErrors(t *testing.T) {
	for _, line := range []string{"x", "0:0 644 -", "a:b 644 - \"f\"", "0:0 644 - f", "0:0 644 x \"f\"", "0:0 644 - \"f\" \"x\"=!", "- f"} {
		if _, err := ReadOwners(strings.NewReader(line + "\n")); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestRemoveTree(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"a/b/c", "a/d"} {
		if err := os.MkdirAll(root+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"a/b/c", "a/b", "a/d", "a"} {
		if err := os.Chmod(root+"/"+d, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTree(root + "/a"); err != nil {
		t.Error(err)
	}
	if err := RemoveTree(root + "/never"); err != nil {
		t.Error(err)
	}
}
