package layers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// temp is a directory in tmp/ that lives as long as somebody works in it. Its maker holds a lock on it, which
// the kernel drops when the maker dies, however it dies; so a free lock means rubbish.
type temp struct {
	dir  string
	lock *os.File
}

// tempName begins the names of ours: others have directories in tmp/ too, and their own ways to clean up.
const tempName = "add-"

// fileName begins the names of small files that are being written.
const fileName = "file-"

// temp makes one. Close it.
func (s *Store) temp() (*temp, error) {
	for {
		dir, err := os.MkdirTemp(s.path("tmp"), tempName)
		if err != nil {
			return nil, fmt.Errorf("make temporary directory: %w", err)
		}
		lock, err := lockFile(dir, unix.LOCK_EX)
		if err == nil {
			return &temp{dir, lock}, nil
		}
		// Prune may have found the directory before it was locked; then it is gone.
		if !os.IsNotExist(err) {
			_ = os.Remove(dir)
			return nil, fmt.Errorf("lock temporary directory: %w", err)
		}
	}
}

// lockFile opens a file or directory and locks it, and makes sure that it still is what its name stands for.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	held, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		there, err = os.Lstat(path)
		if err == nil && !os.SameFile(held, there) {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// path names something in the directory.
func (t *temp) path(name string) string { return filepath.Join(t.dir, name) }

// close removes the directory with all that is still in it.
func (t *temp) close() error {
	err := RemoveTree(t.dir)
	t.lock.Close()
	if err != nil {
		return fmt.Errorf("remove temporary directory: %w", err)
	}
	return nil
}

// sweepTemp removes what no living process holds, and gives the bytes that were freed. The beginnings of blobs stay until
// they are as old as partial.
func (s *Store) sweepTemp(partial time.Duration) (int64, error) {
	entries, err := os.ReadDir(s.path("tmp"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read tmp: %w", err)
	}
	var freed int64
	for _, e := range entries {
		path := s.path("tmp", e.Name())
		begun := IsPartial(e.Name())
		if !begun && !strings.HasPrefix(e.Name(), tempName) && !strings.HasPrefix(e.Name(), fileName) {
			continue
		}
		if st, err := e.Info(); err != nil || begun && time.Since(st.ModTime()) < partial {
			continue
		}
		lock, err := lockFile(path, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // somebody works there, or it is gone
		}
		size := DiskSpace(path)
		err = RemoveTree(path)
		lock.Close()
		if err != nil {
			return freed, fmt.Errorf("remove %q: %w", path, err)
		}
		freed += size
	}
	return freed, nil
}

// DiskSpace sums up what lies below path, in bytes, as far as the caller may look.
func DiskSpace(path string) (sum int64) {
	_ = Walk(path, func(st *unix.Stat_t) { sum += st.Blocks * 512 })
	return sum
}
