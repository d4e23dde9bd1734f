package registry

import (
	"io"

	"github.com/hullrun/hull/internal/decompress"
)

// unpackedReader gives what compressed bytes unpack to, as long as that stays within the bounds of package decompress.
type unpackedReader struct {
	plain   io.Reader
	done    func()
	packed  io.Reader
	in, out int64 // bytes so far
}

// unpacked unpacks r, or passes it on if it is not compressed. The caller closes it.
func unpacked(r io.Reader) (io.ReadCloser, error) {
	u := &unpackedReader{packed: r}
	var err error
	u.plain, u.done, err = decompress.NewReader((*packedReader)(u), decompress.MaxWindow)
	return u, err
}

// packedReader is the other side of an unpackedReader.
type packedReader unpackedReader

func (p *packedReader) Read(b []byte) (int, error) {
	n, err := p.packed.Read(b)
	p.in += int64(n)
	return n, err
}

func (u *unpackedReader) Read(b []byte) (int, error) {
	n, err := u.plain.Read(b)
	u.out += int64(n)
	switch {
	case u.out > decompress.MaxSize:
		return n, problemf(ErrUnsupported, "it unpacks to more than %d bytes, the limit", int64(decompress.MaxSize))
	case u.out > decompress.RatioFloor && u.out/max(u.in, 1) > decompress.MaxRatio:
		return n, problemf(ErrUnsupported, "it unpacks to more than %d times its size, the limit", decompress.MaxRatio)
	case decompress.NeedsXZ(err):
		return n, problemf(ErrUnsupported, "%w\nunpack it on the way: xz -dc FILE | hull load", err)
	}
	return n, err
}

// Close is io.Closer's. It leaves what is read open.
func (u *unpackedReader) Close() error {
	u.done()
	return nil
}
