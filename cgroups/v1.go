package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// groupV1 is a group of version 1: a directory in each hierarchy that is needed, the freezer's first.
type groupV1 struct{ parts []partV1 }

type partV1 struct {
	controllers []string
	dir         string
}

// measuredV1 are the controllers that Stats asks.
var measuredV1 = [...]string{"cpuacct", "memory", "pids", "blkio"}

// newV1 makes a group in the hierarchies that r needs, and in the freezer's.
func newV1(name string, r *specs.LinuxResources, o Options) (Group, []Warning, error) {
	list, warnings, err := planAllV1(r, o.Rootless)
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 && !o.Always && !o.Measure {
		return nil, warnings, nil
	}
	trees, err := hierarchies()
	if err != nil {
		return nil, cannot(r, err.Error()), nil
	}
	g := &groupV1{}
	causes := map[string]string{} // why a controller is not to be had
	for _, c := range needed(list, o) {
		if cause, err := g.make(trees, c, name, o); err != nil {
			return nil, nil, errors.Join(err, g.Remove())
		} else if cause != "" {
			causes[c] = cause
		}
	}
	if len(g.parts) == 0 {
		return nil, cannot(r, causes["freezer"]), nil
	}
	more, err := apply(list, func(s *setting) error { return g.put(s, causes) })
	if err != nil {
		return nil, nil, errors.Join(err, g.Remove())
	}
	for _, w := range more {
		warnings = warn(warnings, w.Flag, w.Cause)
	}
	return g, warnings, nil
}

func planAllV1(r *specs.LinuxResources, rootless bool) ([]setting, []Warning, error) {
	list, warnings := planV1(r)
	if rootless || len(r.Devices) == 0 { // a user cannot open other devices anyway
		return list, warnings, nil
	}
	devices, err := newDeviceList(r.Devices)
	if err != nil {
		return nil, nil, err
	}
	return append(list, devices.settings()...), warnings, nil
}

// needed lists controllers, the freezer first, because it holds the processes while the others are looked at.
func needed(list []setting, o Options) []string {
	names := []string{"freezer"}
	for _, s := range list {
		if !slices.Contains(names, s.controller) {
			names = append(names, s.controller)
		}
	}
	for _, c := range measuredV1 {
		if o.Measure && !slices.Contains(names, c) {
			names = append(names, c)
		}
	}
	return names
}

// make makes the group's directory for a controller, or says why there can be none.
func (g *groupV1) make(trees []hierarchy, controller, name string, o Options) (cause string, err error) {
	if g.part(controller) != nil {
		return "", nil // it is mounted together with one before
	}
	h := find(trees, controller)
	if h == nil {
		return "this machine has no controller " + controller, nil
	}
	base := h.dir
	if o.Rootless {
		base = h.own
	}
	dir := path.Join(base, parentOr(o.Parent), name)
	if err := makeGroupDir(base, dir); err != nil {
		if forbidden(err) {
			return err.Error(), nil
		}
		return "", err
	}
	g.parts = append(g.parts, partV1{h.controllers, dir})
	if controller == "cpuset" {
		return "", inheritCpuset(dir)
	}
	return "", nil
}

// inheritCpuset gives a group the processors and memory nodes of the one above: it is made without any, and so nothing
// could run in it.
func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := readFile(unix.AT_FDCWD, path.Join(dir, file))
		if errors.Is(err, unix.ENOENT) {
			return nil // above the hierarchy's root
		}
		if err != nil || strings.TrimSpace(string(b)) != "" {
			return err
		}
		above := path.Dir(dir)
		if err := inheritCpuset(above); err != nil {
			return err
		}
		if b, err = readFile(unix.AT_FDCWD, path.Join(above, file)); err != nil {
			return err
		}
		if err := writeFile(unix.AT_FDCWD, path.Join(dir, file), strings.TrimSpace(string(b))); err != nil {
			return err
		}
	}
	return nil
}

// put writes one setting; causes says why controllers are missing.
func (g *groupV1) put(s *setting, causes map[string]string) error {
	p := g.part(s.controller)
	if p == nil {
		return unavailable(causes[s.controller])
	}
	return writeFile(unix.AT_FDCWD, path.Join(p.dir, s.file), s.value)
}

// part gives the group's directory for a controller, or nil.
func (g *groupV1) part(controller string) *partV1 {
	for i := range g.parts {
		if slices.Contains(g.parts[i].controllers, controller) {
			return &g.parts[i]
		}
	}
	return nil
}

// openV1 reads what Paths gave.
func openV1(paths []string) (Group, error) {
	g := &groupV1{}
	for _, p := range paths {
		controllers, dir, ok := strings.Cut(p, ":")
		if !ok || !strings.HasPrefix(dir, "/") {
			return nil, fmt.Errorf("open cgroup %q: want CONTROLLERS:DIRECTORY", p)
		}
		g.parts = append(g.parts, partV1{strings.Split(controllers, ","), dir})
	}
	if len(g.parts) == 0 {
		return nil, errors.New("open cgroup: no paths are given")
	}
	return g, nil
}

func (g *groupV1) Dir() *os.File { return nil }
func (g *groupV1) Close() error  { return nil }

func (g *groupV1) Paths() []string {
	var list []string
	for _, p := range g.parts {
		list = append(list, strings.Join(p.controllers, ",")+":"+p.dir)
	}
	return list
}

// Add writes one after the other: only the first has to wait for the kernel, so that writing all at once gains nothing.
func (g *groupV1) Add(pid int) error {
	for i := range g.parts {
		if err := g.parts[i].add(pid); err != nil {
			return err
		}
	}
	return nil
}

func (p *partV1) add(pid int) error {
	return writeFile(unix.AT_FDCWD, path.Join(p.dir, "cgroup.procs"), strconv.Itoa(pid))
}

// Update makes the group in hierarchies where it was not needed before, and moves its processes there too.
func (g *groupV1) Update(r *specs.LinuxResources) error {
	list, warnings, err := planAllV1(r, false)
	if err != nil {
		return err
	}
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	causes := map[string]string{}
	for _, c := range needed(list, Options{})[1:] {
		if causes[c], err = g.extend(trees, c); err != nil {
			return err
		}
	}
	more, err := apply(list, func(s *setting) error { return g.put(s, causes) })
	return must(append(warnings, more...), err)
}

// extend adds a controller to a living group, at the same place in its hierarchy as in the first one.
func (g *groupV1) extend(trees []hierarchy, controller string) (cause string, err error) {
	first := g.parts[0]
	h := find(trees, first.controllers[0])
	if g.part(controller) != nil || h == nil {
		return "", nil
	}
	place := strings.TrimPrefix(first.dir, h.dir)
	cause, err = g.make(trees, controller, path.Base(place), Options{Parent: path.Dir(place)})
	if cause != "" || err != nil {
		return cause, err
	}
	return "", g.follow(g.part(controller))
}

// follow moves the processes into a new part, in rounds, because they may be making others.
func (g *groupV1) follow(p *partV1) error {
	for range 100 {
		all, err := processes(g.parts[0].dir)
		if err != nil {
			return err
		}
		there, err := processes(p.dir)
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range all {
			if slices.Contains(there, pid) {
				continue
			}
			left++
			if err := p.add(pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if left == 0 {
			return nil
		}
	}
	return fmt.Errorf("move processes to %s: they fork too fast", p.dir)
}

func (g *groupV1) OOMKills() (uint64, error) {
	p := g.part("memory")
	if p == nil {
		return 0, nil
	}
	b, err := readFile(unix.AT_FDCWD, path.Join(p.dir, "memory.oom_control"))
	return keyed(b, "oom_kill"), err
}

func (g *groupV1) Processes() ([]int, error) { return processes(g.parts[0].dir) }

// Remove removes the directories; the first error does not keep it from the others.
func (g *groupV1) Remove() error {
	var errs []error
	for _, p := range g.parts {
		errs = append(errs, removeDir(p.dir))
	}
	return errors.Join(errs...)
}

func (g *groupV1) Freeze() error {
	err := g.freezer("FROZEN")
	if err != nil {
		err = errors.Join(err, g.Thaw())
	}
	return err
}

func (g *groupV1) Thaw() error { return g.freezer("THAWED") }

// freezer asks for a state until it is reached: a process that was just being made may have missed the question.
func (g *groupV1) freezer(state string) error {
	p := g.part("freezer")
	if p == nil {
		return errors.New("freeze cgroup: it has no controller freezer")
	}
	file := path.Join(p.dir, "freezer.state")
	deadline := time.Now().Add(freezeTime)
	for wait := 20 * time.Microsecond; ; wait *= 2 {
		if err := writeFile(unix.AT_FDCWD, file, state); err != nil {
			return err
		}
		b, err := readFile(unix.AT_FDCWD, file)
		if err != nil || strings.TrimSpace(string(b)) == state {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("write %q to %s: it is still %s after %v", state, file, strings.TrimSpace(string(b)), freezeTime)
		}
		time.Sleep(min(wait, 10*time.Millisecond))
	}
}

// Kill freezes the group where it can, so that what is in it cannot make more. A frozen process dies when it is thawed.
func (g *groupV1) Kill() error {
	freezer := g.part("freezer")
	if freezer == nil {
		return killAll(g.parts[0].dir, func() {}, func() {})
	}
	ask := func(state string) func() {
		return func() {
			// Not Freeze: processes that cannot stand still now, waiting for a disk, are killed all the same.
			_ = writeFile(unix.AT_FDCWD, path.Join(freezer.dir, "freezer.state"), state)
		}
	}
	return killAll(freezer.dir, ask("FROZEN"), ask("THAWED"))
}
