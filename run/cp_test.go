package run

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// swapVerb keeps exchanging a directory and a link to where $OUTSIDE says.
func swapVerb() error {
	if err := errors.Join(os.MkdirAll("/w/d/sub", 0o755), os.WriteFile("/w/d/secret", []byte("inside"), 0o644), os.Symlink(os.Getenv("OUTSIDE"), "/w/x")); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, "/w/d", unix.AT_FDCWD, "/w/x", unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}

// elsewhere starts a container in another hull.
func elsewhere(t *testing.T, config Config) *Container {
	t.Helper()
	otherHull(t, config)
	c, err := testHost(t).Find(config.Name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// archive is a path of a container as a tar.
func archive(t *testing.T, c *Container, path string) ([]byte, error) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = c.Archive(t.Context(), path, f, CopyOptions{Follow: true})
	b, _ := os.ReadFile(f.Name())
	return b, err
}

// TestCopyAttacked copies into and out of a container that swaps a directory on the way for a link to one of the host's.
func TestCopyAttacked(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.MkdirAll(outside+"/sub", 0o777), os.WriteFile(outside+"/secret", []byte("SECRET"), 0o644)); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadDir(outside)
	config := verbConfig(t, "swap", "OUTSIDE="+outside)
	config.Name = "swapper"
	c := elsewhere(t, config)
	source := t.TempDir()
	if err := errors.Join(os.WriteFile(source+"/secret", []byte("mine"), 0o644), unix.Mkfifo(source+"/fifo", 0o777), os.Mkdir(source+"/sub", 0o755),
		os.WriteFile(source+"/sub/f", nil, 0o600), os.Symlink("x", source+"/link")); err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for range 60 {
		if _, err := c.CopyIn(t.Context(), source+"/.", "/w/d", CopyOptions{}); err == nil {
			in++
		}
		if _, err := c.CopyIn(t.Context(), source+"/secret", "/w/d/sub/../secret", CopyOptions{}); err == nil {
			in++
		}
		for _, path := range []string{"/w", "/w/d/.", "/w/d/secret", "/w/d/sub/../secret"} {
			got, _ := archive(t, c, path)
			if bytes.Contains(got, []byte("SECRET")) {
				t.Fatalf("%s: what lies outside came out", path)
			}
			out += bytes.Count(got, []byte("mine"))
		}
		to := filepath.Join(t.TempDir(), "to")
		_, _ = c.CopyOut(t.Context(), "/w", to, CopyOptions{})
		for _, name := range []string{"d", "x"} { // one of them is a link that leads there, and stays one
			if st, err := os.Lstat(to + "/" + name); err != nil || !st.IsDir() {
				continue
			}
			if b, _ := os.ReadFile(to + "/" + name + "/secret"); string(b) == "SECRET" {
				t.Fatal("what lies outside was copied out")
			}
		}
	}
	after, _ := os.ReadDir(outside)
	if b, err := os.ReadFile(outside + "/secret"); string(b) != "SECRET" || err != nil || len(after) != len(before) {
		t.Errorf("outside is now %v, %q, %v", after, b, err)
	}
	if in == 0 || out == 0 {
		t.Errorf("%d copies went in and %d came out: nothing was tried", in, out)
	}
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestCopyStopped copies to and from a container that has not run yet, in which nothing stays mounted.
func TestCopyStopped(t *testing.T) {
	h := testHost(t)
	bound, source := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(source, []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	config := verbConfig(t, "exit", "CODE=0")
	config.Lifetime.Remove = false
	config.Files.Mounts = []MountSpec{{Type: MountBind, Source: bound, Target: "/b"}, {Type: MountTmpfs, Target: "/t"}}
	c := create(t, h, config)
	c.Close()
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"/b/x", "/tmp/x"} {
		if n, err := c.CopyIn(t.Context(), source, to, CopyOptions{}); err != nil || n < 1024 {
			t.Errorf("%s: %d bytes, %v", to, n, err)
		}
		got, err := archive(t, c, to)
		if err != nil || !bytes.Contains(got, []byte("content")) {
			t.Errorf("%s: %q, %v", to, got, err)
		}
	}
	if b, err := os.ReadFile(bound + "/x"); string(b) != "content" {
		t.Errorf("bound: %q, %v", b, err)
	}
	if exists(c.path("upper/b/x")) || !exists(c.path("upper/tmp/x")) {
		t.Error("a file went where it does not belong")
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := c.CopyOut(t.Context(), "/tmp/x", out, CopyOptions{}); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	for what, err := range map[string]error{
		"Could not find the file /no in container":               second(c.CopyOut(t.Context(), "/no", out, CopyOptions{})),
		`invalid output path: directory "/nowhere" does not`:     second(c.CopyOut(t.Context(), "/tmp/x", "/nowhere/x", CopyOptions{})),
		"Could not find the file /no/where in container":         second(c.CopyIn(t.Context(), source, "/no/where/x", CopyOptions{})),
		"cannot copy directory":                                  second(c.CopyIn(t.Context(), bound, "/tmp/x", CopyOptions{})),
		"must be a directory":                                    c.Extract(t.Context(), os.Stdin, "/tmp/x"),
		"no such file or directory":                              second(c.CopyIn(t.Context(), source+"none", "/tmp", CopyOptions{})),
		"destination \"" + c.Name + ":/tmp/y/\": no such direct": second(c.CopyIn(t.Context(), source, "/tmp/y/", CopyOptions{})),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if bytes.Contains(mounts, []byte(c.ID)) {
		t.Error("something is mounted still")
	}
	if c.lock != nil || c.takeLock() != nil {
		t.Error("the container is locked still")
	}
	c.unlock()
}

func second(_ int64, err error) error { return err }

// TestCopyNotYet: a process that has the host's root directory still has none to copy from.
// TestCopyIntoItself copies a directory that holds the very container it goes to.
func TestCopyIntoItself(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "sleep")
	config.Lifetime.Remove = false
	c := create(t, h, config)
	if err := c.Keep(); err != nil {
		t.Fatal(err)
	}
	above := filepath.Dir(h.Root)
	source := filepath.Join(above, "hull-copied-"+c.ID)
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(source)
	if err := os.Symlink(h.Root, filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	// The root by another name: a link is followed at the source's path alone.
	n, err := c.CopyIn(t.Context(), filepath.Join(source, "link"), "/tmp/copy", CopyOptions{Follow: true})
	if err != nil || n > 100<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestCopyNotYet(t *testing.T) {
	c := &Container{host: testHost(t), State: State{ID: NewID(), Pid: os.Getpid(), PidStart: startTime(os.Getpid())}}
	if root, err := c.processRoot(); !errors.Is(err, errNotYet) {
		t.Errorf("%v, %v", root, err)
	}
	c.PidStart++
	if root, err := c.processRoot(); err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("%v, %v", root, err)
	}
}

func TestHasRoot(t *testing.T) {
	const mine = "900 800 0:50 / / rw,nodev - overlay overlay rw,lowerdir=2:../skeleton,upperdir=../containers/abc/upper,workdir=w\n"
	const host = "30 1 254:0 / / rw - ext4 /dev/vda rw\n"
	const more = "901 900 0:51 / /proc rw - proc proc rw\n"
	for info, want := range map[string]bool{
		mine + more: true, more + mine: true, host: false, mine + host: false, "": false,
		strings.Replace(mine, "/abc/", "/abd/", 1): false, strings.Replace(mine, "/ / rw", "/ /x rw", 1): false,
	} {
		if got := hasRoot(info, "abc"); got != want {
			t.Errorf("%v for\n%s", got, info)
		}
	}
}

func TestCopyPaths(t *testing.T) {
	for path, want := range map[string][2]string{
		"/etc/passwd": {"/etc/passwd", "passwd"}, "etc": {"/etc", "etc"}, "/etc/": {"/etc/", "etc"}, "/etc/.": {"/etc/.", "."}, "/": {"/", "."},
		"/.": {"/", "."}, ".": {"/", "."}, "/a/../b": {"/b", "b"}, "../../x/": {"/x/", "x"}, "/a/..": {"/", "."}, "": {"/", "."}, "//x//y": {"/x/y", "y"},
	} {
		if inside := insidePath(path); inside != want[0] || treeName(inside) != want[1] {
			t.Errorf("%q: %q called %q, want %q", path, inside, treeName(inside), want)
		}
	}
}

// TestFilesOfRunning reads and commits a container that runs, and one that is removed meanwhile.
func TestFilesOfRunning(t *testing.T) {
	config := verbConfig(t, "leave")
	config.Name, config.Lifetime.Remove = "leaver", false
	c := elsewhere(t, config)
	changes, err := c.Diff(t.Context())
	if want := []layers.Change{{Kind: "A", Path: "/new"}, {Kind: "A", Path: "/new/\xff"}, {Kind: "C", Path: "/tmp"}}; err != nil || !slices.Equal(changes, want) {
		t.Errorf("%v, %v", changes, err)
	}
	img, err := c.Commit(t.Context(), CommitConfig{Ref: "left", Author: "ann", Message: "note", Changes: []string{"ENV A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Layers) != 2 || img.Name != "docker.io/library/left:latest" || !slices.Contains(img.Config.Config.Env, "A=b") ||
		img.Config.Config.Entrypoint[0] != "/hull" || img.Config.Author != "ann" {
		t.Errorf("%+v, %+v", img, img.Config)
	}
	if err := c.refresh(); err != nil || c.Status != Running {
		t.Errorf("%s after the commit, %v", c.Status, err)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Export(t.Context(), f); err != nil {
		t.Error(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got, want := strings.Join(names, " "), "dev/ etc/ etc/hostname etc/hosts etc/resolv.conf hull new/ new/\xff/ proc/ sys/ tmp/"; got != want {
		t.Errorf("exported %q", got)
	}
	err = c.asItLies(t.Context(), func(layers.Stack) error {
		other, err := testHost(t).Find("leaver")
		if err != nil {
			return err
		}
		return other.Remove(RemoveOptions{Force: true})
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("removed while it was read: %v", err)
	}
	if _, err := testHost(t).Images.Remove("left", true); err != nil {
		t.Error(err)
	}
}

// TestCommitCancelled leaves the container running and no image.
func TestCommitCancelled(t *testing.T) {
	config := verbConfig(t, "leave")
	config.Name = "canceller"
	c := elsewhere(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if img, err := c.Commit(ctx, CommitConfig{Ref: "never"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", img, err)
	}
	if err := c.refresh(); err != nil || c.Status != Running {
		t.Errorf("%s after the commit, %v", c.Status, err)
	}
	if _, err := testHost(t).Images.Lookup("never"); !errors.Is(err, layers.ErrNotFound) {
		t.Error(err)
	}
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
