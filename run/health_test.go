package run

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

func TestHealthPlan(t *testing.T) {
	image := &v1.Config{Healthcheck: &v1.HealthConfig{
		Test: []string{"CMD-SHELL", "probe it"}, Interval: time.Second, StartPeriod: 7 * time.Second, Retries: 5,
	}}
	for _, row := range []struct {
		name  string
		wish  HealthConfig
		image *v1.Config
		want  *HealthConfig
	}{
		{"nothing", HealthConfig{}, &v1.Config{}, nil},
		{"switched off", HealthConfig{Test: []string{"NONE"}}, image, nil},
		{"the image's", HealthConfig{}, image, &HealthConfig{Test: []string{"/bin/sh", "-c", "probe it"}, Interval: time.Second,
			Timeout: 30 * time.Second, StartPeriod: 7 * time.Second, StartInterval: 5 * time.Second, Retries: 5}},
		{"another shell", HealthConfig{}, &v1.Config{Healthcheck: image.Healthcheck, Shell: []string{"/bash", "-ec"}},
			&HealthConfig{Test: []string{"/bash", "-ec", "probe it"}, Interval: time.Second, Timeout: 30 * time.Second,
				StartPeriod: 7 * time.Second, StartInterval: 5 * time.Second, Retries: 5}},
		{"the user's over it", HealthConfig{Test: []string{"CMD", "x", "y"}, Retries: 2, Timeout: time.Minute}, image,
			&HealthConfig{Test: []string{"x", "y"}, Interval: time.Second, Timeout: time.Minute, StartPeriod: 7 * time.Second,
				StartInterval: 5 * time.Second, Retries: 2}},
		{"no time", HealthConfig{Test: []string{"CMD", "x"}}, &v1.Config{Healthcheck: &v1.HealthConfig{Interval: 1, StartPeriod: 1}},
			&HealthConfig{Test: []string{"x"}, Interval: time.Millisecond, Timeout: 30 * time.Second, StartPeriod: 1,
				StartInterval: 5 * time.Second, Retries: 3}},
		{"less than none", HealthConfig{Test: []string{"CMD", "x"}}, &v1.Config{Healthcheck: &v1.HealthConfig{Interval: -time.Hour}},
			&HealthConfig{Test: []string{"x"}, Interval: time.Millisecond, Timeout: 30 * time.Second, StartInterval: time.Millisecond, Retries: 3}},
		// Without a start period there is no other interval at first.
		{"defaults", HealthConfig{Test: []string{"CMD", "x"}}, &v1.Config{}, &HealthConfig{Test: []string{"x"},
			Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 30 * time.Second, Retries: 3}},
	} {
		if diff := cmp.Diff(row.want, healthPlan(&row.wish, row.image)); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
}

// TestHealthAdd goes through a container's health: each letter is a probe that failed at first (s), failed (f) or went
// well (o).
func TestHealthAdd(t *testing.T) {
	for probes, want := range map[string]string{
		"": Starting, "s": Starting, "ssss": Starting, "f": Starting, "ff": Unhealthy, "sf": Starting, "sff": Unhealthy, "o": Healthy, "of": Healthy,
		"off": Unhealthy, "ofof": Healthy, "ffo": Healthy, "fof": Healthy,
	} {
		h := &Health{Status: Starting}
		for _, p := range probes {
			h.add(HealthResult{ExitCode: map[rune]int{'o': 0}[p] + map[rune]int{'f': 1, 's': 1}[p]}, 2, p == 's')
		}
		if h.Status != want || len(h.Log) > healthLog {
			t.Errorf("%q: %s with %d results, want %s", probes, h.Status, len(h.Log), want)
		}
	}
}

// TestHealth has a real container probed: what probes see is the container's, and its state follows.
func TestHealth(t *testing.T) {
	config := verbConfig(t, "sleep")
	config.Lifetime.Remove = false
	config.Files.Mounts = []MountSpec{{Type: MountBind, Source: t.TempDir(), Target: "/well"}}
	config.Health = HealthConfig{Test: []string{"CMD", "/hull"}, Interval: 50 * time.Millisecond, Retries: 2}
	// The probe is this binary too, whose verb says whether /well/well is there.
	config.Process.Env = append(config.Process.Env, "PROBE=1")
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, c, Unhealthy)
	if err := os.WriteFile(config.Files.Mounts[0].Source+"/well", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, c, Healthy)
	h := c.Health()
	last := h.Log[len(h.Log)-1]
	if last.ExitCode != 0 || last.Output != "fine\n" || !last.End.After(last.Start) {
		t.Errorf("last probe: %+v", last)
	}
	if h.FailingStreak != 0 || len(h.Log) > 5 {
		t.Errorf("%d failures in a row, %d results", h.FailingStreak, len(h.Log))
	}
	if d := c.Document(); d.State.Health == nil || d.State.Health.Status != Healthy {
		t.Errorf("inspect shows %+v", d.State.Health)
	}
}

// TestMonitorSignals: what a shell may send does not end a monitor, whatever it is doing, and SIGTERM ends the container as a
// stop does.
func TestMonitorSignals(t *testing.T) {
	config := verbConfig(t, "heed")
	config.Lifetime.Remove = false
	config.Lifetime.StopSignal = "SIGUSR1"
	config.Health = HealthConfig{Test: []string{"CMD", "/no-such-file"}, Interval: time.Millisecond, Retries: 1}
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, c, Unhealthy) // there are probes
	eventually(t, "the program listens", func() bool {
		text, _ := os.ReadFile(c.logPath())
		return strings.Contains(string(text), "ready")
	})
	for range 300 {
		for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGALRM} {
			if err := unix.Kill(c.Monitor, sig); err != nil {
				t.Fatalf("signal %d: %v", sig, err)
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	if err := c.refresh(); err != nil || c.Status != Running {
		t.Fatalf("%s: %s, %v", c.Status, c.Error, err)
	}
	if err := unix.Kill(c.Monitor, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(context.Background()); code != int(unix.SIGUSR1) || err != nil {
		t.Errorf("status %d, %v", code, err)
	}
	if c.refresh(); c.Error != "" || c.Stopped {
		t.Errorf("error %q, stopped by hand: %v", c.Error, c.Stopped)
	}
}

// TestEndOfPause: a monitor that is asked to end while it waits to start its container again does neither.
func TestEndOfPause(t *testing.T) {
	config := verbConfig(t, "exit", "CODE=3")
	config.Lifetime.Remove = false
	config.Lifetime.Restart = RestartPolicy{Name: "always"}
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a long pause", func() bool { return c.refresh() == nil && c.Status == Restarting && c.RestartCount > 2 })
	if err := unix.Kill(c.Monitor, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.settle(); err != nil || c.Status != Exited || c.ExitCode != 3 || c.Error != "" || c.Stopped {
		t.Errorf("%s with %d: %q, stopped by hand: %v, %v", c.Status, c.ExitCode, c.Error, c.Stopped, err)
	}
}

// TestHealthTimeout: a probe that does not end is killed, and has failed.
func TestHealthTimeout(t *testing.T) {
	config := verbConfig(t, "sleep")
	config.Lifetime.Remove = false
	config.Health = HealthConfig{Test: []string{"CMD", "/hull"}, Interval: 20 * time.Millisecond, Timeout: 100 * time.Millisecond, Retries: 1, OnFailure: "kill"}
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(context.Background()); code != 137 || err != nil {
		t.Errorf("an unhealthy container that is to be killed ended with %d, %v", code, err)
	}
	c.refresh()
	h := c.Health()
	if h == nil || h.Status != Unhealthy || !strings.Contains(h.Log[0].Output, "exceeded timeout (100ms)") {
		t.Errorf("health %+v", h)
	}
}

func awaitHealth(t *testing.T, c *Container, want string) {
	t.Helper()
	eventually(t, "health "+want, func() bool {
		if c.refresh() != nil {
			return false
		}
		h := c.Health()
		return h != nil && h.Status == want
	})
}

// TestRestartService goes by the policies of stopped containers.
func TestRestartService(t *testing.T) {
	for _, row := range []struct {
		policy  string
		stopped bool
		code    int
		want    bool
	}{
		{"", false, 1, false}, {"always", true, 0, true}, {"unless-stopped", true, 0, false}, {"unless-stopped", false, 0, true},
		{"on-failure", false, 0, false}, {"on-failure", false, 2, true}, {"on-failure", true, 2, false},
	} {
		c := &Container{State: State{Stopped: row.stopped, ExitCode: row.code}}
		c.Config.Lifetime.Restart.Name = row.policy
		if got := c.wanted(); got != row.want {
			t.Errorf("%+v: %v", row, got)
		}
	}
}

// TestShutdownAndStartWanted is what a machine's end and its next start do.
func TestShutdownAndStartWanted(t *testing.T) {
	h, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	needStatic(t)
	t.Cleanup(func() { _ = h.removeTree(h.Root) })
	if _, err := h.Image(context.Background(), "hello", Fetch{}); err != nil {
		t.Fatal(err)
	}
	config := verbConfig(t, "sleep")
	config.Lifetime.Remove = false
	once := create(t, h, config)
	config.Lifetime.Restart = RestartPolicy{Name: "unless-stopped"}
	again := create(t, h, config)
	for _, c := range []*Container{once, again} {
		if err := c.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*Container{once, again} {
		eventually(t, "the small monitor", func() bool {
			stat, err := readStat(c.Monitor)
			return err == nil && stat.comm == "hull-monitor"
		})
	}
	names, err := h.Shutdown()
	slices.Sort(names)
	want := []string{once.Name, again.Name}
	slices.Sort(want)
	if err != nil || !slices.Equal(names, want) {
		t.Fatalf("shut down %q, %v, want %q", names, err, want)
	}
	for _, c := range []*Container{once, again} {
		if c.refresh(); c.Status != Exited || c.Stopped || c.Error != "" {
			t.Errorf("%s: %s, %q, stopped by hand: %v", c.Name, c.Status, c.Error, c.Stopped)
		}
	}
	if names, err = h.StartWanted(context.Background()); err != nil || !slices.Equal(names, []string{again.Name}) {
		t.Errorf("started %q, %v", names, err)
	}
	if again.refresh(); again.Status != Running {
		t.Errorf("%s is %s", again.Name, again.Status)
	}
}

func TestUnit(t *testing.T) {
	s := &Service{Program: "/opt/my tools/hull", Root: "/var/lib/100%", Target: "multi-user.target"}
	unit := s.Unit()
	for _, want := range []string{
		`ExecStart="/opt/my tools/hull" --root /var/lib/100%% system service start` + "\n",
		`ExecStop="/opt/my tools/hull" --root /var/lib/100%% system service stop` + "\n",
		"Type=oneshot\nRemainAfterExit=yes\n", "Delegate=yes\n", "[Install]\nWantedBy=multi-user.target\n",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q:\n%s", want, unit)
		}
	}
	if s.User = true; strings.Contains(s.Unit(), "network-online") {
		t.Error("a user's manager has no network-online.target")
	}
}
