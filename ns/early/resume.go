package early

import "unsafe"

// Env is the environment variable that makes a re-executed hull continue a program instead of reading its command
// line. Its value is the number of the descriptor of a memory file, in decimal; the file begins with a [Header].
const Env = "_HULL_RESUME"

// Header stands at the start of a program's memory file. Relocs and Calls follow as offsets into the file.
type Header struct {
	Size   uint64 // of the whole file in bytes
	Calls  uint64 // offset of the first Call
	NCalls uint64
	First  uint64 // number of the call to resume at
	Socket uint64 // descriptor for the Report
	Relocs uint64 // offset of a table of NRelocs uint32: offsets of words to which the file's address is added
	NReloc uint64
}

// init runs before the other packages of hull are initialised, because this package needs nearly none of them.
func init() {
	if s, ok := lookup(Env); ok {
		Resume(number(s))
	}
}

// Resume maps the program in the memory file fd into this process and carries on with it. It does not return.
func Resume(fd int) {
	var h Header
	if n, _, errno := rawSyscall6(sysPread64, uintptr(fd), uintptr(unsafe.Pointer(&h)), unsafe.Sizeof(h), 0, 0, 0); errno != 0 || n != unsafe.Sizeof(h) {
		exit()
	}
	base, _, errno := rawSyscall6(sysMmap, 0, uintptr(h.Size), protRead|protWrite, mapPrivate, uintptr(fd), 0)
	if errno != 0 {
		exit()
	}
	Relocate(base, &h)
	calls := base + uintptr(h.Calls)
	Perform((*Call)(unsafe.Pointer(word(calls))), uintptr(h.First), uintptr(h.NCalls), uintptr(h.Socket))
	exit()
}

// Relocate turns the offsets that the header's table names into addresses, for a program that lies at base.
func Relocate(base uintptr, h *Header) {
	for i := uintptr(0); i < uintptr(h.NReloc); i++ {
		off := *(*uint32)(unsafe.Pointer(word(base + uintptr(h.Relocs) + 4*i)))
		*word(base + uintptr(off)) += base
	}
}

func number(s string) (n int) {
	for i := 0; i < len(s); i++ {
		n = 10*n + int(s[i]-'0')
	}
	return n
}
