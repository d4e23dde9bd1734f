package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/singleflight"
)

// mirroredFrom is the annotation of a stored descriptor that came from the mirrored registry, which it names.
const mirroredFrom = "hull.mirrored-from"

const (
	// upstreamPatience bounds a conversation about a document, retries included. Clients wait meanwhile, and most of them
	// for half a minute.
	upstreamPatience = 15 * time.Second
	// upstreamStall is how long the mirrored registry may leave the next byte out.
	upstreamStall = 10 * time.Second
	// upstreamRest is how long a registry that did not answer is left alone.
	upstreamRest = 10 * time.Second
)

// mirror fetches what is missing here.
type mirror struct {
	ep    endpoint
	c     *Client
	ctx   context.Context // the server's
	store *serveStore
	name  string
	log   func(format string, a ...any)
	// patience is upstreamPatience; tests have less.
	patience time.Duration

	documents singleflight.Group
	running   sync.WaitGroup

	mu      sync.Mutex
	fetches map[v1.Hash]*fetch
	resting time.Time // until then the registry is taken for dead
	silence error     // why
}

func newMirror(ctx context.Context, ep endpoint, s *Server, store *serveStore) *mirror {
	opt := s.Upstream
	opt.Mirrors = map[string][]string{ep.host: {s.Mirror}} // "http://" there allows plain http
	opt.Log = s.Log
	c := New(opt)
	c.retry = retryPolicy{attempts: 3, base: 200 * time.Millisecond, limit: time.Second, longest: 2 * time.Second, stall: min(upstreamStall, cmp.Or(s.patience, upstreamStall))}
	c.dial = (&net.Dialer{Timeout: upstreamStall / 2, KeepAlive: keepAlive}).DialContext
	return &mirror{ep: ep, c: c, ctx: ctx, store: store, name: s.Mirror, log: c.opt.Log, patience: cmp.Or(s.patience, upstreamPatience), fetches: map[v1.Hash]*fetch{}}
}

// wait lets the downloads end, which their context has told them to.
func (m *mirror) wait() { m.running.Wait() }

func (m *mirror) source(repo string) *remoteSource {
	ref := Reference{Domain: m.ep.host, Path: repo}
	return &remoteSource{c: m.c, sessions: []*session{m.c.session(m.ep, ref, transport.PullScope)}}
}

// ask has a conversation with the registry, unless it was silent a moment ago. What it does not have, or shows nobody, is
// fs.ErrNotExist; anything else that goes wrong is a bad gateway.
func (m *mirror) ask(ctx context.Context, talk func(ctx context.Context) error) error {
	if err := m.silent(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.patience, fmt.Errorf("no answer within %v", m.patience))
	defer cancel()
	err := explain(talk(ctx))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNotFound), errors.Is(err, ErrUnauthorized):
		return fmt.Errorf("%w at %s (%w)", fs.ErrNotExist, m.name, err)
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		err = problemf(ErrUnavailable, "%w", context.Cause(ctx))
	}
	if errors.Is(err, ErrUnavailable) {
		m.mu.Lock()
		m.resting, m.silence = time.Now().Add(upstreamRest), err
		m.mu.Unlock()
	}
	return refuse(http.StatusBadGateway, "UNKNOWN", "ask %s: %w", m.name, err)
}

func (m *mirror) silent() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().Before(m.resting) {
		return refuse(http.StatusBadGateway, "UNKNOWN", "%s did not answer a moment ago: %w", m.name, m.silence)
	}
	return nil
}

// manifest finds out what a name stands for there, and has it here afterwards. here is what it stood for before, or zero.
// Those who ask for the same at once share one conversation, which goes on when one of them leaves.
func (m *mirror) manifest(_ context.Context, r route, here v1.Descriptor) (v1.Descriptor, error) {
	got, err, _ := m.documents.Do(r.repo+" "+r.last, func() (any, error) {
		desc := here
		err := m.ask(m.ctx, func(ctx context.Context) (err error) {
			desc, err = m.fetchManifest(ctx, r, here)
			return err
		})
		return desc, err
	})
	return got.(v1.Descriptor), err
}

func (m *mirror) fetchManifest(ctx context.Context, r route, here v1.Descriptor) (v1.Descriptor, error) {
	src := m.source(r.repo)
	if here.Digest.Hex != "" {
		now, err := src.head(ctx, Reference{Path: r.repo, Tag: r.last})
		if err != nil || now.Digest == here.Digest {
			return here, err
		}
	}
	raw, mediaType, err := src.document(ctx, r.last)
	if err != nil {
		return here, err
	}
	sum, err := sumOf(raw, digestIn(r.last))
	if err != nil || digestIn(r.last) != "" && sum.String() != r.last {
		return here, problemf(ErrCorrupt, "manifest %s has the digest %s", r.last, sum)
	}
	doc, mediaType, err := readPushed(raw, mediaType)
	if err != nil {
		return here, problemf(ErrCorrupt, "manifest %s: %w", r.last, err)
	}
	desc := v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(raw)), Digest: sum, Annotations: map[string]string{mirroredFrom: m.name}}
	var tags []string
	if digestIn(r.last) == "" {
		tags = []string{r.last}
	}
	return desc, m.store.keepManifest(r.repo, desc, raw, doc, tags)
}

// tags lists a repository's tags there.
func (m *mirror) tags(ctx context.Context, repo string) (all []string, err error) {
	s := m.source(repo).sessions[0]
	err = m.ask(ctx, func(ctx context.Context) error {
		query := url.Values{"n": {fmt.Sprint(tagPageSize)}}
		for n := 0; n < maxTagPages && query != nil; n++ {
			tags, next, err := s.tags(ctx, query)
			if err != nil {
				return err
			}
			all, query = append(all, tags...), next
		}
		return nil
	})
	return all, err
}

// referrers lists the manifests about subject there, by the registry's own list or by the tag schema. It is an addition
// to what is here; that it cannot be had is no error.
func (m *mirror) referrers(ctx context.Context, repo string, subject v1.Hash) []v1.Descriptor {
	var index v1.IndexManifest
	src := m.source(repo)
	err := m.ask(ctx, func(ctx context.Context) error {
		resp, err := src.sessions[0].do(ctx, http.MethodGet, "referrers/"+subject.String(), http.Header{"Accept": {string(types.OCIImageIndex)}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifestSize))
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), string(types.OCIImageIndex)) {
			raw, _, err = src.document(ctx, fallbackTag(subject))
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &index)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log("referrers of %s: %v", subject, err)
	}
	return index.Manifests
}
