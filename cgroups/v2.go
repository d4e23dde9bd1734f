package cgroups

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// groupV2 is a group of version 2: one directory.
type groupV2 struct {
	dir string
	f   *os.File
}

// measured are the controllers without which Stats misses something; the kernel counts processor time anyway.
var measured = [...]string{"memory", "pids", "io"}

// newV2 makes a group below mount.
func newV2(mount, name string, r *specs.LinuxResources, o Options) (Group, []Warning, error) {
	list, warnings, devices, err := planAllV2(r, o.Rootless)
	if err != nil {
		return nil, nil, err
	}
	base := mount
	if o.Rootless {
		if base = delegated(mount); base == "" {
			return nil, cannot(r, notDelegated), nil
		}
	}
	dir := path.Join(base, parentOr(o.Parent), name)
	if err := makeGroupDir(base, dir); err != nil {
		if forbidden(err) {
			return nil, cannot(r, err.Error()), nil
		}
		return nil, nil, err
	}
	g, err := openV2(dir)
	if err != nil {
		return nil, nil, errors.Join(err, removeDir(dir))
	}
	if o.Measure {
		for _, c := range measured {
			enable(path.Dir(dir), c) // what cannot be is in Stats.Missing
		}
	}
	more, err := g.write(list, devices)
	if err != nil {
		return nil, nil, errors.Join(err, g.Remove(), g.Close())
	}
	for _, w := range more {
		warnings = warn(warnings, w.Flag, w.Cause)
	}
	return g, warnings, nil
}

func planAllV2(r *specs.LinuxResources, rootless bool) ([]setting, []Warning, *deviceList, error) {
	list, warnings, err := planV2(r)
	if err != nil || rootless || len(r.Devices) == 0 { // a user cannot open other devices anyway
		return list, warnings, nil, err
	}
	devices, err := newDeviceList(r.Devices)
	return list, warnings, devices, err
}

func parentOr(parent string) string {
	if parent == "" {
		return defaultParent
	}
	return parent
}

func openV2(dir string) (*groupV2, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return &groupV2{dir: dir}, nil // gone already, which is no error for Remove
	}
	if err != nil {
		return nil, pathError("open cgroup", dir, err)
	}
	return &groupV2{dir: dir, f: os.NewFile(uintptr(fd), dir)}, nil
}

// write writes settings, and the list of devices if it is not nil.
func (g *groupV2) write(list []setting, devices *deviceList) ([]Warning, error) {
	warnings, err := apply(list, g.put)
	if err != nil || devices == nil || g.f == nil {
		return warnings, err
	}
	err = setDevices(int(g.f.Fd()), devices)
	if forbidden(err) || lacking(err) || errors.Is(err, unix.ENOSYS) {
		return warn(warnings, FlagDevices, err.Error()), nil
	}
	return warnings, err
}

// put writes one setting. A file that is missing may only wait for its controller to be enabled, which is not looked at
// before because mostly it is.
func (g *groupV2) put(s *setting) error {
	file := path.Join(g.dir, s.file)
	err := writeFile(unix.AT_FDCWD, file, s.value)
	var taken *refused
	if !errors.Is(err, unix.ENOENT) || errors.As(err, &taken) {
		return err
	}
	if err := enable(path.Dir(g.dir), s.controller); err != nil {
		return err
	}
	return writeFile(unix.AT_FDCWD, file, s.value)
}

// unavailable is the error of a controller that cannot be had.
type unavailable string

func (u unavailable) Error() string { return string(u) }

// enable gives the groups in dir a controller, which dir's own parents may have to give to dir first.
func enable(dir, controller string) error {
	err := writeFile(unix.AT_FDCWD, path.Join(dir, "cgroup.subtree_control"), "+"+controller)
	var taken *refused
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return unavailable("processes live in " + dir + ", so that the kernel gives no controllers to groups below it")
	case errors.As(err, &taken) && errors.Is(err, unix.ENOENT): // dir lacks it
		if err := enable(path.Dir(dir), controller); err != nil {
			return err
		}
		err = writeFile(unix.AT_FDCWD, taken.file, taken.value)
		if err == nil {
			return nil
		}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // dir is above the mount, or the name is unknown
		return unavailable("cgroup v2 has no controller " + controller + " here")
	}
	return unavailable(err.Error())
}

const notDelegated = "no subtree of control groups is delegated to this user; " +
	"\"systemd-run --user --scope hull ...\" runs hull in one"

// delegated gives the highest group above this process's that its user may use as he likes, "" if there is none. To
// move processes, he needs the right to write in the group that is above both the old place and the new one; so a
// subtree elsewhere is of no use.
func delegated(mount string) string {
	groups, err := readFile(unix.AT_FDCWD, "/proc/self/cgroup")
	if err != nil {
		return ""
	}
	best := ""
	for dir := path.Join(mount, position(groups, "")); strings.HasPrefix(dir+"/", mount+"/"); dir = path.Dir(dir) {
		if writable(dir) && writable(path.Join(dir, "cgroup.procs")) && writable(path.Join(dir, "cgroup.subtree_control")) {
			best = dir
		}
	}
	return best
}

func writable(file string) bool {
	return unix.Faccessat(unix.AT_FDCWD, file, unix.W_OK, unix.AT_EACCESS) == nil
}

func (g *groupV2) Dir() *os.File   { return g.f }
func (g *groupV2) Paths() []string { return []string{g.dir} }

func (g *groupV2) Close() error {
	if g.f == nil {
		return nil
	}
	return g.f.Close()
}

func (g *groupV2) file(name string) string { return path.Join(g.dir, name) }

func (g *groupV2) Add(pid int) error {
	return writeFile(unix.AT_FDCWD, g.file("cgroup.procs"), strconv.Itoa(pid))
}

func (g *groupV2) Processes() ([]int, error) { return processes(g.dir) }

func (g *groupV2) Remove() error { return removeDir(g.dir) }

// Update completes what the files of version 2 need together: swap is counted without memory there, and the period of
// the quota stands beside it.
func (g *groupV2) Update(r *specs.LinuxResources) error {
	full := *r
	if m := r.Memory; m != nil && set(m.Swap) && m.Limit == nil {
		if n, err := readNumber(unix.AT_FDCWD, g.file("memory.max")); err == nil && n != unlimited {
			memory, limit := *m, int64(n)
			memory.Limit = &limit
			full.Memory = &memory
		}
	}
	if c := r.CPU; c != nil && set(c.Period) && c.Quota == nil {
		if b, err := readFile(unix.AT_FDCWD, g.file("cpu.max")); err == nil {
			quota, _, _ := strings.Cut(string(b), " ")
			if n, err := strconv.ParseInt(quota, 10, 64); err == nil {
				cpu := *c
				cpu.Quota = &n
				full.CPU = &cpu
			}
		}
	}
	list, warnings, devices, err := planAllV2(&full, false)
	if err != nil {
		return err
	}
	more, err := g.write(list, devices)
	return must(append(warnings, more...), err)
}

func (g *groupV2) OOMKills() (uint64, error) {
	b, err := readFile(unix.AT_FDCWD, g.file("memory.events"))
	if errors.Is(err, unix.ENOENT) {
		return 0, nil // without the controller the kernel does not kill for the group
	}
	return keyed(b, "oom_kill"), err
}

func (g *groupV2) Freeze() error {
	if err := writeFile(unix.AT_FDCWD, g.file("cgroup.freeze"), "1"); err != nil {
		return err
	}
	err := g.await("frozen", 1, freezeTime)
	if err != nil {
		err = errors.Join(pathError("freeze cgroup", g.dir, err), g.Thaw())
	}
	return err
}

func (g *groupV2) Thaw() error {
	if err := writeFile(unix.AT_FDCWD, g.file("cgroup.freeze"), "0"); err != nil {
		return err
	}
	return pathError("thaw cgroup", g.dir, g.await("frozen", 0, freezeTime))
}

func (g *groupV2) Kill() error {
	err := writeFile(unix.AT_FDCWD, g.file("cgroup.kill"), "1")
	if errors.Is(err, unix.ENOENT) { // before Linux 5.14, or the group is gone
		return killAll(g.dir, func() { g.Freeze() }, func() { g.Thaw() })
	}
	if err != nil {
		return err
	}
	err = g.await("populated", 0, killTime)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return pathError("kill cgroup", g.dir, err)
}

// await waits until a key in cgroup.events has a value. The kernel wakes those who poll the file when it changes.
func (g *groupV2) await(key string, want uint64, limit time.Duration) error {
	fd, err := unix.Open(g.file("cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(limit)
	for {
		var buf [256]byte
		n, err := unix.Pread(fd, buf[:], 0)
		if err != nil && err != unix.EINTR {
			return err
		}
		if err == nil && keyed(buf[:n], key) == want {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left/time.Millisecond)+1); err != nil && err != unix.EINTR {
			return err
		}
	}
}
