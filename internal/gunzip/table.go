package gunzip

import "math/bits"

// A table gives for the next bits of input the symbol that they begin with. The first 1<<litBits (or distBits)
// entries are found by that many bits; a longer code leads to a subtable behind them. The sizes are what the worst
// possible code needs (libdeflate's and zlib's "enough": 288 symbols and 11 bits, 32 symbols and 8 bits).
const (
	litBits  = 11
	litSize  = 2342
	distBits = 8
	distSize = 402
	maxCode  = 15 // bits
)

// An entry, from its lowest bits: the length of the code in bits (6), for a length or distance how many extra bits
// follow (4 from bit 8), four flags from bit 12, and in the upper half the literal, or the base of the length or
// distance. For a subtable it has instead its size in bits, and its place.
const (
	isBad     = 1 << 12
	isEnd     = 1 << 13
	isSub     = 1 << 14
	isLiteral = 1 << 15
)

// Lengths and distances (RFC 1951, 3.2.5).
var (
	lengthBase = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115,
		131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
		2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	// codeOrder is the order in which the lengths of the code for code lengths come (3.2.7).
	codeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// litEntry describes a literal or length symbol.
func litEntry(symbol int) uint32 {
	switch {
	case symbol < 256:
		return uint32(symbol)<<16 | isLiteral
	case symbol == 256:
		return isEnd
	case symbol-257 < len(lengthBase):
		return uint32(lengthBase[symbol-257])<<16 | uint32(lengthExtra[symbol-257])<<8
	}
	return isBad
}

// distEntry describes a distance symbol.
func distEntry(symbol int) uint32 {
	if symbol >= len(distBase) {
		return isBad
	}
	extra := max(0, symbol/2-1)
	return uint32(distBase[symbol])<<16 | uint32(extra)<<8
}

// codeEntry describes a symbol of the code for code lengths.
func codeEntry(symbol int) uint32 { return uint32(symbol) << 16 }

// build fills a table from the lengths of the symbols' codes. As in zlib and Go, a code must be complete, but for
// one that has a single symbol of one bit, or none, which is an error when it is used.
func build(table []uint32, tableBits uint, lengths []uint8, entry func(int) uint32) error {
	var count [maxCode + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	space, used := 1, 0
	for n := 1; n <= maxCode; n++ {
		space = space<<1 - count[n]
		if space < 0 {
			return ErrCorrupt
		}
		used += count[n]
	}
	if space > 0 && used > 0 && (used != 1 || count[1] != 1) {
		return ErrCorrupt
	}
	for i := range table[:1<<tableBits] {
		table[i] = isBad | 1
	}
	sorted := sortCodes(lengths, &count)
	b := builder{table: table, bits: tableBits, count: &count, next: 1 << tableBits, prefix: ^uint(0)}
	code := uint(0)
	for n, i := uint(1), 0; n <= maxCode; n++ {
		for left := count[n]; left > 0; left-- {
			reversed := uint(bits.Reverse16(uint16(code)) >> (16 - n))
			if err := b.put(reversed, n, left, entry(int(sorted[i]))); err != nil {
				return err
			}
			i++
			code++
		}
		code <<= 1
	}
	return nil
}

// sortCodes gives the symbols in the order of their codes.
func sortCodes(lengths []uint8, count *[maxCode + 1]int) (sorted [288]uint16) {
	var at [maxCode + 2]int
	for n := 1; n <= maxCode; n++ {
		at[n+1] = at[n] + count[n]
	}
	for symbol, n := range lengths {
		if n != 0 {
			sorted[at[n]] = uint16(symbol)
			at[n]++
		}
	}
	return sorted
}

// builder puts codes into a table.
type builder struct {
	table []uint32
	bits  uint
	count *[maxCode + 1]int
	next  uint // where the next subtable begins
	// the subtable that is being filled: codes that begin with prefix
	prefix, start, subBits uint
}

// put enters one code of n bits, as it comes in the input, wherever it is followed by other bits. left is how many
// codes of that length are still to come, this one included.
func (b *builder) put(code, n uint, left int, e uint32) error {
	e |= uint32(n)
	if n <= b.bits {
		for i := code; i < 1<<b.bits; i += 1 << n {
			b.table[i] = e
		}
		return nil
	}
	if prefix := code & (1<<b.bits - 1); prefix != b.prefix {
		if err := b.subtable(prefix, n, left); err != nil {
			return err
		}
	}
	for i := code >> b.bits; i < 1<<b.subBits; i += 1 << (n - b.bits) {
		b.table[b.start+i] = e
	}
	return nil
}

// subtable begins a subtable that is just large enough for all codes with the prefix: those of n bits that are left,
// and then longer ones until it is full.
func (b *builder) subtable(prefix, n uint, left int) error {
	b.subBits = n - b.bits
	for left < 1<<b.subBits && b.bits+b.subBits < maxCode {
		b.subBits++
		left = left<<1 + b.count[b.bits+b.subBits]
	}
	b.prefix, b.start = prefix, b.next
	b.next += 1 << b.subBits
	if b.next > uint(len(b.table)) {
		return ErrCorrupt
	}
	for i := b.start; i < b.next; i++ {
		b.table[i] = isBad | 1
	}
	b.table[prefix] = uint32(b.start)<<16 | isSub | uint32(b.subBits)<<8 | uint32(b.bits)
	return nil
}

// symbol finds the entry for the next bits of input, taking no more bytes than it needs.
func (z *inflater) symbol(table []uint32, tableBits uint) (uint32, error) {
	for {
		e := table[z.hold&(1<<tableBits-1)]
		if e&isSub != 0 && z.bits > tableBits {
			e = table[uint(e>>16)+uint(z.hold>>tableBits)&(1<<(e>>8&0xf)-1)]
		}
		if n := uint(e & 63); e&isSub == 0 && n <= z.bits {
			if e&isBad != 0 {
				return 0, ErrCorrupt
			}
			z.drop(n)
			return e, nil
		}
		if err := z.pull(); err != nil {
			return 0, err
		}
	}
}

// fixedTables sets the codes of a block that does not bring its own (RFC 1951, 3.2.6).
func (z *inflater) fixedTables() error {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	if err := build(z.lit[:], litBits, lengths[:], litEntry); err != nil {
		return err
	}
	for i := range lengths[:32] {
		lengths[i] = 5
	}
	return build(z.dist[:], distBits, lengths[:32], distEntry)
}

// dynamicTables reads a block's codes (RFC 1951, 3.2.7).
func (z *inflater) dynamicTables() error {
	h, err := z.take(14)
	if err != nil {
		return err
	}
	lits, dists := int(h&31)+257, int(h>>5&31)+1
	if lits > 286 || dists > len(distBase) {
		return ErrCorrupt
	}
	var codes [len(codeOrder)]uint8
	for _, at := range codeOrder[:h>>10+4] {
		n, err := z.take(3)
		if err != nil {
			return err
		}
		codes[at] = uint8(n)
	}
	var table [1 << 7]uint32
	if err := build(table[:], 7, codes[:], codeEntry); err != nil {
		return err
	}
	var lengths [286 + len(distBase)]uint8
	if err := z.codeLengths(table[:], lengths[:lits+dists]); err != nil {
		return err
	}
	if err := build(z.lit[:], litBits, lengths[:lits], litEntry); err != nil {
		return err
	}
	return build(z.dist[:], distBits, lengths[lits:lits+dists], distEntry)
}

// codeLengths reads the lengths of all codes, which are packed themselves.
func (z *inflater) codeLengths(table []uint32, lengths []uint8) error {
	for i := 0; i < len(lengths); {
		e, err := z.symbol(table, 7)
		if err != nil {
			return err
		}
		symbol := e >> 16
		if symbol < 16 {
			lengths[i] = uint8(symbol)
			i++
			continue
		}
		repeat := [...]struct{ bits, least uint }{{2, 3}, {3, 3}, {7, 11}}[symbol-16]
		n, err := z.take(repeat.bits)
		if err != nil {
			return err
		}
		value := uint8(0)
		if symbol == 16 {
			if i == 0 {
				return ErrCorrupt
			}
			value = lengths[i-1]
		}
		n += repeat.least
		if i+int(n) > len(lengths) {
			return ErrCorrupt
		}
		for ; n > 0; n-- {
			lengths[i] = value
			i++
		}
	}
	return nil
}
