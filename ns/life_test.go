package ns

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// start runs a container whose output is the pipe that comes back. The test's end ends it.
func (b *box) start() (*Process, *os.File) {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Close()
	b.t.Cleanup(func() { r.Close() })
	b.Stdout = w
	p, err := b.Create()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return p, r
}

func TestExit(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		for _, init := range []bool{false, true} {
			b := newBox(t, "exit", "7")
			b.Reexec, b.Init = reexec, init
			if o := b.run(); o.failure != nil || o.Code() != 7 || o.Signal() != 0 {
				t.Errorf("init %v: %d, %v", init, o.Code(), o.failure)
			}
			b = newBox(t, "orphans")
			b.Reexec, b.Init = reexec, init
			if !init {
				continue // collecting orphans is then the program's own business
			}
			if o := b.run(); o.Code() != 3 || o.out != "pid true alone\n" {
				t.Errorf("orphans: %d %q %q, %v", o.Code(), o.out, o.err, o.failure)
			}
			b = newBox(t, "kill") // init gives the status of a program that a signal ended
			b.Reexec, b.Init = reexec, init
			if o := b.run(); o.Code() != 137 || o.Signal() != 0 {
				t.Errorf("killed: %d, %v, %v", o.Code(), o.Signal(), o.failure)
			}
		}
	})
}

func TestSignals(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		for _, init := range []bool{false, true} {
			b := newBox(t, "signals")
			b.Reexec, b.Init = reexec, init
			p, out := b.start()
			if err := waitFor(out, "ready"); err != nil {
				t.Error(err)
			}
			for _, s := range []syscall.Signal{unix.SIGUSR1, unix.SIGHUP, unix.SIGUSR2, unix.SIGTERM} {
				if err := p.Signal(s); err != nil {
					t.Error(err)
				}
				if err := waitFor(out, unix.SignalName(s)); err != nil {
					t.Error(err)
					_ = p.Signal(unix.SIGKILL)
					break
				}
			}
			if s, err := p.Wait(); err != nil || s.Code() != 7 {
				t.Errorf("init %v: %d, %v", init, s.Code(), err)
			}
		}
	})
	b := newBox(t, "sleep")
	p, _ := b.start()
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if s, err := p.Wait(); err != nil || s.Code() != 137 || s.Signal() != unix.SIGKILL {
		t.Errorf("%d, %v, %v", s.Code(), s.Signal(), err)
	}
}

// TestTerminal: one of the container's own, which is its console and controls it.
func TestTerminal(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		b.Spec.Process.Terminal, b.Spec.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
		p, err := b.Create()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.Console.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p.Console)
		if !errors.Is(err, unix.EIO) { // the end of a terminal
			t.Error(err)
		}
		if s, err := p.Wait(); err != nil || s.Code() != 0 {
			t.Errorf("%d, %v", s.Code(), err)
		}
		p.Console.Close()
		for _, want := range []string{`"TTY":[true,true,true]`, `"Rows":33,"Cols":77`, `"Foreground":true`, `"Sid":1`, `"Fds":null`, `"Console":"/dev/pts/0"`, `"console"`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %s in %s", want, text)
			}
		}

		b = newBox(t, "cat")
		b.Reexec, b.Spec.Process.Terminal = reexec, true
		if p, err = b.Create(); err == nil {
			err = p.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := waitFor(p.Console, "ready"); err != nil {
			t.Error(err)
		}
		if _, err := p.Console.WriteString("hello\n"); err != nil {
			t.Error(err)
		}
		for _, line := range []string{"hello", "<hello>"} { // its echo, and the program's answer
			if err := waitFor(p.Console, line); err != nil {
				t.Error(err)
			}
		}
		if s, err := p.Wait(); err != nil || s.Code() != 0 {
			t.Errorf("%d, %v", s.Code(), err)
		}
		p.Console.Close()
	})
}

// TestNotStarted: a container that is made but never started can be killed.
func TestNotStarted(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		before := len(names("/proc/self/fd"))
		p, err := b.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat("/proc/" + itoa(p.Pid) + "/root/t"); err != nil && os.Geteuid() == 0 {
			t.Error(err) // the world is there
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if s, err := p.Wait(); err != nil || s.Code() != 137 {
			t.Errorf("%d, %v", s.Code(), err)
		}
		if after := len(names("/proc/self/fd")); after > before {
			t.Errorf("%d descriptors are open, before %d", after, before)
		}
	})
}

func TestAttach(t *testing.T) {
	b := newBox(t, "look")
	pid := 0
	b.Attach = func(p int) error { pid = p; return nil }
	b.look()
	if pid == 0 {
		t.Error("not called")
	}
	b = newBox(t, "look")
	b.Attach = func(p int) error { pid = p; return fmt.Errorf("no room: %w", unix.ENOSPC) }
	if _, err := b.Create(); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
}

// TestBornInCgroup has the child born into a cgroup v2 group, which becomes the root of what it sees.
func TestBornInCgroup(t *testing.T) {
	needRoot(t, "to make a cgroup")
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root = "/sys/fs/cgroup/unified"
	}
	group := filepath.Join(root, "hull-ns-test-"+itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("needs cgroup v2, if only beside v1:", err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err := os.Remove(group); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("the group cannot be removed")
	})
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	b := newBox(t, "try")
	b.Cgroup = dir
	b.mount(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup2", Options: []string{"ro", "nosuid", "nodev", "noexec"}})
	b.Attach = func(pid int) error {
		data, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if strings.TrimSpace(string(data)) != itoa(pid) {
			t.Errorf("in the group: %q, not %d, %v", data, pid, err)
		}
		return nil
	}
	want(b, "read /sys/fs/cgroup/cgroup.procs", "1", "open /sys/fs/cgroup/cgroup.procs", "read-only file system")
}

// parentOfOne makes and starts a container that sleeps. It is to be killed at any moment.
func parentOfOne() error {
	dir := os.Getenv("HULL_NS_DIR")
	c := Cmd{Stdout: os.Stdout, Reexec: os.Getenv("HULL_NS_REEXEC") == "1", Detach: os.Getenv("HULL_NS_DETACH") == "1", Spec: &specs.Spec{
		Root:    &specs.Root{Path: dir},
		Process: &specs.Process{Args: []string{"/t"}, Cwd: "/", Env: []string{verbEnv + "=sleep"}},
		Mounts:  []specs.Mount{{Destination: "/dummy"}},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}}},
	}}
	c.Spec.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/dev", Type: "tmpfs", Options: []string{"nodev"}}}
	shared := os.Getenv("HULL_NS_SHARE")
	if os.Geteuid() != 0 || shared != "" {
		(&box{Cmd: &c}).mapOne()
	}
	if shared != "" {
		pid, err := strconv.Atoi(shared)
		if err != nil {
			return err
		}
		(&box{Cmd: &c}).shares(&Process{Pid: pid}, specs.UserNamespace, specs.NetworkNamespace)
	}
	if os.Getenv("HULL_NS_CONCEIVE") != "" { // and no more than that
		if err := c.Conceive(); err != nil || c.conceived == nil {
			return fmt.Errorf("conceive: %w", err)
		}
		fmt.Println("started")
		time.Sleep(time.Hour)
	}
	p, err := c.Create()
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	fmt.Println("started")
	if c.Detach {
		time.Sleep(time.Hour)
	}
	_, err = p.Wait()
	return err
}

// TestParentKilled kills the parent with SIGKILL at various moments. The container holds a pipe as long as it lives.
func TestParentKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(layersDir(t), "base")
	other := newBox(t, "signals")
	if os.Geteuid() == 0 {
		other.mapOne()
	}
	share := "HULL_NS_SHARE=" + itoa(other.host().Pid)
	for name, env := range map[string]string{"fork": "HULL_NS_=", "reexec": "HULL_NS_REEXEC=1", "detach": "HULL_NS_DETACH=1", "share": share} {
		t.Run(name, func(t *testing.T) { killParents(t, self, root, env) })
	}
}

func killParents(t *testing.T, self, root, env string) {
	started := 0
	for i := range 25 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = []string{verbEnv + "=parent", "HULL_NS_DIR=" + root, env}
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if i%5 == 0 { // in its life
			if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err == nil && waitFor(r, "started") != nil {
				t.Error("not started")
			}
		} else {
			time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("something of it lives on: %v", err)
		}
		if len(rest) > 0 || i%5 == 0 {
			started++
		}
		r.Close()
	}
	t.Logf("killed %d of 25 after they had started", started)
}

// TestConceivedAlone: a child that waits for its program ends with its parent, though it shares its open files.
func TestConceivedAlone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{verbEnv + "=parent", "HULL_NS_CONCEIVE=1"}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(r, "started"); err != nil {
		t.Error(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("something of it lives on: %v", err)
	}
}

// TestConceive: a child that is forked ahead becomes what is asked of it later, or nothing.
func TestConceive(t *testing.T) {
	b := newBox(t, "exit", "7")
	whole := b.Spec
	b.Spec = &specs.Spec{Linux: whole.Linux}
	if err := b.Conceive(); err != nil || b.conceived == nil {
		t.Fatal(err)
	}
	late := b.file("late") // opened after the fork
	b.Spec, b.Stdout = whole, late
	if o := b.run(); o.failure != nil || o.Code() != 7 {
		t.Errorf("%d, %v", o.Code(), o.failure)
	}
	if err := b.Conceive(); err != nil {
		t.Fatal(err)
	}
	pid := b.conceived.Pid
	b.Abandon()
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("the abandoned child: %v", err)
	}
	if err := b.Conceive(); err != nil {
		t.Fatal(err)
	}
	pid = b.conceived.Pid
	b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONE"}} // which cannot be planned
	if o := b.run(); o.failure == nil || unix.Kill(pid, 0) != unix.ESRCH {
		t.Errorf("%v", o.failure)
	}
}

// forbidden tries to make a user namespace and prints the error.
func forbidden() error {
	if len(os.Args) > 1 {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			return err
		}
	}
	b := box{Cmd: &Cmd{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Spec: &specs.Spec{Process: &specs.Process{Args: []string{"/t"}, Cwd: "/"}, Linux: &specs.Linux{}}}}
	b.mapOne()
	_, err := b.Create()
	fmt.Println(err)
	return nil
}

func (b *box) mapOne() {
	l := b.Spec.Linux
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
	l.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
}

// TestForbidden: where the kernel forbids user namespaces, the error says what forbids them and how to allow it.
func TestForbidden(t *testing.T) {
	t.Run("setting", func(t *testing.T) {
		cmd := exec.Command("/proc/self/exe", "0")
		cmd.Env = []string{verbEnv + "=forbidden"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
		out, err := cmd.CombinedOutput()
		want := "create namespaces: no space left on device\nthe setting user.max_user_namespaces=0 forbids user namespaces; " +
			"root can allow them with: sysctl -w user.max_user_namespaces=15000\n"
		if string(out) != want {
			t.Errorf("%s (%v), want %s", out, err, want)
		}
	})
	t.Run("chroot", func(t *testing.T) {
		needRoot(t, "to call chroot")
		cmd := exec.Command("/t")
		cmd.Env = []string{verbEnv + "=forbidden"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: filepath.Join(layersDir(t), "base"), Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
		out, err := cmd.CombinedOutput()
		if !strings.HasPrefix(string(out), "create namespaces: operation not permitted\nuser namespaces are forbidden here by a seccomp profile or by chroot(2)") {
			t.Errorf("%s (%v)", out, err)
		}
	})
}

// TestAsOrdinaryUser performs all these tests once more, as somebody who is not root.
func TestAsOrdinaryUser(t *testing.T) {
	needRoot(t, "to become somebody else; without it all tests are an ordinary user's")
	dir, err := os.MkdirTemp("", "hull-ns-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	copySelf(t, filepath.Join(dir, "test"))
	for _, d := range []string{dir, filepath.Join(dir, "tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.skip=TestAsOrdinaryUser", "-test.timeout=5m")
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir + "/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGuard: a guard holds nothing open, so that the program's input ends when ours does, and is gone when released.
func TestGuard(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("apart=%t", apart), func(t *testing.T) { testGuard(t, apart) })
	}
}

func testGuard(t *testing.T, apart bool) {
	b := newBox(t, "cat")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b.Stdin = r
	p, err := b.Create()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	release, err := p.Guard(apart)
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = p.Signal(unix.SIGKILL) })
	defer late.Stop()
	w.Close()                                             // the program's input ends here, unless the guard has it too
	if s, err := p.Wait(); err != nil || s.Code() != 99 { // cat calls the end of its input a failure
		t.Error(s.Code(), err)
	}
	release()
}

// TestSharedMemory has children work in this process's memory while its collector tidies there, and looks at what they
// leave of it.
func TestSharedMemory(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for keep := [64][]byte{}; ; {
			select {
			case <-stop:
				return
			default:
				for i := range keep {
					keep[i] = make([]byte, 1<<rand.IntN(16))
				}
				runtime.GC()
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		b := newBox(t, "exit", "7")
		if os.Geteuid() == 0 {
			b.Spec.Process.User = specs.User{UID: 1000, GID: 1000} // makes its memory undumpable
		}
		p, _ := b.start()
		if p.womb != nil {
			t.Error("the child still counts as working in our memory")
		}
		if now, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); now != dumpable || err != nil {
			t.Errorf("dumpable was %d, is %d, %v", dumpable, now, err)
		}
		if s, err := p.Wait(); s.Code() != 7 || err != nil {
			t.Errorf("status %d, %v", s.Code(), err)
		}
	}
}

// TestMayShareMemory: not with a child that others can trace.
func TestMayShareMemory(t *testing.T) {
	own, others := specs.LinuxNamespace{Type: specs.PIDNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/1/ns/user"}
	users, root := specs.LinuxNamespace{Type: specs.UserNamespace}, os.Geteuid() == 0
	for _, row := range []struct {
		join *os.File
		list []specs.LinuxNamespace
		want bool
	}{
		{nil, []specs.LinuxNamespace{own}, true}, {nil, nil, true}, {nil, []specs.LinuxNamespace{own, others}, false},
		{os.Stdin, []specs.LinuxNamespace{own}, true}, {os.Stdin, nil, false},
		{nil, []specs.LinuxNamespace{own, users}, !root}, {os.Stdin, []specs.LinuxNamespace{own, users}, !root},
	} {
		c := Cmd{Join: row.join, Spec: &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Namespaces: row.list}}}
		if got := c.mayShareMemory(); got != row.want {
			t.Errorf("%v %v: %v", row.join, row.list, got)
		}
	}
}

// TestUndumpable: the memory of root, which a child shares that has become somebody on the host, is never made dumpable.
func TestUndumpable(t *testing.T) {
	b := newBox(t, "exit", "0")
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	l, err := openLine()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.parent)
	defer l.close()
	plan, err := b.plan(l)
	if err != nil {
		t.Fatal(err)
	}
	defer plan.close()
	for i, c := range plan.calls {
		if c.Nr == unix.SYS_PRCTL && c.Args[0] == unix.PR_SET_DUMPABLE && c.Args[1] != 0 {
			t.Errorf("call %d is to %s", i, plan.steps[i].op)
		}
	}
}

// TestOOMScore: a container's score is its own, not that of the process that made it.
func TestOOMScore(t *testing.T) {
	own := func() string {
		text, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	before := own()
	if before == "777" {
		t.Fatal("the test's own score is that of the container")
	}
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		b.Spec.Process.OOMScoreAdj = new(int)
		*b.Spec.Process.OOMScoreAdj = 777
		if v := b.look(); v.OOM != "777" {
			t.Errorf("the container's score is %s", v.OOM)
		}
		if after := own(); after != before {
			t.Errorf("our own score was %s, is %s", before, after)
		}
	})
}

// TestManyDescriptors: a descriptor that the stub cannot be told is an error, not another one.
func TestManyDescriptors(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if old.Max < stubNumbers+100 {
		t.Skipf("needs more than %d descriptors, and may have %d", stubNumbers, old.Max)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: stubNumbers + 100, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }()
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if fd >= stubNumbers {
			break
		}
	}
	if o := newBox(t, "exit", "7").run(); !errors.Is(o.failure, unix.EMFILE) {
		t.Errorf("status %d, %v", o.Code(), o.failure)
	}
}
