package layers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
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

// plan is an image that is to be added.
type plan struct {
	name   string
	oneID  bool
	desc   v1.Descriptor
	top    v1.Descriptor // what the index is to name: desc, or the index that holds it
	raw    map[v1.Hash][]byte
	config *v1.ConfigFile
	jobs   []*job
	counts int
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
	p.top = e.top
	got, err := s.carryOut(ctx, p, opt)
	if err != nil {
		return nil, fmt.Errorf("unpack image %q: %w", query, err)
	}
	return got, nil
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
	if here := s.present(img, opt); here != nil {
		return s.renamed(here, name, opt)
	}
	p, err := newPlan(name, img)
	if err != nil {
		return nil, err
	}
	return s.carryOut(ctx, p, opt)
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
	form := *s
	form.OneID = s.OneID || opt.OneID
	here, err := form.image(e)
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
	form := *s
	form.OneID = s.OneID || opt.OneID
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

// newPlan asks an image for its manifest and config, and refuses what this store cannot keep.
func newPlan(name string, img v1.Image) (*plan, error) {
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if !mediaType.IsImage() {
		return nil, fmt.Errorf("manifest: media type %q is not an image", mediaType)
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	p := &plan{name: name, counts: len(m.Layers)}
	p.desc = v1.Descriptor{MediaType: mediaType, Digest: sha256Of(manifest), Size: int64(len(manifest))}
	p.raw = map[v1.Hash][]byte{p.desc.Digest: manifest, m.Config.Digest: config}
	if got := sha256Of(config); got != m.Config.Digest || int64(len(config)) != m.Config.Size {
		return nil, fmt.Errorf("config: digest is %s, but the manifest says %s", got, m.Config.Digest)
	}
	if p.config, err = v1.ParseConfigFile(bytes.NewReader(config)); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	p.desc.Platform = p.config.Platform()
	p.top = p.desc
	return p, p.addLayers(m, img)
}

// addLayers makes a job for every blob, once.
func (p *plan) addLayers(m *v1.Manifest, img v1.Image) error {
	ids := p.config.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return fmt.Errorf("manifest: %d layers, but the config has %d diff IDs", len(m.Layers), len(ids))
	}
	seen := make(map[v1.Hash]v1.Hash)
	for i, l := range m.Layers {
		if err := or(layerMediaType(l.MediaType), validDigest(ids[i])); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if id, ok := seen[l.Digest]; ok {
			if id != ids[i] {
				return fmt.Errorf("layer %s: the config has two diff IDs for it", l.Digest)
			}
			continue
		}
		seen[l.Digest] = ids[i]
		p.jobs = append(p.jobs, &job{desc: l, diffID: ids[i].String(), index: i, source: func() (io.ReadCloser, error) {
			layer, err := img.LayerByDigest(l.Digest)
			if err != nil {
				return nil, err
			}
			return layer.Compressed()
		}})
	}
	return nil
}

// sha256Of is the digest of a small blob.
func sha256Of(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// carryOut fetches what is missing and commits, and begins again if somebody pruned in between what was not
// missing at first.
func (s *Store) carryOut(ctx context.Context, p *plan, opt AddOptions) (*Image, error) {
	p.oneID = s.OneID || opt.OneID
	for range 3 {
		committed, err := s.attempt(ctx, p, opt)
		if err != nil {
			return nil, err
		}
		if committed {
			form := *s
			form.OneID = p.oneID
			return form.Lookup(or2(p.name, p.desc.Digest.String()))
		}
	}
	return nil, errors.New("layers were removed while they were added")
}

// attempt fetches and commits once.
func (s *Store) attempt(ctx context.Context, p *plan, opt AddOptions) (committed bool, err error) {
	t, err := s.temp()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.endLayers(p), t.close()) }()
	flush := s.newFlusher(p)
	failed := or(p.writeRaw(t), s.fetchAll(ctx, t, p, opt))
	if err := flush.finish(); err != nil {
		return false, or(failed, err)
	}
	committed, err = s.commit(t, p, failed == nil)
	return committed, or(failed, err)
}

// endLayers lets go of the layers that were made.
func (s *Store) endLayers(p *plan) error {
	var first error
	for _, j := range p.jobs {
		first = or(first, s.endLayer(j))
	}
	return first
}

// writeRaw writes manifest and config where commit finds them.
func (p *plan) writeRaw(t *temp) error {
	for h, b := range p.raw {
		if err := os.WriteFile(t.path(h.Hex), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fetchAll runs the jobs that have something to do, the longest first so that none is left alone at the end. The
// first error stops the others.
func (s *Store) fetchAll(ctx context.Context, t *temp, p *plan, opt AddOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var todo []*job
	report := reporter(p, opt)
	wanted := make(map[string]bool)
	for _, j := range p.jobs {
		j.plan(s, p.oneID, wanted)
		j.report = report(j)
		if !j.wantBlob && !j.wantTree {
			j.report("exists", j.desc.Size)
			continue
		}
		todo = append(todo, j)
	}
	slices.SortStableFunc(todo, func(a, b *job) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	slots := make(chan struct{}, cmp.Or(max(opt.Jobs, 0), 3))
	var running sync.WaitGroup
	for i, j := range todo {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := s.fetch(ctx, t, j, i); err != nil {
				cancel(fmt.Errorf("layer %s: %w", j.desc.Digest, err))
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// plan finds out what a blob still needs. The same tree is unpacked once, even from two blobs.
func (j *job) plan(s *Store, oneID bool, wanted map[string]bool) {
	j.oneID, j.limits = oneID, s.Limits.withDefaults()
	j.blob, j.number, j.done, j.published, j.verified = "", "", false, false, false
	j.downloaded.Store(false)
	_, _, err := s.layer(j.diffID, oneID)
	j.wantBlob = !s.hasBlob(j.desc)
	j.wantTree = errors.Is(err, fs.ErrNotExist) && !wanted[j.diffID]
	wanted[j.diffID] = true
	if !j.wantBlob {
		j.source = func() (io.ReadCloser, error) { return os.Open(s.blob(j.desc.Digest.String())) }
	}
}

// hasBlob says whether a blob is here, by name and length.
func (s *Store) hasBlob(d v1.Descriptor) bool {
	st, err := os.Stat(s.blob(d.Digest.String()))
	return err == nil && st.Size() == d.Size
}

// fetch runs one job in its own directory.
func (s *Store) fetch(ctx context.Context, t *temp, j *job, number int) error {
	dir := t.path(strconv.Itoa(number))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := j.run(ctx, s, dir); err != nil {
		return err
	}
	j.done = true
	j.report("done", j.desc.Size)
	return nil
}

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
	if isNamed(index, p.name, p.top.Digest) {
		return true, nil
	}
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
	}
	if j.number == "" {
		return nil
	}
	return s.publishLayer(j)
}

// complete says whether all blobs and layers of a plan are in their places.
func (s *Store) complete(p *plan) bool {
	for _, j := range p.jobs {
		if _, _, err := s.layer(j.diffID, p.oneID); err != nil || !s.hasBlob(j.desc) {
			return false
		}
	}
	return true
}
