package run

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Used is what one run of a container took, 0 for what nobody has counted.
type Used struct {
	// Wall is the time from start to end, CPU that of processors, as much as all its processes took together.
	Wall, CPU time.Duration
	// Memory is the most at any moment in bytes, and PIDs the most processes and threads. Largest says that there was no
	// cgroup to ask, and Memory is that of its largest process alone, getrusage(2): hull's own counts as such, which became
	// the program's, so it is never less than some 12 MiB.
	Memory, PIDs uint64
	Largest      bool `json:",omitempty"`
}

// measure notes what the run took, while its group is there. usage is what the kernel says of the first process and those
// that it has waited for, nil for nothing.
func (s *start) measure(res *Result, usage *unix.Rusage) {
	if !s.Config.Isolation.Sandbox {
		return
	}
	u := &Used{Wall: time.Since(s.Started)}
	if s.group != nil {
		if stats, err := s.group.Stats(); err == nil {
			u.CPU, u.Memory, u.PIDs = time.Duration(stats.CPU.Total), stats.Memory.Max, stats.Pids.Max
		}
	}
	if u.CPU == 0 && usage != nil {
		u.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	if u.Memory == 0 && usage != nil {
		u.Memory, u.Largest = uint64(usage.Maxrss)<<10, true
	}
	res.Used = u
}

// Line tells it, and what ended the run if that was no choice of the program's.
func (u *Used) Line(res Result) string {
	round := func(d time.Duration) time.Duration {
		if d < 10*time.Second {
			return d.Round(time.Millisecond)
		}
		return d.Round(100 * time.Millisecond)
	}
	parts := []string{round(u.Wall).String()}
	if u.CPU > 0 {
		parts = append(parts, round(u.CPU).String()+" of processor time")
	}
	switch {
	case u.Memory > 0 && u.Largest:
		parts = append(parts, "at most "+units.BytesSize(float64(u.Memory))+" of memory in its largest process")
	case u.Memory > 0:
		parts = append(parts, "at most "+units.BytesSize(float64(u.Memory))+" of memory")
	}
	if u.PIDs > 0 {
		noun := "processes"
		if u.PIDs == 1 {
			noun = "process"
		}
		parts = append(parts, fmt.Sprintf("at most %d %s", u.PIDs, noun))
	}
	if res.OOMKilled {
		parts = append(parts, "out of memory")
	}
	if res.TimedOut {
		parts = append(parts, "out of time")
	}
	return strings.Join(parts, ", ")
}

// words are the numbers in their order on the wire, readUsed the other side.
func (u *Used) words() []uint64 {
	largest := uint64(0)
	if u.Largest {
		largest = 1
	}
	return []uint64{uint64(u.Wall), uint64(u.CPU), u.Memory, u.PIDs, largest}
}

func (u *Used) append(b []byte) []byte {
	for _, w := range u.words() {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func readUsed(b []byte) *Used {
	if len(b) != 8*len((&Used{}).words()) {
		return nil
	}
	var w []uint64
	for word := range slices.Chunk(b, 8) {
		w = append(w, binary.LittleEndian.Uint64(word))
	}
	return &Used{Wall: time.Duration(w[0]), CPU: time.Duration(w[1]), Memory: w[2], PIDs: w[3], Largest: w[4] == 1}
}
