package cgroups

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// lines shows a plan as one line for each file.
func lines(list []setting) []string {
	var out []string
	for _, s := range list {
		l := s.controller + ": " + s.file + " = " + s.value
		if s.instead != nil {
			l += ", or " + s.instead.file + " = " + s.instead.value
		}
		out = append(out, l)
	}
	return out
}

func disk(major, minor int64) specs.LinuxBlockIODevice {
	return specs.LinuxBlockIODevice{Major: major, Minor: minor}
}

func rate(major, minor int64, n uint64) []specs.LinuxThrottleDevice {
	return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk(major, minor), Rate: n}}
}

func weights(w, leaf *uint16) []specs.LinuxWeightDevice {
	return []specs.LinuxWeightDevice{{LinuxBlockIODevice: disk(8, 16), Weight: w, LeafWeight: leaf}}
}

// TestPlans says what becomes of limits in either version; lost are the flags that get a warning.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		name           string
		r              specs.LinuxResources
		v1, v2         []string
		lostV1, lostV2 []string
	}{
		{name: "nothing"},
		{name: "zero is nothing", r: specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(0)), Swap: ptr(int64(0)), Reservation: ptr(int64(0))},
			CPU:    &specs.LinuxCPU{Shares: ptr(uint64(0)), Quota: ptr(int64(0)), Period: ptr(uint64(0))},
			Pids:   &specs.LinuxPids{Limit: ptr(int64(0))}, BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(0))}}},
		{name: "memory", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}},
			v1: []string{"memory: memory.limit_in_bytes = 67108864"}, v2: []string{"memory: memory.max = 67108864"}},
		{name: "memory and swap", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)),
			Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(1 << 20))}},
			v1: []string{"memory: memory.limit_in_bytes = 67108864", "memory: memory.memsw.limit_in_bytes = 134217728",
				"memory: memory.soft_limit_in_bytes = 1048576"},
			v2: []string{"memory: memory.max = 67108864", "memory: memory.swap.max = 67108864", "memory: memory.low = 1048576"}},
		{name: "no swap", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(5))}},
			v1: []string{"memory: memory.limit_in_bytes = 5", "memory: memory.memsw.limit_in_bytes = 5"},
			v2: []string{"memory: memory.max = 5", "memory: memory.swap.max = 0"}},
		{name: "swap without end", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(-1))}},
			v1: []string{"memory: memory.limit_in_bytes = 5", "memory: memory.memsw.limit_in_bytes = -1"},
			v2: []string{"memory: memory.max = 5", "memory: memory.swap.max = max"}},
		{name: "memory without end", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}},
			v1: []string{"memory: memory.limit_in_bytes = -1", "memory: memory.memsw.limit_in_bytes = -1"},
			v2: []string{"memory: memory.max = max"}},
		{name: "rest of memory", r: specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(0)),
			DisableOOMKiller: ptr(true), KernelTCP: ptr(int64(7))}},
			v1:     []string{"memory: memory.kmem.tcp.limit_in_bytes = 7", "memory: memory.swappiness = 0", "memory: memory.oom_control = 1"},
			lostV2: []string{flagSwappiness, flagOOM, flagTCP}},
		{name: "cpu", r: specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)),
			Period: ptr(uint64(100000)), Cpus: "0-1,3", Mems: "0", Burst: ptr(uint64(10)), Idle: ptr(int64(1))}},
			v1: []string{"cpu: cpu.shares = 1024", "cpu: cpu.cfs_period_us = 100000", "cpu: cpu.cfs_quota_us = 50000",
				"cpu: cpu.cfs_burst_us = 10", "cpu: cpu.idle = 1", "cpuset: cpuset.cpus = 0-1,3", "cpuset: cpuset.mems = 0"},
			v2: []string{"cpu: cpu.weight = 39", "cpu: cpu.max = 50000 100000", "cpu: cpu.max.burst = 10", "cpu: cpu.idle = 1",
				"cpuset: cpuset.cpus = 0-1,3", "cpuset: cpuset.mems = 0"}},
		{name: "quota alone", r: specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(1000))}},
			v1: []string{"cpu: cpu.cfs_quota_us = 1000"}, v2: []string{"cpu: cpu.max = 1000"}},
		{name: "quota without end", r: specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}},
			v1: []string{"cpu: cpu.cfs_quota_us = -1"}, v2: []string{"cpu: cpu.max = max"}},
		{name: "period alone", r: specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(1000))}},
			v1: []string{"cpu: cpu.cfs_period_us = 1000"}, v2: []string{"cpu: cpu.max = max 1000"}},
		{name: "real time", r: specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: ptr(uint64(9)), RealtimeRuntime: ptr(int64(8))}},
			v1: []string{"cpu: cpu.rt_period_us = 9", "cpu: cpu.rt_runtime_us = 8"}, lostV2: []string{flagRTPeriod, flagRTRuntime}},
		{name: "pids", r: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(10))}},
			v1: []string{"pids: pids.max = 10"}, v2: []string{"pids: pids.max = 10"}},
		{name: "pids without end", r: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}},
			v1: []string{"pids: pids.max = max"}, v2: []string{"pids: pids.max = max"}},
		{name: "disks", r: specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(500)),
			WeightDevice: weights(ptr(uint16(1000)), nil), ThrottleReadBpsDevice: rate(8, 0, 1), ThrottleWriteBpsDevice: rate(8, 0, 2),
			ThrottleReadIOPSDevice: rate(8, 0, 3), ThrottleWriteIOPSDevice: rate(8, 16, 0)}},
			v1: []string{"blkio: blkio.weight = 500, or blkio.bfq.weight = 500",
				"blkio: blkio.weight_device = 8:16 1000, or blkio.bfq.weight_device = 8:16 1000",
				"blkio: blkio.throttle.read_bps_device = 8:0 1", "blkio: blkio.throttle.write_bps_device = 8:0 2",
				"blkio: blkio.throttle.read_iops_device = 8:0 3", "blkio: blkio.throttle.write_iops_device = 8:16 0"},
			v2: []string{"io: io.bfq.weight = 500, or io.weight = 4950", "io: io.bfq.weight = 8:16 1000, or io.weight = 8:16 10000",
				"io: io.max = 8:0 rbps=1", "io: io.max = 8:0 wbps=2", "io: io.max = 8:0 riops=3", "io: io.max = 8:16 wiops=max"}},
		{name: "leaves", r: specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(5)),
			WeightDevice: weights(nil, ptr(uint16(7)))}},
			v1: []string{"blkio: blkio.leaf_weight = 5", "blkio: blkio.leaf_weight_device = 8:16 7"}, lostV2: []string{flagWeightDev, flagWeight}},
		{name: "huge pages", r: specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4}}},
			v1: []string{"hugetlb: hugetlb.2MB.limit_in_bytes = 4"}, v2: []string{"hugetlb: hugetlb.2MB.max = 4"}},
		{name: "the rest", r: specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))},
			Rdma: map[string]specs.LinuxRdma{"mlx": {}}, Unified: map[string]string{"memory.high": "7", "cpu.weight.nice": "1"}},
			v2:     []string{"cpu: cpu.weight.nice = 1", "memory: memory.high = 7"},
			lostV1: []string{flagNetwork, flagRdma, flagUnified}, lostV2: []string{flagNetwork, flagRdma}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v1, lost := planV1(&c.r)
			same(t, lines(v1), c.v1)
			same(t, flags(lost), c.lostV1)
			v2, lost, err := planV2(&c.r)
			if err != nil {
				t.Fatal(err)
			}
			same(t, lines(v2), c.v2)
			same(t, flags(lost), c.lostV2)
		})
	}
}

func flags(list []Warning) []string {
	var out []string
	for _, w := range list {
		out = append(out, w.Flag)
	}
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestSwapErrors(t *testing.T) {
	for _, c := range []struct {
		m    specs.LinuxMemory
		want string
	}{
		{specs.LinuxMemory{Swap: ptr(int64(5))}, "limit on memory and swap 5: it needs a limit on memory alone"},
		{specs.LinuxMemory{Swap: ptr(int64(5)), Limit: ptr(int64(-1))}, "limit on memory and swap 5: it needs a limit on memory alone"},
		{specs.LinuxMemory{Swap: ptr(int64(5)), Limit: ptr(int64(6))}, "limit on memory and swap 5: it is less than 6 for memory alone"},
	} {
		if _, _, err := planV2(&specs.LinuxResources{Memory: &c.m}); fmt.Sprint(err) != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestWeights(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 2048: 79, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight of %d shares: %d, want %d", shares, got, want)
		}
	}
	for w, want := range map[uint16]uint64{1: 1, 10: 1, 500: 4950, 1000: 10000} {
		if got := ioWeight(w); got != want {
			t.Errorf("io weight of %d: %d, want %d", w, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ name, parent, want string }{
		{"", "", `cgroup "": want a file name`}, {"a/b", "", `cgroup "a/b": want a file name`}, {"..", "", `cgroup "..": want a file name`},
		{"a", "x/../y", `cgroup parent "x/../y": .. leads out of it`},
	} {
		if _, _, err := New(c.name, nil, Options{Parent: c.parent}); fmt.Sprint(err) != c.want {
			t.Errorf("%q in %q: %v, want %s", c.name, c.parent, err, c.want)
		}
	}
	for _, paths := range [][]string{nil, {"x"}, {"memory:y"}} {
		if _, err := Open(paths); err == nil {
			t.Errorf("Open(%q) succeeds", paths)
		}
	}
}

func TestWarnings(t *testing.T) {
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(9))},
		BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: append(rate(8, 0, 1), rate(8, 1, 1)...)}}
	var got []string
	for _, w := range cannot(r, "why") {
		got = append(got, w.String())
	}
	same(t, got, []string{"--memory has no effect: why", "--memory-swap has no effect: why", "--device-read-bps has no effect: why"})
}
