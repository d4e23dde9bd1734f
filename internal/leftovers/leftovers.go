// Package leftovers finds what a run of programs left on this machine: mounts, cgroups, network interfaces, files and
// processes that were not there before. The tests and the benchmark use it to prove that they clean up.
//
// A network namespace without a name lives as long as a process, a mount or an open file holds it; the first two are
// found here as themselves, and the last dies with its process. So namespaces are not listed separately, save for the
// named ones, which are files below /run/netns.
package leftovers

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Snapshot is what can be left over, each item as one line that a person understands: "mount /x (overlay)".
type Snapshot map[string]bool

// Depth is how many levels below the folders given to Take are looked at.
const Depth = 3

// Take lists the mounts of this mount namespace, the cgroups without a process, the network interfaces, and the files in dirs. A folder
// that does not exist is empty; one that may not be read is an error.
func Take(dirs ...string) (Snapshot, error) {
	s := Snapshot{}
	if err := s.mounts("/proc/self/mountinfo"); err != nil {
		return nil, err
	}
	if err := s.walk("cgroup", "/sys/fs/cgroup", 64, fs.FileMode.IsDir); err != nil {
		return nil, err
	}
	maps.DeleteFunc(s, func(item string, _ bool) bool {
		path, group := strings.CutPrefix(item, "cgroup ")
		return group && populated(path)
	})
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, l := range links {
		s["network interface "+l.Name] = true
	}
	for _, dir := range dirs {
		if err := s.walk("file", dir, Depth, func(fs.FileMode) bool { return true }); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// populated says whether a cgroup holds a process. Such a group is somebody else's at work beside the tests, or else its
// process is what is left, see [Processes].
func populated(group string) bool {
	procs, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	return err == nil && len(procs) > 0
}

// mounts adds the lines of a mountinfo file: the fifth field is the mount point, and the file system's type follows a
// lone dash (proc_pid_mountinfo(5)).
func (s Snapshot) mounts(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay's options can fill a page and more
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 0 || dash+1 >= len(fields) || len(fields) < 5 {
			return fmt.Errorf("parse %s: %q", path, lines.Text())
		}
		s[fmt.Sprintf("mount %s (%s)", fields[4], fields[dash+1])] = true
	}
	return lines.Err()
}

func (s Snapshot) walk(kind, dir string, depth int, want func(fs.FileMode) bool) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // gone since its folder was read
			return nil
		case os.IsPermission(err) && path != dir:
			return fs.SkipDir
		case err != nil:
			return err
		case path == dir:
			return nil
		case ours(e.Name()):
			return skip(e)
		}
		if want(e.Type()) {
			s[kind+" "+path] = true
		}
		if strings.Count(path[len(dir):], "/") >= depth {
			return skip(e)
		}
		return nil
	})
}

func skip(e fs.DirEntry) error {
	if e.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// ours tells names that others make at any moment and remove themselves: the go command and systemd.
func ours(name string) bool {
	for _, p := range []string{"go-build", "go-link-", "systemd-private-"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	unit := filepath.Ext(name) // a service that systemd happened to start meanwhile
	return (unit == ".service" || unit == ".scope") && !strings.Contains(name, "hull")
}

// Since returns what s has and before has not, sorted.
func (s Snapshot) Since(before Snapshot) []string {
	var left []string
	for item := range s {
		if !before[item] {
			left = append(left, item)
		}
	}
	slices.Sort(left)
	return left
}

// Wait takes snapshots until nothing is left in addition to before, no process is below this one, or patience ends.
// What the kernel takes down in the background (a network namespace's interfaces, a cgroup's last process) needs a
// moment. It returns what was left at last.
func Wait(before Snapshot, patience time.Duration, dirs ...string) ([]string, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		now, err := Take(dirs...)
		if err != nil {
			return nil, err
		}
		left, err := Processes(os.Getpid())
		if err != nil {
			return nil, err
		}
		left = append(left, now.Since(before)...)
		if len(left) == 0 || time.Now().After(deadline) {
			return left, nil
		}
	}
}

// Processes lists the living processes below pid, with their command lines. Where pid is a child subreaper (prctl(2)),
// these are also the ones that have put themselves into the background.
func Processes(pid int) ([]string, error) {
	pids, err := descendants(pid)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, p := range pids {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		if err != nil || len(cmdline) == 0 { // ended meanwhile, or a zombie
			continue
		}
		words := strings.ReplaceAll(strings.TrimRight(string(cmdline), "\x00"), "\x00", " ")
		left = append(left, fmt.Sprintf("process %d: %s", p, words))
	}
	slices.Sort(left)
	return left, nil
}

// Kill tells all processes below this one to end at once.
func Kill() error {
	pids, err := descendants(os.Getpid())
	if err != nil {
		return err
	}
	for _, p := range pids {
		if err := syscall.Kill(p, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("kill %d: %w", p, err)
		}
	}
	return nil
}

// Reap returns when this process has no child left. Call it when nobody else waits for one.
func Reap() {
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && err != syscall.EINTR {
			return // no child is left
		}
	}
}

func descendants(pid int) ([]int, error) {
	parents, err := parents()
	if err != nil {
		return nil, err
	}
	var pids []int
	for p := range parents {
		if below(parents, p, pid) {
			pids = append(pids, p)
		}
	}
	return pids, nil
}

func below(parents map[int]int, p, ancestor int) bool {
	for hops := 0; p > 1 && hops < len(parents); hops++ {
		if p = parents[p]; p == ancestor {
			return true
		}
	}
	return false
}

// parents maps each process to its parent: the second field after the command's closing bracket in /proc/PID/stat.
func parents() (map[int]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	m := map[int]int{}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", d.Name(), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			m[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return m, nil
}
