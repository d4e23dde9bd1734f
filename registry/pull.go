package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxTagsSize bounds one page of a tag list, maxTagPages their number; together a million tags fit.
	maxTagsSize = 4 << 20
	maxTagPages = 1000
	tagPageSize = 1000
)

// Pull finds ref's image for a platform (nil means Linux on this machine's architecture), at the first mirror that has
// it or at the registry, and returns it with its manifest and configuration fetched and verified. Nothing of the layers
// is fetched yet: each layer's Compressed opens a download, which resumes by range when the connection breaks, and which
// verifies what passes (see the package comment). ctx therefore rules these downloads, too.
//
// An image that has no index is returned whatever its platform is, as Docker does; its configuration tells. Errors match
// [ErrNotFound], [ErrUnauthorized], [ErrUnavailable], [ErrNoPlatform], [ErrUnsupported] or [ErrCorrupt].
func (c *Client) Pull(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Image, error) {
	var img *image
	err := c.each(ctx, ref, func(src *remoteSource) error {
		top, err := src.top(ctx, ref)
		if err == nil {
			img, err = newImage(ctx, src, top, platform)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", ref.Familiar(), err)
	}
	return img, nil
}

// Head asks what ref's name stands for, an image's manifest or an index of several, without fetching it where the
// registry can tell without (one HEAD request, which the Hub does not count as a pull). Compare with [Named].
func (c *Client) Head(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	var d v1.Descriptor
	err := c.each(ctx, ref, func(src *remoteSource) (err error) {
		d, err = src.head(ctx, ref)
		return err
	})
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("look up %q: %w", ref.Familiar(), err)
	}
	return d, nil
}

// Document fetches what ref's name stands for, an image's manifest or an index of several, byte for byte.
func (c *Client) Document(ctx context.Context, ref Reference) (raw []byte, d v1.Descriptor, err error) {
	err = c.each(ctx, ref, func(src *remoteSource) error {
		doc, err := src.top(ctx, ref)
		if err == nil {
			raw, d = doc.raw, doc.desc
		}
		return err
	})
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("look up %q: %w", ref.Familiar(), err)
	}
	return raw, d, nil
}

// Resolve finds the manifest that [Client.Pull] would pull, and fetches neither configuration nor layers: a HEAD request
// and, where the name stands for an index, a GET of that.
func (c *Client) Resolve(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Descriptor, error) {
	var d v1.Descriptor
	err := c.each(ctx, ref, func(src *remoteSource) (err error) {
		if d, err = src.head(ctx, ref); err != nil || !d.MediaType.IsIndex() {
			return err
		}
		top, err := fetchDocument(ctx, src, v1.Descriptor{Digest: d.Digest})
		if err != nil {
			return err
		}
		doc, err := choose(ctx, src, top, platform)
		if err == nil {
			d = doc.desc
		}
		return err
	})
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("look up %q: %w", ref.Familiar(), err)
	}
	return d, nil
}

// each tries what is to be done at each endpoint until one serves. Mirrors are a convenience: what goes wrong there is
// logged, and the registry's own answer is the one that counts.
func (c *Client) each(ctx context.Context, ref Reference, try func(*remoteSource) error) error {
	eps := c.endpoints(ref)
	sessions := make([]*session, len(eps))
	for i, ep := range eps {
		sessions[i] = c.session(ep, ref, transport.PullScope)
	}
	for i, ep := range eps {
		err := explain(try(&remoteSource{c: c, sessions: sessions[i:]}))
		if err == nil || !ep.mirror || ctx.Err() != nil {
			return err
		}
		c.opt.Log("mirror %s: %v", ep.host, err)
	}
	return nil // unreachable: the last endpoint is no mirror
}

// remoteSource is a repository: documents come from the first session, blobs from the first that has them.
type remoteSource struct {
	c        *Client
	sessions []*session
}

func acceptDocuments() http.Header {
	return http.Header{"Accept": {
		string(types.OCIManifestSchema1), string(types.OCIImageIndex),
		string(types.DockerManifestSchema2), string(types.DockerManifestList),
	}}
}

// top gets the document that ref names.
func (s *remoteSource) top(ctx context.Context, ref Reference) (*document, error) {
	raw, mediaType, err := s.document(ctx, ref.identifier())
	if err != nil {
		return nil, err
	}
	return parseDocument(raw, mediaType, ref.Digest, 0)
}

// document is source's. A connection that breaks in the middle of a document is a reason to ask again.
func (s *remoteSource) document(ctx context.Context, ref string) (raw []byte, mediaType string, err error) {
	for n := 1; ; n++ {
		raw, mediaType, err = s.documentOnce(ctx, ref)
		if err == nil || n >= s.c.retry.attempts || !errors.Is(err, errBroken) {
			return raw, mediaType, err
		}
		s.c.opt.Log("manifest %s: %v; trying again", ref, err)
		if err := s.c.retry.wait(ctx, n, 0); err != nil {
			return nil, "", err
		}
	}
}

// errBroken marks an answer that began well and did not end.
var errBroken = errors.New("the answer broke off")

func (s *remoteSource) documentOnce(ctx context.Context, ref string) ([]byte, string, error) {
	resp, err := s.sessions[0].do(ctx, http.MethodGet, "manifests/"+ref, acceptDocuments())
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		if !errors.As(err, new(*transport.Error)) { // it has not read what the registry says
			err = problemf(ErrUnavailable, "manifest %s: %s: %w", ref, resp.Status, err)
		}
		return nil, "", s.sessions[0].limited(resp, err)
	}
	s.sessions[0].noteRateLimit(resp.Header)
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifestSize+1))
	if err != nil {
		return nil, "", problemf(ErrUnavailable, "%w: %w", errBroken, err)
	}
	if len(raw) > maxManifestSize {
		return nil, "", problemf(ErrUnsupported, "manifest %s has more than the %d bytes that are the limit", ref, maxManifestSize)
	}
	return raw, resp.Header.Get("Content-Type"), checkDigestHeader(resp, raw)
}

// checkDigestHeader compares a manifest with what the registry believes to have sent. A proxy in between that changes
// documents shows here for tags, where there is no digest to compare with.
func checkDigestHeader(resp *http.Response, raw []byte) error {
	said := resp.Header.Get("Docker-Content-Digest")
	if said == "" {
		return nil
	}
	sum, err := sumOf(raw, said)
	if err == nil && sum.String() != said {
		err = problemf(ErrCorrupt, "manifest %s, but the registry says that it is %s", sum, said)
	}
	return err
}

// head is a HEAD request, or what a GET tells where the registry answers HEAD with too little.
func (s *remoteSource) head(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	resp, err := s.sessions[0].do(ctx, http.MethodHead, "manifests/"+ref.identifier(), acceptDocuments())
	if err != nil {
		return v1.Descriptor{}, err
	}
	resp.Body.Close()
	digest, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	mediaType := types.MediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && err == nil && isDocumentType(string(mediaType)) && resp.ContentLength > 0 {
		if ref.Digest != "" && digest.String() != ref.Digest {
			return v1.Descriptor{}, problemf(ErrCorrupt, "asked for %s, got %s", ref.Digest, digest)
		}
		return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: resp.ContentLength}, nil
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return v1.Descriptor{}, s.sessions[0].limited(resp, transport.CheckError(resp))
	}
	doc, err := s.top(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return doc.desc, nil
}

// blob is source's.
func (s *remoteSource) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	dl := s.download(ctx, d, 0)
	return dl, dl.start()
}

// download is one that has off bytes already.
func (s *remoteSource) download(ctx context.Context, d v1.Descriptor, off int64) *download {
	return &download{ctx: ctx, from: s.sessions, policy: s.c.retry, log: s.c.opt.Log, blob: d, off: off, failOff: off}
}

// Tags lists the tags of ref's repository in the registry's order, from the registry itself and not its mirrors.
func (c *Client) Tags(ctx context.Context, ref Reference) ([]string, error) {
	s := c.session(endpoint{host: ref.Domain}, ref, transport.PullScope)
	var tags []string
	query := url.Values{"n": {fmt.Sprint(tagPageSize)}}
	for range maxTagPages {
		page, next, err := s.tags(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("list tags of %q: %w", ref.Domain+"/"+ref.Path, explain(err))
		}
		tags = append(tags, page...)
		if query = next; query == nil {
			return tags, nil
		}
	}
	return nil, fmt.Errorf("list tags of %q: %w", ref.Domain+"/"+ref.Path, problemf(ErrUnsupported, "there are more than %d pages", maxTagPages))
}

func (s *session) tags(ctx context.Context, query url.Values) (tags []string, next url.Values, err error) {
	resp, err := s.do(ctx, http.MethodGet, "tags/list?"+query.Encode(), nil)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	var page struct {
		Tags []string `json:"tags"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTagsSize)).Decode(&page); err != nil {
		return nil, nil, problemf(ErrCorrupt, "tag list: %w", err)
	}
	return page.Tags, nextPage(resp.Header.Get("Link")), nil
}

// nextPage takes the query from Link: </v2/…/tags/list?n=…&last=…>; rel="next". Only the query: whither the next request
// goes is not for the registry to say.
func nextPage(link string) url.Values {
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rest, "next") {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil || len(u.Query()) == 0 {
		return nil
	}
	return u.Query()
}
