// Package cgroups keeps a container within its limits and counts what it uses: memory, processors, processes, disks and
// devices.
//
// [New] makes a group from the OCI specification's words and [Group.Add] puts a process into it; or, on version 2, a
// process is born in it by CLONE_INTO_CGROUP with [Group.Dir], which costs 0.1 ms where Add may take 10. Versions 1 and
// 2 of the kernel's control groups look the same from outside. What this machine, or an ordinary user on it, cannot
// keep comes back as a [Warning] that names the limit.
//
// Do not use it to look at groups that others made, or to rearrange a machine's groups: it moves no process that it was
// not given.
package cgroups

import (
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Group is a container's group, or on version 1 one group in each controller that is needed.
type Group interface {
	// Add moves a process into the group. The first in a while takes about 10 ms, which the kernel spends waiting.
	Add(pid int) error
	// Dir is the group's directory for CLONE_INTO_CGROUP, owned by the Group; nil on version 1.
	Dir() *os.File
	// Paths are words from which Open finds the group again, in this or another process. On version 2 it is the
	// directory alone, on version 1 CONTROLLERS:DIRECTORY each, in which CONTROLLERS may be several with commas.
	Paths() []string
	// Processes lists the processes in the group and in those made in it. A group that is gone has none.
	Processes() ([]int, error)
	// Stats measures what the group has used.
	Stats() (Stats, error)
	// Freeze stops all processes, and returns when they stand; Thaw lets them go on.
	Freeze() error
	Thaw() error
	// Kill ends all processes, those in groups below too, and returns when there are none left.
	Kill() error
	// OOMKills is how many processes the kernel has killed in the group because its memory was used up.
	OOMKills() (uint64, error)
	// Update changes the limits that r has and leaves the others. What cannot be kept is an error then.
	Update(r *specs.LinuxResources) error
	// Remove removes the group and those that were made in it. The processes must have ended.
	Remove() error
	// Close frees what the Group holds open. The group itself stays.
	Close() error
}

// Options say where a group goes. The zero value is right for root.
type Options struct {
	// Parent is the group in which the new one is made, "" for hull. It is taken from the root of the hierarchy, or for
	// a user from the place that is his. Groups that are missing on the way are made.
	Parent string
	// Rootless is for an ordinary user: the group is made in the subtree that was delegated to him, if any.
	Rootless bool
	// Always asks for a group on version 1 even if r limits nothing, so that it can be frozen. Version 2 always has one.
	Always bool
	// Measure asks for all that Stats can measure, even where nothing limits it.
	Measure bool
}

// A Warning is a limit that cannot be kept. Its text is one line.
type Warning struct {
	Flag  string // as the user knows it: --memory
	Cause string
}

func (w Warning) String() string { return w.Flag + " has no effect: " + w.Cause }

// defaultParent is the group that holds hull's.
const defaultParent = "hull"

// New makes a group with the limits in r, which may be nil. name is a file name, the container's id. The group is nil
// where nothing asks for one, and where none can be made: then the warnings name all limits.
//
// The values are the OCI specification's: Memory.Swap is memory and swap together, -1 is no limit, 0 is unset. A value
// that the kernel refuses is an error that names the file and the value.
func New(name string, r *specs.LinuxResources, o Options) (Group, []Warning, error) {
	if err := checkNames(name, o.Parent); err != nil {
		return nil, nil, err
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	switch Version() {
	case 2:
		return newV2(standard, name, r, o)
	case 1:
		return newV1(name, r, o)
	}
	return nil, cannot(r, "this machine has no control groups"), nil
}

// checkNames sees that the group stays below where it belongs.
func checkNames(name, parent string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("cgroup %q: want a file name", name)
	}
	for _, part := range strings.Split(parent, "/") {
		if part == ".." {
			return fmt.Errorf("cgroup parent %q: .. leads out of it", parent)
		}
	}
	return nil
}

// Open gives the group whose Paths were saved. It does not look whether the group still exists.
func Open(paths []string) (Group, error) {
	if len(paths) == 1 && strings.HasPrefix(paths[0], "/") {
		g, err := openV2(paths[0])
		if err != nil {
			return nil, err
		}
		return g, nil
	}
	return openV1(paths)
}

// standard is where control groups are mounted on every system that has them.
const standard = "/sys/fs/cgroup"

// Version says which version's controllers this machine has: 2, or 1, which includes machines that have version 2
// beside it without the important controllers; 0 for none.
func Version() int {
	var s unix.Statfs_t
	if unix.Statfs(standard, &s) != nil {
		return 0
	}
	switch s.Type {
	case unix.CGROUP2_SUPER_MAGIC:
		return 2
	case unix.TMPFS_MAGIC: // in it, one directory for each controller of version 1
		return 1
	}
	return 0
}

// cannot gives a warning for each limit in r. A list of devices is none: it keeps root from what only root can open.
func cannot(r *specs.LinuxResources, cause string) []Warning {
	list, warnings := planV1(r)
	for _, s := range list {
		warnings = warn(warnings, s.flag, cause)
	}
	return warnings
}

// warn adds a warning unless the limit has one already.
func warn(list []Warning, flag, cause string) []Warning {
	for _, w := range list {
		if w.Flag == flag {
			return list
		}
	}
	return append(list, Warning{flag, cause})
}
