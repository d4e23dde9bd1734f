package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// verifiedFile is where it is noted which keys signed the manifest with a digest: a fingerprint a line.
func (s *Store) verifiedFile(digest string) string { return s.path("verified", hexOf(digest)) }

// Verified gives the fingerprints of the keys by which the manifest with a digest of an [Image] was found signed. Under which
// names the image is here does not matter: what was signed is the digest.
func (s *Store) Verified(digest string) ([]string, error) {
	text, err := os.ReadFile(s.verifiedFile(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is verified: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// NoteVerified notes one more key for the manifest with a digest. The note goes when Prune finds that the manifest has gone.
func (s *Store) NoteVerified(digest, fingerprint string) error {
	if err := os.MkdirAll(s.path("verified"), 0o700); err != nil {
		return fmt.Errorf("note what is verified: %w", err)
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	keys, err := s.Verified(digest)
	if err != nil || slices.Contains(keys, fingerprint) {
		return err
	}
	return s.writeFile(s.verifiedFile(digest), []byte(strings.Join(append(keys, fingerprint), "\n")+"\n"))
}

// sweepVerified forgets about manifests that are not here any more.
func (s *Store) sweepVerified() {
	notes, err := os.ReadDir(s.path("verified"))
	if err != nil {
		return
	}
	for _, n := range notes {
		if _, err := os.Lstat(s.path("images", "blobs", "sha256", n.Name())); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(s.path("verified", n.Name()))
		}
	}
}
