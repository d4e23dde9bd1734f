package run

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestProcesses looks for a program, its child, and a child in a pid namespace within.
func TestProcesses(t *testing.T) {
	h := testHost(t)
	limit := int64(100)
	for name, change := range map[string]func(*Config){
		"by namespace": func(*Config) {},
		"by cgroup":    func(c *Config) { c.Limits.Resources.Pids = &specs.LinuxPids{Limit: &limit} },
		"host's pids":  func(c *Config) { c.Isolation.PID = NamespaceHost },
	} {
		t.Run(name, func(t *testing.T) {
			config := verbConfig(t, "family")
			config.Name, config.Isolation.Privileged = "family", true
			change(&config)
			other := otherHull(t, config)
			c, err := h.Find("family")
			if err != nil {
				t.Fatal(err)
			}
			list, err := c.processes()
			if err != nil || len(list) != 3 || !slices.Contains(list, c.Pid) {
				t.Errorf("%d of %v, %v", c.Pid, list, err)
			}
			for _, pid := range []int{os.Getpid(), other.Process.Pid, 1} {
				if slices.Contains(list, pid) {
					t.Errorf("%d is none of the container's", pid)
				}
			}
			if err := c.Remove(RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
			for _, pid := range list { // an ordinary user's, in the host's pid namespace, die with nobody
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			if list, err := c.processes(); list != nil || err != nil {
				t.Errorf("after the end: %v, %v", list, err)
			}
		})
	}
}

// TestStopAll: where there is no freezer, all that runs in a container stands still, and goes on.
func TestStopAll(t *testing.T) {
	config := verbConfig(t, "family")
	config.Lifetime.Remove, config.Isolation.Privileged = false, true // it makes a namespace
	c := create(t, testHost(t), config)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	states := func() (list string) {
		pids, err := c.processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			if st, err := readStat(pid); err == nil {
				list += string(st.state)
			}
		}
		return list
	}
	eventually(t, "three processes", func() bool { return len(states()) == 3 })
	// One that waits for the child that it lent its memory to is in state D as long as that child stands still.
	if err := c.stopAll(); err != nil || len(states()) != 3 || strings.Trim(states(), "TD") != "" || !strings.Contains(states(), "T") {
		t.Errorf("%s, %v", states(), err)
	}
	if err := c.signalAll(unix.SIGCONT); err != nil || strings.Contains(states(), "T") {
		t.Errorf("%s, %v", states(), err)
	}
}
