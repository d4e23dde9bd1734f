package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// A blob is fetched by one process at a time: whoever has the lock of its file tmp/get-HEX. What it fetches goes into that
// file, which becomes the blob in the end; if it dies before, the next one goes on where it stopped. Nobody waits for a
// file while he holds another, so that two pulls of images with layers in common cannot wait for each other.

// claimName begins the names of blobs that are being fetched.
const claimName = "get-"

// IsPartial says whether a file of tmp/ is the beginning of a blob, with which the next pull goes on: no flaw of the store.
func IsPartial(name string) bool { return strings.HasPrefix(name, claimName) }

// partialAge is how long the beginning of a blob is kept for the next attempt, unless Prune comes first.
const partialAge = 24 * time.Hour

func (s *Store) claimPath(d v1.Descriptor) string { return s.path("tmp", claimName+d.Digest.Hex) }

// errClaimed says that another process fetches the blob.
var errClaimed = errors.New("being fetched by another process")

// claim locks the file that a blob is fetched into, and makes it if need be; errClaimed if another one has it.
func (s *Store) claim(d v1.Descriptor) (*os.File, error) {
	path := s.claimPath(d)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("write blob: %w", err)
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			var held, there os.FileInfo
			if held, err = f.Stat(); err == nil {
				there, err = os.Lstat(path)
			}
			if err == nil && os.SameFile(held, there) {
				return f, nil
			}
		}
		f.Close()
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, errClaimed
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("lock blob: %w", err)
		}
		// It was renamed or removed before it was locked.
	}
}

// take claims the job's blob if it is to be fetched, and says whether the job can be done now.
func (j *job) take(s *Store) (bool, error) {
	j.busy, j.resumed, j.broke = false, 0, false
	if s.hasBlob(j.desc) {
		return true, nil
	}
	f, err := s.claim(j.desc)
	if errors.Is(err, errClaimed) {
		j.busy = true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	j.claim = f
	if s.hasBlob(j.desc) { // since we looked
		return true, j.dropClaim(true)
	}
	st, err := f.Stat()
	if err == nil && st.Size() <= j.desc.Size {
		j.resumed = st.Size()
	}
	return true, err
}

// worthKeeping is how many bytes of a blob are kept for the next attempt.
const worthKeeping = 64 << 10

// dropClaim lets others fetch the blob. With remove, or if it is not worth it, what is here of it goes.
func (j *job) dropClaim(remove bool) (err error) {
	if j.claim == nil {
		return nil
	}
	if st, statErr := j.claim.Stat(); remove || statErr == nil && st.Size() < worthKeeping {
		err = os.Remove(j.claim.Name())
	}
	j.claim.Close()
	j.claim = nil
	return err
}

// claimPoll is how often a process looks whether another one has fetched a blob.
const claimPoll = 20 * time.Millisecond

// await waits until nobody fetches what others were fetching, and shows how far they are.
func (s *Store) await(ctx context.Context, p *plan) error {
	for _, j := range p.jobs {
		for j.busy {
			f, err := lockFile(s.claimPath(j.desc), unix.LOCK_EX|unix.LOCK_NB)
			if !errors.Is(err, unix.EWOULDBLOCK) {
				if err == nil {
					f.Close()
				}
				j.busy = false
				continue
			}
			if st, err := os.Stat(s.claimPath(j.desc)); err == nil {
				j.report("download", st.Size())
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(claimPoll):
			}
		}
	}
	return nil
}
