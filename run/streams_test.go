package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal: what a person holds, and what a program gets.
func openTerminal(t *testing.T, rows, cols uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a terminal: ", err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	err = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		n, err = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs /dev/pts: ", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// readUntil reads from f until what it has read ends in, or holds, text.
func readUntil(t *testing.T, f *os.File, text string) string {
	t.Helper()
	var got bytes.Buffer
	buf := make([]byte, 100)
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(got.String(), text) {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("wait for %q, after %q: %v", text, got.String(), err)
		}
		got.Write(buf[:n])
	}
	return got.String()
}

// inode is how streamsVerb speaks of a stream.
func inode(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%o:%d:false", st.Mode&unix.S_IFMT>>12, st.Ino)
}

// TestStreamsAsTheyAre: files and pipes of the caller's are the program's own, and without -i it has no input.
func TestStreamsAsTheyAre(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, interactive := range []bool{true, false} {
		config := verbConfig(t, "streams")
		config.Process.Interactive = interactive
		if res, err := create(t, testHost(t), config).Run(context.Background(), IO{r, out, w}); err != nil || res.Code != 0 {
			t.Fatal(res, err)
		}
	}
	want := inode(t, r) + " " + inode(t, out) + " " + inode(t, w)
	w.Close()
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	if lines[0] != want {
		t.Errorf("%s, want %s", lines[0], want)
	}
	if in, _, _ := strings.Cut(lines[1], " "); !strings.HasPrefix(in, "2:") || in == inode(t, r) {
		t.Errorf("without -i the input is %s, not a device", in)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}

	config := verbConfig(t, "streams")
	config.Process.Attach = []string{"stderr"}
	if text, _, _ := printed(t, config, nil); text != "" {
		t.Errorf("not attached, yet it prints %q", text)
	}
}

// TestStreamsBig passes a megabyte through.
func TestStreamsBig(t *testing.T) {
	const size = 1 << 20
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = w.Write(bytes.Repeat([]byte("x"), size))
		w.Close()
	}()
	config := verbConfig(t, "copy")
	config.Process.Interactive = true
	out, errs, _ := printed(t, config, r)
	if len(out) != size || errs != fmt.Sprintln(size, "bytes") {
		t.Errorf("%d bytes, %q", len(out), errs)
	}
}

// TestStreamsTerminal: a terminal of the caller's is never handed in, for whoever has it open can type into it.
func TestStreamsTerminal(t *testing.T) {
	master, slave := openTerminal(t, 20, 40)
	config := verbConfig(t, "streams")
	config.Process.Interactive = true
	res, err := create(t, testHost(t), config).Run(context.Background(), IO{slave, slave, slave})
	if err != nil || res.Code != 0 {
		t.Fatal(res, err)
	}
	text := readUntil(t, master, "\r\n")
	if kinds := strings.Fields(text); len(kinds) != 3 || strings.Count(text, "1:") < 3 || strings.Contains(text, "true") {
		t.Errorf("the program's streams are %q, want three pipes", text)
	}
}

// TestTerminal holds one side of a terminal while a container runs on the other: size, resizing, raw mode, Ctrl-C, and
// the terminal as it was afterwards.
func TestTerminal(t *testing.T) {
	master, slave := openTerminal(t, 33, 77)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	config := verbConfig(t, "terminal")
	config.Process.TTY, config.Process.Interactive = true, true
	c := create(t, testHost(t), config)
	type ended struct {
		Result
		error
	}
	done := make(chan ended, 1)
	go func() {
		res, err := c.Run(context.Background(), IO{slave, slave, slave})
		done <- ended{res, err}
	}()
	readUntil(t, master, "size 33x77\r\n")
	if raw, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the caller's terminal is not raw: %+v, %v", raw, err)
	}
	// If it does not listen yet, it looks when it does.
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 20}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil { // the kernel would, were it our controlling terminal
		t.Fatal(err)
	}
	readUntil(t, master, "size 10x20\r\n")
	if _, err := master.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-done:
		if e.error != nil || e.Code != 9 {
			t.Errorf("%d, %v", e.Code, e.error)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Ctrl-C did not end it")
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v, is %+v, %v", before, after, err)
	}
}

// TestConsole: a terminal that a program lets go of and opens again, as systemd does, works on.
func TestConsole(t *testing.T) {
	want := "first\r\n" + strings.Repeat("more\r\n", 10_000) + "last\r\n"
	config := verbConfig(t, "console")
	config.Process.TTY = true
	if text, _, res := printed(t, config, nil); text != want || res.Code != 0 {
		t.Errorf("in the foreground: %d bytes, status %d", len(text), res.Code)
	}
	config.Lifetime.Remove = false
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(context.Background()); code != 0 || err != nil {
		t.Errorf("status %d, %v", code, err)
	}
	var text strings.Builder
	if err := c.WriteLogs(context.Background(), LogOptions{Tail: -1}, false, "", &text, io.Discard); err != nil || text.String() != want {
		t.Errorf("detached: %d bytes, %v", text.Len(), err)
	}
}
