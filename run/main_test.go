package run

import (
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	"exit": func() error { os.Exit(int(os.Getenv("CODE")[0] - '0')); return nil },
	"sleep": func() error {
		fmt.Println("ready")
		time.Sleep(time.Minute)
		return nil
	},
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
	"terminal": terminalVerb,
	"write":    func() error { return os.WriteFile("/tmp/written", []byte("x"), 0o600) },
	"hull":     hullVerb,
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
		if err := c.Remove(true); err != nil {
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
	cmd := exec.Command("/proc/self/exe")
	// By its own path: it is the executable that the built-in image has been made of.
	if cmd.Path, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), verbEnv+"=hull", "CONFIG="+string(text), "ROOT="+testHost(t).Root)
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
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s not yet: %s", what)
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
