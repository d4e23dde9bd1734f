// Package given reads files that somebody else has named or made: a caller's --env-file, a configuration, an image
// layout. Such a name may stand for a pipe to which nobody writes, or for a device without an end, and hull must not wait
// there for ever. It is not for files that hull itself has written.
package given

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The bounds on a pipe: how long to wait until somebody has opened it for writing, and how long for its next byte. A shell's
// <(COMMAND) has its writer at once, but that may have to ask a person for a pass phrase.
const (
	patience = 5 * time.Second
	silence  = time.Minute
)

// Limit is as much as any configuration may hold, in bytes: ReadFile refuses more.
const Limit = 16 << 20

// ErrNoWriter says that a pipe stayed without anybody who writes to it.
var ErrNoWriter error = problem("nobody has opened this pipe for writing")

// ErrIrregular says that something is no regular file.
var ErrIrregular error = problem("not a regular file")

// A problem is an error that costs nothing before main.
type problem string

func (p problem) Error() string { return string(p) }

// Open opens a file for reading. A FIFO is waited for, some seconds, until it has a writer; open(2) would wait for ever.
// The error is a *fs.PathError.
func Open(name string) (*os.File, error) {
	// Without O_NONBLOCK open(2) waits for the other end of a FIFO, or for a modem's carrier. Regular files do not heed it.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		err = awaitWriter(f)
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

// awaitWriter waits for a first byte, or for a writer that came and went: fifo(7) and poll(2) tell nothing of one that is
// there and silent, but read(2) does: EAGAIN instead of the end.
func awaitWriter(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	const step = 20 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		var n int
		var failed error
		err := raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, failed = unix.Poll(p, int(step/time.Millisecond)); n == 0 && failed == nil {
				_, failed = unix.Read(int(fd), make([]byte, 1)) // nothing to read: the end, or EAGAIN
			}
		})
		switch {
		case err != nil:
			return err
		case n > 0 || errors.Is(failed, unix.EAGAIN):
			return nil
		case failed != nil && !errors.Is(failed, unix.EINTR):
			return failed
		case time.Now().After(end):
			return ErrNoWriter
		}
	}
}

// ReadFile reads a file to its end, which must come: no more than limit bytes, and on a pipe or a terminal none later than
// a minute after the one before.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(hasty{f, silence}, limit+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("not one byte for %v", silence)
	}
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if pathError := (*fs.PathError)(nil); err != nil && !errors.As(err, &pathError) {
		err = &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, err
}

// hasty gives up on a byte that does not come.
type hasty struct {
	f     *os.File
	limit time.Duration
}

func (h hasty) Read(p []byte) (int, error) {
	_ = h.f.SetReadDeadline(time.Now().Add(h.limit)) // a regular file knows no deadline, and needs none
	return h.f.Read(p)
}

// Regular opens a file for reading that can only be a regular one, such as a blob: a link to one will do. Opening
// anything else is ErrIrregular, and has no effect on it. The error is a *fs.PathError.
func Regular(name string) (*os.File, error) {
	// O_PATH opens nothing: a device would notice being opened.
	held, err := os.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	info, err := held.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%s: %w", kind(info.Mode()), ErrIrregular)}
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", held.Fd()))
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		pathError.Path = name
	}
	return f, err
}

// kind names what a mode stands for.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}
