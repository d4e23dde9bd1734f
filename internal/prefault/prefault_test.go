package prefault

import (
	"syscall"
	"testing"
	"unsafe"
)

// TestInit: what init has asked for is there, though nobody has touched most of it.
func TestInit(t *testing.T) {
	aux := auxiliary()
	if aux[atPagesize] != 4<<10 {
		t.Skipf("pages have %d bytes", aux[atPagesize])
	}
	list := constants(aux)
	text := list[0]
	if at := **(**uintptr)(unsafe.Pointer(&code)); at < text.start || at >= text.start+text.size {
		t.Fatalf("code is at %#x, not in the text at %#x of %d bytes", at, text.start, text.size)
	}
	for _, s := range list {
		if s.size == 0 {
			t.Errorf("no segment: %#x", list)
		}
		if missing := absent(t, s.start, s.size); missing != 0 {
			t.Errorf("%d pages of the %d bytes at %#x are not mapped", missing, s.size, s.start)
		}
	}
	block := uintptr(unsafe.Pointer(object)) &^ (blockSize - 1)
	if missing := absent(t, block, blockSize); missing > 0 {
		t.Errorf("%d pages of the heap's block at %#x are not there", missing, block)
	}
}

var code = madvise

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
