package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// The files of a group are read and written by bare system calls: os.File would register each with the poller first.

// writeFile writes value in one piece, as the kernel wants it. dir is a directory's descriptor or AT_FDCWD.
func writeFile(dir int, file, value string) error {
	fd, err := unix.Openat(dir, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	_, err = unix.Write(fd, []byte(value))
	unix.Close(fd)
	if err != nil {
		return &refused{file, value, err}
	}
	return nil
}

// refused is the error of a write that the kernel did not take.
type refused struct {
	file, value string
	err         error
}

func (e *refused) Error() string { return fmt.Sprintf("write %q to %s: %v", e.value, e.file, e.err) }
func (e *refused) Unwrap() error { return e.err }

// readFile reads a whole file of a group.
func readFile(dir int, file string) ([]byte, error) {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: file, Err: err}
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// readNumber reads a file with one number, or max, which gives the highest number there is.
func readNumber(dir int, file string) (uint64, error) {
	b, err := readFile(dir, file)
	if err != nil {
		return 0, err
	}
	return parseNumber(b)
}

const unlimited = ^uint64(0)

func parseNumber(b []byte) (uint64, error) {
	s := string(bytes.TrimSpace(b))
	if s == "max" {
		return unlimited, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// keyed gives the number behind a key in a file of lines "key number", 0 if it is not there.
func keyed(text []byte, key string) uint64 {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if k, v, ok := bytes.Cut(line, []byte(" ")); ok && string(k) == key {
			n, _ := parseNumber(v)
			return n
		}
	}
	return 0
}

// forbidden says whether an error means that this user, or this machine, has no right to the file, rather than that
// the kernel does not like the value.
func forbidden(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// lacking says whether an error means that the kernel has no such file, or not the feature behind it. 524 is the
// kernel's own ENOTSUPP, which it lets out here and there.
func lacking(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.Errno(524))
}
