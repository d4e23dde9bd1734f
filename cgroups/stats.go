package cgroups

// Stats is what a group has used since it was made. What the machine's controllers do not measure is in Missing, and
// its fields are 0; a limit that there is not is the highest number.
type Stats struct {
	CPU    CPUStats
	Memory MemoryStats
	Pids   PidsStats
	Disk   DiskStats
	// Missing names the parts that are not measured: cpu, memory, pids, disk.
	Missing []string
}

// CPUStats are in nanoseconds of one processor.
type CPUStats struct {
	Total, User, System uint64
	// Periods of the quota that have passed, those in which the group was held back, and for how long.
	Periods, Throttled, ThrottledTime uint64
}

// MemoryStats are in bytes.
type MemoryStats struct {
	Usage, Max, Limit uint64 // Max is the highest Usage, where the kernel keeps it
	// Cache is what of Usage the kernel would give back first: pages of files that have not been used lately. Docker
	// subtracts it from Usage before it shows it.
	Cache             uint64
	Swap              uint64
	Failures, OOMKill uint64 // how often the limit was met, and processes killed for it
}

// PidsStats counts processes and threads. Max is the highest Current, where the kernel keeps it (pids.peak).
type PidsStats struct{ Current, Limit, Max uint64 }

// DiskStats are bytes and requests, of all disks together.
type DiskStats struct{ ReadBytes, WriteBytes, Reads, Writes uint64 }
