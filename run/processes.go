package run

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

// processes lists the pids, as the host counts, of all that runs in the container, in ascending order. A container that
// does not run has none.
//
// Where it has a cgroup, they are those of the group. Else they are those in its pid namespace and in others made within
// that one; exec puts its programs there too. A pid namespace that is not the container's own (--pid host without a
// cgroup, --pid container:X) tells nothing: then they are the program and what descends from it.
//
// The kernel gives numbers away again, so who means to do more than look should check with a pidfd that it still holds the
// same process.
func (c *Container) processes() ([]int, error) {
	if c.Pid == 0 || startTime(c.Pid) != c.PidStart {
		return nil, nil
	}
	if len(c.Cgroups) > 0 {
		g, err := cgroups.Open(c.Cgroups)
		if err != nil {
			return nil, err
		}
		defer g.Close()
		list, err := g.Processes()
		list = slices.DeleteFunc(list, c.outside())
		slices.Sort(list)
		return list, err
	}
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	k := &kin{ns: pidNamespace(c.Pid), family: map[int]bool{c.Pid: true}, within: map[string]bool{}}
	if k.ns == "" || !leadsNamespace(c.Pid) {
		k.ns = "" // go by descent
	}
	var list []int
	for _, pid := range all {
		if k.has(pid) {
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list, nil
}

// outside tells which processes of the container's cgroup are not in its pid namespace: what stays with a program of exec
// to end it, see package ns. The container itself does not see them either.
func (c *Container) outside() func(pid int) bool {
	ours := pidNamespace(os.Getpid())
	if ours == "" || ours == pidNamespace(c.Pid) {
		return func(int) bool { return false }
	}
	return func(pid int) bool { return pidNamespace(pid) == ours }
}

// kin tells who belongs to a container.
type kin struct {
	ns     string          // its pid namespace, "" if that is not its own
	within map[string]bool // namespaces that were looked at: whether they lie within ns
	family map[int]bool    // processes that were looked at
}

// has tells whether a process belongs to the container: by its namespace, or where that cannot be read or says nothing, by
// its parent.
func (k *kin) has(pid int) bool {
	known, ok := k.family[pid]
	if ok {
		return known
	}
	k.family[pid] = false // parents that were replaced while we looked could form a circle
	k.family[pid] = k.find(pid)
	return k.family[pid]
}

func (k *kin) find(pid int) bool {
	if k.ns != "" {
		if ns := pidNamespace(pid); ns != "" {
			return k.holds(ns, pid)
		}
	}
	stat, err := readStat(pid)
	return err == nil && stat.ppid > 1 && k.has(stat.ppid)
}

// holds tells whether the pid namespace ns, that of process pid, is the container's or lies within it.
func (k *kin) holds(ns string, pid int) bool {
	if in, ok := k.within[ns]; ok {
		return in
	}
	in := ns == k.ns
	if !in {
		in = k.above(pid)
	}
	k.within[ns] = in
	return in
}

// above climbs from the namespace of pid to those that it was made in (ioctl_nsfs(2)). The climb ends with an error above
// our own.
func (k *kin) above(pid int) bool {
	f, err := os.Open(procFile(pid, "ns/pid"))
	for err == nil {
		var up int
		up, err = unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_PARENT)
		f.Close()
		if err != nil {
			break
		}
		f = os.NewFile(uintptr(up), "pid namespace")
		var st unix.Stat_t
		if unix.Fstat(up, &st) == nil && "pid:["+strconv.FormatUint(st.Ino, 10)+"]" == k.ns {
			f.Close()
			return true
		}
	}
	return false
}

// pidNamespace names a process's pid namespace, "" if it has ended or is none of ours to look at.
func pidNamespace(pid int) string {
	name, _ := os.Readlink(procFile(pid, "ns/pid"))
	return name
}

// leadsNamespace tells whether a process is pid 1 of a namespace: the last of its numbers is 1 (proc_pid_status(5)).
func leadsNamespace(pid int) bool {
	text, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(numbers)
			return len(f) > 1 && f[len(f)-1] == "1"
		}
	}
	return false
}
