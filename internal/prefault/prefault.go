// Package prefault takes the page faults of a command's start in two system calls instead of hundreds: it has the
// kernel map the program's text, and the beginning of Go's heap, before anything touches them.
//
// A fault costs 0.3 us on a bare machine, where nothing is lost or won by this, but 5 to 20 us in many virtual ones, and
// was a third of the time of a start there. Import it for its effect, from package main.
package prefault

import (
	"syscall"
	"unsafe"
)

// heapSize is what a start takes of the heap, the stacks in it included.
const heapSize = 2 << 20

// Of madvise(2), since Linux 5.14; earlier ones refuse, and the pages come one by one as before.
const (
	populateRead  = 22
	populateWrite = 23
)

// Of getauxval(3) and elf(5).
const (
	atPhdr  = 3
	atPhnum = 5
	ptLoad  = 1
	pfX     = 1
)

// programHeader is Elf64_Phdr of elf(5).
type programHeader struct {
	kind, flags                                uint32
	offset, vaddr, paddr, filesz, memsz, align uint64
}

// init runs before most packages are initialised, because this one needs nearly none of them.
func init() {
	// What hull starts for its own purposes lives long or touches little.
	for _, word := range syscall.Environ() {
		if len(word) > 6 && word[:6] == "_HULL_" {
			return
		}
	}
	text, size := textSegment(getAuxv())
	advise(text, size, populateRead)
	start, size := heapEnd()
	advise(start, size, populateWrite)
}

// textSegment is where the kernel has mapped the program's code, and the bytes of it; 0 bytes if that cannot be told.
func textSegment(auxv []uintptr) (start, size uintptr) {
	var first unsafe.Pointer
	var n uintptr
	for i := 0; i+1 < len(auxv); i += 2 {
		switch auxv[i] {
		case atPhdr:
			first = *(*unsafe.Pointer)(unsafe.Pointer(&auxv[i+1]))
		case atPhnum:
			n = auxv[i+1]
		}
	}
	if first == nil {
		return 0, 0
	}
	for _, h := range unsafe.Slice((*programHeader)(first), n) {
		if h.kind == ptLoad && h.flags&pfX != 0 {
			return uintptr(h.vaddr), uintptr(h.memsz)
		}
	}
	return 0, 0
}

// object is on the heap because it outlives what made it.
var object *[1 << 10]byte

// heapEnd is where Go's heap goes on to grow, as far as a start needs it: what has been taken so far lies below.
func heapEnd() (start, size uintptr) {
	object = new([1 << 10]byte)
	return uintptr(unsafe.Pointer(object)), heapSize
}

// advise is madvise(2) on whole pages. Whether it succeeds changes nothing but the time that a start takes.
func advise(start, size, advice uintptr) {
	page := uintptr(syscall.Getpagesize())
	end := (start + size + page - 1) &^ (page - 1)
	start &^= page - 1
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, start, end-start, advice)
}

// getAuxv is the auxiliary vector as the runtime has kept it: tag, value, tag, value. golang.org/x/sys/unix has it the same way.
//
//go:linkname getAuxv runtime.getAuxv
func getAuxv() []uintptr
