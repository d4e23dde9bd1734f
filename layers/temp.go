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

// isOurs says whether a file of tmp/ is the store's.
func isOurs(name string) bool {
	return IsPartial(name) || strings.HasPrefix(name, tempName) || strings.HasPrefix(name, fileName)
}

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

// tempFile makes a small file in tmp/, locked so that a sweep leaves it alone.
func (s *Store) tempFile() (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.path("tmp"), fileName)
		if err != nil {
			return nil, err
		}
		err = lockAt(f, f.Name(), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		f.Close()
		if !os.IsNotExist(err) { // else a sweep found it before it was locked
			_ = os.Remove(f.Name())
			return nil, err
		}
	}
}

// lockFile opens a file or directory and locks it, and makes sure that it still is what its name stands for.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lockAt(f, path, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockAt locks a file that was opened at path. The error is os.ErrNotExist if it is there no more.
func lockAt(f *os.File, path string, how int) error {
	if err := flock(f, how); err != nil {
		return err
	}
	held, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err == nil && !os.SameFile(held, there) {
		err = os.ErrNotExist
	}
	return err
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
		if !isOurs(e.Name()) {
			continue
		}
		begun := IsPartial(e.Name())
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

// DiskSpace sums up the blocks that the disk has given to what lies below path, in bytes, as far as the caller may look. A
// file with several names counts once, as for du(1).
func DiskSpace(path string) int64 {
	var t Tally
	_ = Walk(path, t.Add)
	return t.Disk
}

// Tally adds up what [Walk] shows: every file once, however many names it has.
type Tally struct {
	Files int64 // lengths of all but directories, in bytes
	Disk  int64 // blocks of everything, in bytes: less than Files where files have holes, more where they do not fill a block

	seen map[inode]bool // of several names
}

// Add takes a file.
func (t *Tally) Add(st *unix.Stat_t) {
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Nlink > 1 && !isDir {
		file := inode{st.Dev, st.Ino}
		if t.seen[file] {
			return
		}
		if t.seen == nil {
			t.seen = make(map[inode]bool)
		}
		t.seen[file] = true
	}
	t.Disk += st.Blocks * 512
	if !isDir {
		t.Files += st.Size
	}
}
