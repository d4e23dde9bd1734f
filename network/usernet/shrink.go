package usernet

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// piece is half a large page of the cache of files, in bytes. Where a file lies there in large pages, the kernel maps a whole one for
// each byte that is touched (finish_fault in mm/memory.c, Linux 6.18), unless a mapping ends within it: so that of the program is
// cut in pieces, by advice for every second one.
const piece = 1 << 20

// ShrinkSoon lets a process that is there as long as its containers be small once its start is over.
func ShrinkSoon() { time.AfterFunc(300*time.Millisecond, shrink) }

// shrink lets go of the pages of the program itself that its start has brought in: most of it is never needed again, and a
// process that is there as long as its containers should be small. What is needed comes back by itself, from the cache of files.
func shrink() {
	maps, err := os.ReadFile("/proc/self/maps") // proc_pid_maps(5)
	exe, linkErr := os.Readlink("/proc/self/exe")
	if err != nil || linkErr != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		f := bytes.Fields(line)
		if len(f) < 6 || string(f[5]) != exe || bytes.IndexByte(f[1], 'w') >= 0 { // what can be written is no copy of the file
			continue
		}
		from, to, _ := bytes.Cut(f[0], []byte("-"))
		begin, err := strconv.ParseUint(string(from), 16, 64)
		end, err2 := strconv.ParseUint(string(to), 16, 64)
		if err != nil || err2 != nil {
			continue
		}
		for at := begin &^ (2*piece - 1); at < end; at += 2 * piece { // the same ones each time: neighbours with like advice become one
			if low, high := max(at, begin), min(at+piece, end); low < high {
				_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(low), uintptr(high-low), unix.MADV_NOHUGEPAGE)
			}
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
	}
}

// Above restSize bytes in memory a process with traffic is shrunk again, once each restTime: what traffic has needed once is most
// of it, and what it needs all the time comes back within a millisecond.
const (
	restSize = 12e6
	restTime = time.Second
)

// rest keeps a process small that has had traffic. It sleeps when there is none.
type rest struct {
	above int // this many bytes in memory are too many
	soon  atomic.Bool
}

// touch says that there is traffic. Nil does not mind.
func (r *rest) touch() {
	if r != nil && r.soon.CompareAndSwap(false, true) {
		time.AfterFunc(restTime, func() {
			r.soon.Store(false)
			if resident() > r.above {
				shrink()
			}
		})
	}
}

// resident is how much of the process is in memory, in bytes; 0 if there is no /proc.
func resident() int {
	text, _ := os.ReadFile("/proc/self/statm") // proc_pid_statm(5): the second word, in pages
	if f := bytes.Fields(text); len(f) > 1 {
		pages, _ := strconv.Atoi(string(f[1]))
		return pages * os.Getpagesize()
	}
	return 0
}
