package run

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

// Stats is what a container uses at one moment, and what it has used up to then since it was started.
type Stats struct {
	Time time.Time
	// CPU is the processor time it has used, in nanoseconds; Machine what the machine's processors, CPUs in number, have spent
	// meanwhile on anything, idling too, since some moment that is always the same.
	CPU, Machine uint64
	CPUs         int
	// Memory in bytes, without what the kernel keeps of files that were not used lately. The limit is the machine's memory
	// where the container has none of its own.
	Memory, MemoryLimit uint64
	// Processes and threads.
	PIDs uint64
	// Bytes received and sent on the container's network, and read from disks and written to them.
	Received, Sent uint64
	Read, Written  uint64
}

// CPUPercent is the part of one processor's time, in hundredths, that was used since an earlier measurement. It is counted
// as Docker does, by the kernel's own clock of processor time: with four processors 400 is all there is.
func (s Stats) CPUPercent(before Stats) float64 {
	if s.CPU <= before.CPU || s.Machine <= before.Machine {
		return 0
	}
	return float64(s.CPU-before.CPU) / float64(s.Machine-before.Machine) * float64(s.CPUs) * 100
}

// MemoryPercent is how much of its limit a container uses, in hundredths.
func (s Stats) MemoryPercent() float64 {
	if s.MemoryLimit == 0 {
		return 0
	}
	return float64(s.Memory) / float64(s.MemoryLimit) * 100
}

// Stats measures the container. One that does not run uses nothing.
//
// What its cgroup counts is read there. For the rest, which is everything for a container on cgroup v1 without limits, all its
// processes are looked at: the processor time and the disks' traffic of those that live and of the children that they have
// waited for, so that a process which ends unnoticed takes its share with it; and of memory the proportional set size, in
// which what several processes share is shared out among them, and which leaves out files in the page cache that nobody has
// mapped, and the kernel's own. The host's network, where that is the container's, counts as nothing.
func (c *Container) Stats() (Stats, error) {
	s := Stats{Time: time.Now()}
	if !c.Status.Alive() || c.Pid == 0 {
		return s, nil
	}
	var err error
	if s.Machine, s.CPUs, err = machineTime(); err != nil {
		return s, err
	}
	missing := []string{"cpu", "memory", "pids", "disk"}
	if len(c.Cgroups) > 0 {
		if missing, err = s.ofGroup(c.Cgroups); err != nil {
			missing = []string{"cpu", "memory", "pids", "disk"} // it has just ended
		}
	}
	if err := s.ofProcesses(c, missing); err != nil {
		return s, err
	}
	if c.Config.Network.Mode != NamespaceHost {
		s.Received, s.Sent = traffic(c.Pid)
	}
	var system unix.Sysinfo_t
	if err := unix.Sysinfo(&system); err != nil {
		return s, os.NewSyscallError("sysinfo", err)
	}
	if all := uint64(system.Totalram) * uint64(system.Unit); s.MemoryLimit == 0 || s.MemoryLimit > all {
		s.MemoryLimit = all
	}
	return s, nil
}

// ofGroup takes over what the cgroup counts, and says what it does not.
func (s *Stats) ofGroup(paths []string) (missing []string, err error) {
	g, err := cgroups.Open(paths)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	m, err := g.Stats()
	if err != nil {
		return nil, err
	}
	s.CPU, s.PIDs = m.CPU.Total, m.Pids.Current
	s.Memory, s.MemoryLimit = m.Memory.Usage-min(m.Memory.Cache, m.Memory.Usage), m.Memory.Limit
	s.Read, s.Written = m.Disk.ReadBytes, m.Disk.WriteBytes
	return m.Missing, nil
}

// ofProcesses adds up what is missing over the container's processes.
func (s *Stats) ofProcesses(c *Container, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	list, err := c.processes()
	if err != nil {
		return err
	}
	lacks := func(what string) bool { return slices.Contains(missing, what) }
	for _, pid := range list {
		stat, err := readStat(pid)
		if err != nil {
			continue // it has just ended
		}
		if lacks("cpu") {
			s.CPU += (stat.user + stat.system + stat.waitUser + stat.waitSystem) * uint64(time.Second/ticks)
		}
		if lacks("pids") {
			s.PIDs += uint64(stat.threads)
		}
		if lacks("memory") {
			s.Memory += residentMemory(pid, stat.resident)
		}
		if lacks("disk") {
			text, _ := os.ReadFile(procFile(pid, "io")) // proc_pid_io(5)
			s.Read += keyedNumber(text, "read_bytes:")
			s.Written += keyedNumber(text, "write_bytes:")
		}
	}
	return nil
}

// residentMemory is a process's proportional set size in bytes, or all that it has mapped where the kernel does not tell.
func residentMemory(pid int, resident uint64) uint64 {
	text, err := os.ReadFile(procFile(pid, "smaps_rollup"))
	if err != nil || !bytes.Contains(text, []byte("\nPss:")) {
		return resident
	}
	return keyedNumber(text, "Pss:") << 10
}

// keyedNumber is the number in the line that begins with a key, 0 if there is none.
func keyedNumber(text []byte, key string) uint64 {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == key {
			n, _ := strconv.ParseUint(string(f[1]), 10, 64)
			return n
		}
	}
	return 0
}

// machineTime is the time in ns that all processors have spent since the boot, and how many there are (proc_stat(5)). The
// last two of the ten kinds, guests' time, are part of the first two.
func machineTime() (ns uint64, cpus int, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			cpus++
			continue
		}
		for _, field := range f[1:8] {
			n, _ := strconv.ParseUint(field, 10, 64)
			ns += n * uint64(time.Second/ticks)
		}
	}
	return ns, cpus, nil
}

// traffic is what has gone through the interfaces of a process's network namespace, but for the loop (proc_pid_net(5)).
func traffic(pid int) (received, sent uint64) {
	text, _ := os.ReadFile(procFile(pid, "net/dev"))
	for line := range strings.Lines(string(text)) {
		name, numbers, ok := strings.Cut(line, ":")
		f := strings.Fields(numbers)
		if !ok || len(f) < 16 || strings.TrimSpace(name) == "lo" {
			continue
		}
		r, _ := strconv.ParseUint(f[0], 10, 64)
		t, _ := strconv.ParseUint(f[8], 10, 64)
		received, sent = received+r, sent+t
	}
	return received, sent
}
