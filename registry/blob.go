package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// bufferSize is what a blob is read in: large enough that system calls do not count, small enough that ten layers at
// once need no memory worth a word.
const bufferSize = 256 << 10

// source is where an image's documents and blobs come from: a registry, a layout's folder, an archive.
type source interface {
	// document gets the manifest or index named ref, a digest or (for a registry) a tag, with its media type as far as
	// the source knows it. It is the caller who verifies.
	document(ctx context.Context, ref string) (raw []byte, mediaType string, err error)
	// blob opens a blob's bytes. They are verified by the reader that openBlob puts around.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// openBlob opens a blob for reading and verifies it on the way: the first Read that could return io.EOF returns an
// ErrCorrupt instead if size or digest are not those of d.
func openBlob(ctx context.Context, src source, d v1.Descriptor) (io.ReadCloser, error) {
	h, err := v1.Hasher(d.Digest.Algorithm)
	if err != nil {
		return nil, problemf(ErrUnsupported, "blob %s: %w", d.Digest, err)
	}
	body, err := src.blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, explain(err))
	}
	return &verified{body: body, hash: h, want: d}, nil
}

// readBlob reads a small blob (a configuration) whole.
func readBlob(ctx context.Context, src source, d v1.Descriptor) ([]byte, error) {
	r, err := openBlob(ctx, src, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// The size is limited by the caller, and the reader fails before it goes past it.
	b := make([]byte, 0, d.Size+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// verified passes bytes on and hashes them. Reads of at least bufferSize go from the source to the caller's buffer with
// no copy between; smaller ones are served from a buffer of that size.
type verified struct {
	body io.ReadCloser
	hash hash.Hash
	want v1.Descriptor
	got  int64

	// array is bufferSize long, made when first needed; buf is the part of it that was hashed but not yet taken.
	array, buf []byte
	err        error // the verdict, once the source has ended
}

func (v *verified) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(v.buf) == 0 && len(p) >= bufferSize {
		return v.fill(p)
	}
	if err := v.ready(); err != nil {
		return 0, err
	}
	n := copy(p, v.buf)
	v.buf = v.buf[n:]
	return n, nil
}

// WriteTo serves io.Copy with whole buffers.
func (v *verified) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := v.ready(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return written, err
		}
		n, err := w.Write(v.buf)
		written += int64(n)
		v.buf = v.buf[n:]
		if err != nil {
			return written, err
		}
	}
}

// ready makes buf hold something, or returns why it never will again.
func (v *verified) ready() error {
	for len(v.buf) == 0 {
		if v.array == nil {
			v.array = make([]byte, bufferSize)
		}
		n, err := v.fill(v.array)
		if err != nil {
			return err
		}
		v.buf = v.array[:n]
	}
	return nil
}

// fill reads once from the source. Bytes are handed out before the verdict, the verdict only with io.EOF or after it.
func (v *verified) fill(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.body.Read(p)
	v.hash.Write(p[:n])
	v.got += int64(n)
	if v.got > v.want.Size {
		v.err = problemf(ErrCorrupt, "blob %s has more than the %d bytes of its descriptor", v.want.Digest, v.want.Size)
		return 0, v.err
	}
	if err != nil {
		v.err = v.verdict(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, v.err
}

func (v *verified) verdict(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != io.EOF {
		return fmt.Errorf("blob %s: after %d of %d bytes: %w", v.want.Digest, v.got, v.want.Size, explain(err))
	}
	if v.got != v.want.Size {
		return problemf(ErrCorrupt, "blob %s is cut short: %d of %d bytes", v.want.Digest, v.got, v.want.Size)
	}
	if sum := hex.EncodeToString(v.hash.Sum(nil)); sum != v.want.Digest.Hex {
		return problemf(ErrCorrupt, "blob %s has the digest %s:%s", v.want.Digest, v.want.Digest.Algorithm, sum)
	}
	return io.EOF
}

// Close ends the download; it says nothing about the bytes.
func (v *verified) Close() error { return v.body.Close() }
