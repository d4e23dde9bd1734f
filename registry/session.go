package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const maxRedirects = 10

// endpoint is one place that may serve a repository: the registry, or a mirror of it.
type endpoint struct {
	host   string // HOST[:PORT] as logins and certificates know it
	prefix string // put before the repository's path, "" or "proxy/"
	mirror bool
}

// address is the host that is connected to; the Hub's registry is not at the Hub's name.
func (e endpoint) address() string {
	if e.host == defaultDomain {
		return name.DefaultRegistry
	}
	return e.host
}

// endpoints lists where to ask for ref: its mirrors in order, then the registry.
func (c *Client) endpoints(ref Reference) []endpoint {
	var eps []endpoint
	mirrors, own := c.opt.Mirrors[ref.Domain]
	if !own {
		mirrors = c.opt.Mirrors[All]
	}
	word := strings.ReplaceAll(strings.ToLower(ref.Domain), ":", "-")
	for _, m := range mirrors {
		ep, err := parseMirror(strings.ReplaceAll(m, Placeholder, word))
		if err != nil {
			c.opt.Log("mirror %q of %s: %v", m, ref.Domain, err)
			continue
		}
		eps = append(eps, ep)
	}
	return append(eps, endpoint{host: ref.Domain})
}

func parseMirror(s string) (endpoint, error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, prefix, _ := strings.Cut(rest, "/")
	if strings.Contains(rest, "://") || strings.ContainsAny(rest, "?#@ ") {
		return endpoint{}, fmt.Errorf("want [http[s]://]HOST[:PORT][/PREFIX]")
	}
	if err := checkDomain(host); err != nil {
		return endpoint{}, err
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		if err := checkPath(prefix); err != nil {
			return endpoint{}, err
		}
		prefix += "/"
	}
	return endpoint{host: host, prefix: prefix, mirror: true}, nil
}

// registry is the endpoint in go-containerregistry's words. Its own rule takes private networks for safe enough for
// plain http; Insecure widens that rule to what is allowed here, and wire narrows it.
func (c *Client) registry(ep endpoint) (name.Registry, error) {
	var opts []name.Option
	if c.plainAllowed(ep.host) {
		opts = append(opts, name.Insecure)
	}
	return name.NewRegistry(ep.host, opts...)
}

type sessionKey struct {
	endpoint
	path, scope string
}

// session is a conversation with one endpoint about one repository, with what was found out about its scheme and login.
type session struct {
	c     *Client
	ep    endpoint
	path  string // the repository at this endpoint
	scope string // transport.PullScope or PushScope

	mu       sync.Mutex
	client   *http.Client // nil until an answer came
	scheme   string       // to be written in its requests
	loggedIn bool
}

// session gives the conversation about ref's repository, an old one if there is one, because of its token.
func (c *Client) session(ep endpoint, ref Reference, scope string) *session {
	key := sessionKey{ep, ref.Path, scope}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[key] == nil {
		c.sessions[key] = &session{c: c, ep: ep, path: ep.prefix + ref.Path, scope: scope}
	}
	return c.sessions[key]
}

// do sends a request about the repository, rest being "manifests/latest" or "tags/list?n=9", and returns whatever the registry answers once
// it has accepted the login. The caller closes the body.
func (s *session) do(ctx context.Context, method, rest string, header http.Header) (*http.Response, error) {
	s.mu.Lock()
	client, scheme := s.client, s.scheme
	s.mu.Unlock()
	if client == nil {
		resp, err := s.straight(ctx, method, rest, header)
		if resp != nil || err != nil {
			return resp, err
		}
		if client, err = s.connect(ctx); err != nil {
			return nil, err
		}
		scheme = "https"
	}
	return s.send(ctx, client, scheme, method, rest, header)
}

// straight saves the handshake where it mostly finds nothing, at a registry on this machine, by asking the question at
// once, in plain http and without a login. No answer and no error mean that the handshake is needed: there is TLS, or a
// login, or the registry has a bad moment.
func (s *session) straight(ctx context.Context, method, rest string, header http.Header) (*http.Response, error) {
	if !isLoopback(s.ep.host) || s.c.hasCerts(s.ep.host) {
		return nil, nil
	}
	once := s.c.retry
	once.attempts = 1
	resp, err := s.send(ctx, s.httpClient(s.c.roundTripper(once)), "http", method, rest, header)
	switch {
	case err != nil && (errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil):
		return nil, err
	case err != nil:
		return nil, nil
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNotFound:
		s.keep(s.httpClient(s.c.roundTripper(s.c.retry)), "http")
		return resp, nil
	}
	resp.Body.Close()
	return nil, nil
}

// connect does the whole handshake: which scheme, which kind of login, and the token for our scope. What it returns
// wants https written in each request and puts http there if that is what answered.
func (s *session) connect(ctx context.Context) (*http.Client, error) {
	reg, err := s.c.registry(s.ep)
	if err != nil {
		return nil, err
	}
	auth, err := s.c.login(ctx, s.ep.host, s.path)
	if err != nil {
		return nil, err
	}
	rt, err := transport.NewWithContext(ctx, reg, auth, s.c.roundTripper(s.c.retry), []string{reg.Repo(s.path).Scope(s.scope)})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.loggedIn = auth != authn.Anonymous
	s.mu.Unlock()
	client := s.httpClient(rt)
	s.keep(client, "https")
	return client, nil
}

func (s *session) keep(client *http.Client, scheme string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.scheme = client, scheme
}

// httpClient follows redirects, which is how registries hand out storage. A login stays behind: net/http by itself would
// take it along to another port or a subdomain of the same name.
func (s *session) httpClient(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		if req.URL.Host != via[0].URL.Host {
			req.Header.Del("Authorization")
		}
		return nil
	}}
}

func (s *session) send(ctx context.Context, client *http.Client, scheme, method, rest string, header http.Header) (*http.Response, error) {
	u := url.URL{Scheme: scheme, Host: s.ep.address()}
	rest, u.RawQuery, _ = strings.Cut(rest, "?")
	u.Path = "/v2/" + s.path + "/" + rest
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return client.Do(req)
}
