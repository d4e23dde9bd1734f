package ns

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The stub is the last step before the user's program: a few machine instructions in a file of their own, in memory
// and sealed. Its arguments are the number of the socket, the path to execute, and the program's own arguments. It
// executes the program, and reports to the socket if it cannot. With -init it does so in a child, and stays as pid 1
// to pass on signals and to collect orphans. To join a container it does so too, and stays
// as the program's parent, see join.go.
//
// Its code is in stub_*.s. It uses no memory but its stack and knows no address.

// Each returns the first and the end address of one stub's machine code.
func stubCode() (start, end uintptr)
func initCode() (start, end uintptr)
func joinCode() (start, end uintptr)

// stubFile makes an executable of a stub.
func stubFile(stub func() (start, end uintptr)) (*os.File, error) {
	start, end := stub()
	code := unsafe.Slice(*(**byte)(unsafe.Pointer(&start)), end-start)
	fd, err := unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3, where all such files are executable
		fd, err = unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "the stub")
	if _, err := f.Write(elf(code)); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal the stub", err)
	}
	return f, nil
}

// elf wraps code into the smallest executable: one header, one segment, entry at its first instruction, elf(5).
func elf(code []byte) []byte {
	const head, base = 64 + 56, 0x10000
	le := binary.LittleEndian
	b := make([]byte, head, head+len(code))
	copy(b, "\x7fELF\x02\x01\x01") // 64 bit, little endian
	le.PutUint16(b[16:], 2)        // ET_EXEC
	le.PutUint16(b[18:], elfMachine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+head) // entry
	le.PutUint64(b[32:], 64)        // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	p := b[64:]
	le.PutUint32(p[0:], 1) // PT_LOAD
	le.PutUint32(p[4:], 5) // readable, executable
	le.PutUint64(p[16:], base)
	le.PutUint64(p[24:], base)
	size := uint64(head + len(code))
	le.PutUint64(p[32:], size)
	le.PutUint64(p[40:], size)
	le.PutUint64(p[48:], 0x1000)
	return append(b, code...)
}

// stubNumbers is how many descriptors the stub can be told: two letters, six bits each.
const stubNumbers = 1 << 12

// stubNumber spells a descriptor as the stub reads it.
func stubNumber(fd int) string {
	return string([]byte{0x40 | byte(fd&0x3f), 0x40 | byte(fd>>6&0x3f)})
}
