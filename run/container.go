package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
)

// Create makes a container: a directory, a name, its files. The image is fetched if it is missing and may be. The
// container is locked until Run has returned, or Close.
func (h *Host) Create(ctx context.Context, config Config, f Fetch) (*Container, error) {
	f.Policy, f.Platform = config.Pull, config.Platform
	img, err := h.Image(ctx, config.Image, f)
	if err != nil {
		return nil, err
	}
	inUse, err := h.HoldImages(false)
	if err != nil {
		return nil, err
	}
	for _, dir := range h.Images.Dirs(img) {
		if _, err := os.Stat(dir); err != nil {
			inUse.Close()
			return nil, fmt.Errorf("image %q: removed this moment: %w", config.Image, err)
		}
	}
	c := &Container{host: h, image: img, inUse: inUse, State: State{
		ID: NewID(), Created: time.Now().UTC(), Config: config, ImageID: img.ID, Image: img.Name, Status: Created,
	}}
	if c.Args, err = commandLine(&config, &img.Config.Config); err != nil {
		c.unlock()
		return nil, err
	}
	if want, err := parsePlatform(f.Platform); err == nil && want != nil && !img.Platform.Satisfies(*want) {
		h.warn("the image is for %s, not %s as asked", img.Platform, want)
	}
	if img.Platform.Architecture != runtime.GOARCH || img.Platform.OS != "linux" {
		h.warn("the image is for %s, this machine is linux/%s", img.Platform, runtime.GOARCH)
	}
	if config.Replace && config.Name != "" {
		if old, err := h.Find(config.Name); err == nil {
			if err := old.Remove(true); err != nil {
				return nil, err
			}
		}
	}
	if err := c.make(); err != nil {
		c.discard()
		return nil, err
	}
	return c, nil
}

// HoldImages keeps images from being removed while a container is being made of one, or with alone set keeps containers
// from being made while an image is removed. It holds until the file is closed, and may wait.
func (h *Host) HoldImages(alone bool) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(h.Root, "images.lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock images: %w", err)
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock images: %w", err)
	}
	return f, nil
}

// make is what of Create is to be undone if it goes wrong.
func (c *Container) make() error {
	err := os.Mkdir(c.dir(), 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(c.host.containers(), 0o711); err == nil {
			err = os.Mkdir(c.dir(), 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if err := c.waitLock(); err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if err := c.takeName(c.Config.Name); err != nil {
		return err
	}
	// 0755: it becomes the container's root directory, which every user of the container must enter.
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(c.path(dir), 0o755); err != nil {
			return fmt.Errorf("create container: %w", err)
		}
	}
	if err := c.inheritRoot(); err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if file := c.Config.Lifetime.CIDFile; file != "" {
		if err := writeNew(file, c.ID); err != nil {
			return fmt.Errorf("cidfile: %w", err)
		}
	}
	return nil
}

// inheritRoot gives the upper directory the mode of the image's root directory, for it becomes the container's.
func (c *Container) inheritRoot() error {
	dirs := c.host.Images.Dirs(c.image)
	if len(dirs) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(dirs[0], &st); err != nil {
		return err
	}
	if err := unix.Chmod(c.path("upper"), st.Mode&0o7777); err != nil { // mkdir's was cut by the caller's umask
		return err
	}
	if os.Geteuid() == 0 && (st.Uid != 0 || st.Gid != 0) {
		return os.Chown(c.path("upper"), int(st.Uid), int(st.Gid))
	}
	return nil
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Close gives the container back without having run it.
func (c *Container) Close() { c.unlock() }

// discard removes the container and all it wrote. What cannot be removed at once is out of sight at least, below tmp,
// where the next clean-up finds it.
func (c *Container) discard() error {
	if c.Name != "" {
		if id, err := os.Readlink(c.host.nameLink(c.Name)); err == nil && id == c.ID {
			os.Remove(c.host.nameLink(c.Name))
		}
	}
	for _, v := range c.Volumes {
		if err := c.host.removeTree(filepath.Join(c.host.Root, "volumes", v)); err != nil {
			c.host.warn("remove volume %s: %v", v, err)
		}
	}
	if c.quickRemove() {
		c.unlock()
		return nil
	}
	trash := filepath.Join(c.host.Root, "tmp", "container-"+c.ID)
	err := os.Rename(c.dir(), trash)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Lstat(c.dir()); e != nil {
			c.unlock()
			return nil
		}
		if err = os.MkdirAll(filepath.Dir(trash), 0o700); err == nil {
			err = os.Rename(c.dir(), trash)
		}
	}
	c.unlock()
	if err != nil {
		return fmt.Errorf("remove container %s: %w", ShortID(c.ID), err)
	}
	if err := c.host.removeTree(trash); err != nil {
		return fmt.Errorf("remove container %s: %w", ShortID(c.ID), err)
	}
	return nil
}

// quickRemove removes a container that has written nothing: a handful of known names, no walk. It says whether
// all is gone.
func (c *Container) quickRemove() bool {
	dir := c.dir()
	if err := unix.Rmdir(dir + "/upper"); err != nil && err != unix.ENOENT {
		return false
	}
	// What overlay leaves in its work directory: an empty one, or with the mark of a volatile mount in it.
	const mark = "/work/work/incompat/volatile"
	if err := unix.Rmdir(dir + "/work/work"); err == unix.ENOTEMPTY {
		unix.Unlink(dir + mark + "/dirty")
		unix.Rmdir(dir + mark)
		unix.Rmdir(dir + "/work/work/incompat")
		unix.Rmdir(dir + "/work/work")
	}
	unix.Rmdir(dir + "/work")
	unix.Unlink(dir + "/container.json")
	return unix.Rmdir(dir) == nil
}

func (h *Host) removeTree(dir string) error {
	if h.Images.Remover != nil {
		return h.Images.Remover(dir)
	}
	return layers.RemoveTree(dir)
}

// Remove removes a container that is not running, or ends it first if force is set.
func (c *Container) Remove(force bool) error {
	begin := time.Now()
	for deadline := begin.Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := c.takeLock()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err == nil {
			break
		}
		if !force && time.Since(begin) > 100*time.Millisecond { // a glance of another hull's is shorter
			return fmt.Errorf("cannot remove container %q: container is running: stop the container before removing or force remove", c.Name)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot remove container %q: %w, even after SIGKILL", c.Name, err)
		}
		if force {
			c.kill()
		}
	}
	c.endOrphan()
	c.removeGroups()
	return c.discard()
}

// kill ends the program with SIGKILL. The hull that runs it notices, cleans up and lets go of the lock.
func (c *Container) kill() {
	fresh, err := c.host.load(c.ID)
	if err != nil || fresh.Pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(fresh.Pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// The pid was the container's before the descriptor was opened; that it still is shows in the state, which is
	// changed before the process is forgotten.
	if again, err := c.host.load(c.ID); err == nil && again.Pid == fresh.Pid {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// endOrphan kills a program that has outlived its hull, which can happen in its first moments if it changes its user. The
// caller holds the lock, so no hull is there.
func (c *Container) endOrphan() {
	pid := c.orphan
	if pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if startTime(pid) != c.PidStart { // somebody else has the number by now
		return
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
}

// removeGroups removes cgroups that a killed hull has left behind. It may have been killed before it wrote down which.
func (c *Container) removeGroups() {
	paths := c.Cgroups
	if len(paths) == 0 && !c.host.rootless {
		paths = cgroups.Left(c.ID)
	}
	if len(paths) == 0 {
		return
	}
	if g, err := cgroups.Open(paths); err == nil {
		_ = g.Kill()
		_ = g.Remove()
		_ = g.Close()
	}
}

// Sweep removes what hulls that were killed have left: containers that were to remove themselves, directories that
// never became one, cgroups, and trees that were on their way out. It is quick if there is nothing, and takes nothing
// that is in use.
func (h *Host) Sweep() {
	entries, _ := os.ReadDir(h.containers())
	for _, e := range entries {
		c, err := h.load(e.Name())
		if err != nil {
			c = &Container{host: h, State: State{ID: e.Name(), Config: Config{Lifetime: LifetimeConfig{Remove: true}}}}
			// Made a moment ago and not yet locked? A lock of ours would be in its maker's way: give it a second.
			if st, e := os.Stat(c.dir()); e == nil && time.Since(st.ModTime()) < time.Second {
				continue
			}
		}
		if c.takeLock() != nil {
			continue
		}
		c.endOrphan()
		if c.Config.Lifetime.Remove && c.Status != Created || err != nil {
			c.removeGroups()
			_ = c.discard()
			continue
		}
		c.removeGroups()
		c.unlock()
	}
	trash, _ := filepath.Glob(filepath.Join(h.Root, "tmp", "container-*"))
	for _, dir := range trash {
		_ = h.removeTree(dir)
	}
}
