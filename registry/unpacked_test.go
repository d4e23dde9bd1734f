package registry

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/hullrun/hull/internal/decompress"
)

// endless is zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestUnpackedBounded: what explodes ends with an error that names the limit, and what does not is read whatever its size.
func TestUnpackedBounded(t *testing.T) {
	var bomb bytes.Buffer
	z, err := zstd.NewWriter(&bomb, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, endless{}, decompress.RatioFloor+1<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := unpacked(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "more than 1100 times its size, the limit") || n < decompress.RatioFloor {
		t.Errorf("%d bytes, %v", n, err)
	}
	plain, err := unpacked(endless{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.CopyN(io.Discard, plain, decompress.RatioFloor+1<<20); err != nil {
		t.Error(err)
	}
	(*packedReader)(plain.(*unpackedReader)).in = decompress.MaxSize
	plain.(*unpackedReader).out = decompress.MaxSize
	if _, err := plain.Read(make([]byte, 1)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "more than 1099511627776 bytes, the limit") {
		t.Error(err)
	}
}
