package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// exportTo writes a tar to a file that gets its name once it is whole. A FIFO is waited for until somebody reads it, as cp(1)
// and a shell do, or ctx ends.
func exportTo(ctx context.Context, path string, write func(*os.File) error) error {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() { // a device, a FIFO
		f, err := during(ctx, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) })
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || !st.IsDir() {
		return fmt.Errorf("invalid output path: directory %q does not exist", filepath.Dir(path))
	}
	f, place, err := unnamed(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return errors.Join(err, place(""))
	}
	return errors.Join(place(path), f.Close())
}

// unnamed makes a file in a directory that has no name there until place gives it one, in place of what has it now; "" drops the
// file. However hull ends before, nothing is left behind. Where a file system cannot do that, it has another name until then.
func unnamed(dir string) (f *os.File, place func(path string) error, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return named(dir)
	}
	f = os.NewFile(uintptr(fd), dir)
	return f, func(path string) error {
		if path == "" {
			return nil
		}
		from := fmt.Sprintf("/proc/self/fd/%d", fd)
		err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err != unix.EEXIST {
			return wrapPath("link", path, err)
		}
		// Only a rename replaces a file.
		other := filepath.Join(dir, ".hull-export-"+rand.Text())
		if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, other, unix.AT_SYMLINK_FOLLOW); err != nil {
			return wrapPath("link", other, err)
		}
		if err := os.Rename(other, path); err != nil {
			return errors.Join(err, os.Remove(other))
		}
		return nil
	}, nil
}

// named is unnamed for a file system without O_TMPFILE.
func named(dir string) (f *os.File, place func(path string) error, err error) {
	f, err = os.CreateTemp(dir, ".hull-export-")
	if err != nil {
		return nil, nil, err
	}
	return f, func(path string) error {
		if path == "" {
			return os.Remove(f.Name())
		}
		if err := os.Rename(f.Name(), path); err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		return nil
	}, nil
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
