package ns

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// spy is a program in a container that looks at each process as soon as it is there, held by SIGSTOP, whose parent is
// the one given: "exe", "fd", "env" and "map" are a line each of what it can read. The second argument is a signal to send
// instead.
func spy(args []string) error {
	fmt.Println("ready")
	instead := 0
	if len(args) > 1 {
		instead, _ = strconv.Atoi(args[1])
	}
	seen, said := map[string]bool{}, map[string]bool{}
	say := func(kind, what string) {
		if what != "" && !said[kind+what] {
			said[kind+what] = true
			fmt.Println(kind, what)
		}
	}
	for {
		for _, name := range names("/proc") {
			pid, err := strconv.Atoi(name)
			if err != nil || seen[name] || pid == os.Getpid() {
				continue
			}
			stat, _ := os.ReadFile("/proc/" + name + "/stat")
			if _, rest, _ := strings.Cut(string(stat), ") "); len(strings.Fields(rest)) < 2 || strings.Fields(rest)[1] != args[0] {
				continue
			}
			seen[name] = true
			if instead != 0 {
				_ = syscall.Kill(pid, syscall.Signal(instead))
				continue
			}
			_ = syscall.Kill(pid, unix.SIGSTOP)
			inspect(name, say)
			_ = syscall.Kill(pid, unix.SIGCONT)
		}
	}
}

func inspect(name string, say func(kind, what string)) {
	dir := "/proc/" + name
	exe, _ := os.Readlink(dir + "/exe")
	say("exe", exe)
	for _, fd := range names(dir + "/fd") {
		to, _ := os.Readlink(dir + "/fd/" + fd)
		say("fd", to)
	}
	for _, kv := range strings.Split(strings.Join(lines(dir+"/environ"), ""), "\x00") {
		say("env", kv)
	}
	for _, l := range lines(dir + "/maps") {
		if f := strings.Fields(l); len(f) > 5 {
			say("map", f[5])
		}
	}
	root, _ := os.Readlink(dir + "/cwd")
	say("cwd", root)
}

// found collects what a spy says.
type found struct {
	mu    sync.Mutex
	lines []string
}

func (f *found) read(from *os.File) {
	for in := bufio.NewScanner(from); in.Scan(); {
		f.mu.Lock()
		f.lines = append(f.lines, in.Text())
		f.mu.Unlock()
	}
}

func (f *found) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

// quiet makes the output of a guest a pipe that nobody reads, so that no descriptor of it leads to a file of the host's.
func (b *box) quiet() {
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { r.Close(); w.Close() })
	b.Stdout, b.Stderr = w, w
}

// watched has 50 programs join a container with a spy in it, and gives what it has found. The first waits for its start
// until the spy has seen it.
func watched(t *testing.T, b *box, change func(*box)) []string {
	t.Setenv("HOSTS", "secret")
	p, out := b.start()
	t.Cleanup(func() {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
	})
	if err := waitFor(out, "ready"); err != nil {
		t.Fatal(err)
	}
	if err := out.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	var f found
	go f.read(out)
	for range 50 {
		g := b.guest(p, "exit", "0")
		g.quiet()
		change(g)
		j, err := g.Create()
		if err != nil {
			t.Fatal(err)
		}
		for begin := time.Now(); len(f.all()) == 0 && time.Since(begin) < 10*time.Second; {
			time.Sleep(time.Millisecond)
		}
		if err := j.Start(); err != nil {
			t.Fatal(err)
		}
		if s, err := j.Wait(); err != nil || s.Code() != 0 {
			t.Fatalf("%d, %v", s.Code(), err)
		}
		if j.Console != nil {
			j.Console.Close()
		}
	}
	return f.all()
}

// nothingOfTheHost fails the test if a spy has found more than the container has anyway.
func nothingOfTheHost(t *testing.T, found []string) {
	t.Helper()
	stub := 0
	for _, line := range found {
		kind, what, _ := strings.Cut(line, " ")
		ok := false
		switch kind {
		case "exe":
			ok = what == "/memfd:init (deleted)" || what == "/t"
			if what != "/t" {
				stub++
			}
		case "map":
			ok = what == "/memfd:init" || what == "/t" || strings.HasPrefix(what, "[")
		case "fd":
			ok = strings.HasPrefix(what, "pipe:") || strings.HasPrefix(what, "socket:") || what == "/dev/null" || strings.HasPrefix(what, "/dev/pts/") ||
				strings.HasPrefix(what, "anon_inode:[event") || strings.HasPrefix(what, "/sys/") || strings.HasPrefix(what, "/proc") // its own runtime's
		case "env":
			ok = strings.HasPrefix(what, verbEnv+"=") || strings.HasPrefix(what, "PATH=")
		case "cwd":
			ok = what == "/"
		}
		if !ok {
			t.Errorf("the container sees %s", line)
		}
	}
	if stub == 0 {
		t.Errorf("the container saw no stub, only %q", found)
	}
}

// TestJoinSpied: root of the container, with the right to trace, looks at what joins it and finds nothing of the host's.
func TestJoinSpied(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		b := newBox(t, "spy", "0")
		nothingOfTheHost(t, watched(t, b, func(g *box) { g.Spec.Process.Terminal = terminal }))
	}
}

// TestJoinSpiedOnHost: the same where the container sees all processes of the host, but without that right.
func TestJoinSpiedOnHost(t *testing.T) {
	needRoot(t, "to mount the host's /proc anew")
	caps := []string{"CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"}
	rights := &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	b := newBox(t, "spy", itoa(os.Getpid()))
	b.Spec.Process.Capabilities = rights
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	nothingOfTheHost(t, watched(t, b, func(g *box) { g.Spec.Process.Capabilities = rights }))
}

// TestJoinKilled: the container kills whatever joins it, at any moment. It ends; nobody waits for ever.
func TestJoinKilled(t *testing.T) {
	b := newBox(t, "spy", "0", "9")
	p := b.host()
	killed := 0
	for range 50 {
		g := b.guest(p, "signals")
		g.quiet()
		j, err := g.Create()
		if err == nil {
			err = j.Start()
		}
		if j == nil { // before its pid was known
			killed++
			continue
		}
		if s, e := j.Wait(); e != nil || s.Code() != 137 {
			t.Errorf("%d, %v, %v", s.Code(), e, err)
		}
	}
	if killed == 50 {
		t.Error("none came so far that it could be waited for")
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != nil || pid != 0 { // but for the container there is nobody
		t.Errorf("child %d is left: %v", pid, err)
	}
}

// TestJoinForged: only the child's own word says which process is the program's, and only of a child of ours.
func TestJoinForged(t *testing.T) {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sockets[0])
	defer unix.Close(sockets[1])
	if err := knowSender(sockets[0]); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("/proc/self/exe") // writes to its standard output
	other.Env = []string{verbEnv + "=born"}
	copied, err := unix.Dup(sockets[1])
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(copied), "socket")
	other.Stdout = socket
	err = other.Run()
	socket.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := born([]string{"7"}, sockets[1]); err != nil { // this process's own word
		t.Fatal(err)
	}
	p := Process{Pid: os.Getpid(), socket: sockets[0], birth: &birth{}}
	if pid, err := p.born(); pid != 7 || err != nil {
		t.Errorf("%d, %v, want 7 of this process, not 1 of the other", pid, err)
	}
	for _, pid := range []int{1, os.Getpid(), 1 << 22} {
		if err := p.adopt(pid); err == nil {
			t.Errorf("adopts %d", pid)
		}
	}
	if err := born([]string{"-11"}, sockets[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.born(); err == nil || err.Error() != "fork in the container: resource temporarily unavailable" {
		t.Error(err)
	}
}

// born says on a socket that a process of this number has been forked.
func born(args []string, socket int) error {
	pid := 1
	if len(args) > 0 {
		pid, _ = strconv.Atoi(args[0])
	}
	u := uint32(pid)
	_, err := unix.Write(socket, []byte{early.KindBorn, 0, 0, 0, byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)})
	return err
}

// TestJoinOrphaned: the parent is killed, before or after the start: the program ends with it, and stands in nobody's way
// although whoever inherits the orphans does not collect them.
func TestJoinOrphaned(t *testing.T) {
	b := newBox(t, "signals")
	p, out := b.start()
	if err := waitFor(out, "ready"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for _, verb := range []string{"create", "start"} {
		cmd := exec.Command("/proc/self/exe", itoa(p.Pid), verb)
		cmd.Env = []string{verbEnv + "=guest"}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscanln(out, &pid); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if !ends(fd) {
			t.Errorf("%s: process %d lives on", verb, pid)
		}
	}
	_ = p.Signal(unix.SIGKILL)
	if !ends(p.pidfd) {
		t.Fatal("the container does not end")
	}
	_, _ = p.Wait()
	for range 2 { // two stubs
		if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err != nil {
			t.Error(err)
		}
	}
}

// ends waits for the end of a process.
func ends(pidfd int) bool {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000); n == 1 {
			return true
		}
	}
	return false
}

// guestVerb joins the container of a process, says the pid that it got, and waits to be killed.
func guestVerb(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	c := Cmd{Join: os.NewFile(uintptr(pidfd), "pidfd"), Spec: &specs.Spec{
		Process: &specs.Process{Args: []string{"/t"}, Cwd: "/", Env: []string{verbEnv + "=sleep"}},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}}
	if os.Geteuid() != 0 {
		(&box{Cmd: &c}).mapOne()
	}
	p, err := c.Create()
	if err == nil && args[1] == "start" {
		err = p.Start()
	}
	if err != nil {
		return err
	}
	fmt.Println(p.Pid)
	_, err = p.Wait()
	return err
}
