package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// nameLink is the symbolic link that stands for a name and leads to a container's ID. Making it is what makes names unique.
// A link counts as long as the container is there, and says itself that it has this name.
//
// Links are made without a lock, and removed only with all names locked: else somebody could remove the link that another
// has made in the place of the one he looked at.
func (h *Host) nameLink(name string) string { return filepath.Join(h.names(), name) }

func (h *Host) names() string { return filepath.Join(h.Root, "names") }

// holdNames locks the names, until the file is closed.
func (h *Host) holdNames() (*os.File, error) {
	f, err := os.Open(h.names())
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// takeName gives the container its name, or a random one. A link that counts no more is replaced.
func (c *Container) takeName(name string) error {
	for random := name == ""; ; {
		if random {
			name = RandomName(func(string) bool { return false })
		}
		err := os.Symlink(c.ID, c.host.nameLink(name))
		switch {
		case err == nil:
			c.Name = name
			return nil
		case errors.Is(err, fs.ErrNotExist):
			err = os.MkdirAll(c.host.names(), 0o700)
		case errors.Is(err, fs.ErrExist):
			if err = c.host.vacate(name); random && errors.Is(err, errTaken) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// errTaken says that a name is another container's.
var errTaken = errors.New("remove or rename that container to reuse the name")

// vacate removes a name that stands for no container, or gives errTaken.
func (h *Host) vacate(name string) error {
	id, err := os.Readlink(h.nameLink(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed this very moment
	}
	if err != nil {
		return fmt.Errorf("container name %q: %w", name, err)
	}
	if h.counts(name, id) && !h.neverMade(id) {
		return fmt.Errorf("container name %q is already in use by container %q: %w", name, ShortID(id), errTaken)
	}
	return h.dropName(name)
}

// neverMade clears away a container whose maker was killed. One that is being made is waited for, until it is clear what
// becomes of it: a child of the killed maker may keep its lock for a moment.
func (h *Host) neverMade(id string) bool {
	const patience, glance = time.Second, 2 * time.Millisecond
	for begin := time.Now(); ; time.Sleep(glance) {
		if h.halfMade(id) {
			return true
		}
		if _, err := h.read(id); !errors.Is(err, fs.ErrNotExist) || time.Since(begin) > patience {
			return false
		}
	}
}

// counts says whether a name that leads to a container stands for it, or soon will.
func (h *Host) counts(name, id string) bool {
	s, err := h.read(id)
	if err == nil {
		return s.Name == name
	}
	_, err = os.Lstat(filepath.Join(h.containers(), id))
	return !errors.Is(err, fs.ErrNotExist)
}

// dropName removes a name, unless it stands for a container.
func (h *Host) dropName(name string) error {
	lock, err := h.holdNames()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	id, err := os.Readlink(h.nameLink(name))
	if err != nil || h.counts(name, id) {
		return nil
	}
	return os.Remove(h.nameLink(name))
}

// sweepNames removes names that stand for no container, if there are more than so many.
func (h *Host) sweepNames(enough int) {
	entries, _ := os.ReadDir(h.names())
	if len(entries) <= enough {
		return
	}
	for _, e := range entries {
		if id, err := os.Readlink(h.nameLink(e.Name())); err == nil && !h.counts(e.Name(), id) {
			_ = h.dropName(e.Name())
		}
	}
}

// Rename gives the container another name, which nobody may have yet.
func (c *Container) Rename(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	for {
		old, err := c.rename(name)
		switch {
		case err == nil:
			c.note("rename", "oldName", "/"+old)
			return c.host.Networks().Rename(c.ID, name)
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("rename container %s: %w", c.Name, err)
		}
		if err := c.host.vacate(name); err != nil {
			return err
		}
	}
}

// rename takes the new name, says so in the state, and removes the old one, all with the names locked: in between, a link
// seems to be left over that is not. A link that somebody else has is fs.ErrExist.
func (c *Container) rename(name string) (old string, err error) {
	lock, err := c.host.holdNames()
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := c.reread(); err != nil {
		return "", err
	}
	if old = c.Name; name == old {
		return "", errors.New("it has that name already")
	}
	link := c.host.nameLink(name)
	if id, err := os.Readlink(link); err != nil || id != c.ID { // else a rename before was cut short
		if err := os.Symlink(c.ID, link); err != nil {
			return "", err
		}
	}
	if err := c.change(func(s *State) error {
		s.Name = name
		return nil
	}); err != nil {
		return "", errors.Join(err, os.Remove(link))
	}
	return old, os.Remove(c.host.nameLink(old))
}
