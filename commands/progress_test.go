package commands

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hullrun/hull/layers"
	"golang.org/x/sys/unix"
)

// pull plays an image of three layers: one that is here, one that comes, one that breaks off.
func pull(p *progress) {
	layer := func(i int) string { return "sha256:" + strings.Repeat(fmt.Sprint(i), 64) }
	p.event(layers.Event{Layer: layer(1), Index: 0, Count: 3, Phase: "exists", Done: 5e6, Total: 5e6})
	for done := int64(0); done <= 4e6; done += 1e6 {
		p.event(layers.Event{Layer: layer(2), Index: 1, Count: 3, Phase: "download", Done: done, Total: 4e6})
		p.event(layers.Event{Layer: layer(3), Index: 2, Count: 3, Phase: "download", Done: done / 2, Total: 4e6})
		time.Sleep(60 * time.Millisecond)
	}
	for done := int64(0); done <= 4e6; done += 2e6 {
		p.event(layers.Event{Layer: layer(2), Index: 1, Count: 3, Phase: "extract", Done: done, Total: 4e6})
		time.Sleep(60 * time.Millisecond)
	}
	p.event(layers.Event{Layer: layer(2), Index: 1, Count: 3, Phase: "done", Done: 4e6, Total: 4e6})
	p.close()
}

func TestProgressLines(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pull(newProgress(f))
	got, err := os.ReadFile(f.Name())
	want := "111111111111: Already exists\n222222222222: Pulling fs layer\n333333333333: Pulling fs layer\n" +
		"222222222222: Download complete\n222222222222: Pull complete\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot  %q\nwant %q", err, got, want)
	}
}

// TestProgressOfNothing: an image that is here already goes without a word.
func TestProgressOfNothing(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newProgress(f)
	p.event(layers.Event{Layer: "sha256:1", Count: 1, Phase: "exists"})
	p.close()
	if got, err := os.ReadFile(f.Name()); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProgressBars(t *testing.T) {
	t.Setenv("TERM", "xterm")
	master, slave := openTerminal(t)
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // ends with EIO when the last slave is closed
		shown <- string(b)
	}()
	pull(newProgress(slave))
	slave.Close()
	text := <-shown
	// The first drawing begins where the cursor is, each later one goes back over it, and the last shows how it ended.
	frames := strings.Split(text, "\x1b[3A")
	want := "\r111111111111 Already exists                                5MB\x1b[K\r\n" +
		"\r222222222222 Pull complete                                 4MB\x1b[K\r\n" +
		"\r333333333333 Downloading    [==============>             ] 2MB/4MB "
	if last := frames[len(frames)-1]; len(frames) < 5 || !strings.HasPrefix(last, want) {
		t.Errorf("%d drawings, the last:\n%q\nwant it to begin with\n%q", len(frames), last, want)
	}
	for _, want := range []string{"111111111111", "Already exists", "222222222222", "Downloading", "/4MB", "MB/s", "Extracting", "Pull complete", "333333333333"} {
		if !strings.Contains(text, want) {
			t.Errorf("the bars never showed %q:\n%q", want, text)
		}
	}
}

// TestProgressFits: layers that have ended make room for others on a terminal of few lines.
func TestProgressFits(t *testing.T) {
	p := &progress{words: pullWords, layers: map[int]*layerProgress{}}
	for i, phase := range []string{"download", "done", "extract", "exists", "download"} {
		p.layers[i] = &layerProgress{Event: layers.Event{Layer: fmt.Sprint("sha256:", i), Index: i, Phase: phase, Done: 1 << 40}}
	}
	for most, want := range map[int]string{-1: "01234", 5: "01234", 4: "0234", 3: "024", 2: "02", 0: ""} {
		got := ""
		for _, line := range p.lines(most) {
			got += line[:1]
		}
		if got != want {
			t.Errorf("at most %d: %q, want %q", most, got, want)
		}
	}
}

// openTerminal makes a terminal of 100 columns.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("needs a terminal: ", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
