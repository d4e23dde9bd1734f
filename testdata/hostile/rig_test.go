package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// What a hull may take, whatever it is fed with.
const (
	maxMemory = 100 << 10 // of any process of a command, in KiB
	maxTime   = 60 * time.Second
)

// launchEnv makes this binary launch, and names the file for the peak of memory.
const launchEnv = "HULL_HOSTILE_LAUNCH"

// launch runs a program and writes down the largest of its and its children's peaks of memory, in KiB. The tests do not do
// so themselves because a program's peak is at least what its parent had when it started it (exec(2) keeps the count), and
// they hold the images.
func launch(args []string) int {
	ignored := make(chan os.Signal, 9)
	signal.Notify(ignored, os.Interrupt, syscall.SIGQUIT) // they are for the program
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	_ = cmd.Run()
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	if err := os.WriteFile(os.Getenv(launchEnv), []byte(fmt.Sprintln(peak)), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return cmd.ProcessState.ExitCode()
}

// rig is a store and the hull that an attack is aimed at.
type rig struct {
	t        *testing.T
	dir      string // root is the store in it; nothing else may appear here
	program  string
	registry string
	target   string
	before   string // the target's snapshot
	env      []string
}

func newRig(t *testing.T, registry, target string) *rig {
	t.Helper()
	if os.Geteuid() != 0 && exec.Command("unshare", "--user", "true").Run() != nil {
		t.Skip("needs user namespaces")
	}
	r := &rig{t: t, dir: t.TempDir(), program: os.Getenv("HULL_BIN"), registry: registry, target: target, before: snapshot(t, target)}
	if r.program == "" {
		self, err := os.Executable()
		r.must(err)
		r.program = filepath.Join(r.dir, "hull")
		r.must(os.Symlink(self, r.program))
	}
	r.must(os.Mkdir(filepath.Join(r.dir, "home"), 0o700))
	r.env = append(os.Environ(), "HULL_ROOT="+r.dir+"/root", "HOME="+r.dir+"/home")
	t.Cleanup(r.end)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// end ends what a failed test has left, and makes what an image has forbidden to enter removable.
func (r *rig) end() {
	entries, _ := os.ReadDir(filepath.Join(r.dir, "root/containers"))
	for _, e := range entries {
		cmd := exec.Command(r.program, "rm", "-f", e.Name())
		cmd.Env = r.env
		_ = cmd.Run()
	}
	_ = filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
}

// result is how a hull has ended.
type result struct {
	args     []string
	out, err string
	code     int
	took     time.Duration
	memory   int64 // the largest of its processes, in KiB
}

func (r result) String() string {
	return fmt.Sprintf("hull %s: status %d after %v with %d MiB\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code,
		r.took.Round(time.Millisecond), r.memory>>10, short(r.out), short(r.err))
}

func short(s string) string {
	if len(s) > 2000 {
		s = s[:2000] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// clip keeps the first megabyte.
type clip struct{ bytes.Buffer }

func (c *clip) Write(b []byte) (int, error) {
	if room := 1<<20 - c.Len(); room > 0 {
		c.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// hull runs one to its end.
func (r *rig) hull(args ...string) result {
	r.t.Helper()
	return r.ended(r.start(args...), args, nil)
}

func (r *rig) start(args ...string) *exec.Cmd {
	r.t.Helper()
	self, err := os.Executable()
	r.must(err)
	cmd := exec.Command(self, append([]string{r.program}, args...)...)
	cmd.Env, cmd.Dir = append(r.env, launchEnv+"="+filepath.Join(r.dir, "home/memory")), r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a signal reaches both
	cmd.Stdout, cmd.Stderr = new(clip), new(clip)
	cmd.WaitDelay = time.Second
	r.must(cmd.Start())
	return cmd
}

// ended waits for a hull, and looks at what every one of them has to keep to.
func (r *rig) ended(cmd *exec.Cmd, args []string, meanwhile func()) result {
	r.t.Helper()
	begin := time.Now()
	late := time.AfterFunc(maxTime, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGQUIT) })
	if meanwhile != nil {
		meanwhile()
	}
	err := cmd.Wait()
	res := result{args, cmd.Stdout.(*clip).String(), cmd.Stderr.(*clip).String(), cmd.ProcessState.ExitCode(), time.Since(begin), 0}
	peak, _ := os.ReadFile(filepath.Join(r.dir, "home/memory"))
	if _, e := fmt.Sscan(string(peak), &res.memory); e != nil {
		r.t.Errorf("no peak of memory (%v): %v", e, res)
	}
	if !late.Stop() {
		r.t.Fatalf("still ran after %v: %v", maxTime, res)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		r.t.Errorf("somebody has its output still open: %v", res)
	}
	if strings.Contains(res.err, "goroutine ") || strings.Contains(res.err, "panic: ") {
		r.t.Errorf("it broke: %v", res)
	}
	if res.memory > maxMemory {
		r.t.Errorf("%d MiB: %v", res.memory>>10, res)
	}
	if testing.Verbose() {
		r.t.Log(res)
	}
	// cp writes a tar, and inspect is JSON.
	if args[0] != "cp" && (speaks(res.out) || speaks(res.err)) {
		r.t.Errorf("it speaks to the terminal: %v", res)
	}
	return res
}

// speaks says whether text holds what a terminal obeys.
func speaks(text string) bool {
	return strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' })
}

// want compares with the contract: an error is one that names what it is about, and has the right status.
func (r *rig) want(got result, part string, code int) {
	r.t.Helper()
	if part == "" {
		if got.code != 0 {
			r.t.Errorf("want success: %v", got)
		}
		return
	}
	if got.code != code || !strings.Contains(got.err, part) || !strings.Contains(got.err, "hull: ") {
		r.t.Errorf("want status %d and %q: %v", code, part, got)
	}
	for line := range strings.Lines(got.err) {
		if strings.HasPrefix(line, "hull: all is well") {
			r.t.Errorf("it has been made to say something: %v", got)
		}
	}
	if len(got.err) > 16<<10 {
		r.t.Errorf("%d bytes of words: %v", len(got.err), got)
	}
}

// interrupted wants a pull from a registry that never ends to end soon after Ctrl-C.
func (r *rig) interrupted(c Case, image string) {
	cmd := r.start("pull", image)
	res := r.ended(cmd, []string{"pull", image}, func() {
		time.Sleep(time.Second)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	})
	r.want(res, c.Pull, 130)
	if res.took > 10*time.Second {
		r.t.Errorf("it took its time: %v", res)
	}
}

func owner(fi os.FileInfo) string {
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Uid, ":", st.Gid)
}
