package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
)

// Create makes a container: a directory, a name, its files. The image is fetched if it is missing and may be. The
// container is locked until Run has returned, or Close.
func (h *Host) Create(ctx context.Context, config Config, f Fetch) (*Container, error) {
	if err := h.checkNetworks(&config.Network); err != nil {
		return nil, err
	}
	if config.Host.Proxies {
		env, err := h.proxies()
		if err != nil {
			h.warn("%v", err)
		}
		config.Host.Env = append(env, config.Host.Env...)
	}
	f.Policy, f.Platform = config.Pull, config.Platform
	img, err := h.Image(ctx, config.Image, f)
	if err != nil {
		return nil, err
	}
	inUse, err := h.HoldImages(false)
	if err != nil {
		return nil, err
	}
	// Only now can nobody remove it. Its layers may all be there still, for another image.
	err = h.Images.Still(img)
	for _, dir := range h.Images.Dirs(img) {
		if err == nil {
			_, err = os.Stat(dir) // else it is found out only when it is mounted
		}
	}
	if err != nil {
		inUse.Close()
		return nil, fmt.Errorf("image %q: removed this moment: %w", config.Image, err)
	}
	c := &Container{host: h, image: img, inUse: inUse, State: State{
		ID: NewID(), Created: time.Now().UTC(), Config: config, ImageID: img.ID, Image: img.Name, Status: Created,
		Labels: mergeLabels(img.Config.Config.Labels, config.Labels),
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
			if err := old.Remove(RemoveOptions{Force: true}); err != nil {
				c.unlock()
				return nil, err
			}
		}
	}
	if err := c.make(ctx); err != nil {
		c.discard()
		return nil, err
	}
	c.made = true
	c.note("create")
	return c, nil
}

// HoldImages keeps images from being removed, and networks from being pruned, while a container is being made that needs them,
// until its state is written down; or with alone set keeps containers from being made meanwhile. Who removes what has no users
// asks who they are only after this: else one that is written down in between loses it. It holds until the file is closed, and
// may wait.
func (h *Host) HoldImages(alone bool) (*os.File, error) { return h.hold("images.lock", alone) }

// hold locks a file below the root directory, together with others or alone.
func (h *Host) hold(name string, alone bool) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(h.Root, name), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// make is what of Create is to be undone if it goes wrong.
func (c *Container) make(ctx context.Context) error {
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
	if err := c.ownIDs(); err != nil {
		return err
	}
	if err := c.makeVolumes(ctx); err != nil {
		return err
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

// Keep writes a container down that has just been created, to be started another time, and closes it.
func (c *Container) Keep() error {
	defer c.unlock()
	err := c.host.checkNetworks(&c.Config.Network) // from now on they are not pruned
	if err == nil {
		err = c.save()
	}
	if err != nil {
		return errors.Join(err, c.discard()) // nobody would know what it is
	}
	return nil
}

// discard removes the container, its anonymous volumes and all it wrote. At first it moves the directory out of sight: from
// then on it is no container any more, and what is left to do the next clean-up does if this process is killed.
func (c *Container) discard() error {
	if id, _ := os.Readlink(c.host.nameLink(c.Name)); id != c.ID {
		if s, err := c.host.read(c.ID); err == nil {
			c.Name = s.Name // somebody has renamed it
		}
	}
	c.dropIDs()
	trash := c.throwAway()
	c.imageNoted() // else we would wait for ourselves
	names := c.Volumes
	if !c.saved && names == nil {
		names = c.host.volumesMadeFor(c.ID) // its maker was killed
	}
	c.host.removeVolumes(c.ID, names)
	gone := quickRemove(trash, c.ID)
	if c.Name != "" {
		_ = c.host.dropName(c.Name) // a name that leads nowhere is in nobody's way
	}
	c.unlock()
	if c.made {
		c.made = false
		c.note("destroy")
	}
	if gone {
		return nil
	}
	if err := c.host.removeTree(trash); err != nil {
		return fmt.Errorf("remove container %s: %w", ShortID(c.ID), err)
	}
	if c.Name != "" && trash == c.dir() {
		_ = c.host.dropName(c.Name)
	}
	return nil
}

// trashName begins the names below tmp of containers that are being removed, and withVolumes ends that of one whose
// anonymous volumes go too.
const (
	trashName   = "container-"
	withVolumes = ".v"
)

// goneAlready waits until somebody else has removed the container, or does so in his place if he was killed. A large tree it
// does not wait for.
func (c *Container) goneAlready() {
	for _, end := range []string{"", withVolumes} {
		trash := c.trash() + end
		if lock, err := lockAt(trash, unix.LOCK_SH); err == nil {
			lock.Close()
			_ = c.host.removeTrash(trash)
		}
	}
	if c.Name != "" {
		_ = c.host.dropName(c.Name)
	}
}

// trash is where the container's directory goes when it is removed.
func (c *Container) trash() string { return filepath.Join(c.host.Root, "tmp", trashName+c.ID) }

// throwAway moves the container's directory to where it is no container any more, and says where. On a full disk it may have
// to be removed where it is.
func (c *Container) throwAway() string {
	trash := c.trash()
	if len(c.Volumes) > 0 || !c.saved {
		trash += withVolumes
	}
	err := os.Rename(c.dir(), trash)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(filepath.Dir(trash), 0o700) == nil {
		err = os.Rename(c.dir(), trash)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.dir()
	}
	return trash
}

// quickRemove removes the directory of a container that has written nothing: a handful of known names, no walk. It says
// whether all is gone.
func quickRemove(dir, id string) bool {
	if err := unix.Rmdir(dir + "/upper"); err != nil && err != unix.ENOENT {
		return false
	}
	clearWork(dir)
	unix.Rmdir(dir + "/work")
	unix.Unlink(dir + "/" + stateFile)
	if unix.Rmdir(dir) == nil {
		return true
	}
	// Detached it has more.
	for _, name := range []string{id + logSuffix, healthFile, attachName} {
		unix.Unlink(dir + "/" + name)
	}
	return unix.Rmdir(dir) == nil
}

// clearWork removes what overlay has left in the work directory of a container: an empty directory, or with the mark of a
// volatile mount in it, which keeps it from being mounted again.
func clearWork(dir string) {
	const mark = "/work/work/incompat/volatile"
	if err := unix.Rmdir(dir + "/work/work"); err == unix.ENOTEMPTY {
		for _, closed := range []string{"/work/work", "/work/work/incompat", mark} {
			unix.Chmod(dir+closed, 0o700) // overlay makes them without any rights, which stops an ordinary user
		}
		unix.Unlink(dir + mark + "/dirty")
		unix.Rmdir(dir + mark)
		unix.Rmdir(dir + "/work/work/incompat")
		unix.Rmdir(dir + "/work/work")
	}
}

func (h *Host) removeTree(dir string) error {
	if h.Images.Remover != nil {
		return h.Images.Remover(dir)
	}
	return layers.RemoveTree(dir)
}

// RemoveOptions says how a container is removed.
type RemoveOptions struct {
	Force   bool // end it first if it runs
	Volumes bool // with its anonymous volumes, but for those that another container uses
}

// Remove removes a container that is not running, or ends it first.
func (c *Container) Remove(opt RemoveOptions) error {
	if err := c.lockToRemove(opt.Force); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			c.goneAlready()
		}
		return orGone(err)
	}
	c.endOrphan()
	c.removeGroups()
	if !opt.Volumes {
		c.Volumes = nil // they are nobody's from now on
	}
	return c.discard()
}

// lockToRemove takes the lock of a container that nobody runs, or ends whatever runs in it.
func (c *Container) lockToRemove(force bool) error {
	begin := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := c.takeLock()
		if !errors.Is(err, errLocked) {
			return err
		}
		switch passed := time.Since(begin); {
		case passed > deathTime:
			return fmt.Errorf("cannot remove container %q: %w, even after SIGKILL", c.Name, err)
		case force:
			c.end()
		case passed > glanceTime && c.isRun(): // what is about to end or to be removed is waited for
			return c.errAlive()
		}
		time.Sleep(wait)
	}
}

// isRun says whether somebody runs the container, rather than looks at it.
func (c *Container) isRun() bool {
	s, err := c.host.read(c.ID)
	if err != nil || !s.Status.Alive() {
		return false
	}
	f, err := c.openLocked(unix.LOCK_SH | unix.LOCK_NB)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, errLocked)
}

// errAlive says why a container cannot be removed, in Docker's words.
func (c *Container) errAlive() error {
	what := "container is running: stop the container before removing or force remove"
	if s, err := c.host.read(c.ID); err == nil {
		switch s.Status {
		case Paused:
			what = "container is paused and must be unpaused first"
		case Restarting:
			what = "container is restarting: stop the container before removing or force remove"
		}
	}
	return fmt.Errorf("cannot remove container %q: %s", c.Name, what)
}

// end kills the program, and keeps it from being started again. The hull that runs it notices, cleans up and lets go of
// the lock.
func (c *Container) end() {
	if c.Stopped {
		_ = c.reread() // it may have been started since, or paused
	}
	if !c.Stopped && errors.Is(c.markStopped(), fs.ErrNotExist) {
		return // gone, or not yet written down
	}
	if fd, err := c.process(); err == nil {
		_ = c.deliver(fd, unix.SIGKILL)
		unix.Close(fd)
	}
}

// removeGroups removes cgroups that a killed hull has left behind. It may have been killed before it wrote down which.
func (c *Container) removeGroups() {
	paths := c.Cgroups
	if len(paths) == 0 {
		paths = cgroups.Left(c.ID, c.host.rootless)
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
	ids, _ := entries(h.containers())
	if len(ids) > 0 {
		groups := h.groups()
		for _, id := range ids {
			_ = h.sweepContainer(id, groups[id])
		}
	}
	h.sweepNames(len(ids))
	trash, _ := filepath.Glob(filepath.Join(h.Root, "tmp", trashName+"*"))
	for _, dir := range trash {
		_ = h.removeTrash(dir)
	}
	h.sweepVolumes()
}

// sweepContainer removes what a killed hull has left of one container: all of it, if it was to remove itself or never became
// one. Nothing happens to a container that is in use, nor to one whose state is lost but that has written files. group says
// that there is a cgroup of its name.
func (h *Host) sweepContainer(id string, group bool) error {
	c, lost := h.load(id)
	if lost != nil {
		c = &Container{host: h, State: State{ID: id}}
		// Made a moment ago and not yet locked? A lock of ours would be in its maker's way: give it a second.
		if st, err := os.Stat(c.dir()); err != nil || time.Since(st.ModTime()) < time.Second {
			return nil
		}
	}
	if c.takeLock() != nil {
		return nil
	}
	if lost != nil && !c.isRubbish() {
		c.unlock()
		return nil
	}
	c.endOrphan()
	if group || len(c.Cgroups) > 0 {
		c.removeGroups()
	}
	if lost != nil || c.Config.Lifetime.Remove && c.Status != Created {
		return c.discard()
	}
	c.unlock()
	return nil
}

// groups are the names of the cgroups that there are.
func (h *Host) groups() map[string]bool {
	names := map[string]bool{}
	for _, g := range cgroups.All(h.rootless) {
		names[g.Name] = true
	}
	return names
}

// isRubbish tells of a container whose lock we have and whose state could not be read a moment ago that it is nothing to keep:
// its maker was killed. A machine that lost its power may have lost a state too; then there are files that nobody else has.
func (c *Container) isRubbish() bool {
	if _, err := c.host.read(c.ID); err == nil {
		return false
	}
	return !c.written()
}

// written tells whether the container has files of its own, besides those that hull makes before it writes the state down for
// the first time: without a state it has never got beyond that.
func (c *Container) written() bool {
	if _, err := os.Lstat(c.path(stateFile)); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	names, err := entries(c.path("upper"))
	return err != nil || len(names) > 0
}

// removeTrash removes a tree below tmp, locked meanwhile, unless somebody else does. If it was a container, its anonymous
// volumes may have to go first.
func (h *Host) removeTrash(dir string) error {
	lock, err := lockDir(dir, unix.LOCK_EX)
	if err != nil {
		return nil
	}
	defer lock.Close()
	id, isContainer := strings.CutPrefix(filepath.Base(dir), trashName)
	if id, ok := strings.CutSuffix(id, withVolumes); ok && isContainer {
		var s State
		names := h.volumesMadeFor(id)
		if data, err := os.ReadFile(filepath.Join(dir, stateFile)); err == nil && json.Unmarshal(data, &s) == nil {
			names = append(names, s.Volumes...)
		}
		h.removeVolumes(id, names)
	}
	return h.removeTree(dir)
}
