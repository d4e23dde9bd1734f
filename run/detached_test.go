package run

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestNeverStarted: of a container whose monitor does not come to begin anything nothing is left that says otherwise, and
// nothing at all of one that was to be removed.
func TestNeverStarted(t *testing.T) {
	over, stop := context.WithCancel(context.Background())
	stop()
	for _, remove := range []bool{false, true} {
		config := verbConfig(t, "sleep")
		config.Lifetime.Remove = remove
		c := create(t, testHost(t), config)
		if err := c.Start(over); err == nil {
			t.Fatal("it has started")
		}
		if exists(c.dir()) == remove {
			t.Errorf("remove is %v, and the directory is there: %v", remove, exists(c.dir()))
		}
		if err := c.refresh(); !remove && (err != nil || c.Status != Created) {
			t.Errorf("%s, %v", c.Status, err)
		}
	}
}

// TestNotWritten: what cannot be written down leaves nothing.
func TestNotWritten(t *testing.T) {
	for name, do := range map[string]func(*Container) error{
		"start": func(c *Container) error { return c.Start(context.Background()) }, "keep": (*Container).Keep,
	} {
		config := verbConfig(t, "sleep")
		config.Lifetime.Remove = false
		c := create(t, testHost(t), config)
		if err := os.Mkdir(c.path(stateFile), 0o700); err != nil { // where nothing can be written
			t.Fatal(err)
		}
		if err := do(c); err == nil || exists(c.dir()) || exists(c.host.nameLink(c.Name)) {
			t.Errorf("%s: %v; the directory is there: %v", name, err, exists(c.dir()))
		}
	}
}

// TestLogTailTorn: an entry that a full disk has cut off is no line.
func TestLogTailTorn(t *testing.T) {
	c := create(t, testHost(t), verbConfig(t, "sleep"))
	const entry = `{"log":"one\n","stream":"stdout","time":"2026-05-06T07:08:09Z"}` + "\n"
	torn := strings.Replace(entry, "one", "two", 1)[:50]
	for _, end := range []string{"", "\n"} {
		if err := os.WriteFile(c.logPath(), []byte(entry+torn+end), 0o600); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := c.WriteLogs(context.Background(), LogOptions{Tail: 1}, false, "", &text, io.Discard); err != nil || text.String() != "one\n" {
			t.Errorf("after %q: %q, %v", torn+end, text.String(), err)
		}
	}
}

// TestStartedApart: a program that cannot be forked in this process's memory is started by its monitor, to the same effect;
// and so are the errors.
func TestStartedApart(t *testing.T) {
	score := 123
	for _, adj := range []*int{nil, &score} {
		config := verbConfig(t, "sleep")
		config.Limits.OOMScoreAdj = adj
		c := create(t, testHost(t), config)
		if err := c.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		stat, err := readStat(c.Pid)
		if err != nil || stat.ppid != c.Monitor || c.Monitor == os.Getpid() || startTime(c.Monitor) != c.MonitorStart {
			t.Errorf("score %v: program %d has the parent %d, the monitor is %d, %v", adj, c.Pid, stat.ppid, c.Monitor, err)
		}
		eventually(t, "a monitor", func() bool {
			name, _ := os.ReadFile("/proc/" + strconv.Itoa(c.Monitor) + "/comm")
			return string(name) == "hull-monitor\n"
		})
		if err := c.Remove(RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		config.Process.Entrypoint = &[]string{"/nosuch"}
		c = create(t, testHost(t), config)
		err = c.Start(context.Background())
		if code := (interface{ ExitCode() int })(nil); !errors.As(err, &code) || code.ExitCode() != 127 {
			t.Errorf("score %v: %v", adj, err)
		}
	}
}

// TestStartUnplanned: of a container whose users cannot be found out nothing is left that says otherwise.
func TestStartUnplanned(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs somebody who is not root, whose ids may be missing")
	}
	h := emptyHost(t)
	h.sub = subIDs{why: errors.New("there are none")}
	for _, remove := range []bool{false, true} {
		config := verbConfig(t, "sleep")
		config.Isolation.Userns, config.Lifetime.Remove = "sub-ids", remove
		c := create(t, h, config)
		if err := c.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "no subordinate ids") {
			t.Error(err)
		}
		if exists(c.path(stateFile)) == remove || exists(c.dir()) == remove {
			t.Errorf("remove is %v: the directory is there: %v", remove, exists(c.dir()))
		}
	}
}
