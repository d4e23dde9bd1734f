package layers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes directories within each other, more of them than a path can name, with a file in the last one.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "a-name-of-some-length", 0o755); err != nil {
			t.Fatal(err)
		}
		sub, err := unix.Openat(fd, "a-name-of-some-length", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = sub
	}
	if err := unix.Mknodat(fd, "file", unix.S_IFREG|0o600, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

// TestDeep measures and removes a tree that is deeper than a process may have files open, and than a path is long.
func TestDeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	nest(t, dir, 2000)
	if err := os.Mkdir(filepath.Join(dir, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := Walk(dir, func(*unix.Stat_t) { n++ }); n < 100 || os.Geteuid() == 0 && err != nil {
		t.Errorf("%d files, %v", n, err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd") // other tests hold some
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open) + 100), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	err = RemoveTree(dir)
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Errorf("%.300v", err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("it is there")
		_ = RemoveTree(dir)
	}
}

// TestWalkStays: somebody who puts links in the way leads nobody out.
func TestWalkStays(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), make([]byte, 12345), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "a"), unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 20_000 {
		err := Walk(dir, func(st *unix.Stat_t) {
			if st.Size == 12345 {
				t.Error("a file outside is seen")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	<-stopped
	for path, want := range map[string]int{filepath.Join(outside, "file"): 1, filepath.Join(outside, "nothing"): 0} {
		n := 0
		if err := Walk(path, func(*unix.Stat_t) { n++ }); n != want || err != nil {
			t.Errorf("%s: %d files, %v", strings.TrimPrefix(path, outside), n, err)
		}
	}
}
