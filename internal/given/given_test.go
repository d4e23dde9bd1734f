package given

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	name := write(t, filepath.Join(t.TempDir(), "file"), "words")
	if data, err := ReadFile(name, 5); err != nil || string(data) != "words" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := ReadFile(name, 4); err == nil || !strings.Contains(err.Error(), name+": more than 4 bytes") {
		t.Errorf("too long: %v", err)
	}
	if _, err := ReadFile("/dev/zero", 1000); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("without end: %v", err)
	}
	if _, err := ReadFile(name+"x", 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
	if _, err := ReadFile(filepath.Dir(name), 5); !errors.Is(err, unix.EISDIR) {
		t.Errorf("directory: %v", err)
	}
}

// TestPipe reads what a shell's <(COMMAND) gives: a pipe whose writer takes its time, or has gone already.
func TestPipe(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, 300 * time.Millisecond} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for _, word := range []string{"a", "b"} {
				time.Sleep(pause)
				_, _ = w.WriteString(word)
			}
			w.Close()
		}()
		if pause == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		data, err := ReadFile(filepath.Join("/proc/self/fd", strconv.Itoa(int(r.Fd()))), Limit)
		if err != nil || string(data) != "ab" {
			t.Errorf("%v: %q, %v", pause, data, err)
		}
		r.Close()
	}
}

// TestLateWriter: one who opens the FIFO after us, and one who does and writes nothing.
func TestLateWriter(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"late", ""} {
		name := fifo(t)
		go func() {
			time.Sleep(200 * time.Millisecond)
			if w, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
				time.Sleep(100 * time.Millisecond)
				_, _ = w.WriteString(text)
				w.Close()
			}
		}()
		if data, err := ReadFile(name, Limit); err != nil || string(data) != text {
			t.Errorf("%q: %q, %v", text, data, err)
		}
	}
}

func TestNoWriter(t *testing.T) {
	t.Parallel()
	name := fifo(t)
	_, err := ReadFile(name, Limit)
	if !errors.Is(err, ErrNoWriter) || !strings.Contains(err.Error(), name) {
		t.Error(err)
	}
}

func TestSilentWriter(t *testing.T) {
	t.Parallel()
	name := fifo(t)
	w, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadAll(hasty{f, 100 * time.Millisecond}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestRegular(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := write(t, filepath.Join(dir, "file"), "words")
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{name, filepath.Join(dir, "link")} {
		f, err := Regular(name)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "words" {
			t.Errorf("%q, %v", data, err)
		}
		f.Close()
	}
	for name, want := range map[string]string{
		fifo(t): "a FIFO", dir: "a directory", "/dev/null": "a device", filepath.Join(dir, "none"): "no such file",
	} {
		if f, err := Regular(name); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}
