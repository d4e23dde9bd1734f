package layers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// AddOptions says how Add works. The zero value will do.
type AddOptions struct {
	// Progress is told what happens to the layers, one call at a time, from any goroutine. Nil: nobody is.
	Progress func(Event)
	// Jobs is how many layers are fetched at once; 0 means 3, as in Docker.
	Jobs int
	// OneID unpacks as UnpackOptions.OneID says. Store.OneID does the same.
	OneID bool
	// Index, if not nil, is the index that the image was chosen from. It becomes what the name stands for, and all that it
	// names is kept, for [Store.Content] to give back; only the image itself is unpacked.
	Index v1.ImageIndex
}

// Event is one step of one layer.
type Event struct {
	Layer string // digest of the blob
	Index int    // place in the image, from 0, lowest first
	Count int    // how many layers the image has
	Phase string // "exists"; or "download", then "extract", at last "done"
	Done  int64  // compressed bytes that arrived ("download") or are unpacked ("extract")
	Total int64  // compressed bytes of the layer
}

// Add stores an image and unpacks its layers, several at once, and makes name (a full name, or "" for none) mean
// it. Everything is checked against the digests on its way, and nothing is visible before all of it is; an error
// leaves the store as it was, except that finished layers stay for the next attempt until Prune. What is here
// already is not fetched. Any number of processes may add at the same time, the same image too. After Add returned,
// a power loss takes nothing of it away.
func (s *Store) Add(ctx context.Context, name string, img v1.Image, opt AddOptions) (*Image, error) {
	if name != "" && fullName(name) == "" {
		return nil, fmt.Errorf("add image %q: not an image name", name)
	}
	got, err := s.add(ctx, name, img, opt)
	if err != nil {
		return nil, fmt.Errorf("add image %q: %w", name, err)
	}
	return got, nil
}

// Ready unpacks what of an image is not unpacked yet, as happens with images that another tool put into the store,
// and gives the image with its layers.
func (s *Store) Ready(ctx context.Context, img *Image, opt AddOptions) (*Image, error) {
	if img.Layers != nil {
		return img, nil
	}
	query := or2(img.Name, img.Digest)
	e, err := s.find(query)
	if err != nil {
		return nil, err
	}
	from, err := s.Image(query)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(img.Name, from)
	if err != nil {
		return nil, fmt.Errorf("unpack image %q: %w", query, err)
	}
	p.images[0].top = e.top
	if err := s.carryOut(ctx, p, opt); err != nil {
		return nil, fmt.Errorf("unpack image %q: %w", query, err)
	}
	return s.form(opt).Lookup(query)
}

// form is the store as the options would have it.
func (s *Store) form(opt AddOptions) *Store {
	form := *s
	form.OneID = s.OneID || opt.OneID
	return &form
}

// or2 gives the first text that is not empty.
func or2(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// add reads what the image is and carries the plan out.
func (s *Store) add(ctx context.Context, name string, img v1.Image, opt AddOptions) (*Image, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if opt.Index == nil {
		if here := s.present(img, opt); here != nil {
			got, err := s.renamed(here, name, opt)
			if !errors.Is(err, ErrNotFound) { // else it was removed this moment
				return got, err
			}
		}
	}
	p, err := newPlan(name, img)
	if err == nil && opt.Index != nil {
		err = p.addIndex(opt.Index)
	}
	if err != nil {
		return nil, err
	}
	if err := s.carryOut(ctx, p, opt); err != nil {
		return nil, err
	}
	return s.form(opt).Lookup(or2(name, p.images[0].desc.Digest.String()))
}

// present says whether all of an image is here, without asking its source for more than the manifest.
func (s *Store) present(img v1.Image, opt AddOptions) *Image {
	digest, err := img.Digest()
	if err != nil || validDigest(digest) != nil {
		return nil
	}
	e, err := s.find(digest.String())
	if err != nil || e.top.Digest != digest {
		return nil
	}
	for _, l := range e.manifest.Layers {
		if !s.hasBlob(l) {
			return nil
		}
	}
	here, err := s.form(opt).image(e)
	if err != nil || here.Layers == nil {
		return nil
	}
	for i, l := range e.manifest.Layers {
		tell(opt, Event{l.Digest.String(), i, len(e.manifest.Layers), "exists", l.Size, l.Size})
	}
	return here
}

// renamed gives an image that is here one more name, unless it has it.
func (s *Store) renamed(here *Image, name string, opt AddOptions) (*Image, error) {
	form := s.form(opt)
	query := or2(name, here.Digest)
	if name != "" {
		if got, err := form.Lookup(name); err == nil && got.Name == name && got.Digest == here.Digest {
			return got, nil
		}
		if err := s.Tag(here.Digest, name); err != nil {
			return nil, err
		}
	}
	return form.Lookup(query)
}

// carryOut fetches what is missing and commits, and begins again if somebody pruned in between what was not
// missing at first.
func (s *Store) carryOut(ctx context.Context, p *plan, opt AddOptions) error {
	p.oneID = s.OneID || opt.OneID
	for tries := 0; tries < 3; {
		committed, err := s.attempt(ctx, p, opt)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.jobs, func(j *job) bool { return j.busy }) {
			if err := s.await(ctx, p); err != nil {
				return err
			}
			continue
		}
		tries++
		if committed {
			return nil
		}
	}
	return errors.New("layers were removed while they were added")
}

// attempt fetches and commits once.
func (s *Store) attempt(ctx context.Context, p *plan, opt AddOptions) (committed bool, err error) {
	t, err := s.temp()
	if err != nil {
		return false, err
	}
	keep := false
	defer func() { err = errors.Join(err, s.endLayers(p, keep), t.close()) }()
	flush := s.newFlusher(p)
	failed := or(p.writeRaw(t), s.fetchAll(ctx, p, opt))
	// The beginning of a blob is worth something if nothing is wrong but that it did not come to an end.
	keep = ctx.Err() != nil || slices.ContainsFunc(p.jobs, func(j *job) bool { return j.broke })
	if err := flush.finish(); err != nil {
		return false, or(failed, err)
	}
	committed, err = s.commit(t, p, failed == nil)
	if committed {
		_ = s.sweepDead() // now, for ext4 makes files slowly after it removed as many
	}
	return committed, or(failed, err)
}

// endLayers lets go of the layers that were made, and of blobs that did not come to an end unless they are to be kept.
func (s *Store) endLayers(p *plan, keep bool) error {
	var first error
	for _, j := range p.jobs {
		first = or(first, or(s.endLayer(j), j.dropClaim(!keep || j.downloaded.Load())))
	}
	return first
}

// fetchAll runs the jobs that have something to do, the longest first so that none is left alone at the end. The
// first error stops the others.
func (s *Store) fetchAll(ctx context.Context, p *plan, opt AddOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var todo []*job
	report := reporter(p, opt)
	wanted := make(map[string]bool)
	for _, j := range p.jobs {
		j.report = report(j)
		if mine, err := j.take(s); err != nil {
			return err
		} else if !mine {
			continue
		}
		j.plan(s, p.oneID, wanted)
		if !j.wantBlob && !j.wantTree {
			j.report("exists", j.desc.Size)
			continue
		}
		todo = append(todo, j)
	}
	slices.SortStableFunc(todo, func(a, b *job) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	slots := make(chan struct{}, cmp.Or(max(opt.Jobs, 0), 3))
	var running sync.WaitGroup
	for _, j := range todo {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := s.fetch(ctx, j); err != nil {
				cancel(fmt.Errorf("layer %s: %w", j.desc.Digest, err))
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.finished = append(p.finished, j)
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// hasBlob says whether a blob is here, by name and length.
func (s *Store) hasBlob(d v1.Descriptor) bool {
	st, err := os.Stat(s.blob(d.Digest.String()))
	return err == nil && st.Size() == d.Size
}

// fetch runs one job.
func (s *Store) fetch(ctx context.Context, j *job) error {
	err := j.run(ctx, s)
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, errDamaged) && !j.wantBlob:
		err = s.fetchAnew(ctx, j)
	case j.wantBlob && j.resumed > 0 && !j.broke: // what was there may have been wrong
		if err = s.endLayer(j); err == nil {
			j.number, j.resumed = "", 0
			err = j.run(ctx, s)
		}
	}
	if err != nil {
		return err
	}
	j.done = true
	j.report("done", j.desc.Size)
	return nil
}

// fetchAnew fetches a blob whose bytes in the store are not what they were.
func (s *Store) fetchAnew(ctx context.Context, j *job) error {
	if err := or(s.endLayer(j), os.Remove(s.blob(j.desc.Digest.String()))); err != nil {
		return err
	}
	var err error
	if j.claim, err = s.claim(j.desc); err != nil {
		return err
	}
	j.number, j.wantBlob, j.source, j.resumed = "", true, j.remote, 0
	return j.run(ctx, s)
}
