package cgroups

import (
	"bytes"

	"golang.org/x/sys/unix"
)

func (g *groupV2) Stats() (Stats, error) {
	var s Stats
	cpu, err := readFile(unix.AT_FDCWD, g.file("cpu.stat"))
	if err != nil {
		return s, err // every group has it, so this one is gone
	}
	s.CPU = cpuStatV2(cpu)
	g.memory(&s)
	g.pids(&s)
	g.disk(&s)
	return s, nil
}

func cpuStatV2(b []byte) CPUStats {
	const us = 1000 // ns
	return CPUStats{Total: us * keyed(b, "usage_usec"), User: us * keyed(b, "user_usec"), System: us * keyed(b, "system_usec"),
		Periods: keyed(b, "nr_periods"), Throttled: keyed(b, "nr_throttled"), ThrottledTime: us * keyed(b, "throttled_usec")}
}

func (g *groupV2) number(file string) uint64 {
	n, _ := readNumber(unix.AT_FDCWD, g.file(file))
	return n
}

func (g *groupV2) memory(s *Stats) {
	usage, err := readNumber(unix.AT_FDCWD, g.file("memory.current"))
	if err != nil {
		s.Missing = append(s.Missing, "memory")
		return
	}
	stat, _ := readFile(unix.AT_FDCWD, g.file("memory.stat"))
	events, _ := readFile(unix.AT_FDCWD, g.file("memory.events"))
	s.Memory = MemoryStats{Usage: usage, Limit: g.number("memory.max"), Max: g.number("memory.peak"),
		Swap: g.number("memory.swap.current"), Cache: keyed(stat, "inactive_file"), Failures: keyed(events, "max"),
		OOMKill: keyed(events, "oom_kill")}
}

func (g *groupV2) pids(s *Stats) {
	current, err := readNumber(unix.AT_FDCWD, g.file("pids.current"))
	if err != nil {
		s.Missing = append(s.Missing, "pids")
		return
	}
	s.Pids = PidsStats{Current: current, Limit: g.number("pids.max"), Max: g.number("pids.peak")}
}

func (g *groupV2) disk(s *Stats) {
	b, err := readFile(unix.AT_FDCWD, g.file("io.stat"))
	if err != nil {
		s.Missing = append(s.Missing, "disk")
		return
	}
	s.Disk = ioStat(b)
}

// ioStat adds up lines of the form "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
func ioStat(text []byte) DiskStats {
	var d DiskStats
	for _, field := range bytes.Fields(text) {
		key, value, ok := bytes.Cut(field, []byte("="))
		if !ok {
			continue
		}
		n, _ := parseNumber(value)
		switch string(key) {
		case "rbytes":
			d.ReadBytes += n
		case "wbytes":
			d.WriteBytes += n
		case "rios":
			d.Reads += n
		case "wios":
			d.Writes += n
		}
	}
	return d
}
