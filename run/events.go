package run

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/jsononce"
)

// Event is something that happened to a container, an image or a volume: a line of the journal below hull's root
// directory. The names are those of Docker's events.
type Event struct {
	// Type is container, image or volume; Action one of Docker's: create, start, die, kill, stop, pull, tag, ...
	Type, Action string
	// ID is a container's ID, an image's name or a volume's name.
	ID   string
	Time time.Time
	// Attributes are further facts: name, image, exitCode, signal, ... and a container's labels.
	Attributes map[string]string `json:",omitempty"`
}

// journalFile is where events are, a line of JSON each. journalMax is its size in bytes from which on it is put aside, with
// oldJournal behind its name, in the place of the last such.
const (
	journalFile = "events.json"
	oldJournal  = ".1"
	journalMax  = 8 << 20
)

func (h *Host) journal() string { return filepath.Join(h.Root, journalFile) }

// journalMax is another only in tests.
func (h *Host) journalMax() int64 { return cmp.Or(h.journalSize, journalMax) }

// note appends an event to the journal. Each is one write to a file opened for appending, so lines of several processes
// do not mix. An event that cannot be written, on a full disk say, is lost: nothing else shall fail for it.
func (h *Host) note(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	line, err := jsononce.Marshal(e)
	if err != nil {
		return
	}
	path := h.journal()
	f, err := openJournal(path)
	if err != nil {
		return
	}
	defer f.Close()
	if n, err := f.Write(append(line, '\n')); err != nil {
		takeBack(f, int64(n))
		return
	}
	if st, err := f.Stat(); err == nil && st.Size() > h.journalMax() {
		putAside(f, path)
	}
}

// openJournal opens the journal to append to it, and keeps others from putting it aside meanwhile: who follows the journal reads
// a file to its end and goes on to the next. It waits for a rename, but not for one whose process was stopped in its midst.
func openJournal(path string) (*os.File, error) {
	for try := 0; ; try++ {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil && isAt(f, path) || try == 20 {
			return f, nil
		}
		f.Close()
		time.Sleep(time.Millisecond)
	}
}

// isAt says whether a file is still the one at path.
func isAt(f *os.File, path string) bool {
	mine, e1 := f.Stat()
	there, e2 := os.Stat(path)
	return e1 == nil && e2 == nil && os.SameFile(mine, there)
}

// takeBack removes n bytes that are the beginning of a line, if nobody has written behind them: the next line would be lost
// too.
func takeBack(f *os.File, n int64) {
	end, e1 := f.Seek(0, io.SeekCurrent)
	st, e2 := f.Stat()
	if n > 0 && e1 == nil && e2 == nil && st.Size() == end {
		_ = f.Truncate(end - n)
	}
}

// putAside renames the journal f, unless another process does so, or is writing: then it is for the next one.
func putAside(f *os.File, path string) {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isAt(f, path) {
		_ = os.Rename(path, path+oldJournal)
	}
}

// note appends an event about the container. more are pairs of further attributes.
func (c *Container) note(action string, more ...string) { c.noteAt(time.Time{}, action, more...) }

// noteAt does so for what happened at some time, the zero time being now.
func (c *Container) noteAt(when time.Time, action string, more ...string) {
	a := make(map[string]string, len(c.Labels)+2+len(more)/2)
	for k, v := range c.Labels {
		a[k] = v
	}
	a["name"], a["image"] = c.Name, c.Config.Image
	for i := 0; i+1 < len(more); i += 2 {
		a[more[i]] = more[i+1]
	}
	c.host.note(Event{Type: "container", Action: action, ID: c.ID, Time: when, Attributes: a})
}
