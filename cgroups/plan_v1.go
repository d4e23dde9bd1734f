package cgroups

import "github.com/opencontainers/runtime-spec/specs-go"

// planV1 says what to write for the limits in r, in the order in which to write it, and what cannot be kept. It does
// not plan the devices, see deviceList.
func planV1(r *specs.LinuxResources) ([]setting, []Warning) {
	var p []setting
	if r.Memory != nil {
		p = memoryV1(p, r.Memory)
	}
	if r.CPU != nil {
		p = cpuV1(p, r.CPU)
	}
	if r.Pids != nil && set(r.Pids.Limit) {
		p = append(p, setting{controller: "pids", file: "pids.max", value: most(*r.Pids.Limit), flag: flagPids})
	}
	if r.BlockIO != nil {
		p = blkioV1(p, r.BlockIO)
	}
	for _, h := range r.HugepageLimits {
		p = append(p, setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".limit_in_bytes",
			value: unsigned(h.Limit), flag: flagHuge})
	}
	return p, strangers(r, r.Unified != nil, "it needs cgroup v2")
}

// strangers are the parts of r that hull does not know what to do with.
func strangers(r *specs.LinuxResources, unified bool, cause string) []Warning {
	var w []Warning
	if r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0) {
		w = warn(w, flagNetwork, "hull does not set it")
	}
	if len(r.Rdma) > 0 {
		w = warn(w, flagRdma, "hull does not set it")
	}
	if unified {
		w = warn(w, flagUnified, cause)
	}
	return w
}

// memoryV1 puts the limit before memory and swap together, which may never be less than it; a new group has neither.
func memoryV1(p []setting, m *specs.LinuxMemory) []setting {
	add := func(file, value, flag, pair string) {
		p = append(p, setting{controller: "memory", file: file, value: value, flag: flag, pair: pair})
	}
	if set(m.Limit) {
		add("memory.limit_in_bytes", signed(*m.Limit), flagMemory, "memory")
	}
	if set(m.Swap) {
		add("memory.memsw.limit_in_bytes", signed(*m.Swap), flagSwap, "memory")
	} else if set(m.Limit) && *m.Limit < 0 {
		// Without a limit on memory there can be none on both.
		add("memory.memsw.limit_in_bytes", "-1", flagMemory, "memory")
	}
	if set(m.Reservation) {
		add("memory.soft_limit_in_bytes", signed(*m.Reservation), flagReservation, "")
	}
	if set(m.KernelTCP) {
		add("memory.kmem.tcp.limit_in_bytes", signed(*m.KernelTCP), flagTCP, "")
	}
	if m.Swappiness != nil {
		add("memory.swappiness", unsigned(*m.Swappiness), flagSwappiness, "")
	}
	if m.DisableOOMKiller != nil {
		add("memory.oom_control", map[bool]string{false: "0", true: "1"}[*m.DisableOOMKiller], flagOOM, "")
	}
	return p
}

func cpuV1(p []setting, c *specs.LinuxCPU) []setting {
	add := func(file, value, flag, pair string) {
		p = append(p, setting{controller: "cpu", file: file, value: value, flag: flag, pair: pair})
	}
	if set(c.Shares) {
		add("cpu.shares", unsigned(*c.Shares), flagShares, "")
	}
	if set(c.RealtimePeriod) {
		add("cpu.rt_period_us", unsigned(*c.RealtimePeriod), flagRTPeriod, "rt")
	}
	if set(c.RealtimeRuntime) {
		add("cpu.rt_runtime_us", signed(*c.RealtimeRuntime), flagRTRuntime, "rt")
	}
	if set(c.Period) {
		add("cpu.cfs_period_us", unsigned(*c.Period), flagPeriod, "cfs")
	}
	if set(c.Quota) {
		add("cpu.cfs_quota_us", signed(*c.Quota), flagQuota, "cfs")
	}
	if c.Burst != nil {
		add("cpu.cfs_burst_us", unsigned(*c.Burst), flagBurst, "")
	}
	if c.Idle != nil {
		add("cpu.idle", signed(*c.Idle), flagIdle, "")
	}
	return cpusets(p, c)
}

// cpusets is the same for both versions.
func cpusets(p []setting, c *specs.LinuxCPU) []setting {
	if c.Cpus != "" {
		p = append(p, setting{controller: "cpuset", file: "cpuset.cpus", value: c.Cpus, flag: flagCpus})
	}
	if c.Mems != "" {
		p = append(p, setting{controller: "cpuset", file: "cpuset.mems", value: c.Mems, flag: flagMems})
	}
	return p
}

// blkioV1 knows two names for the weight: the first went away with the CFQ scheduler.
func blkioV1(p []setting, b *specs.LinuxBlockIO) []setting {
	add := func(file, other, value, flag string) {
		s := setting{controller: "blkio", file: file, value: value, flag: flag}
		if other != "" {
			s.instead = &setting{controller: "blkio", file: other, value: value, flag: flag}
		}
		p = append(p, s)
	}
	if set(b.Weight) {
		add("blkio.weight", "blkio.bfq.weight", unsigned(uint64(*b.Weight)), flagWeight)
	}
	if set(b.LeafWeight) {
		add("blkio.leaf_weight", "", unsigned(uint64(*b.LeafWeight)), flagWeight)
	}
	for _, d := range b.WeightDevice {
		if set(d.Weight) {
			add("blkio.weight_device", "blkio.bfq.weight_device",
				number(d.LinuxBlockIODevice)+" "+unsigned(uint64(*d.Weight)), flagWeightDev)
		}
		if set(d.LeafWeight) {
			add("blkio.leaf_weight_device", "", number(d.LinuxBlockIODevice)+" "+unsigned(uint64(*d.LeafWeight)), flagWeightDev)
		}
	}
	for _, t := range throttles(b) {
		for _, d := range t.list {
			add(t.v1, "", number(d.LinuxBlockIODevice)+" "+unsigned(d.Rate), t.flag)
		}
	}
	return p
}

// most is a limit in the words of files that know "max".
func most(n int64) string {
	if n < 0 {
		return "max"
	}
	return signed(n)
}
