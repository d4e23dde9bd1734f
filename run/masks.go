package run

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// maskedPaths are Docker's (moby, daemon/pkg/oci/defaults.go), the files of these processors included.
func maskedPaths(cpus []int) []string {
	list := []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
	for _, n := range cpus {
		list = append(list, throttleFolder(cpuFolder, n))
	}
	return list
}

const cpuFolder = "/sys/devices/system/cpu"

func throttleFolder(cpus string, n int) string {
	return cpus + "/cpu" + strconv.Itoa(n) + "/thermal_throttle"
}

// hotCPUs are the processors that count how often they were too hot, which tells one container what others do
// (GHSA-6fw5-f8r9-fgfm).
var hotCPUs = sync.OnceValue(func() []int { return findHotCPUs(cpuFolder) })

// findHotCPUs looks for them in a folder as the kernel's. A machine where the first has no such counters has none: Intel's
// all have them, and the first cannot be switched off. So it is one look where there are none.
func findHotCPUs(folder string) (cpus []int) {
	if _, err := os.Stat(throttleFolder(folder, 0)); err != nil {
		return nil
	}
	possible, err := os.ReadFile(folder + "/possible")
	if err != nil {
		return []int{0}
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(possible)), ",") { // 0-3,8
		from, to, more := strings.Cut(part, "-")
		if !more {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := first; n <= last; n++ {
			if _, err := os.Stat(throttleFolder(folder, n)); err == nil {
				cpus = append(cpus, n)
			}
		}
	}
	return cpus
}
