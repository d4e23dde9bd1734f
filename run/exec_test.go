package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

// running starts a container that sleeps in another process, for programs to be run in.
func running(t *testing.T, name string, change func(*Config)) *Container {
	t.Helper()
	config := verbConfig(t, "sleep", "ITS=own")
	config.Name = name
	if change != nil {
		change(&config)
	}
	otherHull(t, config)
	c, err := testHost(t).Find(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return c
}

// verbExec is the wish to run a verb in a container of the built-in image.
func verbExec(verb string, env ...string) ExecConfig {
	return ExecConfig{Args: []string{"/hull"}, Env: append(env, verbEnv+"="+verb)}
}

// execed runs a program in a container and gives its output.
func execed(t *testing.T, c *Container, x ExecConfig) (out string, res Result, err error) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err = c.Exec(context.Background(), x, IO{nil, f, f})
	data, e := os.ReadFile(f.Name())
	if e != nil {
		t.Fatal(e)
	}
	return string(data), res, err
}

// here is what hereVerb sees.
type here struct {
	Env           []string
	Cwd, Hostname string
	Uid, Pid, Sid int
	Caps, Seccomp string
	Groups        string
}

// hereVerb says where it is, and who.
func hereVerb() error {
	h := here{Env: os.Environ(), Uid: os.Getuid(), Pid: os.Getpid()}
	h.Cwd, _ = os.Getwd()
	h.Hostname, _ = os.Hostname()
	h.Sid, _ = unix.Getsid(0)
	groups, _ := os.ReadFile("/proc/self/cgroup")
	h.Groups = string(groups)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "CapBnd":
			h.Caps = strings.TrimSpace(value)
		case "Seccomp":
			h.Seccomp = strings.TrimSpace(value)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(h)
}

func hereIn(t *testing.T, c *Container, x ExecConfig) (h here) {
	t.Helper()
	out, res, err := execed(t, c, x)
	if err == nil {
		err = json.Unmarshal([]byte(out), &h)
	}
	if err != nil || res.Code != 0 {
		t.Fatalf("%d, %v: %s", res.Code, err, out)
	}
	return h
}

// TestExec: the program has what the container has, but where it was asked to differ.
func TestExec(t *testing.T) {
	c := running(t, "execs", func(config *Config) {
		config.Process.Workdir = "/tmp"
		config.Isolation.CapDrop = []string{"CAP_CHOWN"}
		config.Network.Hostname = "inside"
	})
	h := hereIn(t, c, verbExec("here", "MY=own", "ITS"))
	want := []string{defaultPath, verbEnv + "=here", "HOSTNAME=inside", "HOME=/", "MY=own"}
	slices.Sort(want)
	slices.Sort(h.Env)
	if !slices.Equal(h.Env, want) {
		t.Errorf("environment %q, want %q", h.Env, want)
	}
	if h.Cwd != "/tmp" || h.Hostname != "inside" || h.Uid != 0 || h.Pid == 1 || h.Sid != h.Pid {
		t.Errorf("%+v", h)
	}
	if h.Seccomp != "2" || h.Caps != "00000000a80425fa" {
		t.Errorf("seccomp %s, capabilities %s", h.Seccomp, h.Caps)
	}
	x := verbExec("here")
	x.Workdir, x.Privileged = "/etc", true
	h = hereIn(t, c, x)
	if h.Cwd != "/etc" || h.Caps == "00000000a80425fa" || c.host.rootless == (h.Seccomp == "0") && c.UserNS == false {
		t.Errorf("%+v", h)
	}
	if _, res, err := execed(t, c, verbExec("exit", "CODE=7")); res.Code != 7 || err != nil {
		t.Errorf("%d, %v", res.Code, err)
	}
	x = verbExec("copy")
	x.Interactive = true
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("typed"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer r.Close()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if res, err := c.Exec(context.Background(), x, IO{r, out, nil}); res.Code != 0 || err != nil {
		t.Error(res, err)
	}
	if text, err := os.ReadFile(out.Name()); string(text) != "typed" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// TestExecUser looks users up in the container as it is now.
func TestExecUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: for a second id")
	}
	c := running(t, "users", nil)
	if err := os.MkdirAll(c.path("upper/etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path("upper/etc/passwd"), []byte("fresh:x:77:78::/tmp:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	x := verbExec("here")
	x.User = "fresh"
	h := hereIn(t, c, x)
	if h.Uid != 77 || !slices.Contains(h.Env, "HOME=/tmp") {
		t.Errorf("%+v", h)
	}
	// The container may lay anything in the place of the file.
	if err := os.Remove(c.path("upper/etc/passwd")); err != nil {
		t.Fatal(err)
	}
	for what, lay := range map[string]func(path string) error{
		"fifo": func(p string) error { return unix.Mkfifo(p, 0o644) },
		"link": func(p string) error { return os.Symlink("/../../../../../../../../etc/passwd", p) },
		"tty":  func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(5, 0))) },
	} {
		if err := lay(c.path("upper/etc/passwd")); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"fresh", "daemon"} { // the latter is on the host
			x.User = user
			_, _, err := execed(t, c, x)
			if coded := (interface{ ExitCode() int })(nil); !errors.As(err, &coded) || coded.ExitCode() != 126 || !strings.Contains(err.Error(), "unable to find user") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := os.Remove(c.path("upper/etc/passwd")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExecErrors(t *testing.T) {
	c := running(t, "errs", nil)
	fails := func(x ExecConfig, code int, text string) {
		t.Helper()
		for _, detach := range []bool{false, true} {
			x.Detach = detach
			_, err := c.Exec(context.Background(), x, IO{})
			got := 1
			if coded := (interface{ ExitCode() int })(nil); errors.As(err, &coded) {
				got = coded.ExitCode()
			}
			if err == nil || got != code || !strings.Contains(err.Error(), text) {
				t.Errorf("detach %v: status %d, %v; want %d, %s", detach, got, err, code, text)
			}
		}
	}
	x := verbExec("exit", "CODE=0")
	x.Args = []string{"nosuch"}
	fails(x, 127, `exec "nosuch": executable file not found in $PATH`)
	x.Args = []string{"/etc"}
	fails(x, 126, "permission denied")
	x = verbExec("exit", "CODE=0")
	x.Workdir = "/nowhere"
	fails(x, 127, "enter working directory /nowhere: no such file or directory")
	x.Workdir = "etc"
	fails(x, 126, "needs to be an absolute path")
	x.Workdir, x.User = "", "nobody-here"
	fails(x, 126, "unable to find user nobody-here")
	x.User = ""
	state := c.State
	for status, text := range map[Status]string{
		Paused: "is paused, unpause the container before exec", Created: "container errs is not running",
		Restarting: "is restarting", Exited: "container errs is not running",
	} {
		c.Status = status
		fails(x, 1, text)
	}
	c.State = state
	c.PidStart++ // the number is another's by now
	fails2 := func() {
		t.Helper()
		if _, err := c.Exec(context.Background(), x, IO{}); err == nil || err.Error() != "container errs is not running" {
			t.Error(err)
		}
	}
	fails2()
	c.State = state
	if err := unix.Kill(c.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end", func() bool { return gone(state.Pid) })
	fails2() // its state still says that it runs
}

// TestExecContext: the end of the context ends the program, and nothing else in the container.
func TestExecContext(t *testing.T) {
	c := running(t, "timeout", nil)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.ReadFull(r, make([]byte, len("ready\n")))
		cancel()
	}()
	res, err := c.Exec(ctx, verbExec("sleep"), IO{nil, w, nil})
	w.Close()
	if err != nil || res.Code != 137 {
		t.Errorf("%d, %v", res.Code, err)
	}
	if list, err := c.processes(); err != nil || len(list) != 1 {
		t.Errorf("processes %v, %v", list, err)
	}
	if _, err := c.Exec(ctx, verbExec("sleep"), IO{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestExecEnds: the program ends with its container.
func TestExecEnds(t *testing.T) {
	c := running(t, "ends", nil)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, len("ready\n")))
		_ = unix.Kill(c.Pid, unix.SIGKILL)
	}()
	res, err := c.Exec(context.Background(), verbExec("sleep"), IO{nil, w, nil})
	w.Close()
	if err != nil || res.Code != 137 {
		t.Errorf("%d, %v", res.Code, err)
	}
}

// TestExecGroup: the program is in the container's cgroup, and what stays with it does not count.
func TestExecGroup(t *testing.T) {
	limit := int64(100)
	c := running(t, "group", func(config *Config) { config.Limits.Resources.Pids = &specs.LinuxPids{Limit: &limit} })
	if len(c.Cgroups) == 0 {
		t.Skip("needs a cgroup")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan Result)
	go func() {
		res, _ := c.Exec(ctx, verbExec("sleep"), IO{nil, w, nil})
		done <- res
	}()
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	list, err := c.processes()
	if err != nil || len(list) != 2 || !slices.Contains(list, c.Pid) {
		t.Errorf("%v, %v", list, err)
	}
	cancel()
	<-done
	w.Close()
}

// innerVerb does as systemd would in the container's cgroup: it goes into a group within, and hands down controllers.
func innerVerb() error {
	const top = "/sys/fs/cgroup"
	if err := os.Mkdir(top+"/inner", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(top+"/inner/cgroup.procs", []byte("0"), 0); err != nil {
		return err
	}
	if err := os.WriteFile(top+"/cgroup.subtree_control", []byte("+pids"), 0); err != nil {
		return err
	}
	return sleepVerb()
}

// TestExecInner: the kernel lets nobody into such a group of version 2, so the program goes where the first one is.
func TestExecInner(t *testing.T) {
	if cgroups.Version() != 2 || os.Geteuid() != 0 {
		t.Skip("needs cgroup v2, and root")
	}
	limit := int64(100)
	c := running(t, "inner", func(config *Config) {
		config.Isolation.Privileged, config.Limits.Resources.Pids = true, &specs.LinuxPids{Limit: &limit}
		config.Process.Env = append(config.Process.Env, verbEnv+"=inner")
	})
	if h := hereIn(t, c, verbExec("here")); strings.TrimSpace(h.Groups) != "0::/inner" {
		t.Errorf("is in %q", h.Groups)
	}
}

// TestExecBorn: nothing gets into a half-made container, whose root directory may still be the host's.
func TestExecBorn(t *testing.T) {
	c := create(t, testHost(t), verbConfig(t, "sleep"))
	s := &start{Container: c}
	if err := s.conceive(); err != nil {
		t.Fatal(err)
	}
	if err := s.findWorld(IO{}); err != nil {
		t.Fatal(err)
	}
	s.streams = &streams{config: &c.Config}
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Exec(ctx, verbExec("exit", "CODE=3"), IO{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the start: %v", err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	if res, err := c.Exec(context.Background(), verbExec("exit", "CODE=3"), IO{}); res.Code != 3 || err != nil {
		t.Errorf("after it: %d, %v", res.Code, err)
	}
	_ = s.process.Signal(unix.SIGKILL)
	_, _ = s.process.Wait()
	if err := s.end(Result{}, nil); err != nil {
		t.Error(err)
	}
	host := exec.Command("/proc/self/exe") // of another file than its parent, with the host's root
	host.Env = []string{verbEnv + "=sleep"}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	if !inBirth(host.Process.Pid, 1) {
		t.Error("a process of the host's counts as a container's")
	}
	_ = host.Process.Kill()
	_ = host.Wait()
}

// TestExecDetach: nothing of the caller's is held, and the end is noted.
func TestExecDetach(t *testing.T) {
	c := running(t, "detached", nil)
	for _, tty := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		x := verbExec("heed")
		x.Detach, x.TTY = true, tty
		if res, err := c.Exec(context.Background(), x, IO{r, w, w}); res.Code != 0 || err != nil {
			t.Fatal(res, err)
		}
		w.Close()
		if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v: it has the caller's pipe", n, err)
		}
		r.Close()
		list, err := c.processes()
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		began := time.Now().Add(-time.Millisecond)
		pid := list[0] + list[1] - c.Pid
		time.Sleep(20 * time.Millisecond) // until it heeds
		for !gone(pid) {
			_ = unix.Kill(pid, unix.SIGTERM)
			time.Sleep(time.Millisecond)
		}
		eventually(t, "exec_die", func() bool { return len(execEvents(t, c, began)) > 0 })
		if list := execEvents(t, c, began); len(list) != 1 || !strings.HasPrefix(list[0], "exec_die ") {
			t.Errorf("%q", list)
		}
	}
}

// execEvents are the events of exec in a container since a time: the action, and the exit status if it has one.
func execEvents(t *testing.T, c *Container, since time.Time) (list []string) {
	t.Helper()
	ids := map[string]bool{}
	err := c.host.Events(context.Background(), since, time.Now(), func(e Event) error {
		if e.ID == c.ID && strings.HasPrefix(e.Action, "exec_") {
			list = append(list, strings.TrimSpace(e.Action+" "+e.Attributes["exitCode"]))
			ids[e.Attributes["execID"]] = true
		}
		return nil
	})
	if err != nil || len(ids) > 1 || ids[""] {
		t.Errorf("ids %v, %v", ids, err)
	}
	return list
}

func TestExecEvents(t *testing.T) {
	c := running(t, "events", nil)
	for verb, code := range map[string]int{"/hull": 7, "/no/such": 127} {
		begin := time.Now()
		x := verbExec("exit", "CODE=7")
		x.Args = []string{verb, "word"}
		_, _, _ = execed(t, c, x)
		want := []string{"exec_create: " + verb + " word", "exec_start: " + verb + " word", "exec_die " + strconv.Itoa(code)}
		if list := execEvents(t, c, begin); !slices.Equal(list, want) {
			t.Errorf("%q, want %q", list, want)
		}
	}
}

// execVerb is hull exec in a process of its own: the wish is in $CONFIG, the container in $NAME.
func execVerb() error {
	h, err := Open(os.Getenv("ROOT"))
	if err != nil {
		return err
	}
	var x ExecConfig
	if err := json.Unmarshal([]byte(os.Getenv("CONFIG")), &x); err != nil {
		return err
	}
	c, err := h.Find(os.Getenv("NAME"))
	if err != nil {
		return err
	}
	res, err := c.Exec(context.Background(), x, IO{os.Stdin, os.Stdout, os.Stderr})
	if errors.Is(err, ErrDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	os.Exit(res.Code)
	return nil
}

// otherExec is a command for execVerb.
func otherExec(t *testing.T, c *Container, x ExecConfig) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), verbEnv+"=exec", "CONFIG="+string(text), "NAME="+c.Name, "ROOT="+c.host.Root)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestExecTerminal holds one side of a terminal while a program runs on the other. It gets the size and the keys, and
// goes on when those are typed that leave it.
func TestExecTerminal(t *testing.T) {
	c := running(t, "screen", nil)
	for _, leave := range []bool{false, true} {
		master, slave := openTerminal(t, 33, 77)
		x := verbExec("terminal")
		x.TTY, x.Interactive, x.SigProxy, x.DetachKeys = true, true, true, []byte{16, 17}
		cmd := otherExec(t, c, x)
		cmd.Stdin, cmd.Stdout = slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		readUntil(t, master, "size 33x77\r\n")
		keys := []byte{3}
		if leave {
			keys = []byte{16, 17}
		}
		if _, err := master.Write(keys); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		list, e := c.processes()
		if e != nil {
			t.Fatal(e)
		}
		if code := cmd.ProcessState.ExitCode(); leave && (code != 0 || len(list) != 2) || !leave && (code != 9 || len(list) != 1) {
			t.Errorf("leave %v: %v, processes %v", leave, err, list)
		}
	}
}

// TestExecKilled: the program ends with the hull that was to see its end, in whichever way it was started.
func TestExecKilled(t *testing.T) {
	c := running(t, "killed", nil)
	for _, kept := range []bool{false, true} {
		master, slave := openTerminal(t, 33, 77)
		x := verbExec("terminal")
		x.TTY, x.SigProxy = true, true
		if kept {
			x.Interactive, x.DetachKeys = true, []byte{16, 17}
		}
		cmd := otherExec(t, c, x)
		cmd.Stdin, cmd.Stdout = slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		readUntil(t, master, "size 33x77")
		if list, err := c.processes(); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		eventually(t, fmt.Sprintf("kept %v: the program's end", kept), func() bool {
			list, err := c.processes()
			return err == nil && len(list) == 1
		})
	}
}

// TestExecSignal: what hull gets is the program's.
func TestExecSignal(t *testing.T) {
	c := running(t, "signalled", nil)
	x := verbExec("heed")
	x.SigProxy = true
	cmd := otherExec(t, c, x)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := endBy(cmd, unix.SIGUSR1); cmd.ProcessState.ExitCode() != int(unix.SIGUSR1) {
		t.Error(err)
	}
}

func TestReadMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	for text, want := range map[string][]specs.LinuxIDMapping{
		"         0       1000          1\n         1     100000      65536\n": {{HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}},
		"": nil,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readMap(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1 2\n", "a b c\n", "0 -1 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readMap(path); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
