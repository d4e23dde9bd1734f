package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
)

// Finding is something that an unclean end, of a process or of the machine, has left of a container or an image.
type Finding struct {
	What string // a line
	// Mended says that it is set right; Err why it is not, if that was tried.
	Mended bool
	Err    error
}

// CheckOptions says how Check works. Deep compares all images with their digests, for which every byte is read.
type CheckOptions struct{ Repair, Deep bool }

// Check tells of what is wrong below the root directory, and with Repair sets it right. Nothing that somebody works on is
// wrong, and nothing that belongs to another root directory is touched.
func (h *Host) Check(opt CheckOptions, tell func(Finding)) error {
	told := map[string]bool{}
	for {
		problems, err := h.lasting(opt.Deep)
		if err != nil {
			return err
		}
		fresh := false
		for _, p := range problems {
			if told[p.what] {
				continue
			}
			told[p.what], fresh = true, true
			f := Finding{What: p.what}
			switch {
			case !opt.Repair:
			case p.mend == nil:
				f.Err = errByHand
			default:
				f.Err = p.mend()
				f.Mended = f.Err == nil
			}
			tell(f)
		}
		// Setting one thing right can bring another to light: a name without its container.
		if !opt.Repair || !fresh {
			return nil
		}
	}
}

var errByHand = errors.New("cannot be set right here")

// problem is a Finding that may yet be dealt with: mend is nil where hull has no way to. It does nothing if all is well by
// the time it is called.
type problem struct {
	what string
	mend func() error
}

// lastingTime is how long something has to be wrong to count: what others are in the midst of is over by then.
const lastingTime = 200 * time.Millisecond

// lasting looks twice, and gives what was wrong both times.
func (h *Host) lasting(deep bool) ([]problem, error) {
	first, err := h.problems(deep)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	time.Sleep(lastingTime)
	second, err := h.problems(deep)
	return slices.DeleteFunc(second, func(p problem) bool {
		return !slices.ContainsFunc(first, func(before problem) bool { return before.what == p.what })
	}), err
}

func (h *Host) problems(deep bool) (all []problem, err error) {
	for _, look := range []func() ([]problem, error){
		h.leftMounts, // first: what is mounted on cannot be removed
		h.leftContainers, h.leftNames, h.leftGroups, h.leftTemporary, h.leftCopies, h.leftNetworks,
		func() ([]problem, error) { return h.flawedImages(deep) },
	} {
		some, err := look()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// entries are the names in a directory; none if it is not there.
func entries(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names, err
}

// leftContainers looks at each container that nobody has in hand.
func (h *Host) leftContainers() (list []problem, err error) {
	ids, err := entries(h.containers())
	if err != nil {
		return nil, err
	}
	groups := h.groups()
	for _, id := range ids {
		if p, wrong := h.leftContainer(id, groups[id]); wrong {
			list = append(list, p)
		}
	}
	return list, nil
}

func (h *Host) leftContainer(id string, group bool) (problem, bool) {
	c := &Container{host: h, State: State{ID: id}}
	if c.takeLock() != nil {
		return problem{}, false
	}
	defer c.unlock()
	wrong := func(what string) (problem, bool) {
		return problem{"container " + ShortID(id) + what, func() error { return h.sweepContainer(id, group) }}, true
	}
	s, err := h.read(id)
	switch {
	case err != nil && c.written():
		p, _ := wrong(fmt.Sprintf(": its state cannot be read (%v), but it has written files: see %s", err, c.path("upper")))
		p.mend = nil
		return p, true
	case err != nil:
		return wrong(": was never finished")
	}
	name := " (" + s.Name + ")"
	switch {
	case s.Status.Alive() && s.hasProcess():
		return wrong(fmt.Sprintf("%s: nobody looks after its process %d", name, s.Pid))
	case s.Status.Alive():
		return wrong(fmt.Sprintf("%s: is said to be %s, but nobody runs it", name, s.Status))
	case s.Config.Lifetime.Remove && s.Status != Created:
		return wrong(name + ": was to be removed at its end")
	case group || slices.ContainsFunc(s.Cgroups, groupExists):
		return wrong(name + ": has ended, but its cgroup is there")
	}
	return problem{}, false
}

// groupExists tells whether one of a group's paths, as cgroups.Group has them, is there.
func groupExists(path string) bool {
	if i := strings.IndexByte(path, '/'); i > 0 {
		path = path[i:]
	}
	_, err := os.Stat(path)
	return err == nil
}

// leftNames compares names and containers, each of which leads to the other.
func (h *Host) leftNames() (list []problem, err error) {
	names, err := entries(filepath.Dir(h.nameLink("x")))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if why := h.wrongName(name); why != "" {
			list = append(list, problem{"name " + name + ": " + why, func() error {
				return h.dropName(name)
			}})
		}
	}
	ids, err := entries(h.containers())
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if s, err := h.read(id); err == nil && !h.leads(s.Name, id) && !h.going(s) {
			what := fmt.Sprintf("container %s: its name %s does not lead to it", ShortID(id), s.Name)
			list = append(list, problem{what, func() error { return h.nameAgain(id) }})
		}
	}
	return list, nil
}

// going tells whether somebody may be removing the container, which begins with its name: it is locked, but has no process.
func (h *Host) going(s *State) bool {
	c := &Container{host: h, State: *s}
	if c.takeLock() == nil {
		c.unlock()
		return false
	}
	return !s.hasProcess()
}

// hasProcess tells whether the container's program has not ended. One that waits to be collected has.
func (s *State) hasProcess() bool {
	stat, err := readStat(s.Pid)
	return s.Pid != 0 && err == nil && stat.start == s.PidStart && stat.state != 'Z' && stat.state != 'X'
}

// leads tells whether a name stands for a container.
func (h *Host) leads(name, id string) bool {
	to, err := os.Readlink(h.nameLink(name))
	return err == nil && to == id
}

// wrongName says what is wrong with a name, "" for nothing.
func (h *Host) wrongName(name string) string {
	id, err := os.Readlink(h.nameLink(name))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return "is no link"
	}
	if _, err := os.Lstat(filepath.Join(h.containers(), id)); errors.Is(err, fs.ErrNotExist) {
		return "leads to no container"
	}
	if s, err := h.read(id); err == nil && s.Name != name {
		return fmt.Sprintf("leads to container %s, which is called %s", ShortID(id), s.Name)
	}
	return ""
}

// nameAgain gives a container its name back, or another one if somebody has taken it.
func (h *Host) nameAgain(id string) error {
	s, err := h.read(id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (h.leads(s.Name, id) || h.going(s)) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &Container{host: h, State: *s}
	if c.takeName(s.Name) == nil {
		return nil
	}
	if err := c.takeName(""); err != nil {
		return err
	}
	name := c.Name
	return c.change(func(s *State) error {
		s.Name = name
		return nil
	})
}

// leftGroups looks for cgroups of containers that are not there. Such a group may belong to another root directory's container,
// so only an empty one counts, which has been there for a while: a container that starts gets into its group at once.
func (h *Host) leftGroups() (list []problem, err error) {
	for _, g := range cgroups.All(h.rootless) {
		_, err := os.Lstat(filepath.Join(h.containers(), g.Name))
		if !errors.Is(err, fs.ErrNotExist) || !isID(g.Name) || time.Since(g.Made) < idleGroup {
			continue
		}
		group, err := cgroups.Open(g.Paths)
		if err != nil {
			return nil, err
		}
		pids, err := group.Processes()
		group.Close()
		if err != nil || len(pids) > 0 {
			continue
		}
		list = append(list, problem{fmt.Sprintf("cgroup %s: is empty, and there is no such container", ShortID(g.Name)), func() error {
			group, err := cgroups.Open(g.Paths)
			if err != nil {
				return err
			}
			return errors.Join(group.Remove(), group.Close()) // the kernel keeps one that is not empty
		}})
	}
	return list, nil
}

// idleGroup is how old an empty group is that nobody is about to use.
const idleGroup = time.Minute

func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// leftTemporary looks for what is below tmp and nobody holds.
func (h *Host) leftTemporary() (list []problem, err error) {
	dir := filepath.Join(h.Root, "tmp")
	names, err := entries(dir)
	for _, name := range names {
		if layers.IsPartial(name) {
			continue
		}
		path := filepath.Join(dir, name)
		lock, err := lockDir(path, unix.LOCK_EX)
		if err != nil {
			continue
		}
		lock.Close()
		list = append(list, problem{"tmp/" + name + ": was left by a process that is gone", func() error { return h.removeTrash(path) }})
	}
	return list, err
}

// leftMounts looks for mounts, in our own mount namespace, on directories of containers that nobody runs. Containers' own are
// in namespaces that go with them; and mounts further up are the administrator's.
func (h *Host) leftMounts() (list []problem, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		path := unescapeMount(f[4])
		if !h.ownMountPoint(path) {
			continue
		}
		list = append(list, problem{"mount " + path + ": is nobody's", func() error {
			return os.NewSyscallError("umount", unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
		}})
	}
	slices.Reverse(list) // what is mounted on top goes first
	return list, nil
}

// ownMountPoint tells whether path lies below tmp, or in a container's directory that nobody has locked.
func (h *Host) ownMountPoint(path string) bool {
	if strings.HasPrefix(path, filepath.Join(h.Root, "tmp")+"/") {
		return true
	}
	rest, ok := strings.CutPrefix(path, h.containers()+"/")
	id, _, below := strings.Cut(rest, "/")
	if !ok || !below {
		return false
	}
	c := &Container{host: h, State: State{ID: id}}
	if err := c.takeLock(); errors.Is(err, errLocked) {
		return false
	}
	c.unlock()
	return true
}

// unescapeMount undoes what the kernel writes for blanks in paths (proc_pid_mounts(5)).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// flawedImages asks the store.
func (h *Host) flawedImages(deep bool) (list []problem, err error) {
	used, idle, err := h.imageUse()
	if err != nil {
		return nil, err
	}
	flaws, err := h.Images.Check(layers.CheckOptions{Deep: deep, Idle: idle, Used: func(name string) bool { return used[name] }})
	for _, f := range flaws {
		p := problem{what: f.What}
		if f.Mend != nil {
			p.mend = func() error { return h.mendImages(used, idle, f.Mend) }
		}
		list = append(list, p)
	}
	return list, err
}

// imageUse gives the names of images that containers were made from, and says whether no container is alive.
func (h *Host) imageUse() (used map[string]bool, idle bool, err error) {
	used, idle = map[string]bool{}, true
	ids, err := entries(h.containers())
	for _, id := range ids {
		if s, err := h.read(id); err == nil {
			used[s.Image] = true
			idle = idle && !s.Status.Alive()
		}
	}
	return used, idle, err
}

// mendImages sets something right that is wrong with images, unless one of them has come into use since that was found. What is
// used no longer, as after the mend of what a killed hull has left, makes it no less right.
func (h *Host) mendImages(used map[string]bool, idle bool, mend func() error) error {
	alone, err := h.HoldImages(true)
	if err != nil {
		return err
	}
	defer alone.Close()
	now, nowIdle, err := h.imageUse()
	fresh := idle && !nowIdle
	for name := range now {
		fresh = fresh || !used[name]
	}
	if err == nil && fresh {
		err = errors.New("a container was made or started meanwhile: check again")
	}
	if err != nil {
		return err
	}
	return mend()
}
