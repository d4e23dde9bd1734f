package layers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/hullrun/hull/layers/gunzip"
	"github.com/klauspost/compress/zstd"
)

// inflate gives the plain tar of a layer's blob. What a blob is made of is seen in its first bytes: media types of
// real images are wrong often enough, and Docker looks at the bytes too.
func inflate(r io.Reader, l Limits) (io.Reader, func(), error) {
	in := bufio.NewReader(r) // small: the decoders read larger pieces past it
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gunzip.NewReader(in), func() {}, nil
	case isZstd(head):
		return unzstd(in, l)
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X'}):
		return nil, nil, fmt.Errorf("compressed with xz: not a layer format")
	case bytes.HasPrefix(head, []byte("BZh")):
		return nil, nil, fmt.Errorf("compressed with bzip2: not a layer format")
	}
	return in, func() {}, nil
}

// smallWindow is what a decoder may have beside others, in bytes: RFC 8878, 3.1.1.1.2, wants everybody to know that much.
const smallWindow = 8 << 20

// bigDecoder is held by the one decoder that has a larger window.
var bigDecoder sync.Mutex

// unzstd reads a zstd stream. Its first frame tells how much memory it wants, and the others must be content with that.
func unzstd(in *bufio.Reader, l Limits) (io.Reader, func(), error) {
	window, done := uint64(min(l.Window, smallWindow)), func() {}
	head, _ := in.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(head) != nil || h.Skippable || h.WindowSize > window || h.SingleSegment && h.FrameContentSize > window {
		window = uint64(min(l.Window, 1<<31))
		bigDecoder.Lock()
		done = func() {
			runtime.GC() // before the next one makes its window
			bigDecoder.Unlock()
		}
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("zstd: %w", err)
	}
	return z, func() { z.Close(); z = nil; done() }, nil
}

// isZstd knows a zstd frame and a skippable one (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	return len(head) == 4 && (bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}))
}
