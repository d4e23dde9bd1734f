package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/ns"
)

// keep finds out whether the container is alive, and if not keeps it from being started or removed until unlock is called.
// It waits for whoever does either, or keeps it likewise.
func (c *Container) keep(ctx context.Context) (alive bool, err error) {
	for ctx.Err() == nil {
		if err := c.look(); err != nil || c.Status.Alive() {
			return err == nil, err
		}
		if err := c.takeLock(); err == nil {
			// It may have been started, have ended and be gone since we looked.
			if err := c.look(); err != nil {
				c.unlock()
				return false, err
			}
			if !c.Status.Alive() {
				return false, nil
			}
			c.unlock()
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false, context.Cause(ctx)
}

// look reads the state again, and says in Docker's words if there is none any more.
func (c *Container) look() error {
	err := c.refresh()
	if errors.Is(err, fs.ErrNotExist) {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return fmt.Errorf("No such container: %s%w", c.Name, errHidden{ErrNotFound})
	}
	return err
}

// view opens the root directory of the container as its programs see it, with volumes and binds, whether it runs or not.
// done gives it back. Links in there are somebody else's: whoever opens a path below it must not follow them out.
func (c *Container) view(ctx context.Context) (root *os.File, done func(), err error) {
	fail := func(err error) (*os.File, func(), error) {
		return nil, nil, fmt.Errorf("open the file system of container %s: %w", c.Name, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		alive, err := c.keep(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !alive {
			root, done, err := c.mounted()
			if err != nil {
				c.unlock()
				return fail(err)
			}
			return root, func() { done(); c.unlock() }, nil
		}
		root, err := c.processRoot()
		if err == nil {
			return root, func() { root.Close() }, nil
		}
		if time.Now().After(deadline) { // a start and an end take moments, but a restart may wait longer
			return fail(err)
		}
	}
}

// errNotYet says that a process is not in its container yet.
var errNotYet = errors.New("the program has no root of its own yet")

// processRoot opens the root directory of the container's process.
func (c *Container) processRoot() (*os.File, error) {
	process, err := c.process()
	if err != nil {
		return nil, err
	}
	defer unix.Close(process)
	dir := "/proc/" + strconv.Itoa(c.Pid)
	// In its first moments it still has the host's root, and then the host's stacked on its own.
	info, err := os.ReadFile(dir + "/mountinfo")
	if err != nil {
		return nil, err
	}
	if !hasRoot(string(info), c.ID) {
		return nil, errNotYet
	}
	root, err := os.OpenFile(dir+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	// It has not ended, so what its number stood for was its own all the while.
	if unix.PidfdSendSignal(process, 0, nil, 0) != nil {
		root.Close()
		return nil, c.errNotRunning()
	}
	return root, nil
}

// hasRoot says whether what is mounted on / in a process's view (proc_pid_mountinfo(5)) is the overlay of a container.
func hasRoot(info, id string) bool {
	root := ""
	for line := range strings.Lines(info) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			root = line
		}
	}
	return strings.Contains(root, " - overlay ") && strings.Contains(root, "/"+id+"/upper")
}

// mounted mounts the file system of a container that does not run, in a mount namespace where nobody else sees it. A child
// that waits for the end holds the namespace; the calling goroutine stays on its thread until done is called.
func (c *Container) mounted() (root *os.File, done func(), err error) {
	spec, err := c.filesSpec()
	if err != nil {
		return nil, nil, err
	}
	cmd := &ns.Cmd{Spec: spec}
	p, err := cmd.Create()
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
	}
	root, err = os.OpenFile("/proc/"+strconv.Itoa(p.Pid)+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		end()
		return nil, nil, err
	}
	return root, func() { root.Close(); end() }, nil
}

// filesSpec describes a program that never begins, in a world that is nothing but the container's files.
func (c *Container) filesSpec() (*specs.Spec, error) {
	h := c.host
	img, id, err := c.imageAndIDs()
	if err != nil {
		return nil, err
	}
	s := &start{Container: c, world: World{Identity: id}, looking: true}
	root, err := h.Images.Mount(c.path("upper"), c.path("work"), img, layers.MountOptions{UserXattr: id.UserNS})
	if err == nil {
		err = h.layIn(&root)
	}
	if err != nil {
		return nil, err
	}
	root.Options = append([]string{"nodev"}, root.Options...)
	spec := &specs.Spec{
		Root:    &specs.Root{Path: c.dir(), Readonly: c.Config.Files.ReadOnly},
		Process: &specs.Process{Args: []string{"/"}, Cwd: "/"},
		Mounts:  []specs.Mount{root},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	if id.UserNS && !id.Mapped { // else what lies on the disk has the container's ids
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = id.UIDs, id.GIDs
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	var asked []specs.Mount
	for _, m := range ownWorkdir(&c.Config, &img.Config.Config, c.Mounts) {
		if m.Type == MountTmpfs {
			continue // it is gone with the container's end
		}
		mount, err := s.findMount(m)
		if err != nil {
			return nil, err
		}
		asked = append(asked, mount)
	}
	spec.Mounts = append(spec.Mounts, byDepth(asked)...)
	return spec, nil
}

// imageAndIDs gives the image that the container was made from and the ids that its programs have.
func (c *Container) imageAndIDs() (*layers.Image, Identity, error) {
	if c.image == nil {
		img, err := c.host.Images.Lookup(c.ImageID)
		if err != nil {
			return nil, Identity{}, fmt.Errorf("the image of container %s: %w", c.Name, err)
		}
		c.image = img
	}
	id, err := c.identity()
	return c.image, id, err
}

// stack is what the container's root file system is made of.
func (c *Container) stack() (layers.Stack, error) {
	img, id, err := c.imageAndIDs()
	if err != nil {
		return layers.Stack{}, err
	}
	s := c.host.Images.Stack(c.path("upper"), img)
	s.OneID = id.OneID
	dir := filepath.Join(c.host.Root, skeleton)
	if _, err := os.Stat(dir); err == nil {
		s.Dirs, s.Owners = append(s.Dirs, dir), append(s.Owners, "")
	}
	return s, nil
}
