package run

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

func TestStatsPercent(t *testing.T) {
	before := Stats{CPU: 1e9, Machine: 100e9, CPUs: 4}
	for _, row := range []struct {
		now  Stats
		want float64
	}{
		{Stats{CPU: 2e9, Machine: 104e9, CPUs: 4}, 100}, {Stats{CPU: 1.5e9, Machine: 104e9, CPUs: 4}, 50}, {Stats{CPU: 5e9, Machine: 104e9, CPUs: 4}, 400},
		{before, 0}, {Stats{CPU: 5e8, Machine: 104e9, CPUs: 4}, 0}, {Stats{}, 0}, {Stats{CPU: 2e9, Machine: 100e9}, 0},
	} {
		if got := row.now.CPUPercent(before); math.Abs(got-row.want) > 1e-9 {
			t.Errorf("%+v: %v", row, got)
		}
	}
	if got := (Stats{Memory: 5, MemoryLimit: 20}).MemoryPercent(); got != 25 {
		t.Error(got)
	}
	if got := (Stats{}).MemoryPercent(); got != 0 {
		t.Error(got)
	}
}

// TestStats measures a program that has used something known, by its processes and by its cgroup.
func TestStats(t *testing.T) {
	h := testHost(t)
	limit, pids := int64(1<<30), int64(1000)
	for name, r := range map[string]specs.LinuxResources{
		"no limits": {}, "one limit": {Pids: &specs.LinuxPids{Limit: &pids}}, "memory": {Memory: &specs.LinuxMemory{Limit: &limit}},
	} {
		t.Run(name, func(t *testing.T) {
			config := verbConfig(t, "burn")
			config.Name, config.Limits.Resources = "burner", r
			otherHull(t, config)
			c, err := h.Find("burner")
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Stats()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v by %q", s, c.Cgroups)
			if cpu := time.Duration(s.CPU); cpu < 550*time.Millisecond || cpu > 10*time.Second {
				t.Errorf("has used %v", cpu)
			}
			if s.Memory < 64<<20 || s.Memory > 300<<20 || s.PIDs < 2 || s.PIDs > 100 || time.Since(s.Time) > time.Minute {
				t.Errorf("%+v", s)
			}
			var system unix.Sysinfo_t
			if err := unix.Sysinfo(&system); err != nil {
				t.Fatal(err)
			}
			want := uint64(system.Totalram) * uint64(system.Unit)
			if name == "memory" && (os.Geteuid() == 0 || cgroups.Version() == 2) && len(c.Cgroups) > 0 {
				want = uint64(limit)
			}
			if s.MemoryLimit != want {
				t.Errorf("limit %d, want %d", s.MemoryLimit, want)
			}
			if s.Machine == 0 || s.CPUs == 0 {
				t.Errorf("the machine: %+v", s)
			}
			if err := c.Remove(RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
			c.Status = Exited
			if s, err := c.Stats(); err != nil || s.CPU+s.Memory+s.MemoryLimit+s.PIDs != 0 {
				t.Errorf("after the end: %+v, %v", s, err)
			}
		})
	}
}

func TestTraffic(t *testing.T) {
	if r, s := traffic(1 << 30); r+s != 0 {
		t.Error(r, s)
	}
	if ns, cpus, err := machineTime(); err != nil || cpus < 1 || ns < uint64(time.Second) {
		t.Error(ns, cpus, err)
	}
	text := []byte("Rss:   10 kB\nPss:             12 kB\nread_bytes: 4096\n")
	if n := keyedNumber(text, "Pss:"); n != 12 {
		t.Error(n)
	}
	if n := keyedNumber(text, "read_bytes:"); n != 4096 {
		t.Error(n)
	}
	if n := keyedNumber(text, "write_bytes:"); n != 0 {
		t.Error(n)
	}
}
