package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const mb = 1 << 20

// output is what pourProgram writes: the same bytes for the same seed. "text" is UTF-8 with a few strange lines; "binary" is
// everything that could go wrong: bytes that are no UTF-8, zeros, lines of hundreds of kilobytes, control characters, and no
// end of line at the end.
func output(seed uint64, size int, kind string) []byte {
	chance := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, size+mb)
	for len(b) < size {
		piece := chance.IntN(100)
		switch {
		case kind == "text" && piece > 0:
			b = fmt.Appendf(b, "%d the quick brown fox jumps over the lazy dog – \"ja\\nein\" <&>\n", len(b))
		case piece < 10:
			b = append(b, bytes.Repeat([]byte{0}, chance.IntN(5000))...)
		case piece < 20:
			b = append(b, bytes.Repeat([]byte("long "), chance.IntN(60_000))...)
		case piece < 30: // characters that end too early
			b = append(b, "ä\xc3\xe2\x82€\xed\xa0\x80\xf4\x90\x80\x80\u2028\u2029\ufffd"...)
		case piece < 40:
			b = append(b, "\r\n\n\n\t\x1b[0m\x7f\"\\\b"...)
		default:
			for range chance.IntN(4096) {
				b = append(b, byte(chance.Uint32()))
			}
		}
	}
	b = b[:size]
	if b[size-1] == '\n' {
		b[size-1] = 'x'
	}
	return b
}

// pourProgram writes so much output of a kind to stdout, and a quarter of it to stderr, at 10 MB/s.
func pourProgram(args []string) error {
	seed, e1 := strconv.ParseUint(args[0], 10, 64)
	size, e2 := strconv.Atoi(args[1])
	if err := errors.Join(e1, e2); err != nil {
		return err
	}
	kind := args[2]
	streams := []struct {
		to   *os.File
		data []byte
	}{{os.Stdout, output(seed, size, kind)}, {os.Stderr, output(seed+1, size/4, kind)}}
	chance := rand.New(rand.NewPCG(seed, 2))
	written, begin := 0, time.Now()
	for len(streams[0].data)+len(streams[1].data) > 0 {
		for i := range streams {
			s := &streams[i]
			n, err := s.to.Write(s.data[:min(len(s.data), chance.IntN(64<<10))])
			if err != nil {
				return err
			}
			s.data = s.data[n:]
			written += n
		}
		const rate = 10e6
		time.Sleep(time.Duration(float64(written)/rate*float64(time.Second)) - time.Since(begin))
	}
	return nil
}

// copyProgram writes what it reads.
func copyProgram([]string) error {
	n, err := io.Copy(os.Stdout, os.Stdin)
	fmt.Fprint(os.Stderr, n)
	return err
}

// pour is the words for a container that runs pourProgram.
func (r *rig) pour(verb string, options []string, seed uint64, size int, kind string) []string {
	r.t.Helper()
	return r.program(verb, options, "pour", strconv.FormatUint(seed, 10), strconv.Itoa(size), kind)
}

// same compares output, and says where it differs first.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	t.Errorf("%s: %d bytes, want %d; the first %d are the same, then %q, want %q", what, len(got), len(want), n,
		got[n:min(len(got), n+40)], want[n:min(len(want), n+40)])
}

// poured compares both streams with what pourProgram has written.
func poured(t *testing.T, what string, res result, seed uint64, size int, kind string) {
	t.Helper()
	if res.code != 0 {
		t.Errorf("%s: %v", what, res)
	}
	same(t, what+": stdout", []byte(res.out), output(seed, size, kind))
	same(t, what+": stderr", []byte(res.err), output(seed+1, size/4, kind))
}

// TestLogsExact follows logs while they are written, and reads them afterwards.
func TestLogsExact(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := random(t).Uint64()
	for _, row := range []struct {
		name, kind string
		size       int
		options    []string
	}{
		{"plain", "binary", 10 * mb, nil},
		{"rotated", "text", 14 * mb, []string{"--log-opt", "max-size=10m", "--log-opt", "max-file=6"}},
	} {
		r.must(r.pour("run", append([]string{"-d", "--name", row.name}, row.options...), seed, row.size, row.kind)...)
		poured(t, row.name+", followed", r.do("logs", "-f", row.name), seed, row.size, row.kind)
		if code := r.must("wait", row.name); code != "0" {
			t.Errorf("%s: status %s", row.name, code)
		}
		poured(t, row.name+", afterwards", r.do("logs", row.name), seed, row.size, row.kind)
		s := r.state(row.name)
		t.Logf("%s: %d MB in %v", row.name, row.size*5/4/mb, s.Finished.Sub(s.Started).Round(time.Millisecond))
	}
	if files, _ := filepath.Glob(filepath.Join(r.root, "containers", r.state("rotated").ID, "*-json.log*")); len(files) < 3 {
		t.Errorf("the log was not rotated: %q", files)
	}
}

// TestLogsBounded: a log that is rotated stays as small as asked for, and what is left of it is the end of what was written.
func TestLogsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := random(t).Uint64()
	for _, files := range []int{1, 3} {
		name := fmt.Sprintf("bounded%d", files)
		r.must(r.pour("run", []string{"-d", "--name", name, "--log-opt", "max-size=100k", "--log-opt", "max-file=" + strconv.Itoa(files)}, seed, 2*mb, "binary")...)
		r.must("wait", name)
		res := r.do("logs", name)
		for _, s := range []struct {
			got  string
			want []byte
		}{{res.out, output(seed, 2*mb, "binary")}, {res.err, output(seed+1, mb/2, "binary")}} {
			if !bytes.HasSuffix(s.want, []byte(s.got)) {
				t.Errorf("%s: %d bytes that are not the end of what was written", name, len(s.got))
			}
		}
		if len(res.out) == 0 {
			t.Errorf("%s: nothing is left", name)
		}
		logs, _ := filepath.Glob(filepath.Join(r.root, "containers", r.state(name).ID, "*-json.log*"))
		for _, f := range logs {
			// One entry of 16 kB may come on top: every byte as \u0000, and in base64 too.
			if st, err := os.Stat(f); err != nil || st.Size() > 100_000+16<<10*8 {
				t.Errorf("%s: %d bytes", f, st.Size())
			}
		}
		if len(logs) > files {
			t.Errorf("%s: %q", name, logs)
		}
	}
}

// TestPipesExact sends much through pipes, with and without a monitor.
func TestPipesExact(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := random(t).Uint64()
	const size = 8 * mb
	poured(t, "run", r.do(r.pour("run", []string{"--rm"}, seed, size, "binary")...), seed, size, "binary")
	// With a policy for restarts a container has a monitor, even in the foreground.
	poured(t, "run with a monitor", r.do(r.pour("run", []string{"--restart", "on-failure"}, seed, size, "binary")...), seed, size, "binary")
	r.must(r.pour("create", []string{"--name", "attached"}, seed, size, "binary")...)
	poured(t, "start -a", r.do("start", "-a", "attached"), seed, size, "binary")
	poured(t, "logs of it", r.do("logs", "attached"), seed, size, "binary")

	in := output(seed, size, "binary")
	for _, row := range []struct {
		name  string
		words []string
	}{
		{"run -i", r.program("run", []string{"-i", "--rm"}, "copy")},
		{"exec -i", []string{"exec", "-i", "-e", programEnv + "=copy", "host", "/program", r.root}},
		{"start -ai", []string{"start", "-ai", "copier"}},
	} {
		switch row.name {
		case "exec -i":
			if !r.knows("exec") {
				continue
			}
			r.detached([]string{"--name", "host"}, "sleep")
		case "start -ai":
			r.must(r.program("create", []string{"-i", "--name", "copier"}, "copy")...)
		}
		res := r.feed(bytes.NewReader(in), row.words...)
		if res.code != 0 || res.err != strconv.Itoa(size) {
			t.Errorf("%s: status %d, %s", row.name, res.code, short(res.err))
		}
		same(t, row.name, []byte(res.out), in)
	}
}

// TestStalledAttacher: somebody who has attached and does not read holds up the program for a while only, and the log has all
// of its output.
func TestStalledAttacher(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := random(t).Uint64()
	const size = 5 * mb
	r.must(r.pour("create", []string{"--name", "stalled"}, seed, size, "binary")...)
	r.detached([]string{"--name", "gate"}, "sleep") // so that nothing happens before all is in place
	r.must("start", "stalled")
	cmd := r.command("attach", "--no-stdin", "stalled")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if code := r.must("wait", "stalled"); code != "0" {
		t.Errorf("status %s", code)
	}
	poured(t, "logs", r.do("logs", "stalled"), seed, size, "binary")
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the attacher has ended: %v", err)
	}
}

// TestFullDisk fills the disk with a log. The program does not stand still for it, and everything can be stopped and removed.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error("unmount: ", err)
		}
	})
	r := rigAt(t, root)
	r.detached([]string{"--name", "bystander"}, "sleep")
	seed := random(t).Uint64()
	const size = 32 * mb
	r.must(r.pour("run", []string{"-d", "--name", "filler"}, seed, size, "binary")...)
	if code := r.must("wait", "filler"); code != "0" {
		t.Errorf("status %s", code)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil || st.Bavail > 16 {
		t.Fatalf("the disk is not full: %d blocks are free, %v", st.Bavail, err)
	}
	out := r.do("logs", "filler").out
	if want := output(seed, size, "binary"); !strings.HasPrefix(string(want), out) || len(out) < mb {
		t.Errorf("%d bytes in the log, which are not the beginning of what was written", len(out))
	}
	if got := r.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); !strings.Contains(got, "filler exited") || !strings.Contains(got, "bystander running") {
		t.Errorf("ps: %s", got)
	}
	if res := r.do(r.program("run", []string{"-d", "--name", "late"}, "sleep")...); res.code == 0 {
		t.Errorf("started on a full disk: %v", res)
	}
	r.must("stop", "bystander")
	if s := r.state("bystander"); s.Status != "exited" {
		t.Errorf("stopped, and the state says %s", s.Status)
	}
	r.must("rm", "-f", "filler", "bystander")
	r.do("rm", "-f", "late")
	r.must(r.program("run", []string{"--rm"}, "exit", "0")...)
}

// TestOutput: what tests write has all that is promised in it.
func TestOutput(t *testing.T) {
	b := output(1, mb, "binary")
	longest := 0
	for line := range bytes.Lines(b) {
		longest = max(longest, len(line))
	}
	if utf8.Valid(b) || !bytes.Contains(b, make([]byte, 100)) || longest < 200_000 || b[len(b)-1] == '\n' {
		t.Errorf("valid %v, longest line %d", utf8.Valid(b), longest)
	}
	if !bytes.Equal(b, output(1, mb, "binary")) {
		t.Error("not the same twice")
	}
}
