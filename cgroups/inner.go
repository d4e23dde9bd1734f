package cgroups

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Inner gives the group that a process is in, as Paths does, if that is one made within the group with these paths; else
// nil. On version 2 a group with controllers for groups in it takes no processes itself, so who joins it late goes where
// the others are. On version 1 there is no such rule.
func Inner(paths []string, pid int) []string {
	if len(paths) != 1 || !strings.HasPrefix(paths[0], "/") {
		return nil
	}
	groups, err := readFile(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/cgroup")
	if err != nil {
		return nil
	}
	if dir := path.Join(standard, position(groups, "")); strings.HasPrefix(dir, paths[0]+"/") {
		return []string{dir}
	}
	return nil
}
