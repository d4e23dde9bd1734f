package layers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// CommitOptions is what a new image says of itself, and who hears of its making.
type CommitOptions struct {
	Name                       string // in full, or "" for none
	Config                     v1.Config
	Created                    time.Time
	CreatedBy, Author, Comment string       // the line of its history
	Container                  string       // ID of the container it was made of
	Warn                       func(string) // takes a line about what is left out; nil drops it
	Packed                     func()       // is called when the container's files are not needed any more; nil is not
	Add                        AddOptions
}

// Commit makes an image of another one and what a container has changed on top of it (see [PackChanges]). If that is
// nothing, the image has no layer more. Either all of it is in the store afterwards, or no image.
func (s *Store) Commit(ctx context.Context, base *Image, stack Stack, opt CommitOptions) (got *Image, err error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	t, err := s.temp()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	layer, err := s.packLayer(ctx, t.path("layer"), stack, opt.Warn)
	if err != nil {
		return nil, err
	}
	if opt.Packed != nil {
		opt.Packed()
	}
	img, err := s.withLayer(base, layer, opt)
	if err != nil {
		return nil, fmt.Errorf("commit on image %q: %w", or2(base.Name, base.ID), err)
	}
	return s.Add(ctx, opt.Name, img, opt.Add)
}

// packLayer writes a stack's changes to a file, compressed, and hashes them on the way.
func (s *Store) packLayer(ctx context.Context, path string, stack Stack, warn func(string)) (*fileLayer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	defer f.Close()
	plain, packed := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, packed))
	pack := s.Packer
	if pack == nil {
		pack = PackChanges
	}
	if err := pack(ctx, io.MultiWriter(z, plain), stack, warn); err != nil {
		return nil, err
	}
	if err := or(z.Close(), f.Close()); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return &fileLayer{path: path, size: st.Size(), diffID: hashOf(plain), digest: hashOf(packed)}, nil
}

func hashOf(sum hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: digestOf(sum)[len("sha256:"):]}
}

// emptyTar is the diff ID of a tar without an entry.
const emptyTar = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// withLayer puts a layer on top of an image, unless it is empty.
func (s *Store) withLayer(base *Image, layer *fileLayer, opt CommitOptions) (v1.Image, error) {
	from, err := s.Image(base.ID)
	if err != nil {
		return nil, err
	}
	mediaType, err := from.MediaType()
	if err != nil {
		return nil, err
	}
	layer.mediaType = types.OCILayer
	if mediaType == types.DockerManifestSchema2 {
		layer.mediaType = types.DockerLayer
	}
	created := v1.Time{Time: opt.Created.UTC()}
	add := mutate.Addendum{History: v1.History{Author: opt.Author, Created: created, CreatedBy: opt.CreatedBy, Comment: opt.Comment}}
	if layer.diffID.String() == emptyTar {
		add.History.EmptyLayer = true
	} else {
		add.Layer = layer
	}
	return configured(from, add, opt)
}

// configured puts a line of history, with its layer, on top of an image, and gives it the configuration wished for.
func configured(from v1.Image, add mutate.Addendum, opt CommitOptions) (v1.Image, error) {
	img, err := mutate.Append(from, add)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Config, config.Created, config.Author, config.Container = opt.Config, add.History.Created, opt.Author, opt.Container
	return mutate.ConfigFile(img, config)
}

// fileLayer is a compressed layer in a file.
type fileLayer struct {
	path           string
	size           int64
	digest, diffID v1.Hash
	mediaType      types.MediaType
}

var _ v1.Layer = (*fileLayer)(nil)

func (l *fileLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error)  { return l.mediaType, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
