package run

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ParseBytes reads an amount of memory or disk: a number, perhaps with a fraction, and b, k, m, g, t or p (also kb, KiB …),
// all to the base 1024 and in any case, as Docker does.
func ParseBytes(s string) (int64, error) {
	n, err := units.RAMInBytes(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("invalid size: %q: want a number with b, k, m, g or t, such as 64m", s)
	}
	// The library multiplies in floating point: what does not fit turns up as one of the two ends.
	if n < 0 || n == math.MaxInt64 {
		return 0, fmt.Errorf("invalid size: %q is too large", s)
	}
	return n, nil
}

// ParseSwap reads --memory-swap: an amount as in ParseBytes, or -1 for no limit.
func ParseSwap(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return ParseBytes(s)
}

// ParseCPUs reads --cpus, a decimal number of processors, and returns it in billionths (0.5 is 500,000,000).
// The smallest is 0.01, the kernel's smallest quota; 0 is no limit.
func ParseCPUs(s string) (nano int64, err error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, fmt.Errorf("cpus %q: want a decimal number such as 1.5", s)
	}
	if fraction = strings.TrimRight(fraction, "0"); len(fraction) > 9 {
		return 0, fmt.Errorf("cpus %q: value is too precise", s)
	}
	n, err := strconv.ParseInt("0"+whole, 10, 64)
	if err != nil || n > 1<<20 {
		return 0, fmt.Errorf("cpus %q: value is too large", s)
	}
	f, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if nano = n*1e9 + f; nano > 0 && nano < 1e7 {
		return 0, fmt.Errorf("cpus %q: the smallest is 0.01", s)
	}
	return nano, nil
}

// CheckCPUSet says what is wrong with a list such as "0-3,5", of processors or memory nodes. "" is no list.
func CheckCPUSet(s string) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		// 8191 is the largest NR_CPUS of any kernel configuration, and the limit in Docker's parser.
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b || b > 8191 {
			return fmt.Errorf("cpuset %q: invalid format at %q: want a list such as 0-3,5", s, part)
		}
	}
	return nil
}

// ParseUlimit reads one --ulimit, NAME=SOFT[:HARD], where -1 is no limit and SOFT alone stands for both.
// The limits are wishes: what the caller may not raise is clamped where they are set.
func ParseUlimit(s string) (specs.POSIXRlimit, error) {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return specs.POSIXRlimit{}, fmt.Errorf("ulimit %q: %w", s, err)
	}
	if u.Soft < -1 || u.Hard < -1 {
		return specs.POSIXRlimit{}, fmt.Errorf("ulimit %q: want -1 or a positive number", s)
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: rlimit(u.Soft), Hard: rlimit(u.Hard)}, nil
}

func rlimit(n int64) uint64 {
	if n == -1 {
		return unix.RLIM_INFINITY
	}
	return uint64(n)
}

// DeviceRate is a limit on one block device. The device's numbers are looked up when the limit is set.
type DeviceRate struct {
	// Path is the device's node on the host, below /dev.
	Path string
	// Rate is in bytes or operations a second, or a weight.
	Rate uint64
}

// ParseDeviceBps reads --device-read-bps and --device-write-bps: PATH:RATE, the rate as in ParseBytes.
func ParseDeviceBps(s string) (DeviceRate, error) {
	return parseDeviceRate(s, func(rate string) (uint64, error) {
		n, err := ParseBytes(rate)
		return uint64(n), err
	})
}

// ParseDeviceIOPS reads --device-read-iops and --device-write-iops: PATH:RATE, operations a second.
func ParseDeviceIOPS(s string) (DeviceRate, error) {
	return parseDeviceRate(s, func(rate string) (uint64, error) { return strconv.ParseUint(rate, 10, 64) })
}

// ParseDeviceWeight reads --blkio-weight-device: PATH:WEIGHT, from 10 to 1000, or 0 for none.
func ParseDeviceWeight(s string) (DeviceRate, error) {
	return parseDeviceRate(s, func(rate string) (uint64, error) {
		n, err := strconv.ParseUint(rate, 10, 16)
		if err == nil && n != 0 && (n < 10 || n > 1000) {
			err = errors.New("out of range")
		}
		return n, err
	})
}

func parseDeviceRate(s string, number func(string) (uint64, error)) (DeviceRate, error) {
	i := strings.LastIndex(s, ":")
	if i < 1 {
		return DeviceRate{}, fmt.Errorf("device rate %q: bad format: want PATH:RATE", s)
	}
	if !strings.HasPrefix(s, "/dev/") {
		return DeviceRate{}, fmt.Errorf("device rate %q: bad format for device path: want one below /dev", s)
	}
	rate, err := number(s[i+1:])
	if err != nil {
		return DeviceRate{}, fmt.Errorf("device rate %q: invalid rate for device: %q", s, s[i+1:])
	}
	return DeviceRate{Path: s[:i], Rate: rate}, nil
}

// ParseTimeout reads --timeout: TIME[,GRACE], each in seconds, or as a duration such as 90s, 2m or 1h30m. 0 is no limit,
// which a negative limit stands for, so that it can be told from one that nobody has spoken of.
func ParseTimeout(s string) (limit, grace time.Duration, err error) {
	first, second, hasGrace := strings.Cut(s, ",")
	if limit, err = parseSeconds(first); err == nil && hasGrace {
		grace, err = parseSeconds(second)
	}
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("timeout %q: want seconds or a duration such as 90s or 2m, and perhaps a grace: 10m,30s", s)
	case limit == 0 && hasGrace:
		return 0, 0, fmt.Errorf("timeout %q: 0 is no limit, so nothing can follow it", s)
	case limit == 0:
		limit = -1
	}
	return limit, grace, nil
}

// parseSeconds reads whole seconds, or a duration of Go's.
func parseSeconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}
