package torture

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/commands"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

// programEnv makes this test's binary be a program inside a container.
const programEnv = "HULL_TORTURE"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "hull" || os.Getenv("_HULL_HELPER") != "" {
		if run.Helper() {
			return
		}
		os.Exit(commands.Main(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	if verb := os.Getenv(programEnv); verb != "" {
		if err := programs[verb](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, verb+":", err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	flag.Parse()
	// Most of these tests wait most of the time.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// rig is a root directory of hull's and what a test does with it.
type rig struct {
	t    *testing.T
	root string
	hull string
	env  []string
}

// patience is for all that a busy machine may take its time for.
const patience = time.Minute

// newRig makes a root directory with the image hello in it. At the end nothing may be left.
func newRig(t *testing.T) *rig {
	t.Helper()
	needStatic(t)
	if os.Geteuid() != 0 && exec.Command("unshare", "--user", "true").Run() != nil {
		t.Skip("needs user namespaces")
	}
	return rigAt(t, filepath.Join(t.TempDir(), "root"))
}

func rigAt(t *testing.T, root string) *rig {
	t.Helper()
	r := &rig{t: t, root: root, hull: os.Getenv("HULL_BIN")}
	if r.hull == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		r.hull = filepath.Join(t.TempDir(), "hull")
		if err := os.Symlink(self, r.hull); err != nil {
			t.Fatal(err)
		}
	}
	r.env = append(os.Environ(), "HULL_ROOT="+root)
	t.Cleanup(r.end)
	r.must("run", "--rm", "--network", "none", "hello")
	return r
}

// needStatic skips a test where this binary needs a shared library, which no container has.
func needStatic(t *testing.T) {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("needs a static test binary: CGO_ENABLED=0")
		}
	}
}

// command prepares a hull.
func (r *rig) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.hull, args...)
	cmd.Env = r.env
	return cmd
}

// result is how a hull has ended.
type result struct {
	args     []string
	out, err string
	code     int
	took     time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("hull %s: status %d after %v\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code,
		r.took.Round(time.Millisecond), short(r.out), short(r.err))
}

func short(s string) string {
	if s = strings.TrimSpace(s); len(s) > 20000 {
		s = s[:20000] + "..."
	}
	return s
}

// do runs a hull to its end. One that takes too long is a failure.
func (r *rig) do(args ...string) result {
	r.t.Helper()
	return r.feed(nil, args...)
}

// feed is do with something to read.
func (r *rig) feed(in io.Reader, args ...string) result {
	r.t.Helper()
	cmd := r.command(args...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &err
	// Else Wait would wait for whoever has inherited a pipe.
	cmd.WaitDelay = time.Second
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(unix.SIGQUIT) })
	e := cmd.Wait()
	res := result{args, out.String(), err.String(), cmd.ProcessState.ExitCode(), time.Since(begin)}
	if !late.Stop() {
		r.t.Fatalf("still runs after %v: %v", patience, res)
	}
	if errors.Is(e, exec.ErrWaitDelay) {
		r.t.Fatalf("somebody has its output still open: %v", res)
	}
	return res
}

// must runs a hull that succeeds, and gives its output without the last line's end.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	res := r.do(args...)
	if res.code != 0 {
		r.t.Fatal(res)
	}
	return strings.TrimSuffix(res.out, "\n")
}

// program is the words with which this test's binary runs in a container: run or create, options, then a program of
// programs and its arguments. The root directory is among them, by which the process can be found.
func (r *rig) program(verb string, options []string, program string, args ...string) []string {
	r.t.Helper()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	words := append([]string{verb, "--network", "none", "-v", self + ":/program:ro", "--entrypoint", "/program", "-e", programEnv + "=" + program}, options...)
	return append(append(words, "hello", r.root), args...)
}

// detached starts a program, waits until it says that it is ready, and gives its container's ID.
func (r *rig) detached(options []string, program string, args ...string) string {
	r.t.Helper()
	id := r.must(r.program("run", append([]string{"-d"}, options...), program, args...)...)
	r.ready(id)
	return id
}

// ready waits until the log says so.
func (r *rig) ready(name string) {
	r.t.Helper()
	r.eventually("the program of "+name+" is ready", func() bool { return strings.Contains(r.do("logs", name).out, "ready\n") })
}

// eventually waits for something that takes a moment.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

// state is what a test reads of container.json.
type state struct {
	ID, Name, Status, Error         string
	Pid, Monitor, ExitCode          int
	RestartCount                    int
	Started, Finished               time.Time
	Stopped, OOMKilled, Interactive bool
}

// states reads all states as they are written, without hull's help.
func (r *rig) states() (list []state) {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.root, "containers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(r.root, "containers", e.Name(), "container.json"))
		var s state
		if err == nil && json.Unmarshal(data, &s) == nil {
			list = append(list, s)
		}
	}
	return list
}

// state reads one by name or ID; it is zero if there is none.
func (r *rig) state(name string) (s state) {
	r.t.Helper()
	for _, s := range r.states() {
		if s.Name == name || s.ID == name {
			return s
		}
	}
	return state{}
}

// process is one that has to do with the rig: the root directory is in its command line.
type process struct {
	pid   int
	words []string
}

// processes lists them, monitors and others of hull's apart from programs in containers.
func (r *rig) processes() (hulls, programs []process) {
	r.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.Contains(text, []byte(r.root)) {
			continue
		}
		words := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if len(words) > 1 && words[0] == "/program" {
			programs = append(programs, process{pid, words})
		} else if words[0] == "hull" || strings.HasPrefix(words[0], "hull: ") {
			hulls = append(hulls, process{pid, words})
		}
	}
	return hulls, programs
}

// end removes what a test has made, and sees that nothing is left.
func (r *rig) end() {
	if ids := strings.Fields(r.do("ps", "-aq").out); len(ids) > 0 {
		r.do(append([]string{"rm", "-fv"}, ids...)...)
	}
	r.nothingLeft()
	// Of images that were being stored a prune removes what is left.
	r.do("system", "prune", "-af")
	if left := r.leftFiles(""); len(left) > 0 {
		r.t.Errorf("left after a prune: %q", left)
	}
	for line := range strings.Lines(r.do("system", "check").out) {
		if !strings.HasPrefix(line, "cgroup ") { // those of others look alike, and ours have been looked for
			r.t.Errorf("system check: %s", line)
		}
	}
}

// nothingLeft sees that there is nothing besides images when there is no container any more. What was left half-made is
// cleared away by the next look at it, but not in its first second.
func (r *rig) nothingLeft() {
	r.t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = nil
		if out := r.must("ps", "-aq", "--no-trunc"); out != "" {
			left = append(left, "container "+out)
		}
		left = append(left, r.leftFiles("add-")...)
		left = append(left, r.leftInKernel()...)
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, what := range left {
		r.t.Errorf("left: %s", what)
	}
	hulls, programs := r.processes()
	for _, p := range append(hulls, programs...) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// leftFiles are files that belong to containers, and locks that somebody holds. In tmp names that begin with ours do not count,
// nor beginnings of blobs, which are kept for the next attempt, unless that is empty.
func (r *rig) leftFiles(ours string) (left []string) {
	for _, dir := range []string{"containers", "names", "tmp", "volumes"} {
		entries, err := os.ReadDir(filepath.Join(r.root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			left = append(left, err.Error())
		}
		for _, e := range entries {
			if ours == "" || dir != "tmp" || !strings.HasPrefix(e.Name(), ours) && !layers.IsPartial(e.Name()) {
				left = append(left, dir+"/"+e.Name())
			}
		}
	}
	entries, err := os.ReadDir(r.root)
	if err != nil {
		left = append(left, err.Error())
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(r.root, e.Name()))
		if err != nil {
			left = append(left, err.Error())
			continue
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			left = append(left, "a lock of "+e.Name())
		}
		f.Close()
	}
	return left
}

// leftInKernel are processes, mounts and cgroups.
func (r *rig) leftInKernel() (left []string) {
	r.t.Helper()
	hulls, programs := r.processes()
	for _, p := range append(hulls, programs...) {
		left = append(left, fmt.Sprintf("process %d: %q", p.pid, p.words))
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(r.root+"/")) {
		left = append(left, fmt.Sprintf("a mount below %s, %v", r.root, err))
	}
	made := map[string]bool{}
	for _, id := range r.everMade() {
		made[id] = true
	}
	for _, where := range []string{"hull", "*/hull", "user.slice/*/*/*/hull", "user.slice/*/*/*/*/hull"} {
		groups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", where, "*"))
		for _, g := range groups {
			if made[filepath.Base(g)] {
				left = append(left, "cgroup "+g)
			}
		}
	}
	return left
}

// everMade are the IDs of all containers that the journal knows.
func (r *rig) everMade() (ids []string) {
	r.t.Helper()
	for _, name := range []string{"events.json.1", "events.json"} {
		text, _ := os.ReadFile(filepath.Join(r.root, name))
		for line := range bytes.Lines(text) {
			var e struct{ Type, Action, ID string }
			if err := json.Unmarshal(line, &e); err != nil {
				r.t.Errorf("the journal has a line %q: %v", line, err)
			}
			if e.Type == "container" && e.Action == "create" {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}

// random gives a source of chance whose seed is printed, and chosen by HULL_TEST_SEED.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("HULL_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HULL_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// rounds is how often something is tried.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	if s := os.Getenv("HULL_TEST_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

// knows says whether hull has a command.
func (r *rig) knows(verb string) bool { return r.do(verb, "--help").code == 0 }
