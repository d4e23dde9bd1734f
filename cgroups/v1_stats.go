package cgroups

import (
	"bytes"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

func (g *groupV1) Stats() (Stats, error) {
	var s Stats
	if err := unix.Access(g.parts[0].dir, unix.F_OK); err != nil {
		return s, pathError("measure cgroup", g.parts[0].dir, err)
	}
	for _, m := range []struct {
		name, controller string
		measure          func(*Stats, string) error
	}{{"cpu", "cpuacct", cpuStatsV1}, {"memory", "memory", memoryStatsV1}, {"pids", "pids", pidsStatsV1}, {"disk", "blkio", diskStatsV1}} {
		if p := g.part(m.controller); p == nil || m.measure(&s, p.dir) != nil {
			s.Missing = append(s.Missing, m.name)
		}
	}
	if p := g.part("cpu"); p != nil {
		b, _ := readFile(unix.AT_FDCWD, path.Join(p.dir, "cpu.stat"))
		s.CPU.Periods, s.CPU.Throttled = keyed(b, "nr_periods"), keyed(b, "nr_throttled")
		s.CPU.ThrottledTime = keyed(b, "throttled_time")
	}
	return s, nil
}

func cpuStatsV1(s *Stats, dir string) (err error) {
	if s.CPU.Total, err = readNumber(unix.AT_FDCWD, path.Join(dir, "cpuacct.usage")); err != nil {
		return err
	}
	b, err := readFile(unix.AT_FDCWD, path.Join(dir, "cpuacct.stat"))
	const tick = uint64(time.Second / 100) // USER_HZ is 100 on all that Linux shows to programs
	s.CPU.User, s.CPU.System = tick*keyed(b, "user"), tick*keyed(b, "system")
	return err
}

// noLimitV1 is from where on a limit of version 1 is none: it is the highest multiple of a page.
const noLimitV1 = 1<<63 - 1<<16

func memoryStatsV1(s *Stats, dir string) error {
	read := func(file string) uint64 {
		n, _ := readNumber(unix.AT_FDCWD, path.Join(dir, file))
		return n
	}
	usage, err := readNumber(unix.AT_FDCWD, path.Join(dir, "memory.usage_in_bytes"))
	if err != nil {
		return err
	}
	stat, _ := readFile(unix.AT_FDCWD, path.Join(dir, "memory.stat"))
	oom, _ := readFile(unix.AT_FDCWD, path.Join(dir, "memory.oom_control"))
	s.Memory = MemoryStats{Usage: usage, Max: read("memory.max_usage_in_bytes"), Limit: read("memory.limit_in_bytes"),
		Cache: keyed(stat, "total_inactive_file"), Swap: keyed(stat, "total_swap"), Failures: read("memory.failcnt"),
		OOMKill: keyed(oom, "oom_kill")}
	if s.Memory.Limit >= noLimitV1 {
		s.Memory.Limit = unlimited
	}
	return nil
}

func pidsStatsV1(s *Stats, dir string) (err error) {
	if s.Pids.Current, err = readNumber(unix.AT_FDCWD, path.Join(dir, "pids.current")); err != nil {
		return err
	}
	s.Pids.Max, _ = readNumber(unix.AT_FDCWD, path.Join(dir, "pids.peak"))
	s.Pids.Limit, err = readNumber(unix.AT_FDCWD, path.Join(dir, "pids.max"))
	return err
}

// diskStatsV1 knows two sets of files: the throttle counts wherever the scheduler does not, and BFQ counts itself.
func diskStatsV1(s *Stats, dir string) error {
	bytes, err := readFile(unix.AT_FDCWD, path.Join(dir, "blkio.throttle.io_service_bytes_recursive"))
	if err != nil {
		return err
	}
	requests, err := readFile(unix.AT_FDCWD, path.Join(dir, "blkio.throttle.io_serviced_recursive"))
	s.Disk.ReadBytes, s.Disk.WriteBytes = serviced(bytes)
	s.Disk.Reads, s.Disk.Writes = serviced(requests)
	return err
}

// serviced adds up lines of the form "8:0 Read 4096".
func serviced(text []byte) (read, written uint64) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := parseNumber(f[2])
		switch string(f[1]) {
		case "Read":
			read += n
		case "Write":
			written += n
		}
	}
	return read, written
}
