package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// pushJobs is how many layers are sent at once, as in Docker.
const pushJobs = 5

// PushOptions say how [Client.Push] works. The zero value will do.
type PushOptions struct {
	// From names repositories of the same registry, as in [Reference.Path], that have a layer. The registry is asked to
	// take it from the first of them instead of having it sent again; where it does not want to, the layer is sent. Nil
	// knows of none.
	From func(layer v1.Hash) []string
	// Progress is told what happens to the layers, one call at a time, from any goroutine. Nil: nobody is.
	Progress func(Sent)
}

// Sent is one step of one layer on its way to a registry.
type Sent struct {
	Layer string // digest of the blob
	Index int    // place in the image, from 0, lowest first
	Count int    // how many layers the image has
	Phase string // "exists"; or "mounted"; or "upload", at last "done"
	From  string // the repository that a mounted layer was taken from
	Done  int64  // bytes that were sent
	Total int64  // bytes of the layer
}

// Push uploads what the registry does not have of an image, or of an index and all that it names, byte for byte, and then
// names it ref. It goes to the registry itself, never to a mirror. A reference that has only a digest must have the image's. What fails for a reason that may
// pass is tried again, as often as in a pull; a layer is then sent from its beginning.
func (c *Client) Push(ctx context.Context, ref Reference, img Content, opt PushOptions) error {
	if err := c.push(ctx, ref, img, opt); err != nil {
		return fmt.Errorf("push %q: %w", ref.Familiar(), explain(err))
	}
	return nil
}

func (c *Client) push(ctx context.Context, ref Reference, img Content, opt PushOptions) error {
	reg, err := c.registry(endpoint{host: ref.Domain})
	if err != nil {
		return err
	}
	repo := reg.Repo(ref.Path)
	dst, err := pushName(repo, ref, img)
	if err != nil {
		return err
	}
	auth, err := c.login(ctx, ref.Domain, ref.Path)
	if err != nil {
		return err
	}
	p, err := newPush(repo, ref.Domain, img, opt)
	if err != nil {
		return err
	}
	// One token for all scopes, from one handshake; the library takes a connection that is logged in as it is.
	ears := &listening{c.roundTripper(c.retry), p}
	rt, err := transport.NewWithContext(ctx, reg, auth, ears, p.scopes())
	if err != nil {
		return err
	}
	err = remote.Push(dst, p.wrap(img), remote.WithTransport(rt), remote.WithContext(ctx), remote.WithJobs(pushJobs),
		remote.WithRetryBackoff(remote.Backoff{Duration: c.retry.base, Factor: 2, Jitter: 0.5, Steps: c.retry.attempts}),
		remote.WithRetryPredicate(func(err error) bool { return c.mayPass(ctx, ref, err) }))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		p.end()
	}
	return err
}

// pushName is ref in the library's words.
func pushName(repo name.Repository, ref Reference, img Content) (name.Reference, error) {
	if ref.Tag != "" {
		return repo.Tag(ref.Tag), nil
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	if digest.String() != ref.Digest {
		return nil, problemf(ErrCorrupt, "the image is %s", digest)
	}
	return repo.Digest(ref.Digest), nil
}

// mayPass tells whether sending something again may help.
func (c *Client) mayPass(ctx context.Context, ref Reference, err error) bool {
	var answer *transport.Error
	again := err != nil && ctx.Err() == nil && (retryable(err) || errors.As(err, &answer) && answer.Temporary())
	if again {
		hideQuery(err)
		c.opt.Log("push %s: %v; trying again", ref.Familiar(), err)
	}
	return again
}

// push is one image on its way.
type push struct {
	repo    name.Repository
	sent    map[string]*sending // by digest
	sources map[string]string   // a repository that has a layer, by the layer's digest
	mu      sync.Mutex          // held while Progress runs
	tell    func(Sent)
}

// sending is the state of one layer.
type sending struct {
	Sent
	told time.Time
}

// newPush lists the layers of an image.
func newPush(repo name.Repository, domain string, img Content, opt PushOptions) (*push, error) {
	all, err := leaves(img, 0)
	if err != nil {
		return nil, err
	}
	p := &push{repo: repo, sent: map[string]*sending{}, sources: map[string]string{}, tell: opt.Progress}
	for _, m := range all {
		for _, l := range m.Layers {
			digest := l.Digest.String()
			if p.sent[digest] != nil {
				continue
			}
			p.sent[digest] = &sending{Sent: Sent{Layer: digest, Index: len(p.sent), Total: l.Size}}
			var from []string
			if m.host == domain {
				from = append(from, m.path)
			}
			if opt.From != nil {
				from = append(from, opt.From(l.Digest)...)
			}
			if from = slices.DeleteFunc(from, func(path string) bool { return path == repo.RepositoryStr() }); len(from) > 0 {
				p.sources[digest] = from[0]
			}
		}
	}
	for _, s := range p.sent {
		s.Count = len(p.sent)
	}
	return p, nil
}

// scopes are the rights to ask for: to write here, and to read where layers may be taken from.
func (p *push) scopes() []string {
	scopes := []string{p.repo.Scope(transport.PushScope)}
	for _, path := range p.sources {
		if scope := p.repo.Registry.Repo(path).Scope(transport.PullScope); !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	slices.Sort(scopes[1:])
	return scopes
}

// sendEvery is how often at most the bytes of a layer are reported.
const sendEvery = 50 * time.Millisecond

// report passes a step of a layer on. The end of a layer is told once.
func (p *push) report(digest, phase, from string, done int64) {
	s := p.sent[digest]
	if s == nil || p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Phase == "done" || s.Phase == "exists" || s.Phase == "mounted" {
		return
	}
	if now := time.Now(); phase != s.Phase || done < s.Done || now.Sub(s.told) >= sendEvery {
		s.told = now
	} else {
		return
	}
	s.Phase, s.From, s.Done = phase, from, done
	p.tell(s.Sent)
}

// end tells of the layers that nobody had to ask for, because the registry had the whole image, and of those whose last
// answer came from other storage.
func (p *push) end() {
	for digest, s := range p.sent {
		switch s.Phase {
		case "":
			p.report(digest, "exists", "", s.Total)
		case "upload":
			p.report(digest, "done", "", s.Total)
		}
	}
}

// wrap is an image or index whose layers tell how they go.
func (p *push) wrap(content Content) remote.Taggable {
	switch c := content.(type) {
	case v1.ImageIndex:
		return pushedIndex{c, p}
	case v1.Image:
		return pushedImage{c, p}
	}
	return content
}

// anIndex is v1.ImageIndex by a name that is none of its methods.
type anIndex = v1.ImageIndex

// pushedIndex is an index whose images are pushedImages.
type pushedIndex struct {
	anIndex
	p *push
}

// Image gives a child.
func (i pushedIndex) Image(h v1.Hash) (v1.Image, error) {
	img, err := i.anIndex.Image(h)
	return pushedImage{img, i.p}, err
}

// ImageIndex gives a child that is an index.
func (i pushedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	inner, err := i.anIndex.ImageIndex(h)
	return pushedIndex{inner, i.p}, err
}

// pushedImage is an image whose layers tell how they go, and where else they are.
type pushedImage struct {
	v1.Image
	p *push
}

// Layers gives the layers, lowest first.
func (i pushedImage) Layers() ([]v1.Layer, error) {
	list, err := i.Image.Layers()
	if err != nil {
		return nil, err
	}
	for n, l := range list {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		list[n] = pushedLayer{l, i.p, digest.String()}
		if from := i.p.sources[digest.String()]; from != "" {
			list[n] = &remote.MountableLayer{Layer: list[n], Reference: i.p.repo.Registry.Repo(from).Tag(defaultTag)}
		}
	}
	return list, nil
}

type pushedLayer struct {
	v1.Layer
	p      *push
	digest string
}

// Compressed opens the layer's bytes, and counts them as they go.
func (l pushedLayer) Compressed() (io.ReadCloser, error) {
	rc, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	l.p.report(l.digest, "upload", "", 0)
	return &counted{ReadCloser: rc, layer: l}, nil
}

type counted struct {
	io.ReadCloser
	layer pushedLayer
	n     int64
}

func (r *counted) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	r.n += int64(n)
	r.layer.p.report(r.layer.digest, "upload", "", r.n)
	return n, err
}
