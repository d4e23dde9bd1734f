package run

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A container's directory is locked (flock(2)) alone by whoever runs, starts or removes it, and by several together while
// they look whether anybody does. The kernel lets go of a lock when the last process that has it open ends, however it ends.

// errLocked says that somebody runs or changes the container.
var errLocked = errors.New("in use by another process")

// flock is flock(2), which a signal does not end.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openLocked locks the container's directory, see lockAt.
func (c *Container) openLocked(how int) (*os.File, error) { return lockAt(c.dir(), how) }

// lockAt locks a directory. One that was removed while we waited is fs.ErrNotExist. With LOCK_NB in how it does not wait:
// then the error is errLocked if somebody else has it.
func lockAt(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = flock(f, how)
	if err == nil {
		err = stillAt(f, dir)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errLocked
	}
	return nil, err
}

// stillAt is an error if another file is at path by now, or none.
func stillAt(f *os.File, path string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err == nil && !os.SameFile(mine, there) {
		err = &fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}
	}
	return err
}

// takeLock locks the container's directory alone, without waiting.
func (c *Container) takeLock() (err error) {
	c.lock, err = c.openLocked(unix.LOCK_EX | unix.LOCK_NB)
	return err
}

// waitLock locks the directory of a container that is being made. Another hull may be having a glance at it.
func (c *Container) waitLock() (err error) {
	c.lock, err = c.openLocked(unix.LOCK_EX)
	return err
}

func (c *Container) unlock() {
	c.imageNoted()
	if c.userns != nil {
		c.userns.Close()
		c.userns = nil
	}
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

// glance looks whether anybody runs a container that is said to be alive. Several may do so at once, and none of them is
// taken for somebody who runs it.
func (c *Container) glance() {
	f, err := c.openLocked(unix.LOCK_SH | unix.LOCK_NB)
	if err != nil {
		return
	}
	defer f.Close()
	c.endOrphan()
}

// endOrphan reads the state of a container whose lock the caller has, so that no hull runs it. If it is said to be alive all
// the same its hull was killed. Most often the program has died with it, but one that has changed its user since may live on:
// first it is killed, then that is written down, so that whoever is killed here leaves it to be found again.
func (c *Container) endOrphan() {
	fresh, err := c.host.read(c.ID)
	if err != nil {
		return
	}
	if c.State = *fresh; !c.Status.Alive() {
		return
	}
	c.killOrphan()
	err = c.change(func(s *State) error {
		s.bury()
		return nil
	})
	if err != nil { // on a full disk say: then everybody finds it out anew
		c.bury()
	}
}

// bury notes the death of a container together with its hull.
func (s *State) bury() {
	if !s.Status.Alive() {
		return
	}
	if s.Status != Restarting { // else it had ended before
		s.ExitCode, s.Finished = 137, time.Now().UTC()
	}
	s.Status, s.Pid, s.Cgroups, s.LateGroup = Exited, 0, nil, false
	s.Error = "hull was killed while the container ran"
}

// killOrphan kills all that has outlived the container's hull.
func (c *Container) killOrphan() {
	defer func() { _ = c.leaveNetworks() }()
	if c.Boot != bootID() { // the number is another process's
		c.removeGroups()
		return
	}
	if fd, err := c.process(); err == nil {
		defer unix.Close(fd)
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		c.removeGroups() // one that is frozen dies when it is thawed
		waitFD(fd, deathTime)
	}
	c.removeGroups()
}

// bootID names this run of the kernel, random(4).
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// waitFD waits until a descriptor is ready to be read, a pidfd until its process has ended, and says whether it is.
func waitFD(fd int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int((left+time.Millisecond-1)/time.Millisecond))
		if n > 0 || !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// settle waits until nobody runs the container any more, or somebody has started it anew, and reads its state then. Gone is
// fs.ErrNotExist.
func (c *Container) settle() error {
	idle := &Container{host: c.host, State: State{ID: c.ID}}
	free := make(chan error, 1)
	go func() {
		f, err := idle.openLocked(unix.LOCK_SH)
		if err == nil {
			err = idle.reread()
			idle.endOrphan()
			f.Close()
		}
		free <- err
	}()
	for {
		select {
		case err := <-free:
			if err == nil {
				c.State = idle.State
			}
			return err
		case <-time.After(20 * time.Millisecond):
		}
		// Whoever waits for a lock can be overtaken: then this would be the wait for another run.
		fresh, err := c.host.read(c.ID)
		if err != nil {
			return err
		}
		if fresh.Status.Alive() && !fresh.Started.Equal(c.Started) && fresh.RestartCount <= c.RestartCount {
			c.State = *fresh
			return nil
		}
	}
}

// reread takes over the state as it is written.
func (c *Container) reread() error {
	fresh, err := c.host.read(c.ID)
	if err == nil {
		c.State = *fresh
	}
	return err
}
