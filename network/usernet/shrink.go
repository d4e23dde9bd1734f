package usernet

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// piece is half a large page of the cache of files, in bytes. Where a file lies there in large pages, the kernel maps a whole one for
// each byte that is touched (finish_fault in mm/memory.c, Linux 6.18), unless a mapping ends within it: so that of the program is
// cut in pieces, by advice for every second one.
const piece = 1 << 20

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
		for at := begin; at < end; at += 2 * piece {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(at), uintptr(min(piece, end-at)), unix.MADV_NOHUGEPAGE)
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
	}
}
