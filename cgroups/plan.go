package cgroups

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A setting is one value to write into one file of a group.
type setting struct {
	controller string
	file       string
	value      string
	flag       string // the limit as the user knows it
	// instead is for kernels that lack the file.
	instead *setting
	// pair is the same for two settings of which the kernel wants neither to go beyond the other: if it refuses the
	// first, because it is compared with the second's old value, the second is written first.
	pair string
}

// FlagDevices is what a [Warning] calls the rules for devices, which have no flag of their own.
const FlagDevices = "the list of allowed devices"

// The limits as they are called on the command line.
const (
	flagMemory      = "--memory"
	flagSwap        = "--memory-swap"
	flagReservation = "--memory-reservation"
	flagSwappiness  = "--memory-swappiness"
	flagOOM         = "--oom-kill-disable"
	flagShares      = "--cpu-shares"
	flagQuota       = "--cpus or --cpu-quota"
	flagPeriod      = "--cpu-period"
	flagRTRuntime   = "--cpu-rt-runtime"
	flagRTPeriod    = "--cpu-rt-period"
	flagCpus        = "--cpuset-cpus"
	flagMems        = "--cpuset-mems"
	flagPids        = "--pids-limit"
	flagWeight      = "--blkio-weight"
	flagWeightDev   = "--blkio-weight-device"
	flagReadBps     = "--device-read-bps"
	flagWriteBps    = "--device-write-bps"
	flagReadIOPS    = "--device-read-iops"
	flagWriteIOPS   = "--device-write-iops"
	flagTCP         = "the limit on TCP buffers"
	flagHuge        = "the limit on huge pages"
	flagNetwork     = "the class of network packets"
	flagRdma        = "the limit on RDMA"
	flagUnified     = "a value for cgroup v2"
	flagBurst       = "the processor burst"
	flagIdle        = "the processor idle class"
)

// A throttle is one of the four limits for a disk.
type throttle struct {
	flag string
	v1   string // the file
	v2   string // the key in io.max
	list []specs.LinuxThrottleDevice
}

func throttles(b *specs.LinuxBlockIO) [4]throttle {
	return [4]throttle{
		{flagReadBps, "blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{flagWriteBps, "blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{flagReadIOPS, "blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{flagWriteIOPS, "blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	}
}

func number(d specs.LinuxBlockIODevice) string {
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10)
}

func signed(n int64) string    { return strconv.FormatInt(n, 10) }
func unsigned(n uint64) string { return strconv.FormatUint(n, 10) }

// set says whether a limit is given; 0 is the same as none.
func set[T int64 | uint64 | uint16](n *T) bool { return n != nil && *n != 0 }
