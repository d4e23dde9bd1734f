package hostile

import (
	"bytes"
	"encoding/binary"
	"runtime"
)

// Said is what the program of every image writes before it ends with status 0.
const Said = "ran\n"

// program is a static executable for this machine: an ELF header, one segment, and the calls write and exit.
func program() []byte {
	machine, code := uint16(62), []byte{ // EM_X86_64
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16]
		0xba, 4, 0, 0, 0, // mov edx, 4
		0x0f, 0x05, // syscall
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	if runtime.GOARCH == "arm64" {
		machine, code = 183, nil // EM_AARCH64
		for _, word := range []uint32{
			0xd2800808, // mov x8, #64 (write)
			0xd2800020, // mov x0, #1
			0x100000c1, // adr x1, .+24
			0xd2800082, // mov x2, #4
			0xd4000001, // svc #0
			0xd2800ba8, // mov x8, #93 (exit)
			0xd2800000, // mov x0, #0
			0xd4000001, // svc #0
		} {
			code = binary.LittleEndian.AppendUint32(code, word)
		}
	}
	code = append(code, Said...)
	const base, header = 0x400000, 64 + 56
	size := uint64(header + len(code))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	for _, v := range []any{
		uint16(2), machine, uint32(1), uint64(base + header), uint64(64), uint64(0), uint32(0), // e_type to e_flags
		uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0), // e_ehsize to e_shstrndx
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096), // PT_LOAD, r-x
	} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	b.Write(code)
	return b.Bytes()
}
