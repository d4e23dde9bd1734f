package cgroups

import (
	"bytes"

	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A hierarchy is one tree of groups of version 1, with the controllers that are mounted together.
type hierarchy struct {
	controllers []string
	dir         string // where it is mounted
	own         string // this process's group, as a directory
}

// hierarchies lists those of version 1 that are mounted here. An error means that there is no /proc.
func hierarchies() ([]hierarchy, error) {
	mounts, err := readFile(unix.AT_FDCWD, "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	groups, err := readFile(unix.AT_FDCWD, "/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(mounts, groups), nil
}

// parseHierarchies reads the two files, see proc(5) and cgroups(7). A hierarchy that is mounted twice counts once.
func parseHierarchies(mounts, groups []byte) []hierarchy {
	var list []hierarchy
	for line := range bytes.Lines(mounts) {
		before, after, ok := bytes.Cut(line, []byte(" - cgroup "))
		if !ok {
			continue
		}
		fields, options := strings.Fields(string(before)), strings.Fields(string(after))
		if len(fields) < 5 || len(options) < 2 {
			continue
		}
		names := controllers(options[1])
		if len(names) == 0 || find(list, names[0]) != nil {
			continue
		}
		h := hierarchy{controllers: names, dir: unescape(fields[4])}
		h.own = path.Join(h.dir, below(position(groups, names[0]), unescape(fields[3])))
		list = append(list, h)
	}
	return list
}

// controllers picks the controllers from a mount's options; a named hierarchy has none.
func controllers(options string) []string {
	var names []string
	for _, o := range strings.Split(options, ",") {
		switch o {
		case "rw", "ro", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "none":
		default:
			if !strings.Contains(o, "=") {
				names = append(names, o)
			}
		}
	}
	return names
}

// find gives the hierarchy of a controller, or nil.
func find(list []hierarchy, controller string) *hierarchy {
	for i := range list {
		for _, c := range list[i].controllers {
			if c == controller {
				return &list[i]
			}
		}
	}
	return nil
}

// position gives the group that /proc/self/cgroup names for a controller, "" being version 2.
func position(groups []byte, controller string) string {
	for line := range bytes.Lines(groups) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, c := range strings.Split(parts[1], ",") {
			if c == controller {
				return parts[2]
			}
		}
	}
	return "/"
}

// below takes a mount's root from a group's path, because the mount shows only what lies below it.
func below(group, root string) string {
	if rest, ok := strings.CutPrefix(group, strings.TrimSuffix(root, "/")); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return "/"
}

// unescape undoes the octal escapes of mountinfo: \040 for a blank.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
