package prefault

import (
	"syscall"
	"testing"
	"unsafe"
)

// TestInit: what init has asked for is there, though nobody has touched most of it.
func TestInit(t *testing.T) {
	text, size := textSegment(getAuxv())
	if at := **(**uintptr)(unsafe.Pointer(&code)); at < text || at >= text+size {
		t.Fatalf("code is at %#x, not in the text at %#x of %d bytes", at, text, size)
	}
	if missing := absent(t, text, size); missing != 0 {
		t.Errorf("%d pages of the text are not mapped", missing)
	}
	// Up to the end of the first piece that the runtime has taken from the kernel.
	heap := uintptr(unsafe.Pointer(object))
	size = min(heapSize, (heap+4<<20)&^(4<<20-1)-heap)
	if missing := absent(t, heap, size); missing > 0 {
		t.Errorf("%d pages of the heap's %d bytes after %#x are not there", missing, size, heap)
	}
}

var code = advise

// absent counts the pages that this process does not have in its memory: bit 63 in pagemap(5).
func absent(t *testing.T, start, size uintptr) (n int) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, 0, 0, populateRead); errno != 0 {
		t.Skipf("madvise MADV_POPULATE_READ: %v (Linux 5.14)", errno)
	}
	f, err := syscall.Open("/proc/self/pagemap", syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(f)
	page := uintptr(syscall.Getpagesize())
	for at := start / page; at <= (start+size-1)/page; at++ {
		var entry uint64
		if _, err := syscall.Pread(f, (*[8]byte)(unsafe.Pointer(&entry))[:], int64(8*at)); err != nil {
			t.Fatal(err)
		}
		if entry>>63 == 0 {
			n++
		}
	}
	return n
}
