package layers

import (
	"fmt"
	"os"
	"slices"
)

// commit gives everything its name under the lock, the index last, and says whether the image is complete: what was
// found at the beginning may have been pruned since. Without name it only keeps finished layers.
func (s *Store) commit(t *temp, p *plan, name bool) (complete bool, err error) {
	unlock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	for _, j := range p.jobs {
		if err := s.publish(j); err != nil {
			return false, fmt.Errorf("keep layer %s: %w", j.desc.Digest, err)
		}
	}
	if !name || !s.complete(p) {
		return false, nil
	}
	for h := range p.raw {
		if err := os.Rename(t.path(h.Hex), s.blob(h.String())); err != nil {
			return false, err
		}
	}
	for _, dir := range []string{"layers", "layers/sha256", "images/blobs/sha256"} {
		if err := syncDir(s.path(dir)); err != nil {
			return false, err
		}
	}
	index, err := s.readIndex()
	if err != nil {
		return false, err
	}
	if isNamed(index, p.name, p.top.Digest) && !slices.ContainsFunc(p.jobs, func(j *job) bool { return j.published }) {
		return true, nil
	}
	// A layer that is new under an old name makes a new index too, so that no record speaks of another.
	setName(index, p.name, p.top)
	return true, s.writeIndex(index)
}

// publish moves what a job finished to its place.
func (s *Store) publish(j *job) error {
	if !j.done {
		return nil
	}
	if j.blob != "" {
		if err := os.Rename(j.blob, s.blob(j.desc.Digest.String())); err != nil {
			return err
		}
		j.blob = ""
		j.claim.Close()
		j.claim = nil
	}
	if j.number == "" || j.published {
		return nil
	}
	return s.publishLayer(j)
}

// complete says whether all blobs and layers of a plan are in their places.
func (s *Store) complete(p *plan) bool {
	for _, j := range p.jobs {
		if !s.hasBlob(j.desc) {
			return false
		}
		if j.diffID == "" {
			continue
		}
		if _, _, err := s.layer(j.diffID, p.oneID); err != nil {
			return false
		}
	}
	return true
}
