package run

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// compatCall makes a call as a 32-bit program does, by interrupt 0x80, with the mark in its sixth argument. It is
// errors.ErrUnsupported where the kernel has no such programs.
func compatCall(o order) (unix.Errno, error) {
	// Go hands integers over in AX, BX, CX and DI, and takes the result from AX (cmd/compile, abi-internal.md).
	code := []byte{0x55, 0xbd, 0, 0, 0, 0, // push rbp; mov ebp, mark
		0x48, 0x89, 0xfa, 0xcd, 0x80, // mov rdx, rdi; int 0x80
		0x5d, 0xc3} // pop rbp; ret
	binary.LittleEndian.PutUint32(code[2:], mark)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return 0, fmt.Errorf("mmap: %w", err)
	}
	defer func() { _ = unix.Munmap(page) }()
	copy(page, code)
	if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return 0, fmt.Errorf("mprotect: %w", err)
	}
	entry := uintptr(unsafe.Pointer(&page[0]))
	function := &entry // a func value is a pointer to a word that holds the entry
	call := *(*func(nr, a, b, c uintptr) uintptr)(unsafe.Pointer(&function))
	result := int32(call(uintptr(o.Number), uintptr(o.Args[0]), uintptr(o.Args[1]), uintptr(o.Args[2])))
	if result < 0 && result > -4096 {
		return unix.Errno(-result), nil
	}
	return 0, nil
}
