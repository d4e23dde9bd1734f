package layers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// folderEnd is what a directory gets when everything else is in place.
type folderEnd struct {
	path   string
	times  [2]unix.Timespec
	xattrs map[string]string
}

// maxHeld is how many bytes of folderEnds are kept in memory. A usual layer's fit in; one that is made for the purpose
// has a million folders with names of a page each.
const maxHeld = 4 << 20

// folderEnds keeps what there is to do at the end, in order: in memory at first, and what does not fit in there in a
// file without a name.
type folderEnds struct {
	list []folderEnd
	held int // bytes of list, about
	file *os.File
	out  *bufio.Writer
}

// storedEnd is a folderEnd as a line of the file. Names need not be UTF-8, so they are bytes.
type storedEnd struct {
	Path   []byte
	Times  [2]unix.Timespec
	Xattrs map[string][]byte `json:",omitempty"`
}

// add remembers one; dir is a directory for the file.
func (f *folderEnds) add(dir int, e folderEnd) error {
	e.path = strings.Clone(e.path) // it may be the end of something long
	f.list = append(f.list, e)
	f.held += 128 + len(e.path)
	for name, value := range e.xattrs {
		f.held += 64 + len(name) + len(value)
	}
	if f.held < maxHeld {
		return nil
	}
	if f.file == nil {
		file, err := namelessFile(dir)
		if err != nil {
			return err
		}
		f.file, f.out = file, bufio.NewWriter(file)
	}
	for _, e := range f.list {
		if err := f.store(e); err != nil {
			return fmt.Errorf("write list of folders: %w", err)
		}
	}
	f.list, f.held = f.list[:0], 0
	return nil
}

func (f *folderEnds) store(e folderEnd) error {
	s := storedEnd{Path: []byte(e.path), Times: e.times}
	for name, value := range e.xattrs {
		if s.Xattrs == nil {
			s.Xattrs = make(map[string][]byte, len(e.xattrs))
		}
		s.Xattrs[name] = []byte(value)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = f.out.Write(append(line, '\n'))
	return err
}

// each gives them back in the order of add.
func (f *folderEnds) each(do func(folderEnd) error) error {
	if err := f.stored(do); err != nil {
		return err
	}
	for _, e := range f.list {
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

// stored gives those in the file.
func (f *folderEnds) stored(do func(folderEnd) error) error {
	if f.file == nil {
		return nil
	}
	if err := f.out.Flush(); err != nil {
		return fmt.Errorf("write list of folders: %w", err)
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read list of folders: %w", err)
	}
	for lines := json.NewDecoder(bufio.NewReader(f.file)); ; {
		var s storedEnd
		if err := lines.Decode(&s); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read list of folders: %w", err)
		}
		e := folderEnd{path: string(s.Path), times: s.Times}
		for name, value := range s.Xattrs {
			if e.xattrs == nil {
				e.xattrs = make(map[string]string, len(s.Xattrs))
			}
			e.xattrs[name] = string(value)
		}
		if err := do(e); err != nil {
			return err
		}
	}
}

// close gives the file back.
func (f *folderEnds) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// namelessFile makes a file that is gone when it is closed, however that comes about; in memory where the file system
// knows no such files (O_TMPFILE, open(2)).
func namelessFile(dir int) (*os.File, error) {
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		if fd, err = unix.MemfdCreate("folders", unix.MFD_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
	}
	return os.NewFile(uintptr(fd), "list of folders"), nil
}
