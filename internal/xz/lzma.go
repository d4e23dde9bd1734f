package xz

import "encoding/binary"

const (
	maxPlain  = 1 << 21 // bytes that a chunk may unpack to
	maxPacked = 1 << 16
	// overrun is more than the decoder may read for one symbol, in bytes: one for each of its bits, some fifty, at the very most.
	overrun = 64

	bitModel   = 1 << 11 // 1, as a probability
	bitMove    = 5
	rangeTop   = 1 << 24
	states     = 12
	litStates  = 7 // states below come behind a literal
	minMatch   = 2
	literalSet = 0x300 // probabilities for one literal
	alignBits  = 4
	modelStart = 4  // slots from here on have further bits
	modelEnd   = 14 // and from here on, most of these are no matter of probabilities
)

// decoder decodes LZMA: https://7-zip.org/sdk.html, lzma-specification.txt. Names of what it remembers are those of that text.
type decoder struct {
	// buf holds the dictionary, the bytes up to pos, of which those behind given have not been given to the caller.
	buf        []byte
	pos, given int
	dict       int // how far back a match may reach, in bytes

	in          [maxPacked + overrun]byte
	at          int
	width, code uint32 // the range coder

	state         int
	rep           [4]uint32 // the last distances, less 1
	lc            uint
	lpMask        int
	pbMask        int
	literals      []uint16
	isMatch       [states][16]uint16
	isRep         [states]uint16
	isRepG0       [states]uint16
	isRepG1       [states]uint16
	isRepG2       [states]uint16
	isRep0Long    [states][16]uint16
	slots         [4][64]uint16
	special       [128 - modelEnd]uint16
	align         [1 << alignBits]uint16
	length, again lengths
}

// lengths are the probabilities of a match's length.
type lengths struct {
	choice [2]uint16
	low    [16][8]uint16
	mid    [16][8]uint16
	high   [256]uint16
}

// prepare makes the buffer for a block. It is longer than the dictionary by what a chunk may have, and by a part of the dictionary,
// so that this has not to be moved for every chunk.
func (d *decoder) prepare(dict int) {
	if need := dict + dict/4 + maxPlain + 16; len(d.buf) < need {
		d.buf = make([]byte, need)
	}
	d.dict, d.literals = dict, nil
	d.pos, d.given = 0, 0
}

// resetDictionary forgets what was before. All of it has been given.
func (d *decoder) resetDictionary() { d.pos, d.given, d.literals = 0, 0, nil }

// room makes room for a chunk, all before which has been given. What is moved is moved by a multiple of 16, because the
// probabilities depend on the lowest bits of the position.
func (d *decoder) room(size int) {
	if d.pos+size > len(d.buf) {
		by := (d.pos - d.dict) &^ 15
		copy(d.buf, d.buf[by:d.pos])
		d.pos -= by
	}
	d.given = d.pos
}

// setProperties takes what a chunk says of literals and positions. In LZMA2, lc and lp are 4 at most together.
func (d *decoder) setProperties(b byte) bool {
	lc, lp, pb := b%9, b/9%5, b/45
	if pb > 4 || lc+lp > 4 {
		return false
	}
	d.lc, d.lpMask, d.pbMask = uint(lc), 1<<lp-1, 1<<pb-1
	d.literals = make([]uint16, literalSet<<(lc+lp))
	return true
}

// resetState forgets what the decoder has learnt.
func (d *decoder) resetState() {
	d.state, d.rep = 0, [4]uint32{}
	even(d.literals)
	for i := range states {
		even(d.isMatch[i][:])
		even(d.isRep0Long[i][:])
	}
	for _, p := range [][]uint16{d.isRep[:], d.isRepG0[:], d.isRepG1[:], d.isRepG2[:], d.special[:], d.align[:]} {
		even(p)
	}
	for i := range d.slots {
		even(d.slots[i][:])
	}
	for _, l := range []*lengths{&d.length, &d.again} {
		even(l.choice[:])
		even(l.high[:])
		for i := range l.low {
			even(l.low[i][:])
			even(l.mid[i][:])
		}
	}
}

// even says of all that they are as likely as not.
func even(p []uint16) {
	for i := range p {
		p[i] = bitModel / 2
	}
}

// decode unpacks a chunk of packed bytes, which are in d.in, to size bytes.
func (d *decoder) decode(packed, size int) error {
	if packed < 5 || d.in[0] != 0 {
		return corrupt("the beginning of a chunk")
	}
	d.width, d.code, d.at = 1<<32-1, binary.BigEndian.Uint32(d.in[1:]), 5
	end := d.pos + size
	for d.pos < end {
		if !d.symbol(end) {
			return corrupt("a match reaches too far")
		}
		if d.at > packed {
			return corrupt("a chunk is shorter than what it unpacks to")
		}
	}
	d.normalize()
	if d.at != packed || d.code != 0 {
		return corrupt("the end of a chunk")
	}
	return nil
}

// symbol decodes a literal or a match, and tells whether there is what it refers to, and room for it.
func (d *decoder) symbol(end int) bool {
	at := d.pos & d.pbMask
	if d.bit(&d.isMatch[d.state][at]) == 0 {
		d.literal()
		return true
	}
	var n int
	if d.bit(&d.isRep[d.state]) == 0 {
		n = d.match(at)
	} else {
		n = d.repeat(at)
	}
	back := int(d.rep[0]) + 1
	if back > min(d.pos, d.dict) || n > end-d.pos {
		return false
	}
	if back >= n {
		copy(d.buf[d.pos:d.pos+n], d.buf[d.pos-back:])
	} else {
		to, from := d.buf[d.pos:d.pos+n], d.buf[d.pos-back:d.pos-back+n]
		for i := range to {
			to[i] = from[i]
		}
	}
	d.pos += n
	return true
}

// literal decodes one byte, behind a match with the help of the byte that would have gone on with it.
func (d *decoder) literal() {
	var before byte
	if d.pos > 0 {
		before = d.buf[d.pos-1]
	}
	set := (d.pos&d.lpMask)<<d.lc + int(before)>>(8-d.lc)
	p := d.literals[set*literalSet:][:literalSet]
	symbol := uint32(1)
	if d.state >= litStates {
		match := uint32(d.buf[d.pos-1-int(d.rep[0])])
		for agree := uint32(0x100); symbol < 0x100; {
			match <<= 1
			hint := match & agree
			bit := d.bit(&p[agree+hint+symbol])
			symbol = symbol<<1 | bit
			if bit == 1 {
				agree &= hint
			} else {
				agree &^= hint
			}
		}
	} else {
		for symbol < 0x100 {
			symbol = symbol<<1 | d.bit(&p[symbol])
		}
	}
	d.buf[d.pos] = byte(symbol)
	d.pos++
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
}

// behind gives the state that follows one that comes behind a literal, or behind something else.
func (d *decoder) behind(literal, other int) {
	if d.state < litStates {
		d.state = literal
	} else {
		d.state = other
	}
}

// match decodes length and distance of a match.
func (d *decoder) match(at int) int {
	d.behind(7, 10)
	n := d.matchLength(&d.length, at)
	slot := d.tree(d.slots[min(n-minMatch, len(d.slots)-1)][:], 6)
	distance := slot
	if slot >= modelStart {
		bits := slot>>1 - 1
		distance = (2 | slot&1) << bits
		if slot < modelEnd {
			distance += d.reverse(d.special[:], int(distance)-int(slot)-1, bits)
		} else {
			distance += d.direct(bits-alignBits)<<alignBits + d.reverse(d.align[:], 0, alignBits)
		}
	}
	d.rep = [4]uint32{distance, d.rep[0], d.rep[1], d.rep[2]}
	return n
}

// repeat decodes a match with one of the last distances, which becomes the last one, and gives its length.
func (d *decoder) repeat(at int) int {
	if d.bit(&d.isRepG0[d.state]) == 0 {
		if d.bit(&d.isRep0Long[d.state][at]) == 0 {
			d.behind(9, 11)
			return 1
		}
	} else {
		which := 1
		if d.bit(&d.isRepG1[d.state]) == 1 {
			which = 2 + int(d.bit(&d.isRepG2[d.state]))
		}
		distance := d.rep[which]
		copy(d.rep[1:], d.rep[:which])
		d.rep[0] = distance
	}
	d.behind(8, 11)
	return d.matchLength(&d.again, at)
}

func (d *decoder) matchLength(l *lengths, at int) int {
	switch {
	case d.bit(&l.choice[0]) == 0:
		return minMatch + int(d.tree(l.low[at][:], 3))
	case d.bit(&l.choice[1]) == 0:
		return minMatch + 8 + int(d.tree(l.mid[at][:], 3))
	}
	return minMatch + 16 + int(d.tree(l.high[:], 8))
}

// tree decodes a number of some bits, highest first.
func (d *decoder) tree(p []uint16, bits uint) uint32 {
	symbol := uint32(1)
	for range bits {
		symbol = symbol<<1 | d.bit(&p[symbol])
	}
	return symbol - 1<<bits
}

// reverse decodes a number of some bits, lowest first. Its tree begins base behind p, which may be 1 before it: a tree has no 0.
func (d *decoder) reverse(p []uint16, base int, bits uint32) (n uint32) {
	symbol := 1
	for i := range bits {
		bit := d.bit(&p[base+symbol])
		symbol = symbol<<1 | int(bit)
		n |= bit << i
	}
	return n
}

// direct decodes a number of bits that are as likely as not.
func (d *decoder) direct(bits uint32) (n uint32) {
	for range bits {
		d.normalize()
		d.width >>= 1
		n <<= 1
		if d.code >= d.width {
			d.code -= d.width
			n |= 1
		}
	}
	return n
}

// bit decodes a bit, and learns from it.
func (d *decoder) bit(p *uint16) uint32 {
	d.normalize()
	bound := d.width >> 11 * uint32(*p)
	if d.code < bound {
		d.width = bound
		*p += (bitModel - *p) >> bitMove
		return 0
	}
	d.width -= bound
	d.code -= bound
	*p -= *p >> bitMove
	return 1
}

// normalize reads a byte when one is wanted.
func (d *decoder) normalize() {
	if d.width < rangeTop {
		d.width <<= 8
		d.code = d.code<<8 | uint32(d.in[d.at])
		d.at++
	}
}
