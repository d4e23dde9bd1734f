package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// LogOptions choose among what a container has written.
type LogOptions struct {
	// Follow waits for more until the container ends.
	Follow bool
	// Tail is how many lines of the end are shown, negative for all.
	Tail int
	// Since and Until bound the times; zero for no bound.
	Since, Until time.Time
	// Caught is called when all there is has been passed on and more is waited for; nil for nothing.
	Caught func() error
}

// LogLine is a piece of output, as it was logged.
type LogLine struct {
	// Text holds a line with its "\n", or a part of one that was longer than 16 KiB or had no end.
	Text   []byte
	Stderr bool
	Time   time.Time
}

// logEntry is a line of the log file; Raw has the bytes where Log could not hold them.
type logEntry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
	Raw    []byte    `json:"raw"`
}

// Logs calls each with what the container has written, oldest first, until each returns an error. A container whose
// output is not kept is an error.
func (c *Container) Logs(ctx context.Context, o LogOptions, each func(LogLine) error) error {
	switch d := c.Config.Log.Driver; {
	case d == LogJournald:
		return fmt.Errorf("logs of container %s: they are in the journal: journalctl CONTAINER_ID_FULL=%s", c.Name, c.ID)
	case d == LogNone:
		return fmt.Errorf("logs of container %s: configured logging driver does not support reading: --log-driver none keeps nothing", c.Name)
	case !c.Detached && c.Status != Created && !isThere(c.logPath()):
		return fmt.Errorf("logs of container %s: it ran in the foreground, where its output goes to the caller alone", c.Name)
	}
	r := &logReader{c: c, o: o, each: each}
	defer r.close()
	if o.Follow { // before the first look, so that nothing is missed
		if err := r.watch(); err != nil {
			return err
		}
	}
	if err := errors.Join(r.openFiles(), r.skip()); err != nil {
		return err
	}
	for {
		alive := r.alive()
		if err := r.readAll(); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		if !o.Follow || !alive || ctx.Err() != nil {
			return nil
		}
		if o.Caught != nil {
			if err := o.Caught(); err != nil {
				return err
			}
		}
		r.wait(ctx)
	}
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// errEnough ends the reading: Until has passed.
var errEnough = errors.New("enough")

// logReader reads log files in order of their age.
type logReader struct {
	c       *Container
	o       LogOptions
	each    func(LogLine) error
	files   []*os.File // the oldest first; the last is the one that is written
	pending []byte     // an unfinished line of the file that is being read
	inotify *os.File
	buf     []byte
}

func (r *logReader) close() {
	for _, f := range r.files {
		f.Close()
	}
	if r.inotify != nil {
		r.inotify.Close()
	}
}

// watch asks to be told of changes in the container's directory, inotify(7).
func (r *logReader) watch() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init", err)
	}
	r.inotify = os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, r.c.dir(), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_ONLYDIR)
	if err != nil {
		return fmt.Errorf("watch %s: %w", r.c.dir(), err)
	}
	return nil
}

// wait waits for a change. The end of a container that is removed is one, and so, to be sure, is a second.
func (r *logReader) wait(ctx context.Context) {
	fd := int(r.inotify.Fd())
	for waited := time.Duration(0); ctx.Err() == nil && waited < time.Second; waited += 50 * time.Millisecond {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 50); err == nil && n > 0 {
			var drop [4096]byte
			_, _ = unix.Read(fd, drop[:])
			return
		}
	}
}

// alive says whether more may come.
func (r *logReader) alive() bool {
	s, err := r.c.host.load(r.c.ID)
	return err == nil && s.Status.Alive()
}

// openFiles opens all files there are. It begins with the newest: the monitor may be passing the names on, and then a file
// has a later name than expected, but is not missed.
func (r *logReader) openFiles() error {
	for n := range max(1, r.c.Config.Log.MaxFiles) {
		f, err := os.Open(r.name(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		// One that is met again has been overtaken by those found since.
		r.files = slices.DeleteFunc(r.files, func(old *os.File) bool { return sameFile(old, f) && old.Close() == nil })
		r.files = append(r.files, f)
	}
	slices.Reverse(r.files)
	return nil
}

// skip goes to the last lines, if only those are wanted.
func (r *logReader) skip() error {
	if r.o.Tail < 0 {
		return nil
	}
	t := logTail{want: r.o.Tail}
	for i := len(r.files) - 1; i >= 0; i-- {
		if t.found == t.want && i < len(r.files)-1 {
			r.files[i].Close()
			r.files = r.files[i+1:]
			return nil
		}
		if err := t.seek(r.files[i]); err != nil {
			return err
		}
	}
	return nil
}

// name is that of the log file that was begun n files ago.
func (r *logReader) name(n int) string {
	if n == 0 {
		return r.c.logPath()
	}
	return r.c.logPath() + "." + strconv.Itoa(n)
}

func sameFile(a, b *os.File) bool {
	s, err1 := a.Stat()
	t, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(s, t)
}

// logTail looks for the last lines of a log, from its end.
type logTail struct {
	want, found int
	later       [2]bool // whether there is anything more of stdout, and of stderr
}

// seek positions f before the first of those lines, or at its beginning. A piece of a longer line does not count as one.
func (t *logTail) seek(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || t.want == 0 {
		return err
	}
	const block = 64 << 10
	var later []byte // what follows the block: the beginning of an entry that began in it
	for end := size; end > 0; {
		begin := max(0, end-block)
		buf := make([]byte, end-begin, end-begin+int64(len(later)))
		if _, err := f.ReadAt(buf, begin); err != nil {
			return err
		}
		buf = append(buf, later...)
		for i := len(buf); i > 0; {
			cut := bytes.LastIndexByte(buf[:i-1], '\n') // the end of the entry before
			if cut < 0 && begin > 0 {
				break
			}
			if t.endsLine(buf[cut+1 : i]) {
				if t.found == t.want { // it belongs to a line before those
					_, err = f.Seek(begin+int64(i), io.SeekStart)
					return err
				}
				t.found++
			}
			buf = buf[:cut+1]
			i = cut + 1
		}
		later, end = bytes.Clone(buf), begin
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// endsLine tells whether an entry is the end of a line: its text is, or it is the last of its stream so far. It does so
// without decoding it: no text of the program's holds a quotation mark that is not escaped.
func (t *logTail) endsLine(entry []byte) bool {
	text, rest, ok := bytes.Cut(entry, []byte(`","stream":"`))
	if !ok || !bytes.HasSuffix(rest, []byte("}\n")) { // cut off when the disk was full
		return false
	}
	stream := 0
	if bytes.HasPrefix(rest, []byte("stderr")) {
		stream = 1
	}
	last := !t.later[stream]
	t.later[stream] = true
	before, ok := bytes.CutSuffix(text, []byte(`\n`))
	escapes := len(before) - len(bytes.TrimRight(before, `\`))
	return last || ok && escapes%2 == 0 // else it is an escaped backslash before an n
}

// readAll reads to the end of what there is.
func (r *logReader) readAll() error {
	if len(r.files) == 0 {
		if err := r.openFiles(); err != nil || len(r.files) == 0 { // nothing has been written yet
			return err
		}
	}
	for {
		if err := r.readFile(r.files[0]); err != nil {
			return err
		}
		if len(r.files) > 1 {
			r.next(nil)
			continue
		}
		// Has the monitor begun a new file? What was written to the old one before has to be read first.
		f := r.newer()
		if f == nil {
			return nil
		}
		if err := r.readFile(r.files[0]); err != nil {
			f.Close()
			return err
		}
		r.next(f)
	}
}

// next goes on with the next file, or with f.
func (r *logReader) next(f *os.File) {
	r.files[0].Close()
	r.files = r.files[1:]
	if f != nil {
		r.files = append(r.files, f)
	}
	r.pending = r.pending[:0]
}

// newer opens the file that came after the one that is being read, if there is one.
func (r *logReader) newer() *os.File {
	var after *os.File
	for n := range max(1, r.c.Config.Log.MaxFiles) {
		f, err := os.Open(r.name(n))
		if err != nil {
			continue
		}
		if sameFile(f, r.files[0]) {
			f.Close()
			return after
		}
		if after != nil {
			after.Close()
		}
		after = f
	}
	return after // ours has been thrown away: go on with the oldest there is
}

// readFile reads entries to the end of a file. An unfinished one is kept for the next time.
func (r *logReader) readFile(f *os.File) error {
	if r.buf == nil {
		r.buf = make([]byte, 256<<10)
	}
	for {
		n, err := f.Read(r.buf)
		if n > 0 {
			if err := r.take(r.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *logReader) take(b []byte) error {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			r.pending = append(r.pending, b...)
			return nil
		}
		line := b[:end]
		if len(r.pending) > 0 {
			r.pending = append(r.pending, line...)
			line = r.pending
		}
		err := r.entry(line)
		r.pending = r.pending[:0]
		if err != nil {
			return err
		}
		b = b[end+1:]
	}
}

// entry passes on one entry, if it is wanted. One that cannot be read was cut off when the disk was full.
func (r *logReader) entry(line []byte) error {
	var e logEntry
	if json.Unmarshal(line, &e) != nil {
		return nil
	}
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errEnough
	}
	text := e.Raw
	if text == nil {
		text = []byte(e.Log)
	}
	return r.each(LogLine{Text: text, Stderr: e.Stream == "stderr", Time: e.Time})
}

// WriteLogs prints what Logs gives, stdout and stderr apart. With times each line has its time in front, in nine digits.
func (c *Container) WriteLogs(ctx context.Context, o LogOptions, times bool, details string, stdout, stderr io.Writer) error {
	out := map[bool]*bufio.Writer{false: bufio.NewWriterSize(stdout, 64<<10), true: bufio.NewWriterSize(stderr, 64<<10)}
	last := false
	midLine := map[bool]bool{}
	o.Caught = func() error { return out[last].Flush() }
	err := c.Logs(ctx, o, func(l LogLine) error {
		if l.Stderr != last { // keep the order between the two, where they meet
			if err := out[last].Flush(); err != nil {
				return err
			}
			last = l.Stderr
		}
		w := out[l.Stderr]
		if !midLine[l.Stderr] {
			if times {
				_, _ = w.WriteString(l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " ")
			}
			_, _ = w.WriteString(details)
		}
		midLine[l.Stderr] = len(l.Text) > 0 && l.Text[len(l.Text)-1] != '\n'
		_, err := w.Write(l.Text)
		return err
	})
	return errors.Join(err, out[false].Flush(), out[true].Flush())
}
