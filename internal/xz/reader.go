// Package xz reads what xz(1) writes: https://tukaani.org/xz/xz-file-format.txt, with LZMA2 for its only filter, which is all
// that xz uses unless it is told otherwise. It is here because the libraries that there are build a table of 32 kB before main,
// which every start of a container would pay for. To write, or to read .lzma files, take another one.
package xz

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Magic is what a file begins with.
const Magic = "\xfd7zXZ\x00"

const (
	footerMagic = "YZ"
	lzma2       = 0x21 // the filter's ID
	// maxVarint is how many bytes an integer of variable length may have.
	maxVarint = 9
)

// The errors that a caller may look for.
var (
	ErrCorrupt     error = problem("corrupt xz data")
	ErrUnsupported error = problem("unsupported xz data")
)

// A problem is an error that costs nothing before main.
type problem string

func (p problem) Error() string { return string(p) }

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// Reader gives the plain bytes. Streams that follow one another are one, as xz does it.
type Reader struct {
	in   *bufio.Reader
	read int64 // bytes, of in
	max  int64 // the largest dictionary
	err  error
	d    decoder

	begun   bool // behind the first stream's header
	inside  bool // a stream
	inBlock bool

	flags   [2]byte   // the stream's
	check   hash.Hash // of the block, nil for none
	block   block
	records uint64      // blocks of the stream so far
	sizes   hash.Hash32 // of what the index will say of them
}

// block is what a block's header says of it, -1 for a size that it leaves out, and where it begins.
type block struct {
	packed, plain int64
	header        int64
	start         int64 // in the bytes read
	out           int64 // bytes given so far
	fresh         bool  // no chunk has reset the dictionary yet
}

// NewReader reads r. A dictionary of more than max bytes, which must be held in memory, is refused with [ErrUnsupported];
// the largest of xz's presets has 64 MiB.
func NewReader(r io.Reader, max int64) *Reader { return &Reader{in: bufio.NewReader(r), max: max} }

// Read is [io.Reader]'s. What it gives has been checked at the end only, when it gives io.EOF: a block's check follows its bytes.
func (z *Reader) Read(p []byte) (int, error) {
	for z.d.given == z.d.pos {
		if z.err == nil {
			z.err = z.more()
		}
		if z.err != nil {
			z.d.given = z.d.pos
			return 0, z.err
		}
	}
	n := copy(p, z.d.buf[z.d.given:z.d.pos])
	z.d.given += n
	return n, nil
}

// more does one step: a header, a chunk, an end.
func (z *Reader) more() error {
	var err error
	switch {
	case !z.inside:
		if !z.begun || z.padding(&err) {
			err = z.streamHeader()
		} else if err == nil {
			return io.EOF
		}
	case !z.inBlock:
		err = z.blockHeader()
	default:
		err = z.chunk()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// padding passes over the zeros between streams, and tells whether there is another.
func (z *Reader) padding(err *error) bool {
	for {
		four, peekErr := z.in.Peek(4)
		switch {
		case len(four) == 0 && peekErr == io.EOF:
			return false
		case peekErr != nil:
			*err = peekErr
			return false
		case !bytes.Equal(four, make([]byte, 4)):
			return true
		}
		_, _ = z.in.Discard(4)
	}
}

// byte reads one byte.
func (z *Reader) byte() (byte, error) {
	b, err := z.in.ReadByte()
	if err == nil {
		z.read++
	}
	return b, err
}

// full fills p.
func (z *Reader) full(p []byte) error {
	n, err := io.ReadFull(z.in, p)
	z.read += int64(n)
	return err
}

// zeros reads padding up to a multiple of four bytes, of n that went before.
func (z *Reader) zeros(n int64) error {
	for ; n%4 != 0; n++ {
		if b, err := z.byte(); err != nil || b != 0 {
			return cmp.Or(err, corrupt("padding that is not zero"))
		}
	}
	return nil
}

func (z *Reader) streamHeader() error {
	var h [12]byte
	if err := z.full(h[:]); err != nil {
		return err
	}
	switch {
	case string(h[:6]) != Magic:
		return corrupt("no stream begins where one should")
	case crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]):
		return corrupt("the stream's header")
	}
	z.flags = [2]byte(h[6:8])
	z.begun, z.inside, z.records, z.sizes = true, true, 0, crc32.NewIEEE()
	switch z.check = nil; z.flags {
	case [2]byte{0, 0}:
	case [2]byte{0, 1}:
		z.check = crc32.NewIEEE()
	case [2]byte{0, 4}:
		z.check = newCRC64()
	case [2]byte{0, 10}:
		z.check = sha256.New()
	default:
		return fmt.Errorf("%w: check %#x", ErrUnsupported, z.flags)
	}
	return nil
}

// blockHeader reads a block's header, or the index that stands where no more blocks come.
func (z *Reader) blockHeader() error {
	start := z.read
	size, err := z.byte()
	if err != nil {
		return err
	}
	if size == 0 {
		return z.index(start)
	}
	raw := make([]byte, 4*(int(size)+1))
	raw[0] = size
	if err := z.full(raw[1:]); err != nil {
		return err
	}
	body, sum := raw[:len(raw)-4], raw[len(raw)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return corrupt("a block's header")
	}
	z.block = block{header: int64(len(raw)), start: z.read, fresh: true}
	dict, err := z.block.parse(body[1:])
	if err != nil {
		return err
	}
	if dict > z.max {
		return fmt.Errorf("%w: a dictionary of %d bytes, the limit is %d", ErrUnsupported, dict, z.max)
	}
	z.d.prepare(int(dict))
	if z.check != nil {
		z.check.Reset()
	}
	z.inBlock = true
	return nil
}

// parse reads what stands between the size and the checksum of a block's header, and gives the size of the dictionary.
func (b *block) parse(p []byte) (dict int64, err error) {
	flags, p := p[0], p[1:]
	if flags&0x3c != 0 {
		return 0, fmt.Errorf("%w: a block with flags %#x", ErrUnsupported, flags)
	}
	if flags&3 != 0 {
		return 0, fmt.Errorf("%w: a filter beside LZMA2", ErrUnsupported)
	}
	b.packed, b.plain = -1, -1
	for _, f := range []struct {
		flag byte
		to   *int64
	}{{0x40, &b.packed}, {0x80, &b.plain}} {
		if flags&f.flag != 0 {
			n, used := binary.Uvarint(p)
			if used <= 0 || used > maxVarint || used > 1 && p[used-1] == 0 {
				return 0, corrupt("a block's header")
			}
			*f.to, p = int64(n), p[used:]
		}
	}
	switch {
	case len(p) < 3:
		return 0, corrupt("a block's header")
	case p[0] != lzma2:
		return 0, fmt.Errorf("%w: a filter that is not LZMA2", ErrUnsupported)
	case p[1] != 1 || p[2] > 40:
		return 0, corrupt("the size of a dictionary")
	case len(bytes.Trim(p[3:], "\x00")) > 0:
		return 0, fmt.Errorf("%w: a block's header", ErrUnsupported)
	case p[2] == 40:
		return 1<<32 - 1, nil
	}
	return int64(2|p[2]&1) << (p[2]/2 + 11), nil
}

// blockEnd compares a block with its header and its check.
func (z *Reader) blockEnd() error {
	packed := z.read - z.block.start
	if z.block.packed >= 0 && z.block.packed != packed || z.block.plain >= 0 && z.block.plain != z.block.out {
		return corrupt("a block is not as long as its header says")
	}
	if err := z.zeros(packed); err != nil {
		return err
	}
	unpadded := z.block.header + packed
	if z.check != nil {
		want := make([]byte, z.check.Size())
		if err := z.full(want); err != nil {
			return err
		}
		got := z.check.Sum(nil)
		if z.flags[1] != 10 { // numbers have their lowest byte first
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if !bytes.Equal(got, want) {
			return corrupt("the check of a block")
		}
		unpadded += int64(len(want))
	}
	z.records++
	z.sizes.Write(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(unpadded)), uint64(z.block.out)))
	z.inBlock = false
	return nil
}

// index reads a stream's index, which must tell what its blocks were like, and its footer.
func (z *Reader) index(start int64) error {
	sum, sizes := crc32.NewIEEE(), crc32.NewIEEE()
	sum.Write([]byte{0})
	n, err := z.varint(sum)
	if err != nil || n != z.records {
		return cmp.Or(err, corrupt("the index is of other blocks"))
	}
	for range n {
		for range 2 {
			if _, err := z.varint(io.MultiWriter(sum, sizes)); err != nil {
				return err
			}
		}
	}
	padded := z.read - start
	if err := z.zeros(padded); err != nil {
		return err
	}
	sum.Write(make([]byte, (4-padded%4)%4))
	var h [16]byte
	if err := z.full(h[:]); err != nil {
		return err
	}
	switch {
	case binary.LittleEndian.Uint32(h[:]) != sum.Sum32():
		return corrupt("the index")
	case sizes.Sum32() != z.sizes.Sum32():
		return corrupt("the index is of other blocks")
	case binary.LittleEndian.Uint32(h[4:]) != crc32.ChecksumIEEE(h[8:14]) || string(h[14:]) != footerMagic:
		return corrupt("the stream's footer")
	case (int64(binary.LittleEndian.Uint32(h[8:]))+1)*4 != z.read-start-12 || [2]byte(h[12:14]) != z.flags:
		return corrupt("the stream's footer does not belong to it")
	}
	z.inside = false
	return nil
}

// varint reads an integer of variable length, whose bytes go to w, too.
func (z *Reader) varint(w io.Writer) (uint64, error) {
	var raw []byte
	for len(raw) < maxVarint {
		b, err := z.byte()
		if err != nil {
			return 0, err
		}
		if raw = append(raw, b); b < 0x80 {
			n, _ := binary.Uvarint(raw)
			_, _ = w.Write(raw)
			return n, nil
		}
	}
	return 0, corrupt("a number")
}
