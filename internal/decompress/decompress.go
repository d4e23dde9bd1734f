// Package decompress reads what is compressed with gzip, zstd, bzip2 or xz: what docker load, docker import and docker cp take.
// It looks at the bytes, never at a name or a media type, for these are wrong often enough. And it says how much may come out.
package decompress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/hullrun/hull/internal/gunzip"
)

// Bounds on what somebody else has compressed; nobody's real image comes near them.
const (
	// MaxSize is how many bytes may come out: 1 TiB.
	MaxSize = 1 << 40
	// MaxRatio is how many bytes may come out of one compressed byte, once more than RatioFloor came out. Deflate itself ends at
	// 1032, so only what is built to explode is above it.
	MaxRatio = 1100
	// RatioFloor is the output, in bytes, below which nobody asks how well it was compressed.
	RatioFloor = 1 << 30
	// MaxWindow is how many bytes of memory one decoder of zstd or xz may hold to look back at. What common encoders ask for is 8 MiB
	// and below; xz -9 asks for 64 MiB.
	MaxWindow = 64 << 20
)

// HeadSize is how many bytes Kind wants to see.
const HeadSize = 6

// Kind names the compression of what begins with head: "gzip", "zstd", "bzip2", "xz", or "" for anything else.
func Kind(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case isZstd(head):
		return "zstd"
	case len(head) >= 4 && bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9':
		return "bzip2"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	}
	return ""
}

// isZstd knows a zstd frame and a skippable one (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	return len(head) >= 4 && (bytes.Equal(head[:4], []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}))
}

// NewReader gives the plain bytes of r, whose decoder may hold window bytes to look back at. What is not compressed is passed on.
// The caller calls done when he has read enough: of decoders with a large window one at a time is at work.
func NewReader(r io.Reader, window int64) (plain io.Reader, done func(), err error) {
	in := bufio.NewReader(r) // small: the decoders read larger pieces past it
	head, err := in.Peek(HeadSize)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch Kind(head) {
	case "gzip":
		return gunzip.NewReader(in), func() {}, nil
	case "zstd":
		return unzstd(in, window)
	case "bzip2":
		return bzip2.NewReader(in), func() {}, nil
	case "xz":
		return unxz(in, window)
	}
	return in, func() {}, nil
}

// smallWindow is what a decoder may have beside others, in bytes: RFC 8878, 3.1.1.1.2, wants everybody to know that much.
const smallWindow = 8 << 20

// bigDecoder is held by the one decoder that has a larger window.
var bigDecoder sync.Mutex

// lockBig waits for its turn to have a large window.
func lockBig() (done func()) {
	bigDecoder.Lock()
	return func() {
		debug.FreeOSMemory() // before the next one makes its window: what lies free elsewhere is no place for it
		bigDecoder.Unlock()
	}
}

// unzstd reads a zstd stream. Its first frame tells how much memory it wants, and the others must be content with that.
func unzstd(in *bufio.Reader, most int64) (io.Reader, func(), error) {
	window, done := uint64(min(most, smallWindow)), func() {}
	head, _ := in.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(head) != nil || h.Skippable || h.WindowSize > window || h.SingleSegment && h.FrameContentSize > window {
		window = uint64(min(most, 1<<31))
		done = lockBig()
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("zstd: %w", err)
	}
	return z, func() { z.Close(); z = nil; done() }, nil
}

// unxz reads an xz stream. Each of its blocks may want another dictionary, so it is taken for one with a large one.
func unxz(in *bufio.Reader, most int64) (io.Reader, func(), error) {
	done := lockBig()
	z := &unxzReader{in: in, most: uint32(min(most, MaxWindow))}
	return z, func() { z.xz = nil; done() }, nil
}

// unxzReader has its decoder from the first Read on, for that begins to read at once: its errors are the stream's.
type unxzReader struct {
	in   io.Reader
	most uint32 // bytes of a dictionary
	xz   *xz.Reader
}

// Read is io.Reader's.
func (r *unxzReader) Read(p []byte) (n int, err error) {
	if r.xz == nil {
		if r.xz, err = xz.NewReader(r.in, r.most); err != nil {
			r.xz = nil
			return 0, err
		}
	}
	return r.xz.Read(p)
}

// NeedsXZ says whether err means that xz(1) can read what this package cannot: a larger dictionary, or a rare check or filter.
func NeedsXZ(err error) bool {
	return errors.Is(err, xz.ErrMemlimit) || errors.Is(err, xz.ErrOptions) || errors.Is(err, xz.ErrUnsupportedCheck)
}
