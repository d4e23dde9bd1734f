package usernet

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are readv(2) and writev(2) of descriptors that never block. They do not tell Go's scheduler, which would
// lend the processor to another thread after some 20 us, and wake one for that: a frame's way through the kernel
// takes as long, and comes back sooner than the other thread has begun.
func readNow(fd uintptr, pieces ...[]byte) (int, error) { return now(unix.SYS_READV, fd, pieces) }

func writeNow(fd uintptr, pieces ...[]byte) (int, error) { return now(unix.SYS_WRITEV, fd, pieces) }

func now(call, fd uintptr, pieces [][]byte) (int, error) {
	var few [8]unix.Iovec // of a frame there are seldom more
	list := few[:0]
	for _, p := range pieces {
		if len(p) > 0 {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			list = append(list, v)
		}
	}
	n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(list))), uintptr(len(list)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// inputQueue is how many bytes there are to read from a TCP socket, its end not counted (SIOCINQ in tcp(7)).
func inputQueue(fd uintptr) (int, error) {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, unix.SIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
