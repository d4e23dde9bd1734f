package cgroups

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const helperEnv = "HULL_CGROUPS_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		obey()
		return
	}
	os.Exit(m.Run())
}

// obey is the life of a process in a group: it does what its standard input says, and answers each line with one.
func obey() {
	var children []*exec.Cmd
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var word, path string
		var n int
		fmt.Sscan(in.Text(), &word, &n)
		switch word {
		case "eat": // MiB of memory
			b := make([]byte, n<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			fmt.Println("eaten", len(b)>>20)
		case "burn": // ms of processor time
			for end := time.Now().Add(time.Duration(n) * time.Millisecond); time.Now().Before(end); {
			}
			fmt.Println("burnt")
		case "fork": // children that wait
			var err error
			for range n {
				c := exec.Command("/proc/self/exe")
				if _, err = c.StdinPipe(); err == nil {
					err = c.Start()
				}
				if err != nil {
					break
				}
				children = append(children, c)
			}
			fmt.Println(len(children), err)
		case "open":
			fmt.Sscan(in.Text(), &word, &path)
			fd, err := unix.Open(path, unix.O_RDONLY, 0)
			if err == nil {
				unix.Close(fd)
			}
			fmt.Println(err)
		case "rootless": // make a group below this mount as an ordinary user, use it and remove it
			fmt.Sscan(in.Text(), &word, &path)
			fmt.Println(rootless(path))
		case "mknod":
			fmt.Sscan(in.Text(), &word, &path)
			fmt.Println(unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
		default:
			fmt.Println("ready")
		}
	}
}

// A helper is such a process.
type helper struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// startHelper starts one, with attr, which may be nil. It ends with the test at the latest.
func startHelper(t testing.TB, attr *syscall.SysProcAttr) *helper {
	t.Helper()
	h := &helper{Cmd: exec.Command("/proc/self/exe")}
	h.Env = append(os.Environ(), helperEnv+"=1", "GOMAXPROCS=1")
	h.SysProcAttr = attr
	h.Stderr = os.Stderr
	in, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		h.Process.Kill()
		h.Wait()
	})
	return h
}

// ask gives the answer to an order; it is empty if the helper has died.
func (h *helper) ask(order string) string {
	fmt.Fprintln(h.in, order)
	line, _ := h.out.ReadString('\n')
	return strings.TrimSpace(line)
}

// ends waits for the helper to end and wants it to have been killed.
func (h *helper) ends(t *testing.T) {
	t.Helper()
	h.in.(io.Closer).Close()
	h.Wait()
	if s := h.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != unix.SIGKILL {
		t.Errorf("the process ended by %v, not by SIGKILL", h.ProcessState)
	}
}

// parent is the group for the tests of this process.
func parent() string { return fmt.Sprintf("hull-test-%d", os.Getpid()) }

// newGroup makes a group that the test's end removes, or skips the test.
func newGroup(t testing.TB, r *specs.LinuxResources, o Options) (Group, []Warning) {
	t.Helper()
	needRoot(t)
	if o.Parent == "" {
		o.Parent = parent()
	}
	g, w, err := New(name(t), r, o)
	return kept(t, g, w, err)
}

func kept(t testing.TB, g Group, w []Warning, err error) (Group, []Warning) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		t.Skipf("needs control groups: %v", w)
	}
	t.Cleanup(func() { dispose(t, g) })
	return g, w
}

func dispose(t testing.TB, g Group) {
	t.Helper()
	if err := errors.Join(g.Kill(), g.Remove(), g.Close()); err != nil {
		t.Error(err)
	}
	for _, dir := range dirs(g) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		unix.Rmdir(filepath.Dir(dir)) // the tests' own parent, when the last group in it goes
	}
}

// dirs are the group's directories.
func dirs(g Group) []string {
	var list []string
	for _, p := range g.Paths() {
		_, dir, _ := strings.Cut(":"+p, ":/")
		if strings.HasPrefix(p, "/") {
			dir = p[1:]
		}
		list = append(list, "/"+dir)
	}
	return list
}

func name(t testing.TB) string { return strings.ReplaceAll(t.Name(), "/", "-") }

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// mountV2 is where version 2 is to be had: everywhere, or beside version 1.
func mountV2(t testing.TB) string {
	t.Helper()
	needRoot(t)
	for _, dir := range []string{standard, standard + "/unified"} {
		if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
			return dir
		}
	}
	t.Skip("needs cgroup v2")
	return ""
}

// controller skips the test where the group's controller is missing.
func controller(t testing.TB, warnings []Warning) {
	t.Helper()
	if len(warnings) > 0 {
		t.Skipf("needs a machine that keeps the limit: %v", warnings)
	}
}
