package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/jsononce"
	"github.com/hullrun/hull/layers"
)

// Status is where a container is in its life, in Docker's words.
type Status string

// The states of a container.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead"
)

// Alive says whether the container has a process, or is about to have one again.
func (s Status) Alive() bool { return s == Running || s == Paused || s == Restarting }

// State is what is kept of a container, in container.json in its directory. The file is replaced as a whole, by
// [Container.change]. Whoever runs or removes a container holds a lock (flock(2)) on its directory all the while: it is
// alive only as long as somebody does.
type State struct {
	ID      string
	Name    string
	Created time.Time
	Config  Config
	// Labels are the user's over the image's.
	Labels map[string]string `json:",omitempty"`
	// ImageID is the digest of the image's configuration; Image its full name.
	ImageID, Image string
	// Args is the whole command line.
	Args   []string
	Status Status
	// Pid is the program's process on the host while it runs, PidStart when it began in ticks since the boot (field 22 of
	// /proc/PID/stat), which tells it from a later process of the same number.
	PidStart uint64
	Pid      int
	// Boot is the run of the kernel in which Pid and PidStart count: both can come again after the next boot.
	Boot              string `json:",omitempty"`
	ExitCode          int
	OOMKilled         bool
	TimedOut          bool  `json:",omitempty"`
	Used              *Used `json:",omitempty"` // by the last run
	Error             string
	Started, Finished time.Time
	Cgroups           []string
	// AppArmor is the profile of the last run, "" for none.
	AppArmor string `json:",omitempty"`
	// LateGroup says that somebody may have made a group for it since it was started, see needGroup.
	LateGroup bool `json:",omitempty"`
	UserNS    bool
	// IDs are those of a container that has some of its own, nil for all others.
	IDs *IDRange `json:",omitempty"`
	// Detached is true if a monitor runs it, false if it runs in somebody's foreground. Monitor is the monitor's process,
	// MonitorStart when that began, as with PidStart.
	Detached     bool
	Monitor      int
	MonitorStart uint64
	// RestartCount is how often its policy has started it again since it was last started by hand. Stopped notes that it
	// was ended by hand, so that no policy starts it.
	RestartCount int
	Stopped      bool
	// Probed is true if its health is looked at: see Container.Health.
	Probed bool `json:",omitempty"`
	// StartAgain asks for one more start when the program has ended, whatever the policy.
	StartAgain bool `json:",omitempty"`
	// Mounts are what is mounted in it besides its root: Config's, --volumes-from's and the image's volumes, all of which
	// have a name by now.
	Mounts []MountSpec
	// Volumes names the anonymous ones of its volumes, which go with it if that is asked for.
	Volumes []string
	// Ends are what it has, or had at its last run, on each of its networks.
	Ends []NetworkEnd `json:",omitempty"`
	// HostEnv are the variables that lead to what it was shown of the host's at its last start, see takeTrust, and the name of
	// the container or host whose network it shares.
	HostEnv []string `json:",omitempty"`
}

// Container is one container of a host.
type Container struct {
	State
	host  *Host
	lock  *os.File      // its directory, locked, or nil
	image *layers.Image // known after Create
	// inUse keeps the image from being removed until the state, written down, shows that it is in use.
	inUse *os.File
	// volumesInUse do the same for its volumes.
	volumesInUse []*os.File
	saved        bool     // container.json is there
	userns       *os.File // see userNamespace
	made         bool     // Create has succeeded, so that its end is an event
}

// ErrNotFound is what a container's or image's unknown name ends in.
var ErrNotFound = errors.New("not found")

func (c *Container) dir() string             { return filepath.Join(c.host.containers(), c.ID) }
func (c *Container) path(name string) string { return filepath.Join(c.dir(), name) }

// save writes container.json for the first time. It is there as a whole or not at all, and then the container never became
// one. It is not forced to the disk: after a power cut no container runs anyway.
func (c *Container) save() error {
	err := c.write(&c.State)
	c.saved = err == nil
	return err
}

// write replaces container.json.
func (c *Container) write(s *State) error {
	data, err := jsononce.Marshal(s)
	if err != nil {
		return err
	}
	tmp := c.path("." + stateFile)
	err = os.WriteFile(tmp, data, 0o600)
	if err == nil {
		return os.Rename(tmp, c.path(stateFile))
	}
	_ = os.Remove(tmp)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if c.overwrite(data) == nil {
			return nil
		}
	}
	return err
}

// overwrite writes over container.json where a full disk has no room for another: a container has to be stopped and removed
// there too. It takes no new block, and is one write within a page or two, so that whoever is killed has written all or
// nothing. The rest of a longer state before it becomes blanks.
func (c *Container) overwrite(data []byte) error {
	f, err := os.OpenFile(c.path(stateFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	const block = 4096
	if blocks := func(n int) int { return (n + block - 1) / block }; blocks(len(data)) > blocks(int(st.Size())) {
		return unix.ENOSPC
	}
	for len(data) < int(st.Size()) {
		data = append(data, ' ')
	}
	_, err = f.WriteAt(data, 0)
	return err
}

const stateFile = "container.json"

// change reads the state afresh, has alter change it, and replaces the file, while no other process does so: commands
// change containers that a monitor runs. An error of alter's leaves everything as it is. Nothing slow belongs in it.
func (c *Container) change(alter func(*State) error) error {
	f, err := c.lockState()
	if err != nil {
		return err
	}
	defer f.Close()
	var s State
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return fmt.Errorf("read state of container %s: %w", ShortID(c.ID), err)
	}
	if err := alter(&s); err != nil {
		return err
	}
	if err := c.write(&s); err != nil {
		return err
	}
	c.State = s
	return nil
}

// lockState opens container.json and locks it. Who had the lock before may have replaced the file meanwhile.
func (c *Container) lockState() (*os.File, error) {
	for {
		f, err := os.Open(c.path(stateFile))
		if err != nil {
			return nil, err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			f.Close()
			return nil, err
		}
		mine, e1 := f.Stat()
		current, e2 := os.Stat(c.path(stateFile))
		if e1 == nil && e2 == nil && os.SameFile(mine, current) {
			return f, nil
		}
		f.Close()
		if e2 != nil {
			return nil, e2
		}
	}
}

// startTime is when a process began, in ticks since the boot; 0 if there is no such process.
func startTime(pid int) uint64 {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.start
}

// load reads a container by its full ID, and sees whether it still runs.
func (h *Host) load(id string) (*Container, error) {
	c := &Container{host: h, State: State{ID: id}}
	data, err := os.ReadFile(c.path(stateFile))
	if err == nil {
		err = decode(data, &c.State)
	}
	if err != nil {
		return nil, err
	}
	c.saved, c.made = true, true
	if c.Status.Alive() {
		c.glance()
		c.mendHelpers()
		c.mendNames()
		if len(c.Ends) > 0 {
			c.host.RenewRules()
		}
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
		// It is called otherwise while it is being renamed, or if that was cut short.
		if c, err := h.load(filepath.Base(id)); err == nil && c.Name == ref {
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
	if !c.isRubbish() {
		c.unlock()
		return false
	}
	c.removeGroups()
	return c.discard() == nil
}

// imageNoted lets go of images and volumes: who looks sees what this container uses, or that there is none.
func (c *Container) imageNoted() {
	if c.inUse != nil {
		c.inUse.Close()
		c.inUse = nil
	}
	for _, v := range c.volumesInUse {
		v.Close()
	}
	c.volumesInUse = nil
}
