package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errStarting makes a probe's process ask for the next one after the start interval: its exit status is 1.
var errStarting = errors.New("still starting")

// probe is a process that the monitor starts: it probes once.
func probe(root, id string) error {
	h, err := Open(root)
	if err != nil {
		return nil
	}
	c, err := h.load(id)
	if err != nil || c.Status != Running {
		return nil
	}
	img, err := h.Images.Lookup(c.ImageID)
	if err != nil {
		return nil
	}
	plan := healthPlan(&c.Config.Health, &img.Config.Config)
	if plan == nil {
		return nil
	}
	result := c.probeOnce(plan)
	health := c.Health()
	if health == nil {
		health = &Health{Status: Starting}
	}
	before := health.Status
	inStart := before == Starting && time.Since(c.Started) < plan.StartPeriod
	health.add(result, plan.Retries, inStart)
	if s, err := h.read(id); err != nil || s.Pid != c.Pid || c.saveHealth(health) != nil {
		return nil // it has ended meanwhile
	}
	if health.Status != before {
		c.note("health_status: " + health.Status)
	}
	if health.Status == Unhealthy && before != Unhealthy {
		c.unhealthy(plan.OnFailure)
	}
	if health.Status == Starting && time.Since(c.Started) < plan.StartPeriod {
		return errStarting
	}
	return nil
}

// probeOnce runs the probe in the container, as its user. One that takes too long is killed and has failed.
func (c *Container) probeOnce(plan *HealthConfig) HealthResult {
	r := HealthResult{Start: time.Now().UTC(), ExitCode: -1}
	ctx, cancel := context.WithTimeout(context.Background(), plan.Timeout)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		r.Output = err.Error()
		return r
	}
	output := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(read, healthOutput))
		_, _ = io.Copy(io.Discard, read)
		output <- string(text)
	}()
	res, err := c.Exec(ctx, ExecConfig{Args: plan.Test}, IO{Out: write, Err: write})
	write.Close()
	r.End = time.Now().UTC()
	select {
	case r.Output = <-output:
	case <-time.After(drainTime): // something that the probe left behind holds the pipe
		read.Close()
	}
	switch {
	case ctx.Err() != nil:
		r.ExitCode, r.Output = -1, fmt.Sprintf("Health check exceeded timeout (%v)", plan.Timeout)
	case err != nil:
		r.Output = err.Error()
	default:
		r.ExitCode = res.Code
	}
	return r
}

// unhealthy does what is wanted of a container that has become so.
func (c *Container) unhealthy(action string) {
	switch action {
	case "kill":
		c.killOnly()
	case "restart":
		if c.change(func(s *State) error {
			s.StartAgain = true
			return nil
		}) == nil {
			c.killOnly()
		}
	case "stop":
		_ = c.Stop(context.Background(), StopOptions{})
	}
}

// killOnly kills the program without a word about who wanted it, so that its policy may start it again.
func (c *Container) killOnly() {
	if fd, err := c.process(); err == nil {
		_ = c.deliver(fd, unix.SIGKILL)
		unix.Close(fd)
	}
}
