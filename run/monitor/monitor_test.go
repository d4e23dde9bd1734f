package monitor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// TestWords: a task crosses an exec in words, and must arrive as it was.
func TestWords(t *testing.T) {
	want := Task{
		ID: "abc", Name: "a name", Pid: 12, Lock: 3, PidFD: 4, Stdin: -1, Stdout: 6, Stderr: 7, Console: -1, Listen: 8, KeepStdin: true, Journal: true,
		Clients: []Client{{9, 0}, {10, Tether | WantStdin}}, Log: "/a path\nwith a line", LogSize: 1 << 33, LogFiles: 3, Probe: []string{"hull", "probe", "x"}, Interval: 5,
		StartInterval: 6, Limit: 7, StopSignal: 15, Grace: -1, LimitGrace: 8, Thaw: []string{"hull", "thaw"}, Then: []string{"hull", "resume", ""},
	}
	var got Task
	if !got.read(want.words()) || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	var bare Task
	if !bare.read((&Task{Then: []string{"x"}}).words()) || len(bare.Probe) != 0 || len(bare.Clients) != 0 || len(bare.Then) != 1 {
		t.Errorf("%+v", bare)
	}
	for _, words := range [][]string{nil, {"a", "b"}, {"", strings.Repeat("1 ", 20), "", "", ""}} {
		if new(Task).read(words) {
			t.Errorf("%q is no task", words)
		}
	}
}

// entry is what a log line has to be for Docker's readers, and for ours.
type entry struct {
	Log, Stream string
	Time        time.Time
	Raw         []byte
}

// written is what a log file holds, by stream.
func written(t *testing.T, paths ...string) (texts map[string]string, entries []entry) {
	t.Helper()
	texts = map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var e entry
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			text := e.Log
			if e.Raw != nil {
				text = string(e.Raw)
			}
			texts[e.Stream] += text
			entries = append(entries, e)
		}
	}
	return texts, entries
}

func newLog(t *testing.T) *log {
	return &log{path: filepath.Join(t.TempDir(), "log"), fd: -1, journal: -1, files: 1}
}

// TestLogExact writes all kinds of bytes in pieces of all sizes, on both streams.
func TestLogExact(t *testing.T) {
	l := newLog(t)
	streams := []*stream{{name: "stdout"}, {name: "stderr"}}
	want := map[string]string{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		s := streams[i%2]
		b := make([]byte, random.IntN(3000))
		for k := range b {
			switch random.IntN(4) {
			case 0:
				b[k] = byte(random.IntN(256))
			case 1:
				b[k] = "\n\r\t\"\\<&\x00\x7f"[random.IntN(9)]
			default:
				b[k] = 'a' + byte(random.IntN(26))
			}
		}
		want[s.name] += string(b)
		l.add(s, b)
	}
	for _, s := range streams {
		long := strings.Repeat("é", 20_000) // longer than an entry, and cut in the middle of a letter
		want[s.name] += long
		l.add(s, []byte(long))
		l.end(s)
	}
	got, entries := written(t, l.path)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %d bytes came back as %d, or as others", name, len(text), len(got[name]))
		}
	}
	for _, e := range entries {
		if len(e.Raw) == 0 && !utf8.ValidString(e.Log) || e.Time.IsZero() {
			t.Fatalf("entry %+v", e)
		}
		if text := e.Log; len(e.Raw) > 0 && !strings.Contains(text, "\ufffd") {
			t.Fatalf("entry %+v has raw bytes without need", e)
		}
		if i := strings.IndexByte(e.Log, '\n'); i >= 0 && i != len(e.Log)-1 {
			t.Fatalf("entry %+v is more than a line", e)
		}
	}
}

// TestLogRotate: no line is lost or cut where one file ends and the next begins, and no more files are kept than asked.
func TestLogRotate(t *testing.T) {
	l := newLog(t)
	l.max, l.files = 1000, 3
	s := &stream{name: "stdout"}
	var lines []string
	for i := range 40 {
		line := strings.Repeat(string(rune('A'+i)), 40) + "\n"
		lines = append(lines, line)
		l.add(s, []byte(line))
	}
	got, _ := written(t, l.path+".2", l.path+".1", l.path)
	kept := strings.Count(got["stdout"], "\n")
	if want := strings.Join(lines[40-kept:], ""); got["stdout"] != want || kept < 15 || kept > 30 {
		t.Errorf("%d lines are kept: %q", kept, got["stdout"])
	}
	if _, err := os.Stat(l.path + ".3"); err == nil {
		t.Error("a fourth file is kept")
	}
	for _, path := range []string{l.path + ".2", l.path + ".1"} {
		if st, err := os.Stat(path); err != nil || st.Size() < 1000 || st.Size() > 1300 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
}

// TestLogTorn: after a write that was cut short the next line can be read.
func TestLogTorn(t *testing.T) {
	l := newLog(t)
	s := &stream{name: "stdout"}
	l.add(s, []byte("first\n"))
	if err := os.Truncate(l.path, 20); err != nil {
		t.Fatal(err)
	}
	l.torn = true
	l.add(s, []byte("second\n"))
	data, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := strings.Cut(string(data), "\n")
	var e entry
	if err := json.Unmarshal([]byte(last), &e); err != nil || e.Log != "second\n" {
		t.Errorf("%q: %v", last, err)
	}
}

func FuzzAppendText(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\n\r\t\x00\x1f\x7f", "é\u2028€😀", "\xff\xc3\x28\xed\xa0\x80", "\xf0\x9f"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		encoded, exact := appendText(nil, text)
		var back string
		if err := json.Unmarshal([]byte(`"`+string(encoded)+`"`), &back); err != nil {
			t.Fatalf("%q: %q: %v", text, encoded, err)
		}
		if exact != utf8.Valid(text) || exact && back != string(text) {
			t.Errorf("%q came back as %q, exact: %v", text, back, exact)
		}
		if got := string(appendBase64(nil, text)); got != base64.StdEncoding.EncodeToString(text) {
			t.Errorf("base64 of %q: %q", text, got)
		}
	})
}

// TestStalled: who holds up the output of the program that is tethered to him is waited for without haste, but not beyond
// its end. Nobody else is waited for.
func TestStalled(t *testing.T) {
	for _, row := range []struct{ tether, ended, stays bool }{{true, false, true}, {true, true, false}, {false, false, false}} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fds[0])
		c := &client{fd: fds[1], wishes: WantStdout}
		if row.tether {
			c.wishes |= Tether
		}
		m := &monitor{task: &Task{Stdin: -1, Console: -1, PidFD: -1}, clients: []*client{c}, ended: row.ended}
		for len(m.flight) == 0 { // until the socket is full
			m.publish(WantStdout, make([]byte, 1<<10))
		}
		m.stalled = now() - 1
		m.settle()
		if c.gone == row.stays {
			t.Errorf("%+v: gone: %v", row, c.gone)
		}
		if wait := m.patience(); row.stays && wait < 1000 {
			t.Errorf("%+v: looks again after %d ms", row, wait)
		}
		if !c.gone {
			syscall.Close(c.fd)
		}
	}
}

// TestLastWords: who has left is not taken for one that was lost, even while the program takes no input.
func TestLastWords(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{string(KindStdin) + "abc", string(KindDetach)} {
		if err := syscall.Sendto(fds[0], []byte(message), 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Close(fds[0])
	c := &client{fd: fds[1], wishes: WantStdout | Tether}
	m := &monitor{task: &Task{Stdin: -1, Console: -1, PidFD: -1}, clients: []*client{c}, input: []byte("not taken")}
	m.want(c.fd, 0)
	poll(m.fds, 1000)
	m.hear(c)
	if !c.gone || c.wishes&Tether != 0 || string(m.input) != "not taken" {
		t.Errorf("gone: %v, wishes %b, input %q", c.gone, c.wishes, m.input)
	}
}

// TestCatchSignals runs the machine code: in a process of its own, for it changes how that takes signals.
func TestCatchSignals(t *testing.T) {
	if os.Getenv("HULL_MONITOR_TEST") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCatchSignals$", "-test.v")
		cmd.Env = append(os.Environ(), "HULL_MONITOR_TEST=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	fd := catchSignals()
	if fd < 0 {
		t.Fatal("no descriptor")
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGTERM} {
		if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	for n := uint64(0); n < 1; {
		fds := []pollFD{{fd: int32(fd), events: pollIn}}
		poll(fds, 10_000)
		var count [8]byte
		if got, err := read(fd, count[:]); got != len(count) || err != nil {
			t.Fatalf("%d bytes, %v", got, err)
		}
		n += binary.NativeEndian.Uint64(count[:])
	}
	runtime.GC() // the runtime's own signals go on
}

// TestLeftUnread: a client that leaves without having read all has still left on purpose, whether that is heard first or that
// he is gone.
func TestLeftUnread(t *testing.T) {
	for name, notice := range map[string]func(*monitor, *client){
		"heard":   func(m *monitor, c *client) { m.hear(c) },
		"written": func(m *monitor, _ *client) { m.publish(WantStdout, []byte("omore")) },
	} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{fd: fds[0], wishes: Tether | WantStdout}
		m := &monitor{task: &Task{Stdin: -1, Console: -1, PidFD: -1}, clients: []*client{c}}
		m.publish(WantStdout, []byte("onever read"))
		if err := syscall.Sendto(fds[1], []byte{KindDetach}, 0, nil); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Close(fds[1]); err != nil {
			t.Fatal(err)
		}
		notice(m, c)
		if !c.gone || c.wishes&Tether != 0 {
			t.Errorf("%s: gone %v, tethered %v", name, c.gone, c.wishes&Tether != 0)
		}
	}
}
