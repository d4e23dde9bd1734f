package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNotRunning is Docker's: scripts look for its words.
func (c *Container) errNotRunning() error {
	return fmt.Errorf("container %s is not running", c.ID)
}

// process opens the container's first process. The descriptor stands for that process alone: its start time tells it
// from one that has the same number by now.
func (c *Container) process() (pidfd int, err error) {
	if c.Pid == 0 {
		return -1, c.errNotRunning()
	}
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err == nil && startTime(c.Pid) != c.PidStart {
		unix.Close(fd)
		err = unix.ESRCH
	}
	if errors.Is(err, unix.ESRCH) {
		return -1, c.errNotRunning()
	}
	return fd, os.NewSyscallError("pidfd_open", err)
}

// refresh reads the state again, and settles what a killed hull has left.
func (c *Container) refresh() error {
	fresh, err := c.host.load(c.ID)
	if err != nil {
		return err
	}
	c.State = fresh.State
	return nil
}

// Kill sends a signal to the container's first process. A container that does not run is an error. It waits for the end
// of one that is killed.
func (c *Container) Kill(sig syscall.Signal) error {
	// A signal that ends it is a wish of the user's: no policy starts it again (moby, daemon/kill.go).
	if c.Status.Alive() && (sig == unix.SIGKILL || sig == c.stopSignal()) {
		if err := c.markStopped(); err != nil {
			return orGone(err)
		}
	}
	fd, err := c.process()
	if err != nil && c.Stopped && c.Status.Alive() { // it has just ended: whoever would start it again finds the mark
		return orGone(c.settle())
	}
	if err != nil {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return fmt.Errorf("Cannot kill container: %s: %w", c.Name, err)
	}
	defer unix.Close(fd)
	c.note("kill", "signal", strconv.Itoa(int(sig)))
	if sig == unix.SIGKILL {
		if err = c.killProcess(context.Background(), fd); err == nil {
			return orGone(c.settle())
		}
	} else {
		err = c.deliver(fd, sig)
	}
	if err != nil {
		return fmt.Errorf("kill container %s: %w", c.Name, err)
	}
	return nil
}

// deliver sends a signal. A paused container that is to end has to go on for it.
func (c *Container) deliver(pidfd int, sig syscall.Signal) error {
	err := unix.PidfdSendSignal(pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has just ended
	}
	if err != nil {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	if sig != unix.SIGKILL && sig != c.stopSignal() {
		return nil
	}
	return c.wake()
}

// wake lets a container that has been sent what it is to end of go on, if it is paused.
func (c *Container) wake() error {
	// Read after the signal was sent: whoever pauses it from now on finds it dying.
	if s, err := c.host.read(c.ID); err == nil && s.Status == Paused {
		now := &Container{host: c.host, State: *s} // c stays as it is: it may have been started anew meanwhile
		return now.letGo()
	}
	return nil
}

// markStopped notes that the container is ended by hand. Whoever is about to start it again finds the mark, or it is
// started already when this returns, and the state says so.
func (c *Container) markStopped() error {
	return c.change(func(s *State) error {
		s.Stopped = true
		return nil
	})
}

// StopOptions say how a container is stopped. The zero value takes what the container was made with.
type StopOptions struct {
	// Signal asks the program to end; 0 for the container's own.
	Signal syscall.Signal
	// Timeout is how many seconds it has before SIGKILL, negative for ever; nil for the container's own.
	Timeout *int
}

// Stop asks the program to end, and makes it end when its time is up. A container that does not run is no error. It
// returns when the container has been taken down.
func (c *Container) Stop(ctx context.Context, o StopOptions) error {
	if !c.Status.Alive() {
		return nil
	}
	if err := c.markStopped(); err != nil {
		return orGone(err)
	}
	sig, grace := c.stopSignal(), c.stopTimeout()
	if o.Signal != 0 {
		sig = o.Signal
	}
	if o.Timeout != nil {
		grace = *o.Timeout
	}
	if fd, err := c.process(); err == nil {
		err = c.stopProcess(ctx, fd, sig, grace)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("stop container %s: %w", c.Name, err)
		}
	}
	if err := c.settle(); err != nil {
		return orGone(err)
	}
	c.note("stop")
	return nil
}

// orGone lets a container that has removed itself pass for one that has ended.
func orGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (c *Container) stopProcess(ctx context.Context, pidfd int, sig syscall.Signal, grace int) error {
	c.note("kill", "signal", strconv.Itoa(int(sig)))
	if err := c.deliver(pidfd, sig); err != nil {
		return err
	}
	if waitProcess(ctx, pidfd, grace) {
		return nil
	}
	c.note("kill", "signal", strconv.Itoa(int(unix.SIGKILL)))
	return c.killProcess(ctx, pidfd)
}

// killProcess kills and waits for the end.
func (c *Container) killProcess(ctx context.Context, pidfd int) error {
	for range deathTime / time.Second {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.deliver(pidfd, unix.SIGKILL); err != nil { // again, for somebody may have paused it meanwhile
			return err
		}
		if waitProcess(ctx, pidfd, 1) {
			return nil
		}
	}
	return errors.New("it still lives, even after SIGKILL")
}

// deathTime is how long a killed process may take to die: one that waits for a disk dies late.
const deathTime = 10 * time.Second

// waitProcess waits for the end of a process, so many seconds or, if negative, for ever, and says whether it has come.
func waitProcess(ctx context.Context, pidfd, seconds int) bool {
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	for ctx.Err() == nil {
		wait := 100 * time.Millisecond // how soon an end of ctx is noticed
		if seconds >= 0 {
			wait = min(wait, time.Until(deadline)+time.Millisecond)
		}
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, max(0, int(wait/time.Millisecond))); err == nil && n > 0 {
			return true
		}
		if seconds >= 0 && !time.Now().Before(deadline) {
			return false
		}
	}
	return false
}

// stopSignal is the signal that asks the program to end: the container's, the image's, or SIGTERM.
func (c *Container) stopSignal() syscall.Signal {
	name := c.Config.Lifetime.StopSignal
	if name == "" {
		img := c.image
		if img == nil {
			img, _ = c.host.Images.Lookup(c.ImageID)
		}
		if img != nil {
			name = img.Config.Config.StopSignal
		}
	}
	if sig, err := ParseSignal(name); err == nil && name != "" {
		return sig
	}
	return unix.SIGTERM
}

// stopTimeout is the grace of a stop in seconds, negative for ever.
func (c *Container) stopTimeout() int {
	if t := c.Config.Lifetime.StopTimeout; t != nil {
		return *t
	}
	return 10
}

// Restart stops the container, if it runs, and starts it detached.
func (c *Container) Restart(ctx context.Context, o StopOptions) error {
	if err := c.Stop(ctx, o); err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	c.note("restart")
	return nil
}

// Wait waits until the container does not run, and gives its exit status.
func (c *Container) Wait(ctx context.Context) (int, error) {
	if c.Status == Created || !c.Status.Alive() {
		return c.ExitCode, nil
	}
	if code, err := c.waitAttached(ctx); err == nil || ctx.Err() != nil {
		return code, err
	}
	// In the foreground of another hull, or between two monitors.
	fd, err := c.process()
	if err == nil {
		defer unix.Close(fd)
		if !waitProcess(ctx, fd, -1) {
			return 0, ctx.Err()
		}
	}
	if err := c.settle(); err != nil {
		return 0, fmt.Errorf("wait for container %s: it has ended and been removed: %w", c.Name, err)
	}
	return c.ExitCode, nil
}
