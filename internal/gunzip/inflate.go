package gunzip

import "io"

// Sizes in bytes. The output buffer keeps the window that matches may reach back into, then what is new.
const (
	window   = 32 << 10
	inSize   = 64 << 10
	outSize  = window + 128<<10
	maxMatch = 258
	slackIn  = 16           // what the fast loop reads ahead at most
	slackOut = maxMatch + 8 // what the fast loop writes beyond one symbol's end at most
)

// The states of an inflater.
const (
	atBlock = iota // before a block's header
	inStored
	inCodes
	atEnd
)

// inflater decodes deflate streams (RFC 1951).
type inflater struct {
	r        io.Reader
	failed   error // what r ended with
	pos, end int   // in[pos:end] is not read yet
	hold     uint64
	bits     uint // how many low bits of hold are valid
	used     bool // something was read

	state  int
	last   bool // the block is the stream's last
	stored int  // bytes of a stored block that are left

	out, sent int // buf[:out] is decoded, buf[:sent] handed over
	lit       [litSize]uint32
	dist      [distSize]uint32
	in        [inSize]byte
	buf       [outSize]byte
}

// restart begins a new stream where the old one ended.
func (z *inflater) restart() {
	z.state, z.last, z.used = atBlock, false, true
	z.out, z.sent = 0, 0
}

// read gives decoded bytes, and io.EOF at the end of the stream. b is not empty.
func (z *inflater) read(b []byte) (int, error) {
	for z.sent == z.out {
		if z.out > outSize-slackOut {
			copy(z.buf[:window], z.buf[z.out-window:z.out])
			z.out, z.sent = window, window
		}
		if err := z.decode(); err != nil && (err != io.EOF || z.sent == z.out) {
			return 0, err
		}
	}
	n := copy(b, z.buf[z.sent:z.out])
	z.sent += n
	return n, nil
}

// decode goes on until the output buffer is full, or gives io.EOF.
func (z *inflater) decode() error {
	for {
		var err error
		switch z.state {
		case atBlock:
			err = z.block()
		case inStored:
			err = z.copyStored()
		case inCodes:
			err = z.codes()
		case atEnd:
			return io.EOF
		}
		if err != nil {
			return err
		}
		if z.state != atBlock && z.state != atEnd && z.out > outSize-slackOut {
			return nil
		}
	}
}

// block reads a block's header.
func (z *inflater) block() error {
	if z.last {
		z.state = atEnd
		return nil
	}
	h, err := z.take(3)
	if err != nil {
		return err
	}
	z.last = h&1 != 0
	switch h >> 1 {
	case 0:
		return z.beginStored()
	case 1:
		z.state = inCodes
		return z.fixedTables()
	case 2:
		z.state = inCodes
		return z.dynamicTables()
	}
	return ErrCorrupt
}

// beginStored reads the header of a block that is not compressed.
func (z *inflater) beginStored() error {
	z.align()
	v, err := z.take(32)
	if err != nil {
		return err
	}
	if v&0xffff != ^v>>16&0xffff {
		return ErrCorrupt
	}
	z.stored, z.state = int(v&0xffff), inStored
	return nil
}

// copyStored copies such a block.
func (z *inflater) copyStored() error {
	for z.stored > 0 && z.out < outSize {
		if z.bits > 0 {
			z.buf[z.out] = byte(z.hold)
			z.out++
			z.stored--
			z.drop(8)
			continue
		}
		if !z.more(1) {
			return z.cut()
		}
		n := copy(z.buf[z.out:], z.in[z.pos:min(z.end, z.pos+z.stored)])
		z.out += n
		z.pos += n
		z.stored -= n
	}
	if z.stored == 0 {
		z.state = atBlock
	}
	return nil
}

// codes decodes symbols: in the fast loop while there is input for it, one by one at the input's end.
func (z *inflater) codes() error {
	for z.state == inCodes && z.out <= outSize-slackOut {
		var err error
		if z.more(slackIn) {
			err = z.fast()
		} else {
			err = z.slow()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// slow decodes one symbol with no assumption about the input.
func (z *inflater) slow() error {
	e, err := z.symbol(z.lit[:], litBits)
	if err != nil {
		return err
	}
	switch {
	case e&isLiteral != 0:
		z.buf[z.out] = byte(e >> 16)
		z.out++
		return nil
	case e&isEnd != 0:
		z.state = atBlock
		return nil
	}
	x, err := z.take(uint(e >> 8 & 0xf))
	if err != nil {
		return err
	}
	length := int(e>>16) + int(x)
	if e, err = z.symbol(z.dist[:], distBits); err != nil {
		return err
	}
	if x, err = z.take(uint(e >> 8 & 0xf)); err != nil {
		return err
	}
	back := int(e>>16) + int(x)
	if back > z.out {
		return ErrCorrupt
	}
	for ; length > 0; length-- {
		z.buf[z.out] = z.buf[z.out-back]
		z.out++
	}
	return nil
}

// more makes sure that n bytes of input are at hand, n being small, and says whether they are.
func (z *inflater) more(n int) bool {
	if z.end-z.pos >= n {
		return true
	}
	copy(z.in[:], z.in[z.pos:z.end])
	z.end -= z.pos
	z.pos = 0
	for z.end < n && z.failed == nil {
		var got int
		got, z.failed = z.r.Read(z.in[z.end:])
		z.end += got
	}
	return z.end >= n
}

// cut is the error for input that ended too early.
func (z *inflater) cut() error {
	if z.failed == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return z.failed
}

// take reads n bits, at most 32.
func (z *inflater) take(n uint) (uint, error) {
	for z.bits < n {
		if err := z.pull(); err != nil {
			return 0, err
		}
	}
	v := uint(z.hold & (1<<n - 1))
	z.drop(n)
	return v, nil
}

// pull adds one byte of input to hold.
func (z *inflater) pull() error {
	if !z.more(1) {
		return z.cut()
	}
	z.hold |= uint64(z.in[z.pos]) << z.bits
	z.pos++
	z.bits += 8
	return nil
}

// drop removes n bits.
func (z *inflater) drop(n uint) {
	z.hold >>= n
	z.bits -= n
}

// align drops what is left of a byte.
func (z *inflater) align() { z.drop(z.bits & 7) }

// octet reads one byte, between streams.
func (z *inflater) octet() (byte, error) {
	v, err := z.take(8)
	return byte(v), err
}
