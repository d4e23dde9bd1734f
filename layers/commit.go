package layers

import (
	"fmt"
	"os"
	"slices"
)

// commit gives everything its name under the lock, the index last, and says whether all images are complete: what was
// found at the beginning may have been pruned since. Without name it only keeps finished layers, and names the images that
// are complete if the plan wants some without others.
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
	ready := slices.DeleteFunc(slices.Clone(p.images), func(i planned) bool { return !s.complete(i.jobs, p.oneID) })
	complete = len(ready) == len(p.images)
	if !p.partly && !(name && complete) || len(ready) == 0 {
		return false, nil
	}
	return complete, s.nameImages(t, p, ready)
}

// nameImages puts images into the index, which all are durable but for the names of their blobs. The caller holds the lock.
func (s *Store) nameImages(t *temp, p *plan, images []planned) error {
	for h := range p.raw {
		if err := os.Rename(t.path(h.Hex), s.blob(h.String())); err != nil {
			return err
		}
	}
	for _, dir := range []string{"layers", "layers/sha256", "images/blobs/sha256"} {
		if err := syncDir(s.path(dir)); err != nil {
			return err
		}
	}
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	// A layer that is new under an old name makes a new index too, so that no record speaks of another.
	changed := slices.ContainsFunc(p.jobs, func(j *job) bool { return j.published })
	for _, i := range images {
		if !isNamed(index, i.name, i.top.Digest) {
			changed = true
		}
		setName(index, i.name, i.top)
	}
	if !changed {
		return nil
	}
	return s.writeIndex(index)
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

// complete says whether all blobs and layers of some jobs are in their places.
func (s *Store) complete(jobs []*job, oneID bool) bool {
	for _, j := range jobs {
		if !s.hasBlob(j.desc) {
			return false
		}
		if j.diffID == "" {
			continue
		}
		if _, _, err := s.layer(j.diffID, oneID); err != nil {
			return false
		}
	}
	return true
}
