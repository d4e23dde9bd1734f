package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/run/monitor"
)

// report is a line that a monitor writes to whoever started it: a warning, or at last how the start went.
type report struct {
	Warning string `json:",omitempty"`
	Started bool   `json:",omitempty"`
	Error   string `json:",omitempty"`
	Code    int    `json:",omitempty"` // exit status that the error asks for, 0 for none
}

// startError is an error that has come from a monitor.
type startError struct {
	text string
	code int
}

func (e *startError) Error() string { return e.text }

// ExitCode is 126 or 127 if only the program was at fault, else 125.
func (e *startError) ExitCode() int { return e.code }

// Start starts the container and leaves it to a monitor, a process of its own that no longer depends on this one. It
// returns when the program runs, or with the reason why it does not; the container is not locked by this process then.
// A container that runs already is left as it is.
func (c *Container) Start(ctx context.Context) error { return c.start(ctx, nil) }

// start is Start with a client that has attached before the program runs, or nil.
func (c *Container) start(ctx context.Context, client *os.File) error {
	if c.lock == nil {
		if err := c.lockIdle(); err != nil {
			return err
		}
		if c.Status == Paused {
			return errors.New("cannot start a paused container, try unpause instead")
		}
		if c.Status.Alive() {
			return nil
		}
	}
	defer c.unlock()
	k := &keeper{Container: c}
	if client != nil {
		k.clients = []monitor.Client{{FD: int(client.Fd())}}
	}
	s := &start{Container: c}
	err := k.needImage(ctx)
	if err == nil {
		err = s.outline()
	}
	if err == nil && !s.cmd.CanDetach() {
		s.closeShared()
		return c.startApart(ctx, client)
	}
	if err == nil {
		err = c.nowDetached()
	}
	if err != nil {
		err = errors.Join(err, s.takeDown(Result{}, err, false))
	} else {
		s.cmd.Detach, s.cmd.Context = true, ctx
		err = k.leave(s)
	}
	if err != nil {
		k.farewell(Result{Code: failureCode(err)})
	}
	return err
}

// leave starts the program and leaves it to its monitor, which is another process from the beginning. After an error nothing
// is left of either.
func (k *keeper) leave(s *start) error {
	task, err := k.startProgram(s)
	if err != nil {
		return errors.Join(err, s.takeDown(Result{}, err, false))
	}
	if err := s.process.HandOver(task.Heir(append(os.Environ(), helperEnv+"="+workMonitor))); err != nil {
		_ = s.process.Signal(unix.SIGKILL)
		_, _ = s.process.Wait()
		return errors.Join(err, s.takeDown(Result{}, err, false))
	}
	// All this is the monitor's now.
	for _, f := range append(k.pipes, k.listen, s.process.Console) {
		f.Close()
	}
	s.netns.Close() // nil is none
	if s.group != nil {
		_ = s.group.Close()
	}
	return nil
}

// failureCode is the exit status for a container that could not be started.
func failureCode(err error) int {
	if c := (interface{ ExitCode() int })(nil); errors.As(err, &c) {
		return c.ExitCode()
	}
	return 125
}

// nowDetached notes that a monitor is going to run the container. One that is not written down yet will be with its start.
func (c *Container) nowDetached() error {
	handOver := func(s *State) error {
		s.RestartCount, s.Stopped, s.Detached = 0, false, true
		return nil
	}
	if !c.saved {
		return handOver(&c.State)
	}
	return c.change(handOver)
}

// startApart starts the container in a whole hull that becomes its monitor, for one whose parent cannot be forked in this
// process's memory.
func (c *Container) startApart(ctx context.Context, client *os.File) error {
	if err := c.nowDetached(); err != nil {
		return err
	}
	if !c.saved {
		if err := c.save(); err != nil {
			return errors.Join(err, c.discard()) // nobody would know what it is
		}
	}
	c.imageNoted()
	err := c.spawn(ctx, client)
	if err != nil && !errors.As(err, new(*startError)) {
		err = errors.Join(err, c.neverStarted())
	}
	return err
}

// neverStarted does what a monitor that has not come to it, or was killed, would have done about its failure.
func (c *Container) neverStarted() error {
	c.endOrphan()
	if c.Config.Lifetime.Remove {
		return c.discard()
	}
	return nil
}

// lockIdle locks a container that does not run. One that is alive is left unlocked, without an error.
func (c *Container) lockIdle() error {
	for {
		err := c.takeLock()
		if err == nil {
			if err := c.reread(); err != nil {
				c.unlock()
				return err
			}
			c.endOrphan()
			return nil
		}
		if !errors.Is(err, errLocked) {
			return err
		}
		fresh, err := c.host.load(c.ID)
		if err != nil {
			return err
		}
		if c.State = fresh.State; c.Status.Alive() {
			return nil
		}
		// Being started or ended this moment: wait for either.
		if err := c.settle(); err != nil {
			return err
		}
	}
}

// spawn starts the monitor, which takes over the lock: it is one open file with two owners until ours is closed.
func (c *Container) spawn(ctx context.Context, client *os.File) error {
	return c.spawnMonitor(ctx, []string{partBegin, c.host.Root, c.ID}, nil, c.lock, client)
}

// spawnMonitor starts a process that is to become a monitor, and waits for its report. It has input as its standard
// input, the lock as descriptor 3, the other end of the report as 4, and the client as 5; lock and client may be nil.
func (c *Container) spawnMonitor(ctx context.Context, words []string, input io.Reader, lock, client *os.File) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", words...)
	cmd.Args[0] = "hull"
	cmd.Env = append(os.Environ(), helperEnv+"="+workMonitor)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin = input
	cmd.ExtraFiles = []*os.File{lock, w}
	cmd.Stderr = w // should it fall over
	if client != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, client)
	}
	// What hull was given open by its caller, a lock of a shell script's say, is none of the monitor's business.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start monitor: %w", err)
	}
	w.Close()
	defer func() { go func() { _ = cmd.Wait() }() }()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	said := ""
	for lines.Scan() {
		var line report
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			said += lines.Text() + "\n"
			continue
		}
		switch {
		case line.Warning != "":
			c.host.warn("%s", line.Warning)
		case line.Started:
			if now, err := c.host.read(c.ID); err == nil { // else it has ended and removed itself
				c.State = *now
			}
			return nil
		default:
			_ = cmd.Wait() // it has cleaned up by then
			return &startError{line.Error, line.Code}
		}
	}
	if said == "" {
		said = "it ended without a word: was it killed, or out of memory?"
	}
	return errors.Join(ctx.Err(), fmt.Errorf("start monitor: %s", strings.TrimSpace(said)))
}

// number reads a descriptor's number or the like from a monitor's command line, which hull has written itself.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
