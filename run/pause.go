package run

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

// Pause stops all processes of the container where they are.
func (c *Container) Pause() error {
	switch {
	case c.Status == Paused:
		return fmt.Errorf("container %s is already paused", c.ID)
	case c.Status == Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running", c.ID)
	case c.Status != Running:
		return c.errNotRunning()
	}
	lock, err := c.holdGroup()
	if err != nil {
		return fmt.Errorf("pause container %s: %w", c.Name, err)
	}
	defer lock.Close()
	// First written down: whoever finds it, and would end it, has it go on before.
	err = c.change(func(s *State) error {
		if s.Status != Running {
			return c.errNotRunning()
		}
		s.Status = Paused
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.freeze(); err != nil {
		_ = c.thaw()
		return errors.Join(fmt.Errorf("pause container %s: %w", c.Name, err), c.unpaused())
	}
	c.note("pause")
	return nil
}

// unpaused writes down that the container runs again, unless it has ended.
func (c *Container) unpaused() error {
	return c.change(func(s *State) error {
		if s.Status == Paused {
			s.Status = Running
		}
		return nil
	})
}

// Unpause lets them go on.
func (c *Container) Unpause() error {
	if c.Status != Paused {
		return fmt.Errorf("container %s is not paused", c.ID)
	}
	if err := c.letGo(); err != nil {
		return fmt.Errorf("unpause container %s: %w", c.Name, err)
	}
	c.note("unpause")
	return nil
}

// letGo lets a container go on if it is paused.
func (c *Container) letGo() error {
	lock, err := c.holdGroup()
	if err != nil {
		return orGone(err)
	}
	defer lock.Close()
	if err := c.reread(); err != nil || c.Status != Paused {
		return orGone(err)
	}
	if err := orGone(c.thaw()); err != nil {
		return err
	}
	return orGone(c.unpaused())
}

// holdGroup keeps others from freezing and thawing the container, giving it a group and changing its limits, until the file
// is closed. Else one could thaw it before, and write that down after, another freezes it.
func (c *Container) holdGroup() (*os.File, error) { return lockAt(c.path("work"), unix.LOCK_EX) }

// freeze uses the cgroup's freezer. A container without a group, on version 1, gets one now; where none can be made its
// processes are stopped by SIGSTOP.
func (c *Container) freeze() error {
	g, err := c.needGroup()
	if err != nil {
		return err
	}
	if g == nil {
		return c.stopAll()
	}
	defer g.Close()
	return g.Freeze()
}

func (c *Container) thaw() error {
	if len(c.Cgroups) > 0 {
		g, err := cgroups.Open(c.Cgroups)
		if err != nil {
			return err
		}
		defer g.Close()
		return g.Thaw()
	}
	return c.signalAll(unix.SIGCONT)
}

// needGroup opens the container's group, or makes one and moves its processes there. It is nil where there can be none.
func (c *Container) needGroup() (cgroups.Group, error) {
	if len(c.Cgroups) > 0 {
		return cgroups.Open(c.Cgroups)
	}
	// Whoever is killed in the midst of this may have made it. It is written down when all processes are in it.
	if err := c.change(func(s *State) error {
		s.LateGroup = true
		return nil
	}); err != nil {
		return nil, err
	}
	g, _, err := cgroups.New(c.ID, nil, cgroups.Options{Parent: c.Config.Limits.CgroupParent, Rootless: c.host.rootless, Always: true})
	if g == nil || err != nil {
		return nil, err
	}
	err = c.moveInto(g)
	if err == nil {
		err = c.change(func(s *State) error {
			s.Cgroups = g.Paths()
			return nil
		})
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// moveInto moves the container's processes into a group, in rounds, because they may be making others.
func (c *Container) moveInto(g cgroups.Group) error {
	groupless := *c
	groupless.Cgroups = nil // so that they are found by their namespace
	moved := map[int]bool{}
	for more := true; more; {
		more = false
		pids, err := groupless.processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if moved[pid] {
				continue
			}
			if err := g.Add(pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			moved[pid], more = true, true
		}
	}
	return nil
}

// stopAll sends SIGSTOP until no process is left that runs. Where many others do, theirs may be late to notice. One that
// waits uninterruptibly (D), for a stopped child of its vfork(2) say, stops before it gets back to its program.
func (c *Container) stopAll() error {
	for begin := time.Now(); time.Since(begin) < deathTime; {
		if err := c.signalAll(unix.SIGSTOP); err != nil {
			return err
		}
		pids, err := c.processes()
		if err != nil {
			return err
		}
		still := true
		for _, pid := range pids {
			st, err := readStat(pid)
			still = still && (err != nil || strings.ContainsRune("TtZXD", rune(st.state)))
		}
		if still {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("its processes do not stand still")
}

// signalAll sends a signal to all processes that are the container's both before and after they were opened: the number of
// one that has just ended may be anybody's by now.
func (c *Container) signalAll(sig syscall.Signal) error {
	before, err := c.processes()
	if err != nil {
		return err
	}
	open := map[int]int{}
	defer func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}()
	for _, pid := range before {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			open[pid] = fd
		} else if err != unix.ESRCH {
			return fmt.Errorf("signal process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
		}
	}
	after, err := c.processes()
	if err != nil {
		return err
	}
	for _, pid := range after {
		fd, ok := open[pid]
		if !ok {
			continue // made meanwhile: it is in the next round
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal process %d: %w", pid, os.NewSyscallError("pidfd_send_signal", err))
		}
	}
	return nil
}
