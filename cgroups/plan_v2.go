package cgroups

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// planV2 says what to write for the limits in r, and what cannot be kept. It fails on a contradiction: less memory and
// swap together than memory alone. It does not plan the devices, see deviceList.
func planV2(r *specs.LinuxResources) ([]setting, []Warning, error) {
	var p []setting
	w := strangers(r, false, "")
	var err error
	if r.Memory != nil {
		if p, w, err = memoryV2(p, w, r.Memory); err != nil {
			return nil, nil, err
		}
	}
	if r.CPU != nil {
		p, w = cpuV2(p, w, r.CPU)
	}
	if r.Pids != nil && set(r.Pids.Limit) {
		p = append(p, setting{controller: "pids", file: "pids.max", value: most(*r.Pids.Limit), flag: flagPids})
	}
	if r.BlockIO != nil {
		p, w = ioV2(p, w, r.BlockIO)
	}
	for _, h := range r.HugepageLimits {
		p = append(p, setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".max", value: unsigned(h.Limit),
			flag: flagHuge})
	}
	return unifiedV2(p, r.Unified), w, nil
}

// unifiedV2 takes files and values as they are, sorted so that the order is the same every time.
func unifiedV2(p []setting, files map[string]string) []setting {
	begin := len(p)
	for file, value := range files {
		controller, _, _ := strings.Cut(file, ".")
		p = append(p, setting{controller: controller, file: file, value: value, flag: flagUnified})
	}
	slices.SortFunc(p[begin:], func(a, b setting) int { return strings.Compare(a.file, b.file) })
	return p
}

// memoryV2 counts swap apart, where version 1 counts it together with memory.
func memoryV2(p []setting, w []Warning, m *specs.LinuxMemory) ([]setting, []Warning, error) {
	add := func(file, value, flag string) {
		p = append(p, setting{controller: "memory", file: file, value: value, flag: flag})
	}
	if set(m.Limit) {
		add("memory.max", most(*m.Limit), flagMemory)
	}
	if set(m.Swap) {
		swap, err := swapAlone(*m.Swap, m.Limit)
		if err != nil {
			return nil, nil, err
		}
		add("memory.swap.max", swap, flagSwap)
	}
	if set(m.Reservation) {
		add("memory.low", most(*m.Reservation), flagReservation)
	}
	if m.Swappiness != nil {
		w = warn(w, flagSwappiness, "cgroup v2 has no such thing")
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		w = warn(w, flagOOM, "cgroup v2 has no such thing")
	}
	if set(m.KernelTCP) {
		w = warn(w, flagTCP, "cgroup v2 has no such thing")
	}
	return p, w, nil
}

// swapAlone takes memory from memory and swap together.
func swapAlone(both int64, memory *int64) (string, error) {
	switch {
	case both < 0:
		return "max", nil
	case !set(memory) || *memory < 0:
		return "", fmt.Errorf("limit on memory and swap %d: it needs a limit on memory alone", both)
	case both < *memory:
		return "", fmt.Errorf("limit on memory and swap %d: it is less than %d for memory alone", both, *memory)
	}
	return signed(both - *memory), nil
}

// weight turns shares (2 to 262144, usually 1024) into a weight (1 to 10000, usually 100), as runc does.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func cpuV2(p []setting, w []Warning, c *specs.LinuxCPU) ([]setting, []Warning) {
	add := func(file, value, flag string) {
		p = append(p, setting{controller: "cpu", file: file, value: value, flag: flag})
	}
	if set(c.Shares) {
		add("cpu.weight", unsigned(weight(*c.Shares)), flagShares)
	}
	switch {
	case set(c.Quota) && set(c.Period):
		add("cpu.max", most(*c.Quota)+" "+unsigned(*c.Period), flagQuota)
	case set(c.Quota):
		add("cpu.max", most(*c.Quota), flagQuota) // the period stays 100000 µs
	case set(c.Period):
		add("cpu.max", "max "+unsigned(*c.Period), flagPeriod)
	}
	if c.Burst != nil {
		add("cpu.max.burst", unsigned(*c.Burst), flagBurst)
	}
	if c.Idle != nil {
		add("cpu.idle", signed(*c.Idle), flagIdle)
	}
	if set(c.RealtimePeriod) {
		w = warn(w, flagRTPeriod, "cgroup v2 has no such thing")
	}
	if set(c.RealtimeRuntime) {
		w = warn(w, flagRTRuntime, "cgroup v2 has no such thing")
	}
	return cpusets(p, c), w
}

// ioWeight turns Docker's weight (10 to 1000) into that of io.weight (1 to 10000).
func ioWeight(w uint16) uint64 { return 1 + (uint64(max(w, 10))-10)*9999/990 }

// ioV2 sets the weight of the BFQ scheduler where it is in use, which counts as Docker does, else io.weight.
func ioV2(p []setting, w []Warning, b *specs.LinuxBlockIO) ([]setting, []Warning) {
	add := func(device string, weight uint16, flag string) {
		other := setting{controller: "io", file: "io.weight", value: device + unsigned(ioWeight(weight)), flag: flag}
		p = append(p, setting{controller: "io", file: "io.bfq.weight", value: device + unsigned(uint64(weight)), flag: flag,
			instead: &other})
	}
	if set(b.Weight) {
		add("", *b.Weight, flagWeight)
	}
	for _, d := range b.WeightDevice {
		if set(d.Weight) {
			add(number(d.LinuxBlockIODevice)+" ", *d.Weight, flagWeightDev)
		}
		if set(d.LeafWeight) {
			w = warn(w, flagWeightDev, "cgroup v2 has no weight for leaves")
		}
	}
	if set(b.LeafWeight) {
		w = warn(w, flagWeight, "cgroup v2 has no weight for leaves")
	}
	for _, t := range throttles(b) {
		for _, d := range t.list {
			rate := unsigned(d.Rate)
			if d.Rate == 0 {
				rate = "max"
			}
			p = append(p, setting{controller: "io", file: "io.max",
				value: number(d.LinuxBlockIODevice) + " " + t.v2 + "=" + rate, flag: t.flag})
		}
	}
	return p, w
}
