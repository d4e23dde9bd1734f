// Package prefault takes the page faults of a command's start in a few system calls instead of hundreds: it has the kernel
// map the program's text and constants, and lay the beginning of Go's heap on a huge page, before anything else is
// initialised.
//
// A fault costs 0.3 us on a bare machine, where little is lost or won by this, but 5 to 20 us in many virtual ones, where the
// first touch of a page faults a second time, in the machine below; together that was a good fifth of the time of a start there.
// Import it for its effect, from package main. It imports nothing but runtime and unsafe, so that Go initialises it before what else there is:
// those that are ready are initialised in the order of their paths (the Go specification, "Program initialization").
package prefault

import (
	"runtime"
	"unsafe"
)

// Of madvise(2): to populate since Linux 5.14, to collapse since 6.1. Earlier kernels refuse, and the pages come one by one.
const (
	hugePage      = 14
	populateRead  = 22
	populateWrite = 23
	collapse      = 25
)

// Of getauxval(3) and elf(5).
const (
	atPhdr     = 3
	atPhnum    = 5
	atPagesize = 6
	ptLoad     = 1
	pfW        = 2
)

// blockSize is what one huge page holds where a page has 4 KiB. A start takes about as much of the heap, its stacks included.
const blockSize = 2 << 20

// programHeader is Elf64_Phdr of elf(5).
type programHeader struct {
	kind, flags                                uint32
	offset, vaddr, paddr, filesz, memsz, align uint64
}

func init() {
	runtime.MemProfileRate = 0 // nobody reads that profile, and it has its pages too
	// What hull starts for its own purposes lives long or touches little. A network does touch much of its code.
	network := false
	for _, word := range environ() {
		if len(word) > 6 && word[:6] == "_HULL_" {
			if !awaited(word) {
				return
			}
			network = true
		}
	}
	aux := auxiliary()
	if aux[atPagesize] != 4<<10 {
		return
	}
	for _, s := range constants(aux) {
		madvise(s.start, s.size, populateRead)
	}
	if network {
		return
	}
	block := heapBlock()
	madvise(block+blockSize, blockSize, hugePage)
	if !madvise(block, blockSize, collapse) {
		madvise(block, blockSize, populateWrite)
	}
}

// awaited says whether a start waits for what hull starts with this word in its environment: a network, see package run. It
// gives the pages back when it is at rest.
func awaited(word string) bool { return word == "_HULL_HELPER=network" }

// auxiliary is the auxiliary vector by its tags, as far as they concern us.
func auxiliary() (values [atPagesize + 1]uintptr) {
	auxv := getAuxv()
	for i := 0; i+1 < len(auxv); i += 2 {
		if tag := auxv[i]; tag < uintptr(len(values)) {
			values[tag] = auxv[i+1]
		}
	}
	return values
}

type segment struct{ start, size uintptr }

// constants are what of the program cannot be written: its code and its constants.
func constants(aux [atPagesize + 1]uintptr) (list [2]segment) {
	first := *(*unsafe.Pointer)(unsafe.Pointer(&aux[atPhdr]))
	if first == nil {
		return list
	}
	n := 0
	for _, h := range unsafe.Slice((*programHeader)(first), aux[atPhnum]) {
		if h.kind == ptLoad && h.flags&pfW == 0 && n < len(list) {
			list[n] = segment{uintptr(h.vaddr), uintptr(h.memsz)}
			n++
		}
	}
	return list
}

// object is on the heap because it outlives what made it.
var object *[1 << 10]byte

// heapBlock is where the heap has grown to: what a start takes of it lies there, and behind.
func heapBlock() uintptr {
	object = new([1 << 10]byte)
	return uintptr(unsafe.Pointer(object)) &^ (blockSize - 1)
}

// madvise is madvise(2), and says whether it was heeded.
func madvise(start, size, advice uintptr) bool {
	number := uintptr(28) // asm/unistd_64.h
	if runtime.GOARCH == "arm64" {
		number = 233 // asm-generic/unistd.h
	}
	end := (start + size + 4<<10 - 1) &^ (4<<10 - 1)
	start &^= 4<<10 - 1
	_, _, errno := rawSyscall(number, start, end-start, advice)
	return errno == 0
}

// The names of others: to import package syscall would mean to be initialised after it.

// getAuxv is the auxiliary vector as the runtime has kept it: tag, value, tag, value. golang.org/x/sys/unix has it the same way.
//
//go:linkname getAuxv runtime.getAuxv
func getAuxv() []uintptr

//go:linkname environ syscall.runtime_envs
func environ() []string

//go:linkname rawSyscall syscall.RawSyscall
func rawSyscall(trap, a1, a2, a3 uintptr) (r1, r2, errno uintptr)
