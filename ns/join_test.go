package ns

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// host starts a container that sleeps, for others to join. It ends with the test.
func (b *box) host() *Process {
	b.t.Helper()
	b.env("SECRET=of the first program")
	p, out := b.start()
	b.t.Cleanup(func() {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
	})
	if err := waitFor(out, "ready"); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// guest is a program that is about to join the container of b, as a box whose Cmd has nothing but that.
func (b *box) guest(p *Process, verb string, args ...string) *box {
	b.t.Helper()
	pidfd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	f := os.NewFile(uintptr(pidfd), "pidfd")
	b.t.Cleanup(func() { f.Close() })
	return &box{t: b.t, dir: b.t.TempDir(), Cmd: &Cmd{Join: f, Spec: &specs.Spec{
		Process: &specs.Process{Args: append([]string{"/t"}, args...), Cwd: "/", Env: []string{verbEnv + "=" + verb, "PATH=/bin:/"}},
		Linux:   &specs.Linux{Namespaces: b.Spec.Linux.Namespaces, GIDMappings: b.Spec.Linux.GIDMappings},
	}}}
}

// TestJoin: the program lives in the container's namespaces, sees its files, and has nothing of the host's.
func TestJoin(t *testing.T) {
	b := newBox(t, "cat")
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	b.Stdin = in
	p := b.host()
	b.put("etc/mark", "here", 0o644)
	t.Setenv("HOSTS", "secret")
	g := b.guest(p, "look")
	g.Spec.Process.Cwd, g.Spec.Process.OOMScoreAdj = "/etc", func(n int) *int { return &n }(321)
	g.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_MSGQUEUE", Soft: 50, Hard: 60}}
	v := g.look()
	theirs, ours := namespacesOf("/proc/"+itoa(p.Pid)+"/ns"), namespacesOf("/proc/self/ns")
	for _, kind := range []string{"mnt", "pid", "ipc", "uts", "net", "cgroup", "user"} {
		if v.Namespaces[kind] != theirs[kind] || kind != "user" && theirs[kind] == ours[kind] {
			t.Errorf("%s: %s, the container's is %s", kind, v.Namespaces[kind], theirs[kind])
		}
	}
	if v.Host != "box" || v.Cwd != "/etc" || v.Exe != "/t" || v.Pid == 1 || v.Ppid != 0 || v.Sid != v.Pid || v.Fds != nil {
		t.Errorf("%+v", v)
	}
	if want := []string{verbEnv + "=look", "PATH=/bin:/"}; !slices.Equal(v.Env, want) {
		t.Errorf("environment %q, want %q", v.Env, want)
	}
	if v.OOM != "321" || v.Limits["Max msgqueue size"] != "50 60" {
		t.Errorf("score %s, limits %v", v.OOM, v.Limits)
	}
	g = b.guest(p, "try")
	want(g, "read /etc/mark", "here", "read /proc/1/cmdline", "/t\x00", "write /tmp/made x", "ok")
	if data, err := os.ReadFile(filepath.Join(b.upper(), "tmp/made")); err != nil || string(data) != "x" {
		t.Errorf("%q %v", data, err)
	}
}

// TestJoinEnds: status, signals, and a container that takes the program with it.
func TestJoinEnds(t *testing.T) {
	b := newBox(t, "signals")
	b.Init = true
	p := b.host()
	if o := b.guest(p, "exit", "7").run(); o.failure != nil || o.Code() != 7 {
		t.Errorf("%d, %v", o.Code(), o.failure)
	}
	if o := b.guest(p, "kill").run(); o.Code() != 137 || o.Signal() != 0 {
		t.Errorf("%d, %v, %v", o.Code(), o.Signal(), o.failure)
	}
	g, out := b.guest(p, "signals").start()
	if err := waitFor(out, "ready"); err != nil {
		t.Error(err)
	}
	if err := g.Signal(unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	if err := waitFor(out, "SIGUSR1"); err != nil {
		t.Error(err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if s, err := g.Wait(); err != nil || s.Code() != 137 {
		t.Errorf("%d, %v", s.Code(), err)
	}
}

// TestJoinErrors: what cannot be executed, or entered, is told, and leaves no process behind.
func TestJoinErrors(t *testing.T) {
	b := newBox(t, "signals")
	b.put("plain", "x", 0o644)
	b.put("loop", "#!/proc/self/exe\n", 0o755)
	p := b.host()
	for path, code := range map[string]int{"/no/such": 127, "nosuch": 127, "/plain": 126, "/etc": 126, "/plain/x": 127} {
		g := b.guest(p, "exit", "0")
		g.Spec.Process.Args[0] = path
		o := g.run()
		var e *ExecError
		if !errors.As(o.failure, &e) || e.ExitCode() != code {
			t.Errorf("%s: %v, want status %d", path, o.failure, code)
		}
	}
	g := b.guest(p, "exit", "0")
	g.Spec.Process.Args[0] = "/loop" // the stub again: it has no socket, and ends
	if o := g.run(); o.failure != nil || o.Code() != 126 {
		t.Errorf("loop: %d, %v", o.Code(), o.failure)
	}
	g = b.guest(p, "exit", "0")
	g.Spec.Process.Cwd = "/nowhere"
	if o := g.run(); !errors.Is(o.failure, unix.ENOENT) || !strings.Contains(o.failure.Error(), "enter working directory /nowhere") {
		t.Error(o.failure)
	}
	g = b.guest(p, "exit", "0")
	g.Attach = func(int) error { return errors.New("no group") }
	if o := g.run(); o.failure == nil || o.failure.Error() != "no group" {
		t.Error(o.failure)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != nil || pid != 0 { // but for the container there is nobody
		t.Errorf("child %d is left: %v", pid, err)
	}
	_ = p.Signal(unix.SIGKILL)
	ends(p.pidfd)
	if o := b.guest(p, "exit", "0").run(); o.failure == nil {
		t.Error("joined a container that has ended")
	}
}

// TestJoinContext: what makes the child wait for ever is given up, and so is the program.
func TestJoinContext(t *testing.T) {
	b := newBox(t, "signals")
	p := b.host()
	ctx, cancel := context.WithCancel(context.Background())
	g := b.guest(p, "exit", "0")
	g.Context = ctx
	var child int
	g.Attach = func(pid int) error { // the child waits for the next word
		child = pid
		cancel()
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		return nil
	}
	if o := g.run(); !errors.Is(o.failure, context.Canceled) {
		t.Error(o.failure)
	}
	if unix.Kill(child, 0) == nil {
		t.Error("the child lives on")
	}
}

// TestJoinAttach: the program is born where the child has been put.
func TestJoinAttach(t *testing.T) {
	b := newBox(t, "signals")
	p := b.host()
	var child int
	g := b.guest(p, "exit", "3")
	g.Attach = func(pid int) error { child = pid; return nil }
	if o := g.run(); o.failure != nil || o.Code() != 3 || child == 0 {
		t.Errorf("%d, %v", o.Code(), o.failure)
	}
}

func TestJoinTerminal(t *testing.T) {
	b := newBox(t, "signals")
	p := b.host()
	g := b.guest(p, "look")
	g.Spec.Process.Terminal, g.Spec.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
	j, err := g.Create()
	if err == nil {
		err = j.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Console.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(j.Console)
	if !errors.Is(err, unix.EIO) { // the end of a terminal
		t.Error(err)
	}
	if s, err := j.Wait(); err != nil || s.Code() != 0 {
		t.Errorf("%d, %v", s.Code(), err)
	}
	j.Console.Close()
	var v view
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if v.TTY != [3]bool{true, true, true} || v.Rows != 33 || v.Cols != 77 || !v.Foreground || v.Sid != v.Pid || v.Fds != nil || v.Console != "/dev/pts/0" {
		t.Errorf("%+v", v)
	}
	if slices.Contains(v.Dev, "console") { // it has no terminal of its own
		t.Error("the guest's terminal has become the container's console")
	}
}

// TestJoinOne joins a user namespace with a single id, which is not always 0.
func TestJoinOne(t *testing.T) {
	for _, id := range []uint32{0, 1000} {
		b := newBox(t, "signals")
		if os.Geteuid() == 0 {
			b.oneID(id)
		} else {
			b.Spec.Linux.UIDMappings[0].ContainerID, b.Spec.Linux.GIDMappings[0].ContainerID = id, id
		}
		b.Spec.Process.User = specs.User{UID: id, GID: id}
		p := b.host()
		g := b.guest(p, "look")
		g.Spec.Process.User = specs.User{UID: id, GID: id}
		g.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}
		v := g.look()
		if ids := strings.Repeat(itoa(int(id))+" ", 4); v.Status["Uid"]+" " != ids || v.Status["Gid"]+" " != ids {
			t.Errorf("ids %s, %s", v.Status["Uid"], v.Status["Gid"])
		}
		effective := map[uint32]string{0: "0000000000000020", 1000: "0000000000000000"}[id]
		if v.Status["CapEff"] != effective || v.Status["CapBnd"] != "0000000000000020" {
			t.Errorf("capabilities %s of %s", v.Status["CapEff"], v.Status["CapBnd"])
		}
		if theirs := namespacesOf("/proc/" + itoa(p.Pid) + "/ns"); v.Namespaces["user"] != theirs["user"] {
			t.Errorf("user namespace %s, not %s", v.Namespaces["user"], theirs["user"])
		}
	}
}

// TestStrayThread: the thread that has joined a pid namespace for its children is nobody else's afterwards.
func TestStrayThread(t *testing.T) {
	first := newBox(t, "signals").host()
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, "exit", "7")
	for i, n := range b.Spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			b.Spec.Linux.Namespaces[i].Path = "/proc/" + itoa(first.Pid) + "/ns/pid"
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs to be root, to join a namespace of another")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if o := b.run(); o.Code() != 7 || o.failure != nil {
			t.Errorf("status %d, %v", o.Code(), o.failure)
		}
	}()
	<-done
	stray := func() (list []string) {
		links, _ := filepath.Glob("/proc/self/task/*/ns/pid_for_children")
		for _, link := range links {
			// The first thread of a process does not end before it: the runtime lays it aside for good instead.
			if to, err := os.Readlink(link); err == nil && to != own && !strings.Contains(link, "/task/"+itoa(os.Getpid())+"/") {
				list = append(list, link)
			}
		}
		return list
	}
	for deadline := time.Now().Add(time.Minute); len(stray()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(stray())
		}
	}
}
