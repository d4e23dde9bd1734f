package run

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/hullrun/hull/run/monitor"
)

// The health of a container, in Docker's words. One whose health nobody looks at has none.
const (
	HealthNone = "none"
	Starting   = "starting"
	Healthy    = "healthy"
	Unhealthy  = "unhealthy"
)

// Health is what probes have found. It is kept in a file of its own, because probes write it while others change the
// state.
type Health struct {
	Status        string
	FailingStreak int
	// Log holds the last probes, the oldest first.
	Log []HealthResult
}

// HealthResult is what one probe found.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	// Output is the beginning of what the probe wrote.
	Output string
}

// How many probes are remembered, and how many bytes of their output: Docker's numbers (moby, daemon/health.go).
const (
	healthLog    = 5
	healthOutput = 4096
	healthFile   = "health.json"
)

// shortestInterval is what Docker, too, takes for the shortest.
const shortestInterval = time.Millisecond

// Health gives what probes have found, or nil where there are none.
func (c *Container) Health() *Health {
	if !c.Probed {
		return nil
	}
	data, err := os.ReadFile(c.path(healthFile))
	if err != nil {
		return nil
	}
	var h Health
	if json.Unmarshal(data, &h) != nil {
		return nil
	}
	return &h
}

func (c *Container) saveHealth(h *Health) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	tmp := c.path("." + healthFile)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.path(healthFile))
}

// healthPlan joins the image's HEALTHCHECK with the user's wishes and Docker's defaults. It is nil where there is
// nothing to probe.
func healthPlan(c *HealthConfig, image *v1.Config) *HealthConfig {
	from := &v1.HealthConfig{}
	if image.Healthcheck != nil {
		from = image.Healthcheck
	}
	plan := *c
	if len(plan.Test) == 0 {
		plan.Test = from.Test
	}
	if len(plan.Test) < 2 || plan.Test[0] == "NONE" {
		return nil
	}
	if plan.Test[0] == "CMD-SHELL" {
		shell := image.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		plan.Test = append(append([]string{}, shell...), plan.Test[1])
	} else {
		plan.Test = plan.Test[1:]
	}
	plan.Interval = cmp.Or(plan.Interval, from.Interval, 30*time.Second)
	plan.Timeout = cmp.Or(plan.Timeout, from.Timeout, 30*time.Second)
	plan.StartPeriod = cmp.Or(plan.StartPeriod, from.StartPeriod)
	plan.StartInterval = cmp.Or(plan.StartInterval, 5*time.Second)
	plan.Retries = cmp.Or(plan.Retries, from.Retries, 3)
	if plan.StartPeriod == 0 {
		plan.StartInterval = plan.Interval
	}
	// An image must not keep a processor busy, least of all outside its limits.
	plan.Interval, plan.StartInterval = max(plan.Interval, shortestInterval), max(plan.StartInterval, shortestInterval)
	return &plan
}

// startHealth prepares for probes before the program runs. The plan is nil if there are to be none.
func (s *start) startHealth() (*HealthConfig, error) {
	plan := healthPlan(&s.Config.Health, &s.image.Config.Config)
	s.Probed = plan != nil
	if plan == nil {
		return nil, nil
	}
	if err := s.saveHealth(&Health{Status: Starting, Log: []HealthResult{}}); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	return plan, nil
}

// probes makes the monitor probe.
func (plan *HealthConfig) probes(t *monitor.Task, c *Container) {
	if plan != nil {
		t.Probe = append([]string{"hull"}, c.probeArgs()...)
		t.Interval, t.StartInterval = int(plan.Interval/time.Millisecond), int(plan.StartInterval/time.Millisecond)
	}
}

func (c *Container) probeArgs() []string { return []string{partProbe, c.host.Root, c.ID} }

// keepProbing does in the foreground what else a monitor does: it runs a probe, a hull of its own, again and again.
func (s *start) keepProbing(plan *HealthConfig, stop chan struct{}) {
	for wait := plan.StartInterval; ; {
		select {
		case <-stop:
			return
		case <-time.After(wait):
		}
		cmd := exec.Command("/proc/self/exe", s.probeArgs()...)
		cmd.Args[0] = "hull"
		cmd.Env = append(os.Environ(), helperEnv+"="+workMonitor)
		done := make(chan struct{})
		if cmd.Start() == nil {
			go func() {
				_ = cmd.Wait()
				close(done)
			}()
			select {
			case <-stop:
				_ = cmd.Process.Kill()
				<-done
				return
			case <-done:
			}
		}
		if wait = plan.Interval; cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 1 {
			wait = plan.StartInterval
		}
	}
}

// add takes a result in. A failure at first does not count, and one success makes good all failures before.
func (h *Health) add(r HealthResult, retries int, inStart bool) {
	if h.Log = append(h.Log, r); len(h.Log) > healthLog {
		h.Log = h.Log[len(h.Log)-healthLog:]
	}
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = Healthy, 0
	case !inStart:
		if h.FailingStreak++; h.FailingStreak >= retries {
			h.Status = Unhealthy
		}
	}
}
