package gunzip

import "encoding/binary"

// fast decodes symbols until the block ends, the output is nearly full or the input nearly empty.
//
// Input is taken 8 bytes at a time: a refill ors them above the valid bits of hold, which leaves at least 56 valid,
// and moves pos by the whole bytes among those. Bits above the valid ones are those of the bytes at pos, so to or
// them once more changes nothing. 56 bits are enough for two literals from the first table (22) and a length with its
// extra bits (20); a second refill precedes the distance (28).
//
// The shifts are masked to 63 because the compiler then needs no check for larger ones.
func (z *inflater) fast() error {
	in, buf, lit, dist := z.in[:z.end], &z.buf, &z.lit, &z.dist
	pos, out, hold, bits := z.pos, z.out, z.hold, z.bits
	var err error
	for pos+slackIn <= len(in) && out <= outSize-slackOut {
		hold |= binary.LittleEndian.Uint64(in[pos:]) << (bits & 63)
		pos += int((63 - bits) >> 3)
		bits |= 56
		e := lit[hold&(1<<litBits-1)]
		if e&isLiteral != 0 {
			hold >>= e & 63
			bits -= uint(e & 63)
			buf[out] = byte(e >> 16)
			out++
			e = lit[hold&(1<<litBits-1)]
			if e&isLiteral != 0 {
				hold >>= e & 63
				bits -= uint(e & 63)
				buf[out] = byte(e >> 16)
				out++
				e = lit[hold&(1<<litBits-1)]
			}
		}
		if e&isSub != 0 {
			e = lit[int(e>>16)+int(hold>>litBits)&(1<<(e>>8&0xf)-1)]
		}
		hold >>= e & 63
		bits -= uint(e & 63)
		if e&(isLiteral|isEnd|isBad) != 0 {
			if e&isLiteral != 0 {
				buf[out] = byte(e >> 16)
				out++
				continue
			}
			if e&isBad != 0 {
				err = ErrCorrupt
			}
			z.state = atBlock
			break
		}
		extra := e >> 8 & 0xf
		length := int(e>>16) + int(hold&(1<<extra-1))
		hold >>= extra
		bits -= uint(extra)

		hold |= binary.LittleEndian.Uint64(in[pos:]) << (bits & 63)
		pos += int((63 - bits) >> 3)
		bits |= 56
		e = dist[hold&(1<<distBits-1)]
		if e&isSub != 0 {
			e = dist[int(e>>16)+int(hold>>distBits)&(1<<(e>>8&0xf)-1)]
		}
		hold >>= e & 63
		bits -= uint(e & 63)
		extra = e >> 8 & 0xf
		back := int(e>>16) + int(hold&(1<<extra-1))
		hold >>= extra
		bits -= uint(extra)
		if e&isBad != 0 || back > out {
			err = ErrCorrupt
			break
		}
		from, end := out-back, out+length
		switch {
		case back >= 8: // by words, and up to 7 bytes too far: the next symbol overwrites them
			for {
				binary.LittleEndian.PutUint64(buf[out:out+8], binary.LittleEndian.Uint64(buf[from:from+8]))
				out += 8
				from += 8
				if out >= end {
					break
				}
			}
			out = end
		case back == 1:
			c, run := buf[from], buf[out:end]
			for i := range run {
				run[i] = c
			}
			out = end
		default:
			for ; out < end; out++ {
				buf[out] = buf[from]
				from++
			}
		}
	}
	// Whole bytes go back to the input, so that nobody else has to know of the bits above the valid ones.
	pos -= int(bits >> 3)
	bits &= 7
	z.pos, z.out, z.hold, z.bits = pos, out, hold&(1<<bits-1), bits
	return err
}
