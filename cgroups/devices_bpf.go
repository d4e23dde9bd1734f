package cgroups

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceProgram is a program of type BPF_PROG_TYPE_CGROUP_DEVICE that answers as the list does. It gets a struct
// bpf_cgroup_dev_ctx: access<<16|type, major, minor, each a word; 1 allows and 0 denies.
func deviceProgram(l *deviceList) []byte {
	var p ebpf
	p.add(loadWord, 2, 1, 0, 0) // r2: access<<16|type
	p.add(moveReg, 3, 2, 0, 0)  // r3: access
	p.add(shiftRight, 3, 0, 0, 16)
	p.add(andImm, 2, 0, 0, 0xffff) // r2: type
	p.add(loadWord, 4, 1, 4, 0)    // r4: major
	p.add(loadWord, 5, 1, 8, 0)    // r5: minor
	for _, e := range l.exceptions {
		p.exception(e, l.allow)
	}
	p.answer(l.allow)
	return p.code
}

// Opcodes of eBPF, and BPF_DEVCG_DEV_*.
const (
	loadWord    = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	moveReg     = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	moveImm     = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	shiftRight  = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
	andImm      = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
	unlessEqual = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	ifEqual     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	leave       = unix.BPF_JMP | unix.BPF_EXIT

	typeBlock = 1
	typeChar  = 2
)

// An ebpf is a program being written: eight bytes an instruction.
type ebpf struct{ code []byte }

// add puts an instruction. offset is the address in a load, and in a jump how many instructions to skip.
func (p *ebpf) add(op uint8, dst, src uint8, offset int16, imm int32) {
	p.code = append(p.code, op, dst|src<<4)
	p.code = binary.LittleEndian.AppendUint16(p.code, uint16(offset))
	p.code = binary.LittleEndian.AppendUint32(p.code, uint32(imm))
}

func (p *ebpf) answer(allow bool) {
	p.add(moveImm, 0, 0, 0, map[bool]int32{false: 0, true: 1}[allow])
	p.add(leave, 0, 0, 0, 0)
}

// exception puts the tests of one exception and its answer, and mends their jumps over it.
func (p *ebpf) exception(e device, allow bool) {
	var jumps []int
	unless := func(op, reg uint8, value int64) {
		jumps = append(jumps, len(p.code))
		p.add(op, reg, 0, 0, int32(value))
	}
	unless(unlessEqual, 2, map[byte]int64{'b': typeBlock, 'c': typeChar}[e.kind])
	if e.major >= 0 {
		unless(unlessEqual, 4, e.major)
	}
	if e.minor >= 0 {
		unless(unlessEqual, 5, e.minor)
	}
	if allow && e.access != accessAll {
		p.add(moveReg, 1, 3, 0, 0)
		p.add(andImm, 1, 0, 0, int32(e.access))
		unless(ifEqual, 1, 0)
	} else if e.access != accessAll {
		p.add(moveReg, 1, 3, 0, 0)
		p.add(andImm, 1, 0, 0, int32(accessAll&^e.access))
		unless(unlessEqual, 1, 0)
	}
	p.answer(!allow)
	for _, at := range jumps {
		binary.LittleEndian.PutUint16(p.code[at+2:], uint16((len(p.code)-at)/8-1))
	}
}

// setDevices gives the group behind dir the list, in place of one that it has.
func setDevices(dir int, l *deviceList) error {
	old, err := attached(dir)
	if err != nil {
		return err
	}
	prog, err := loadProgram(deviceProgram(l))
	if err != nil {
		return err
	}
	defer unix.Close(prog)
	// Several at once are allowed and must all agree, so the old ones can go after the new one has come.
	attr := struct{ target, prog, kind, flags, replace uint32 }{uint32(dir), uint32(prog), unix.BPF_CGROUP_DEVICE,
		unix.BPF_F_ALLOW_MULTI, 0}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach device program: %w", err)
	}
	for _, id := range old {
		if err := detach(dir, id); err != nil {
			return err
		}
	}
	return nil
}

func loadProgram(code []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	attr := struct {
		kind, count            uint32
		insns, license         uint64
		logLevel, logSize      uint32
		logBuf                 uint64
		kernVersion, progFlags uint32
		name                   [16]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8), insns: address(&code[0]),
		license: address(&license[0])}
	copy(attr.name[:], "hull_devices")
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return 0, fmt.Errorf("load device program: %w", err)
	}
	return fd, nil
}

// attached lists the ids of the device programs that the group has itself.
func attached(dir int) ([]uint32, error) {
	ids := new([64]uint32)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(ids)
	attr := struct {
		target, kind, queryFlags, attachFlags uint32
		ids                                   uint64
		count, _                              uint32
		progFlags                             uint64
	}{target: uint32(dir), kind: unix.BPF_CGROUP_DEVICE, ids: address(&ids[0]), count: uint32(len(ids))}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, fmt.Errorf("list device programs: %w", err)
	}
	return ids[:min(int(attr.count), len(ids))], nil
}

func detach(dir int, id uint32) error {
	get := struct{ id, next, flags uint32 }{id: id}
	prog, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return fmt.Errorf("open device program %d: %w", id, err)
	}
	defer unix.Close(prog)
	attr := struct{ target, prog, kind, flags uint32 }{uint32(dir), uint32(prog), unix.BPF_CGROUP_DEVICE, 0}
	if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("detach device program %d: %w", id, err)
	}
	return nil
}

func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// bpf calls bpf(2). What attr has the addresses of must be pinned.
func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EAGAIN, unix.EINTR: // the verifier was interrupted by a signal
			continue
		}
		return 0, os.NewSyscallError("bpf", errno)
	}
}
