package xz

import "encoding/binary"

// ecma is the polynomial of ECMA-182, lowest bit first.
const ecma = 0xC96C5795D7870F42

// crc64 is a hash.Hash like hash/crc64's, which costs something before main.
type crc64 struct {
	table [256]uint64
	sum   uint64
}

func newCRC64() *crc64 {
	c := &crc64{}
	for i := range c.table {
		v := uint64(i)
		for range 8 {
			v = v>>1 ^ v&1*ecma
		}
		c.table[i] = v
	}
	return c
}

// Write is hash.Hash's, as are the others.
func (c *crc64) Write(p []byte) (int, error) {
	sum := ^c.sum
	for _, b := range p {
		sum = c.table[byte(sum)^b] ^ sum>>8
	}
	c.sum = ^sum
	return len(p), nil
}

func (c *crc64) Sum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, c.sum) }
func (c *crc64) Reset()              { c.sum = 0 }
func (c *crc64) Size() int           { return 8 }
func (c *crc64) BlockSize() int      { return 1 }
