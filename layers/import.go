package layers

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/hullrun/hull/internal/decompress"
)

// Import makes an image of the tar of a file system, which becomes its only layer: as it is if it is compressed with gzip or
// zstd, else (a plain one, or one of bzip2 or xz) compressed here. Either all of it is in the store afterwards, or no image. Packed and
// Warn of opt are not used.
func (s *Store) Import(ctx context.Context, tar io.Reader, platform v1.Platform, opt CommitOptions) (got *Image, err error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	t, err := s.temp()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	layer, err := keepLayer(untilDone{ctx, tar}, t.path("layer"), s.Limits.withDefaults())
	if decompress.NeedsXZ(err) {
		err = fmt.Errorf("%w\nunpack it on the way: xz -dc FILE | hull import -", err)
	}
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	img, err := s.imported(layer, platform, opt)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return s.Add(ctx, opt.Name, img, opt.Add)
}

// imported is the image of one layer.
func (s *Store) imported(layer *fileLayer, platform v1.Platform, opt CommitOptions) (v1.Image, error) {
	from := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config, err := from.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	if from, err = mutate.ConfigFile(from, config); err != nil {
		return nil, err
	}
	return configured(from, mutate.Addendum{Layer: layer, MediaType: layer.mediaType, History: v1.History{
		Author: opt.Author, Created: v1.Time{Time: opt.Created.UTC()}, CreatedBy: opt.CreatedBy, Comment: opt.Comment,
	}}, opt)
}

// keepLayer writes a tar to a file as a layer, and hashes it on the way.
func keepLayer(r io.Reader, path string, limits Limits) (*fileLayer, error) {
	in := bufio.NewReaderSize(r, chunkSize)
	head, err := in.Peek(decompress.HeadSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &fileLayer{path: path, mediaType: types.OCILayer}
	switch decompress.Kind(head) {
	case "gzip":
		err = l.copy(f, in, limits)
	case "zstd":
		l.mediaType = types.OCILayerZStd
		err = l.copy(f, in, limits)
	default:
		err = l.compress(f, in, limits)
	}
	if err != nil {
		return nil, err
	}
	return l, f.Close()
}

// compress writes a tar that is plain, or compressed as no layer is.
func (l *fileLayer) compress(f *os.File, in io.Reader, limits Limits) error {
	read := &countReader{r: in}
	tar, done, err := decompress.NewReader(read, limits.Window)
	if err != nil {
		return err
	}
	defer done()
	packed := sha256.New()
	counter := &countWriter{w: io.MultiWriter(f, packed)}
	z := gzip.NewWriter(counter)
	plain := sha256.New()
	n, err := copyLimited(io.MultiWriter(z, plain), tar, func() int64 { return read.n }, limits)
	if err = or(err, z.Close()); err != nil {
		return err
	}
	l.digest, l.diffID, l.size = hashOf(packed), hashOf(plain), counter.n
	return notNothing(n)
}

// copy writes a compressed tar as it is, and looks at what is in it.
func (l *fileLayer) copy(f *os.File, in io.Reader, limits Limits) error {
	packed, plain := sha256.New(), sha256.New()
	counter := &countWriter{w: io.MultiWriter(f, packed)}
	tee := io.TeeReader(in, counter)
	tar, done, err := decompress.NewReader(tee, limits.Window)
	if err != nil {
		return err
	}
	defer done()
	n, err := copyLimited(plain, tar, func() int64 { return counter.n }, limits)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // what follows the compressed data
		return err
	}
	l.digest, l.diffID, l.size = hashOf(packed), hashOf(plain), counter.n
	return notNothing(n)
}

// notNothing refuses a file that is empty: even a tar of no files has its end.
func notNothing(n int64) error {
	if n == 0 {
		return errors.New("there is nothing in it")
	}
	return nil
}

// copyLimited copies what came out of in compressed bytes, as long as both are within limits.
func copyLimited(w io.Writer, r io.Reader, in func() int64, limits Limits) (n int64, err error) {
	buf := make([]byte, chunkSize)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if _, err := w.Write(buf[:m]); err != nil {
			return n, err
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if err := limits.checkRatio(in(), n); err != nil {
			return n, err
		}
	}
}

// countWriter counts the bytes that pass.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// countReader counts the bytes that were read.
type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
