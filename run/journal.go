package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Events calls each for the events from since to until, the oldest first, and ends with each's first error. The zero since
// stands for now, but for the first event that is still known where there is an until; the zero until for never. While until
// lies ahead, it waits for what comes, or for the end of ctx, which is no error.
func (h *Host) Events(ctx context.Context, since, until time.Time, each func(Event) error) error {
	ahead := func() bool { return until.IsZero() || time.Now().Before(until) }
	j := &journal{path: h.journal()}
	defer j.close()
	show := func(e Event) error {
		if e.Time.Before(since) || !until.IsZero() && e.Time.After(until) {
			return nil
		}
		return each(e)
	}
	var w *watch
	if ahead() {
		if err := os.MkdirAll(h.Root, 0o711); err != nil {
			return err
		}
		w = watchDir(ctx, h.Root, journalFile, until) // before the first look, so that nothing falls in between
		defer w.close()
	}
	if since.IsZero() && until.IsZero() {
		if err := j.skip(); err != nil {
			return err
		}
	}
	for {
		last := !ahead() || ctx.Err() != nil
		if err := j.read(show); err != nil || last {
			return err
		}
		w.wait()
	}
}

// journal reads the journal's files as one, while others append to them and put them aside.
type journal struct {
	path string
	// now is being read. Of the one before it, whoever had it open when it was put aside may still append a line.
	now, before tail
}

// tail is what is left to read of a file.
type tail struct {
	file *os.File // or nil
	part []byte   // the beginning of a line whose end is not written yet
}

func (j *journal) close() {
	j.now.close()
	j.before.close()
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// skip goes to the end of what there is.
func (j *journal) skip() error {
	f, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	j.now.file = f
	_, err = f.Seek(0, io.SeekEnd)
	return err
}

// read gives all lines that have come since.
func (j *journal) read(each func(Event) error) error {
	if j.now.file == nil {
		if err := j.first(); err != nil || j.now.file == nil {
			return err
		}
	}
	if j.before.file != nil {
		if err := j.before.read(each); err != nil {
			return err
		}
	}
	for {
		if err := j.now.read(each); err != nil {
			return err
		}
		if more, err := j.next(); !more || err != nil {
			return err
		}
	}
}

// first opens the oldest file.
func (j *journal) first() error {
	for _, path := range []string{j.path + oldJournal, j.path} {
		f, err := os.Open(path)
		if err == nil {
			j.now.file = f
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// next goes on to the file that was begun after the current one, if there is one: the old one, where two were begun while we
// did not look.
func (j *journal) next() (bool, error) {
	mine, err := j.now.file.Stat()
	if err != nil {
		return false, err
	}
	is := func(path string) bool {
		st, err := os.Stat(path)
		return err == nil && os.SameFile(st, mine)
	}
	if is(j.path) {
		return false, nil
	}
	var f *os.File
	if !is(j.path + oldJournal) {
		f, err = os.Open(j.path + oldJournal)
	}
	if f == nil {
		f, err = os.Open(j.path)
	}
	if errors.Is(err, fs.ErrNotExist) { // put aside, and nothing has happened since
		return false, nil
	}
	if err != nil {
		return false, err
	}
	j.before.close()
	j.before, j.now = j.now, tail{file: f}
	return true, nil
}

// read gives the events up to the last end of line. A line that is none, of a process that was killed or met a full disk,
// is left out.
func (t *tail) read(each func(Event) error) error {
	rest, err := io.ReadAll(t.file)
	if err != nil {
		return err
	}
	text := append(t.part, rest...)
	for {
		line, after, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			t.part = text
			return nil
		}
		text = after
		var e Event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// watch waits for changes of one file in a directory.
type watch struct {
	name string
	file *os.File // of inotify(7); nil where there is none to be had: then we look now and again
	end  time.Time
	ctx  context.Context
	stop func() bool
}

// watchDir begins to watch for changes of the file name in dir, until the end of ctx, or a time if it is not zero.
func watchDir(ctx context.Context, dir, name string, end time.Time) *watch {
	w := &watch{name: name, end: end, ctx: ctx}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Clean(dir), unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	_ = w.file.SetReadDeadline(end)
	w.stop = context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Now()) })
	return w
}

func (w *watch) close() {
	if w.file != nil {
		w.stop()
		w.file.Close()
	}
}

// lookAgain is how often a file is looked at that cannot be watched.
const lookAgain = 200 * time.Millisecond

// wait returns after a change, at the end, or for no reason at all.
func (w *watch) wait() {
	if w.file == nil {
		pause := lookAgain
		if !w.end.IsZero() {
			pause = min(pause, time.Until(w.end))
		}
		select {
		case <-w.ctx.Done():
		case <-time.After(pause):
		}
		return
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.close()
			w.file = nil
		}
		if err != nil || mentions(buf[:n], w.name) {
			return
		}
	}
}

// mentions looks for a name in what inotify tells: after 16 bytes, the last four of which are its length with padding.
func mentions(told []byte, name string) bool {
	return bytes.Contains(told, append([]byte(name), 0))
}
