package xz

import "encoding/binary"

// The control byte of an LZMA2 chunk: the end, plain bytes with and without a new dictionary, or, from 0x80 on, LZMA, of which
// two bits say how much begins anew (and the lowest five belong to the size).
const (
	chunkEnd      = 0
	chunkPlainNew = 1
	chunkPlain    = 2
	chunkLZMA     = 0x80

	resetState      = 1
	resetProperties = 2
	resetDictionary = 3
)

// chunk reads the next chunk of a block, or its end.
func (z *Reader) chunk() error {
	control, err := z.byte()
	if err != nil {
		return err
	}
	if control == chunkEnd {
		return z.blockEnd()
	}
	reset := int(control >> 5 & 3)
	if control == chunkPlainNew || control >= chunkLZMA && reset == resetDictionary {
		z.d.resetDictionary()
		z.block.fresh = false
	}
	if z.block.fresh {
		return corrupt("the first chunk needs what stands before it")
	}
	var size int
	switch {
	case control >= chunkLZMA:
		size, err = z.compressed(control, reset)
	case control <= chunkPlain:
		size, err = z.plain()
	default:
		return corrupt("a chunk of an unknown kind")
	}
	if err != nil {
		return err
	}
	z.block.out += int64(size)
	if z.check != nil {
		z.check.Write(z.d.buf[z.d.pos-size : z.d.pos])
	}
	return nil
}

// plain reads a chunk that is not compressed.
func (z *Reader) plain() (int, error) {
	var h [2]byte
	if err := z.full(h[:]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint16(h[:])) + 1
	z.d.room(size)
	if err := z.full(z.d.buf[z.d.pos : z.d.pos+size]); err != nil {
		return 0, err
	}
	z.d.pos += size
	return size, nil
}

// compressed reads a chunk of LZMA.
func (z *Reader) compressed(control byte, reset int) (int, error) {
	var h [4]byte
	if err := z.full(h[:]); err != nil {
		return 0, err
	}
	size := int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(h[:])) + 1
	packed := int(binary.BigEndian.Uint16(h[2:])) + 1
	if reset >= resetProperties {
		properties, err := z.byte()
		if err != nil {
			return 0, err
		}
		if !z.d.setProperties(properties) {
			return 0, corrupt("the properties of a chunk")
		}
	}
	if z.d.literals == nil {
		return 0, corrupt("a chunk without properties")
	}
	if reset >= resetState {
		z.d.resetState()
	}
	if err := z.full(z.d.in[:packed]); err != nil {
		return 0, err
	}
	z.d.room(size)
	return size, z.d.decode(packed, size)
}
