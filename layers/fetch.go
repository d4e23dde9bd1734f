package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/internal/decompress"
)

// job is what has to be done for one blob of an image: fetch it unless it is here, and unpack it unless that is
// done. Whatever is read is checked, byte by byte, against both digests that the image gives for it.
type job struct {
	desc     v1.Descriptor
	diffID   string                                 // "" for a blob that is only kept
	remote   func(off int64) (io.ReadCloser, error) // where the image came from, from a byte on
	source   func(off int64) (io.ReadCloser, error) // that, or the blob in the store
	index    int                                    // its first place in the image, from 0
	wantBlob bool
	wantTree bool
	oneID    bool
	limits   Limits

	claim   *os.File // what the blob is fetched into, see claim.go
	resumed int64    // how much of it was there
	busy    bool     // somebody else fetches it

	// what came of it
	blob      string   // its name, until it is in its place
	broke     bool     // the source gave up before its end
	number    string   // the layer that is being made, "" if none
	owners    *os.File // its owners, with its lock
	facts     *Unpacked
	done      bool // all of it
	published bool // the layer has its link

	report     func(phase string, done int64)
	wrote      func(n int) // counts bytes that go to the disk
	downloaded atomic.Bool
	verified   bool
}

// run does it all in one pass: the compressed bytes are hashed and written to the blob, inflated, hashed again and
// unpacked, each stage in a goroutine of its own.
//
//	source ─ download ─ pipe ─ inflate ─ pipe ─ hash ─ pipe ─ unpack
//	             └ blob file
//
// A stage that fails ends its outgoing pipe with the error and closes its incoming one, so that the last stage
// sees the first error, and the first one stops.
func (j *job) run(ctx context.Context, s *Store) error {
	off := int64(0)
	if j.wantBlob {
		off = j.resumed
	}
	source, err := j.source(off)
	if err != nil {
		j.broke = true
		return fmt.Errorf("download: %w", err)
	}
	closeSource := sync.OnceFunc(func() { source.Close() })
	defer closeSource()
	stop := context.AfterFunc(ctx, closeSource) // a read that hangs ends so
	defer stop()

	if j.diffID == "" {
		return j.keep(ctx, source)
	}
	raw, plain, checked := newPipe(), newPipe(), newPipe()
	var stages sync.WaitGroup
	stages.Go(func() { raw.closeSend(j.download(ctx, source, raw)) })
	stages.Go(func() { plain.closeSend(j.inflate(raw, plain)) })
	stages.Go(func() { checked.closeSend(j.check(plain, checked)) })
	err = j.sink(ctx, s, checked)
	if err != nil {
		closeSource()
	}
	checked.closeRead(or(err, errors.New("unpacker stopped early")))
	stages.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && !j.verified {
		err = errors.New("unpacker did not read the layer to its end")
	}
	return err
}

// keep fetches a blob and unpacks nothing.
func (j *job) keep(ctx context.Context, source io.Reader) error {
	raw := newPipe()
	var stages sync.WaitGroup
	stages.Go(func() { raw.closeSend(j.download(ctx, source, raw)) })
	_, err := io.Copy(io.Discard, struct{ io.Reader }{raw})
	stages.Wait()
	return or(context.Cause(ctx), err)
}

// download passes the compressed bytes on, hashed and, if wanted, written to a file. It gives io.EOF at the end.
func (j *job) download(ctx context.Context, source io.Reader, out *pipe) error {
	file, err := j.blobFile()
	if err != nil {
		return err
	}
	sum, size := sha256.New(), int64(0)
	before := io.LimitReader(file, j.resumed) // what is there already passes by, too
	for {
		var c chunk
		var err error
		again := file != nil && size < j.resumed
		if again {
			if c, err = fill(before, chunkSize/4); err == io.EOF {
				err = nil
			}
		} else {
			c, err = fill(source, chunkSize/4)
		}
		sum.Write(c.bytes())
		if size += int64(c.n); size > j.desc.Size {
			c.free()
			return fmt.Errorf("download: longer than the %d bytes that the manifest says", j.desc.Size)
		}
		if file != nil && !again {
			if _, err := file.Write(c.bytes()); err != nil {
				c.free()
				return fmt.Errorf("write blob: %w", err)
			}
			j.wrote(c.n)
		}
		if err := out.send(c); err != nil {
			return err
		}
		j.report("download", size)
		if err == io.EOF {
			return j.downloadEnd(sum, size)
		}
		if err != nil {
			j.broke = true
			return fmt.Errorf("download: %w", or(context.Cause(ctx), err))
		}
	}
}

// blobFile gives the file for the compressed bytes, if they are wanted, at its beginning.
func (j *job) blobFile() (*os.File, error) {
	if !j.wantBlob {
		return nil, nil
	}
	j.blob = j.claim.Name()
	err := or(j.claim.Truncate(j.resumed), j.claim.Chmod(0o644)) // whatever the umask
	if _, seekErr := j.claim.Seek(0, io.SeekStart); or(err, seekErr) != nil {
		return nil, fmt.Errorf("write blob: %w", or(err, seekErr))
	}
	return j.claim, nil
}

// errDamaged is in the error of a blob whose bytes are not those of its digest.
var errDamaged = errors.New("damaged")

// downloadEnd compares with the manifest.
func (j *job) downloadEnd(sum hash.Hash, size int64) error {
	if size != j.desc.Size {
		return fmt.Errorf("download: %d bytes, but the manifest says %d", size, j.desc.Size)
	}
	if got := digestOf(sum); got != j.desc.Digest.String() {
		return fmt.Errorf("download: %w: digest is %s", errDamaged, got)
	}
	j.downloaded.Store(true)
	return io.EOF
}

// inflate passes the plain tar on.
func (j *job) inflate(in, out *pipe) (err error) {
	defer func() { in.closeRead(err) }()
	r, done, err := decompress.NewReader(in, j.limits.Window)
	if err != nil {
		return err
	}
	defer done()
	var size int64
	for {
		c, err := fill(r, chunkSize)
		size += int64(c.n)
		if err := out.send(c); err != nil {
			return err
		}
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("inflate: %w", err)
		}
		if err := j.limits.checkRatio(in.read, size); err != nil {
			return err
		}
		if j.downloaded.Load() {
			j.report("extract", in.read)
		}
	}
}

// check passes the tar on and compares it with the diff ID at its end.
func (j *job) check(in, out *pipe) (err error) {
	defer func() { in.closeRead(err) }()
	sum := sha256.New()
	for {
		c, err := in.receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		sum.Write(c.bytes())
		j.wrote(c.n)
		if err := out.send(c); err != nil {
			return err
		}
	}
	if got := digestOf(sum); got != j.diffID {
		return fmt.Errorf("diff ID is %s, but the image's config says %s", got, j.diffID)
	}
	j.verified = true
	return io.EOF
}

// sink unpacks, or only reads where the tree is there already.
func (j *job) sink(ctx context.Context, s *Store, in io.Reader) error {
	if !j.wantTree {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{in})
		return err
	}
	var err error
	if j.number, j.owners, err = s.newLayer(); err != nil {
		return err
	}
	opt := UnpackOptions{OneID: j.oneID, Limits: j.limits, Owners: j.owners}
	if j.facts, err = s.unpack(ctx, s.LayerDir(j.number), in, opt); err != nil {
		return err
	}
	b, err := json.Marshal(Facts{DiffID: j.diffID, Unpacked: *j.facts})
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("layers", j.number+".json"), b, 0o600)
}

// digestOf spells a finished hash as images do.
func digestOf(sum hash.Hash) string {
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}
