package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns"
)

func TestRun(t *testing.T) {
	h := testHost(t)
	for _, remove := range []bool{true, false} {
		config := verbConfig(t, "exit", "CODE=7")
		config.Lifetime.Remove, config.Name = remove, "seven"
		c := create(t, h, config)
		if fresh, err := h.load(c.ID); err == nil {
			t.Errorf("has a state before it runs: %+v", fresh.State)
		}
		res, err := c.Run(context.Background(), IO{})
		if err != nil || res.Code != 7 {
			t.Errorf("remove %v: %+v, %v", remove, res, err)
		}
		found, err := h.Find("seven")
		if remove {
			if !errors.Is(err, ErrNotFound) || exists(c.dir()) || exists(h.nameLink("seven")) {
				t.Errorf("is still there: %v", err)
			}
			continue
		}
		if err != nil || found.Status != Exited || found.ExitCode != 7 || found.Pid != 0 || found.Started.IsZero() || found.Finished.Before(found.Started) {
			t.Fatalf("%+v, %v", found, err)
		}
		if err := found.Remove(RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	if left := names(h.containers()); left != nil {
		t.Errorf("left: %q", left)
	}
}

// TestRunWritten removes what the program wrote.
func TestRunWritten(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "write")
	config.Lifetime.Remove = false
	c := create(t, h, config)
	if res, err := c.Run(context.Background(), IO{Err: os.Stderr}); err != nil || res.Code != 0 {
		t.Fatal(res, err)
	}
	if !exists(c.path("upper/tmp/written")) {
		t.Error("is not in the upper directory")
	}
	found, err := h.Find(ShortID(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Remove(RemoveOptions{}); err != nil || exists(c.dir()) || len(names(filepath.Join(h.Root, "tmp"))) > 0 {
		t.Errorf("%v, left: %q", err, names(filepath.Join(h.Root, "tmp")))
	}
}

func TestRunFails(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "exit")
	config.Process.Entrypoint = &[]string{"/no/such"}
	config.Lifetime.Remove, config.Name = false, "nosuch"
	c := create(t, h, config)
	_, err := c.Run(context.Background(), IO{})
	var e *ns.ExecError
	if !errors.As(err, &e) || e.ExitCode() != 127 {
		t.Error(err)
	}
	found, err := h.Find("nosuch")
	if err != nil || found.Status != Created || found.ExitCode != 127 || !strings.Contains(found.Error, "/no/such") {
		t.Errorf("%+v, %v", found, err)
	}
	for what, change := range map[string]func(*Config){
		`user "nosuch"`:                  func(c *Config) { c.Process.User = "nosuch" },
		"bind source path":               func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/no/such", Target: "/x"}} },
		`seccomp profile: open /no/such`: func(c *Config) { c.Isolation.Security.Seccomp = "/no/such" },
		`device "/dev/nosuch"`: func(c *Config) {
			c.Files.Devices = []Device{{Source: "/dev/nosuch", Target: "/dev/x", Permissions: "rwm"}}
		},
		"No such image: nosuchimage": func(c *Config) { c.Image, c.Pull = "nosuchimage", PullNever },
		"not a block device":         func(c *Config) { c.Limits.ReadBps = []DeviceRate{{"/dev/null", 5}} },
	} {
		config := verbConfig(t, "exit", "CODE=0")
		change(&config)
		c, err := h.Create(context.Background(), config, Fetch{})
		if err == nil {
			_, err = c.Run(context.Background(), IO{})
		}
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	if err := found.Remove(RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if left := names(h.containers()); left != nil {
		t.Errorf("left: %q", left)
	}
}

func TestTimeout(t *testing.T) {
	config := verbConfig(t, "sleep")
	config.Lifetime.Timeout = 50 * time.Millisecond
	if _, _, res := printed(t, config, nil); res.Code != 124 || !res.TimedOut {
		t.Errorf("%+v", res)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if res, err := create(t, testHost(t), verbConfig(t, "sleep")).Run(ctx, IO{}); err != nil || res.Code != 137 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestRunning looks at a container that another hull runs, and removes it.
func TestRunning(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "sleep")
	config.Name, config.Lifetime.Remove = "sleeper", false
	other := otherHull(t, config)
	c, err := h.Find("sleeper")
	if err != nil || c.Status != Running || c.Pid == 0 || gone(c.Pid) {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := c.Remove(RemoveOptions{}); err == nil || !strings.Contains(err.Error(), "container is running") {
		t.Error(err)
	}
	h.Sweep()
	if again, err := h.Find("sleeper"); err != nil || again.Status != Running {
		t.Errorf("after a sweep: %v, %v", again, err)
	}
	replacing := verbConfig(t, "exit", "CODE=0")
	replacing.Name = "sleeper"
	if _, err := h.Create(context.Background(), replacing, Fetch{}); err == nil || !strings.Contains(err.Error(), `name "sleeper" is already in use by container`) {
		t.Error(err)
	}
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if !gone(c.Pid) || exists(c.dir()) || exists(h.nameLink("sleeper")) {
		t.Error("something of it is left")
	}
	if err := other.Wait(); other.ProcessState.ExitCode() != 137 {
		t.Errorf("the hull that ran it: %v", err)
	}
}

// TestKilled kills the hull that runs a container: the container ends with it, and the next hull sees that and cleans up.
func TestKilled(t *testing.T) {
	h := testHost(t)
	for _, remove := range []bool{true, false} {
		config := verbConfig(t, "sleep")
		config.Name, config.Lifetime.Remove = "victim", remove
		other := otherHull(t, config)
		c, err := h.Find("victim")
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = other.Wait()
		eventually(t, "the container ends", func() bool { return gone(c.Pid) })
		found, err := h.Find("victim")
		if err != nil || found.Status != Exited || found.ExitCode != 137 || !strings.Contains(found.Error, "killed") {
			t.Errorf("%+v, %v", found, err)
		}
		h.Sweep()
		if exists(c.dir()) == remove || exists(h.nameLink("victim")) == remove {
			t.Errorf("remove %v: directory %v, name %v", remove, exists(c.dir()), exists(h.nameLink("victim")))
		}
		if err := found.Remove(RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	if left := names(h.containers()); left != nil {
		t.Errorf("left: %q", left)
	}
}

// TestForwarded sends signals to a hull, which passes them on.
func TestForwarded(t *testing.T) {
	for _, init := range []bool{false, true} {
		for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
			config := verbConfig(t, "heed")
			config.Process.Init = init
			other := otherHull(t, config)
			if sig == unix.SIGUSR1 {
				_ = endBy(other, sig)
			} else {
				if err := other.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				_ = other.Wait()
			}
			if code := other.ProcessState.ExitCode(); code != int(sig) {
				t.Errorf("%v, init %v: status %d", sig, init, code)
			}
		}
	}
}

// TestNamesUnique has many ask for one name, and many for any.
func TestNamesUnique(t *testing.T) {
	h := testHost(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got, refused []string
	for i := range 20 {
		wg.Go(func() {
			config := verbConfig(t, "exit", "CODE=0")
			if i%2 == 0 {
				config.Name = "onlyone"
			}
			c, err := h.Create(context.Background(), config, Fetch{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused = append(refused, err.Error())
				return
			}
			got = append(got, c.Name)
			t.Cleanup(func() {
				c.Close()
				if err := c.Remove(RemoveOptions{Force: true}); err != nil {
					t.Error(err)
				}
			})
		})
	}
	wg.Wait()
	unique := map[string]bool{}
	for _, n := range got {
		unique[n] = true
	}
	if len(got) != 11 || len(unique) != 11 || len(refused) != 9 || !unique["onlyone"] {
		t.Errorf("%d of 20 made: %q; refused: %q", len(got), got, refused)
	}
}

// fabricate writes the state of a container that nobody runs.
func fabricate(t *testing.T, h *Host, id, name string, status Status) *Container {
	t.Helper()
	c := &Container{host: h, State: State{ID: id, Name: name, Status: status, Created: time.Now()}}
	if err := os.MkdirAll(c.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.takeName(name); err != nil {
		t.Fatal(err)
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	return c
}

func emptyHost(t *testing.T) *Host {
	t.Helper()
	h, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFind(t *testing.T) {
	h := emptyHost(t)
	if list, err := h.List(); err != nil || list != nil {
		t.Error(list, err)
	}
	one, two := strings.Repeat("ab12", 16), strings.Repeat("ab34", 16)
	fabricate(t, h, one, "web", Exited)
	fabricate(t, h, two, "ab12", Exited) // its name is the beginning of the other's ID: names come first
	for ref, want := range map[string]string{"web": one, "/web": one, "ab12": two, "ab34": two, one: one, two: two, "ab121": "", "ab12a": one} {
		c, err := h.Find(ref)
		if want == "" {
			if !errors.Is(err, ErrNotFound) || err.Error() != "No such container: "+ref {
				t.Errorf("%s: %v", ref, err)
			}
			continue
		}
		if err != nil || c.ID != want {
			t.Errorf("%s: %v, %v", ref, c, err)
		}
	}
	if _, err := h.Find("ab"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"ab": 2 containers have an ID that begins so`) {
		t.Error(err)
	}
	for _, ref := range []string{"", "/", "../containers", "w", "."} {
		if c, err := h.Find(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %+v, %v", ref, c, err)
		}
	}
	if list, err := h.List(); err != nil || len(list) != 2 || list[0].ID != two {
		t.Error(list, err)
	}
	if err := os.WriteFile(filepath.Join(h.containers(), one, "container.json"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := h.List(); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

// TestSweep keeps what is somebody's.
func TestSweep(t *testing.T) {
	h := emptyHost(t)
	id := func(n int) string { return fmt.Sprintf("%064x", n) }
	fabricate(t, h, id(1), "exited", Exited)
	gone := fabricate(t, h, id(2), "removed", Running)
	gone.Config.Lifetime.Remove = true
	held := fabricate(t, h, id(3), "held", Running)
	held.Config.Lifetime.Remove = true
	for _, c := range []*Container{gone, held} {
		if err := c.save(); err != nil {
			t.Fatal(err)
		}
	}
	if err := held.takeLock(); err != nil {
		t.Fatal(err)
	}
	defer held.unlock()
	for n, age := range map[int]time.Duration{4: time.Hour, 5: 0} { // never became one; is about to become one
		dir := filepath.Join(h.containers(), id(n))
		if err := os.MkdirAll(dir+"/upper", 0o700); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(h.Root, "tmp/container-x/upper"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Sweep()
	for n, want := range map[int]bool{1: true, 2: false, 3: true, 4: false, 5: true} {
		if got := exists(filepath.Join(h.containers(), id(n))); got != want {
			t.Errorf("container %d is there: %v", n, got)
		}
	}
	if exists(h.nameLink("removed")) || !exists(h.nameLink("held")) || !exists(h.nameLink("exited")) || exists(filepath.Join(h.Root, "tmp/container-x")) {
		t.Errorf("names %q, rubbish %q", names(filepath.Join(h.Root, "names")), names(filepath.Join(h.Root, "tmp")))
	}
}

// TestState: what is written is what is read, and the file is nobody else's.
// TestQuickRemove: what overlay leaves behind goes without a walk, for an ordinary user too; what the program wrote stays.
func TestQuickRemove(t *testing.T) {
	h := emptyHost(t)
	for id, want := range map[string]bool{"aa": true, "bb": false} {
		c := fabricate(t, h, id, id, Exited)
		for _, dir := range []string{"upper", "work/work/incompat/volatile"} {
			if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		written := c.path("upper/file")
		if want {
			written = c.path("work/work/incompat/volatile/dirty")
		}
		if err := os.WriteFile(written, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"work/work/incompat/volatile", "work/work/incompat", "work/work"} {
			if err := os.Chmod(c.path(dir), 0); err != nil {
				t.Fatal(err)
			}
		}
		if got := quickRemove(c.dir(), c.ID); got != want || exists(c.dir()) == want || !want && !exists(written) {
			t.Errorf("%s: %v, directory %v", id, got, exists(c.dir()))
		}
		_ = os.Chmod(c.path("work/work"), 0o755) // for the test's own clean-up
		_ = os.Chmod(c.path("work/work/incompat"), 0o755)
	}
}

func TestState(t *testing.T) {
	h := emptyHost(t)
	c := fabricate(t, h, strings.Repeat("c", 64), "state", Exited)
	c.Config = verbConfig(t, "exit", "CODE=1")
	c.Config.Limits.Sysctls = map[string]string{"net.x": "1"}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	again, err := h.load(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(c.State)
	b, _ := json.Marshal(again.State)
	if string(a) != string(b) {
		t.Errorf("%s\n%s", a, b)
	}
	if st, err := os.Stat(c.path("container.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
}
