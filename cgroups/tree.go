package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is the same for groups of both versions: they are directories.

// How long the kernel gets. Processes that wait for a disk or a dead file server die late.
const (
	killTime   = 10 * time.Second
	freezeTime = 5 * time.Second
	removeTime = 2 * time.Second
)

// makeDir makes a group and what is missing above it, down from base, which must be there. Somebody else may be
// removing the empty parent at the same time, hence the rounds.
func makeDir(base, dir string) error {
	for range 10 {
		err := unix.Mkdir(dir, 0o755)
		if err != unix.ENOENT || dir == base || !strings.HasPrefix(dir, base+"/") {
			return pathError("create cgroup", dir, err)
		}
		if err := makeDir(base, path.Dir(dir)); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return pathError("create cgroup", dir, unix.ENOENT)
}

// makeGroupDir makes the directory of a new group. What a killed process has left of one with the same name is removed
// before, or taken over with the processes in it.
func makeGroupDir(base, dir string) error {
	err := makeDir(base, dir)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	for _, sub := range append(subgroups(dir), dir) {
		unix.Rmdir(sub)
	}
	if err = makeDir(base, dir); errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// removeDir removes a group and all below it. The kernel says EBUSY for a while after the last process has ended.
func removeDir(dir string) error {
	deadline := time.Now().Add(removeTime)
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			tidy(path.Dir(dir))
			return nil
		}
		if err != unix.EBUSY && err != unix.ENOTEMPTY || time.Now().After(deadline) {
			return pathError("remove cgroup", dir, err)
		}
		for _, sub := range subgroups(dir) {
			unix.Rmdir(sub)
		}
		if unix.Rmdir(dir) != nil {
			time.Sleep(min(wait, 50*time.Millisecond))
		}
	}
}

// tidy removes the parent that New has made, if it is empty now.
func tidy(parent string) {
	if path.Base(parent) == defaultParent {
		unix.Rmdir(parent)
	}
}

// subgroups lists all groups below dir, the deepest first.
func subgroups(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() {
			sub := path.Join(dir, e.Name())
			list = append(append(list, subgroups(sub)...), sub)
		}
	}
	return list
}

// processes lists the processes in a group and in those below it. A group that is gone has none.
func processes(dir string) ([]int, error) {
	var pids []int
	for _, d := range append(subgroups(dir), dir) {
		b, err := readFile(unix.AT_FDCWD, path.Join(d, "cgroup.procs"))
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
				continue
			}
			return nil, err
		}
		for line := range bytes.Lines(b) {
			if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// killAll kills what is in the group until nothing is. While they can, processes make new ones, so the caller freezes
// them first if it is able to, and thaw lets them die.
func killAll(dir string, freeze, thaw func()) error {
	deadline := time.Now().Add(killTime)
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		pids, err := processes(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill cgroup %s: %d processes still live after %v", dir, len(pids), killTime)
		}
		freeze()
		if pids, err = processes(dir); err == nil {
			signal(pids)
		}
		thaw()
		time.Sleep(min(wait, 20*time.Millisecond))
	}
}

// signal kills processes; the one that asks is never among them, whatever group it was put into.
func signal(pids []int) {
	self := unix.Getpid()
	for _, pid := range pids {
		if pid != self {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}
