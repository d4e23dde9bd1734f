package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// Status is where a container is in its life, in Docker's words.
type Status string

// The states of a container.
const (
	Created Status = "created"
	Running Status = "running"
	Exited  Status = "exited"
)

// State is what is kept of a container, in container.json in its directory. The file is replaced as a whole. Whoever
// runs or changes a container holds a lock (flock(2)) on its directory: Running is true only while somebody does.
type State struct {
	ID      string
	Name    string
	Created time.Time
	Config  Config
	// ImageID is the digest of the image's configuration; Image its full name.
	ImageID, Image string
	// Args is the whole command line.
	Args   []string
	Status Status
	// Pid is the program's process on the host while it runs, PidStart when it began in ticks since the boot (field 22 of
	// /proc/PID/stat), which tells it from a later process of the same number.
	PidStart          uint64
	Pid               int
	ExitCode          int
	OOMKilled         bool
	Error             string
	Started, Finished time.Time
	Cgroups           []string
	UserNS            bool
	// Volumes are the container's anonymous ones, which go with it.
	Volumes []string
}

// Container is one container of a host.
type Container struct {
	State
	host  *Host
	lock  *os.File      // its directory, locked, or nil
	image *layers.Image // known after Create
	// inUse keeps the image from being removed until the state, written down, shows that it is in use.
	inUse *os.File
	// orphan is the pid of a program whose hull is gone, if it had one when the state was written.
	orphan int
}

// ErrNotFound is what a container's or image's unknown name ends in.
var ErrNotFound = errors.New("not found")

// errLocked says that somebody runs or changes the container.
var errLocked = errors.New("in use by another process")

func (c *Container) dir() string             { return filepath.Join(c.host.containers(), c.ID) }
func (c *Container) path(name string) string { return filepath.Join(c.dir(), name) }

// save replaces container.json. It is not forced to the disk: after a power cut no container runs anyway. The first
// time there is nothing to replace: whoever finds half a file finds it locked, or left by a hull that was killed.
func (c *Container) save(first bool) error {
	data, err := json.Marshal(&c.State)
	if err != nil {
		return err
	}
	if first {
		return os.WriteFile(c.path("container.json"), data, 0o600)
	}
	tmp := c.path(".container.json")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.path("container.json"))
}

// takeLock locks the container's directory without waiting.
func (c *Container) takeLock() error {
	f, err := os.Open(c.dir())
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return errLocked
	}
	c.lock = f
	return nil
}

// waitLock locks the directory of a container that is being made. Another hull may be having a glance at it.
func (c *Container) waitLock() error {
	f, err := os.Open(c.dir())
	if err != nil {
		return err
	}
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			if err != nil {
				f.Close()
				return err
			}
			c.lock = f
			return nil
		}
	}
}

// startTime is when a process began, in ticks since the boot; 0 if there is no such process.
func startTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field is the program's name in parentheses, and may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[19], 10, 64)
	return n
}

func (c *Container) unlock() {
	c.imageNoted()
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

// load reads a container by its full ID, and sees whether it still runs.
func (h *Host) load(id string) (*Container, error) {
	c := &Container{host: h, State: State{ID: id}}
	data, err := os.ReadFile(c.path("container.json"))
	if err == nil {
		err = json.Unmarshal(data, &c.State)
	}
	if err != nil {
		return nil, err
	}
	if c.Status == Running && c.takeLock() == nil {
		// Nobody holds the lock: hull was killed, and the container with it.
		c.orphan = c.Pid
		c.endOrphan()
		c.Status, c.Pid, c.ExitCode = Exited, 0, 137
		c.Error = "hull was killed while the container ran"
		c.unlock()
	}
	return c, nil
}

// List gives all containers, newest first. What killed hulls have left is cleared away on the occasion.
func (h *Host) List() ([]*Container, error) {
	h.Sweep()
	entries, err := os.ReadDir(h.containers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Container
	for _, e := range entries {
		if c, err := h.load(e.Name()); err == nil { // else half-made, or gone meanwhile
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// Find gives the container that ref names: its full name or ID, or the beginning of exactly one ID.
func (h *Host) Find(ref string) (*Container, error) {
	//lint:ignore ST1005 Docker's words, which scripts look for
	missing := fmt.Errorf("No such container: %s%w", ref, errHidden{ErrNotFound})
	ref = strings.TrimPrefix(ref, "/")
	if ref == "" || strings.ContainsRune(ref, '/') {
		return nil, missing
	}
	if id, err := os.Readlink(h.nameLink(ref)); err == nil {
		if c, err := h.load(filepath.Base(id)); err == nil {
			return c, nil
		}
	}
	entries, err := os.ReadDir(h.containers())
	if err != nil {
		return nil, missing
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ref) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return nil, missing
	case 1:
		if c, err := h.load(found[0]); err == nil {
			return c, nil
		}
		return nil, missing
	}
	return nil, fmt.Errorf("container %q: %d containers have an ID that begins so: give more of it", ref, len(found))
}

// errHidden carries an error for errors.Is without a word of its own.
type errHidden struct{ error }

func (errHidden) Error() string   { return "" }
func (e errHidden) Unwrap() error { return e.error }

// halfMade clears away a container whose maker was killed before it could write down what it is.
func (h *Host) halfMade(id string) bool {
	c := &Container{host: h, State: State{ID: id}}
	if _, err := h.load(id); err == nil || c.takeLock() != nil {
		return false
	}
	c.removeGroups()
	return c.discard() == nil
}

// nameLink is the symbolic link that stands for a name. Making it is what makes names unique.
func (h *Host) nameLink(name string) string { return filepath.Join(h.Root, "names", name) }

// takeName gives the container its name, or a random one. A link whose container is gone is taken over.
func (c *Container) takeName(name string) error {
	for random := name == ""; ; {
		if random {
			name = RandomName(func(string) bool { return false })
		}
		link := c.host.nameLink(name)
		err := os.Symlink(c.ID, link)
		switch {
		case err == nil:
			c.Name = name
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
				return err
			}
			continue
		case !errors.Is(err, fs.ErrExist):
			return err
		}
		id, err := os.Readlink(link)
		if err != nil {
			continue // removed this very moment
		}
		if _, err := os.Stat(filepath.Join(c.host.containers(), id)); errors.Is(err, fs.ErrNotExist) {
			os.Remove(link)
			continue
		}
		if c.host.halfMade(id) {
			continue
		}
		if !random {
			return fmt.Errorf("container name %q is already in use by container %q: remove or rename that container to reuse the name", name, ShortID(id))
		}
	}
}

// imageNoted lets go of the images: who looks sees what this container uses, or that there is none.
func (c *Container) imageNoted() {
	if c.inUse != nil {
		c.inUse.Close()
		c.inUse = nil
	}
}
