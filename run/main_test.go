package run

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// verbEnv makes the test's binary be a program inside a container, or a hull outside, instead of running tests. The
// built-in image is made of the running executable, so that it holds this very binary.
const verbEnv = "HULL_RUN_TEST"

func TestMain(m *testing.M) {
	if Helper() {
		return
	}
	if verb := os.Getenv(verbEnv); verb != "" {
		if err := verbs[verb](); err != nil {
			fmt.Fprintln(os.Stderr, verb+":", err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	code := m.Run()
	if shared != nil {
		_ = shared.removeTree(shared.Root)
		_ = os.RemoveAll(shared.Root)
	}
	os.Exit(code)
}

// verbs are the programs that tests run.
var verbs = map[string]func() error{
	"exit":  func() error { os.Exit(int(os.Getenv("CODE")[0] - '0')); return nil },
	"sleep": sleepVerb,
	"heed": func() error { // the status is the signal's number
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGUSR1, unix.SIGTERM, unix.SIGHUP)
		fmt.Println("ready")
		os.Exit(int((<-c).(syscall.Signal)))
		return nil
	},
	"streams": streamsVerb,
	"copy": func() error {
		n, err := io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintln(os.Stderr, n, "bytes")
		return err
	},
	"leave": func() error {
		if err := errors.Join(os.MkdirAll("/new/\xff", 0o755), os.WriteFile("/tmp/x", nil, 0o600), os.Remove("/tmp/x")); err != nil {
			return err
		}
		return sleepVerb()
	},
	"swap":     swapVerb,
	"terminal": terminalVerb,
	"console":  consoleVerb,
	"flood": func() error {
		for {
			if _, err := fmt.Println("and on"); err != nil {
				return err
			}
		}
	},
	"write":  func() error { return os.WriteFile("/tmp/written", []byte("x"), 0o600) },
	"family": familyVerb,
	"burn":   burnVerb,
	"pull":   pullVerb,
	"hull":   hullVerb,
	"mounts": mountsVerb,
	"here":   hereVerb,
	"inner":  innerVerb,
	"exec":   execVerb,
	"calls":  callsVerb,
	"refuse": refuseVerb,
	"compat": compatVerb,
	"inside": insideVerb,
	"push":   pushVerb,
	"nodes":  nodesVerb,
}

func sleepVerb() error {
	if os.Getenv("PROBE") != "" && os.Getpid() != 1 { // a probe of the container that sleeps
		if _, err := os.Stat("/well/well"); err != nil {
			return err
		}
		fmt.Println("fine")
		return nil
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return nil
}

// streamsVerb says what the three streams are.
func streamsVerb() error {
	var said []string
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		said = append(said, fmt.Sprintf("%o:%d:%v", st.Mode&unix.S_IFMT>>12, st.Ino, err == nil))
	}
	fmt.Println(strings.Join(said, " "))
	return nil
}

// familyVerb has a child, and one in a pid namespace of its own, and says so once they sleep.
func familyVerb() error {
	for _, flags := range []uintptr{0, unix.CLONE_NEWPID} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), verbEnv+"=sleep")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		}
		if err != nil {
			return err
		}
	}
	return sleepVerb()
}

// burnVerb uses 64 MiB of memory and 0.3 s of a processor, and has a child that has used another 0.3 s.
func burnVerb() error {
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	for used := (unix.Rusage{}); used.Utime.Nano()+used.Stime.Nano() < 300e6; {
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			return err
		}
	}
	if os.Getenv("CHILD") == "" {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "CHILD=1")
		if err := cmd.Run(); err != nil {
			return err
		}
		fmt.Println("ready")
		time.Sleep(time.Minute)
	}
	runtime.KeepAlive(b)
	return nil
}

// pullVerb stores an image below $ROOT, and stops half-way.
func pullVerb() error {
	h, err := Open(os.Getenv("ROOT"))
	if err != nil {
		return err
	}
	img, err := hello()
	if err != nil {
		return err
	}
	_, err = h.Images.Add(context.Background(), "docker.io/library/half:latest", stuckImage{img}, layers.AddOptions{})
	return err
}

// stuckImage is an image whose layers come half-way.
type stuckImage struct{ v1.Image }

func (s stuckImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := s.Image.LayerByDigest(h)
	return stuckLayer{l}, err
}

type stuckLayer struct{ v1.Layer }

func (s stuckLayer) Compressed() (io.ReadCloser, error) {
	size, err := s.Size()
	if err != nil {
		return nil, err
	}
	r, err := s.Layer.Compressed()
	return io.NopCloser(io.MultiReader(io.LimitReader(r, size/2), stuckReader{})), err
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, sleepVerb() }

// terminalVerb says the size of its terminal, at first and after each change, until Ctrl-C.
func terminalVerb() error {
	c := make(chan os.Signal, 10)
	signal.Notify(c, unix.SIGWINCH, unix.SIGINT)
	for {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		fmt.Printf("size %dx%d\n", ws.Row, ws.Col)
		if <-c == unix.SIGINT {
			os.Exit(9)
		}
	}
}

// consoleVerb lets go of its terminal for a moment, and then writes more to it than a terminal holds.
func consoleVerb() error {
	fmt.Println("first")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	time.Sleep(100 * time.Millisecond)
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = console.WriteString(strings.Repeat("more\n", 10_000) + "last\n")
	return err
}

// mountsVerb says which of three directories show what the host mounts in them, and mounts something in each itself.
func mountsVerb() error {
	line := make([]byte, 1)
	fmt.Println("ready")
	if _, err := os.Stdin.Read(line); err != nil {
		return err
	}
	dirs := []string{"/private", "/slave", "/shared"}
	for _, dir := range dirs {
		fmt.Println(dir, exists(dir+"/host/x"))
	}
	for _, dir := range dirs {
		if err := unix.Mount("tmpfs", dir+"/inner", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
		if err := os.WriteFile(dir+"/inner/from"+strings.ReplaceAll(dir, "/", "-"), nil, 0o600); err != nil {
			return err
		}
	}
	fmt.Println("mounted")
	_, err := os.Stdin.Read(line)
	return err
}

// hullVerb runs a container as hull does in the foreground: the configuration is in $CONFIG, the root in $ROOT.
func hullVerb() error {
	h, err := Open(os.Getenv("ROOT"))
	if err != nil {
		return err
	}
	var config Config
	if err := json.Unmarshal([]byte(os.Getenv("CONFIG")), &config); err != nil {
		return err
	}
	c, err := h.Create(context.Background(), config, Fetch{})
	if err != nil {
		return err
	}
	res, err := c.Run(context.Background(), IO{os.Stdin, os.Stdout, os.Stderr})
	if err != nil {
		return err
	}
	os.Exit(res.Code)
	return nil
}

var (
	shared     *Host
	sharedOnce sync.Once
)

// testHost is the host of all tests that run something, with the built-in image in its store.
func testHost(t *testing.T) *Host {
	t.Helper()
	needStatic(t)
	sharedOnce.Do(func() {
		root, err := os.MkdirTemp("", "hull-run-")
		if err != nil {
			t.Fatal(err)
		}
		h, err := Open(root)
		if err == nil {
			_, err = h.Image(context.Background(), "hello", Fetch{})
		}
		if err != nil {
			t.Fatal(err)
		}
		shared = h
	})
	if shared == nil {
		t.Skip("needs the host that another test could not make")
	}
	return shared
}

// verbConfig is the wish for a container of the built-in image that runs a verb.
func verbConfig(t *testing.T, verb string, env ...string) Config {
	t.Helper()
	c := Config{Image: "hello", Lifetime: LifetimeConfig{Remove: true},
		Process: ProcessConfig{Entrypoint: &[]string{"/hull"}, Env: append(env, verbEnv+"="+verb)}}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

// create makes a container, which the test's end removes.
func create(t *testing.T, h *Host, config Config) *Container {
	t.Helper()
	c, err := h.Create(context.Background(), config, Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := c.Remove(RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return c
}

// printed runs a container and gives its output, its errors' and its result. in may be nil.
func printed(t *testing.T, config Config, in *os.File) (out, errs string, res Result) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	res, err := create(t, testHost(t), config).Run(context.Background(), IO{in, files[0], files[1]})
	if err != nil {
		t.Fatal(err)
	}
	var texts [2]string
	for i, f := range files {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(data)
	}
	return texts[0], texts[1], res
}

// otherHull runs a container in another process, which the test may kill. It returns once the program says that it is ready.
func otherHull(t *testing.T, config Config) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return otherProcess(t, verbEnv+"=hull", "CONFIG="+string(text), "ROOT="+testHost(t).Root)
}

// endBy sends a hull one of the signals that it listens for only when its program has run for a while, and drops before, until it
// has ended.
func endBy(hull *exec.Cmd, sig syscall.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- hull.Wait() }()
	for {
		_ = hull.Process.Signal(sig)
		select {
		case err := <-ended:
			return err
		case <-time.After(2 * settled):
		}
	}
}

// otherProcess runs a verb on the host, and returns once it says that it is ready.
func otherProcess(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	// By its own path: it is the executable that the built-in image has been made of.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	buf := make([]byte, 6)
	if n, err := io.ReadFull(out, buf); err != nil || string(buf) != "ready\n" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	return cmd
}

// eventually waits for something that takes a moment.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute not yet: %s", what)
		}
	}
}

// gone says whether a process has ended.
func gone(pid int) bool {
	// Whoever adopted it may take its time to collect it.
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, filepath.Base(e.Name()))
	}
	return list
}

// needStatic skips a test where this binary needs a shared library, which no container of these tests has.
func needStatic(t testing.TB) {
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
