// Package layers keeps container images on this disk: it stores what a registry or an archive gives, unpacks each
// layer once for all images that share it, and describes the overlay that makes a container's root of them.
//
// A store is one directory:
//
//	images/                  a valid OCI image layout: oci-layout, index.json, blobs/sha256/…
//	layers/<n>/              an unpacked layer; n is a short number in base 36, so that 500 fit in a mount's options
//	layers/<n>.json          what is known of it: see [Facts]
//	layers/<n>.owners        what the disk could not take: see [Owner]
//	layers/0/                always empty
//	layers/sha256/<hex>      link to ../<n>: the layer with this diff ID is complete
//	layers/sha256/<hex>-one  the same for somebody with one user id, where that makes a difference
//	verified/<hex>           by which keys the manifest with this digest is signed, as far as somebody asked
//	records/                 answers of Lookup, each good as long as index.json is the file it was
//	tmp/                     what is being made; each entry is locked by its maker
//	lock                     held while the above is changed
//
// images/index.json is the truth about names. Other tools may add images there (skopeo copy … oci:DIR:NAME); their
// layers are unpacked when somebody needs them. Any number of processes may use one store at once. One that dies
// leaves things in tmp/, or blobs and layers that no image names: Prune removes both.
package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What can be asked of an error with errors.Is.
var (
	ErrNotFound  = errors.New("no such image")
	ErrAmbiguous = errors.New("more than one image begins so")
	ErrInUse     = errors.New("image is in use")
)

// Store is the images and layers below one root directory. Its fields may be set before it is used.
type Store struct {
	// OneID makes Lookup and Ready look for the form of layers in which everything belongs to the caller,
	// as UnpackOptions.OneID has it.
	OneID bool
	// Limits bounds every layer that is added.
	Limits Limits
	// Unpacker stands in for [Unpack]; it must read the tar to its end. Somebody with subordinate ids sets
	// one that unpacks in a user namespace. Nil means Unpack.
	Unpacker func(ctx context.Context, dir string, tar io.Reader, opt UnpackOptions) (*Unpacked, error)
	// Packer stands in for [PackChanges], likewise.
	Packer func(ctx context.Context, w io.Writer, stack Stack, warn func(string)) error
	// Remover stands in for [RemoveTree], for the same reason. Nil means RemoveTree.
	Remover func(dir string) error

	root string
}

// Open names the store below root, an absolute path or one relative to the working directory. Nothing is looked at
// or made: a store that is not there holds no images, and the first Add makes it.
func Open(root string) (*Store, error) {
	if root == "" {
		return nil, errors.New("open store: no root directory given")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", root, err)
	}
	return &Store{root: abs}, nil
}

// Root is the store's directory, an absolute path.
func (s *Store) Root() string { return s.root }

// LayersDir is the directory that the relative paths in Mount's options start from.
func (s *Store) LayersDir() string { return s.path("layers") }

// LayerDir is where a layer of [Image.Layers] lies.
func (s *Store) LayerDir(number string) string { return s.path("layers", number) }

// path joins names to the root.
func (s *Store) path(names ...string) string {
	return filepath.Join(append([]string{s.root}, names...)...)
}

// blob is where a blob lies. The digest is "sha256:" and 64 hex digits.
func (s *Store) blob(digest string) string {
	return s.path("images", "blobs", "sha256", hexOf(digest))
}

// Blob is where the blob with a digest of an [Image] lies, if it is here.
func (s *Store) Blob(digest string) string { return s.blob(digest) }

// hexOf cuts the algorithm off a digest. There is only sha256 in this store: validDigest saw to it.
func hexOf(digest string) string { return digest[len("sha256:"):] }

// prepare makes the store's directories. Only its owner may look into them: layers hold setuid programs of any age,
// and images may be private.
func (s *Store) prepare() error {
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	for _, dir := range []string{"images/blobs/sha256", "layers/sha256", "layers/" + emptyLayer, "records", "tmp"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return fmt.Errorf("make store: %w", err)
		}
	}
	if err := os.Chmod(s.path("layers", emptyLayer), 0o755); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	return s.prepareLayout()
}

// prepareLayout writes the two files that make images an OCI layout.
func (s *Store) prepareLayout() error {
	if _, err := os.Lstat(s.indexFile()); err == nil {
		return nil
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(s.indexFile()); err == nil {
		return nil
	}
	if err := s.writeFile(s.path("images", "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return s.writeIndex(emptyIndex())
}

// lock makes this process the only one that changes the store, until unlock is called. Whoever holds it must be
// quick.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store %q: %w", s.root, err)
	}
	return func() { f.Close() }, nil
}

// flock locks an open file until it is closed.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// writeFile puts a small file in place, durably and at once: nobody sees half of it, now or after a power loss.
func (s *Store) writeFile(path string, content []byte) error {
	f, err := s.tempFile()
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = or(err, f.Chmod(0o644))
	err = or(err, f.Sync())
	err = or(err, os.Rename(f.Name(), path))
	err = or(err, syncDir(filepath.Dir(path)))
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// unpack calls the Unpacker.
func (s *Store) unpack(ctx context.Context, dir string, r io.Reader, opt UnpackOptions) (*Unpacked, error) {
	if s.Unpacker != nil {
		return s.Unpacker(ctx, dir, r, opt)
	}
	return Unpack(ctx, dir, r, opt)
}

// removeTree calls the Remover.
func (s *Store) removeTree(dir string) error {
	if s.Remover != nil {
		return s.Remover(dir)
	}
	return RemoveTree(dir)
}
