package layers

import (
	"fmt"

	"github.com/hullrun/hull/internal/decompress"
)

// Limits bounds what one layer may ask of this machine. A layer comes from somebody else, and a few kilobytes of
// it can name a billion files or inflate to a petabyte. A field that is zero has its default, which is far above
// what images that people use need; a field below zero means no limit.
type Limits struct {
	// Entries is how many tar entries a layer may have. Default 2,000,000.
	Entries int
	// Path is how many bytes a path, or the target of a link, may have. Default 4096, the kernel's PATH_MAX.
	Path int
	// Depth is how many components a path may have. Default 512.
	Depth int
	// Size is how many bytes a layer may unpack to: its tar, and the sum of its files' lengths with the
	// holes of sparse files counted. Default 1 TiB.
	Size int64
	// Sparse is how many bytes of Size may be in files whose holes the tar leaves out. A kilobyte can claim all of
	// Size so, and each byte is looked at. Default 64 GiB.
	Sparse int64
	// Ratio is how many bytes may come out of one compressed byte, looked at once more than 1 GiB came
	// out. Default 1100: deflate itself ends at 1032, so only what is built to explode is above it.
	Ratio int64
	// Window is how many bytes of memory one decoder of zstd or xz may hold for its window. Default 64 MiB. What common
	// encoders ask for is 8 MiB and below, and 32 MiB is the largest of the Go library's; where more than 8 MiB are
	// asked for, only one decoder of the process is at work at a time.
	Window int64
}

// A LimitError says which of [Limits] a layer exceeded.
type LimitError struct {
	Limit string // the field's name
	Max   int64  // its value
	What  string // what exceeded it, in words
}

// Error gives the limit in words, as in "more than 512 components in a path (limit Depth)".
func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s (limit %s)", e.Max, e.What, e.Limit)
}

// withDefaults fills the zero fields and turns negative ones into "as many as there are".
func (l Limits) withDefaults() Limits {
	return Limits{
		Entries: int(limit(int64(l.Entries), 2_000_000)),
		Path:    int(limit(int64(l.Path), 4096)),
		Depth:   int(limit(int64(l.Depth), 512)),
		Size:    limit(l.Size, decompress.MaxSize),
		Sparse:  limit(l.Sparse, 64<<30),
		Ratio:   limit(l.Ratio, decompress.MaxRatio),
		Window:  limit(l.Window, decompress.MaxWindow),
	}
}

// limit gives the value that counts for one field.
func limit(given, standard int64) int64 {
	switch {
	case given == 0:
		return standard
	case given < 0:
		return 1<<63 - 1
	}
	return given
}

// checkRatio says whether out bytes may have come from in compressed ones.
func (l Limits) checkRatio(in, out int64) error {
	if out > l.Size {
		return &LimitError{"Size", l.Size, "bytes in a layer"}
	}
	if out > decompress.RatioFloor && out/max(in, 1) > l.Ratio {
		return &LimitError{"Ratio", l.Ratio, "bytes from each compressed byte"}
	}
	return nil
}
