package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// maxSearchSize bounds one answer to a search or one page of a catalogue, in bytes, maxCatalogPages the number of pages.
	maxSearchSize   = 4 << 20
	maxCatalogPages = 100
	catalogPageSize = 1000
	// catalogScope is what a token for the catalogue is asked for by.
	catalogScope = "registry:catalog:*"
)

// Found is a repository that a search has found.
type Found struct {
	// Name is what a pull calls it: without a host at the Hub, "127.0.0.1:5000/team/app" elsewhere.
	Name        string
	Description string
	Stars       int
	Official    bool
	Automated   bool // of the past: built by the Hub
}

// SplitTerm parts what is searched for from the registry that it is searched at: "[HOST[:PORT]/]TERM".
func SplitTerm(s string) (host, term string, err error) {
	host, term = splitDomain(s)
	if err := checkDomain(host); err != nil {
		return "", "", fmt.Errorf("search %q: %w", s, err)
	}
	if host == defaultDomain && term == "" {
		return "", "", fmt.Errorf("search %q: there is nothing to search for", s)
	}
	return host, term, nil
}

// Search finds repositories at a registry: by /v1/search, which the Hub has and some others, or else in the registry's
// catalogue by their names. At most limit come back. A registry that offers neither is ErrUnsupported.
func (c *Client) Search(ctx context.Context, host, term string, limit int) ([]Found, error) {
	s := &searcher{c: c, host: host, address: host, scheme: "https"}
	found, err := s.search(ctx, term, limit)
	if err != nil {
		return nil, fmt.Errorf("search %q: %w", host, explain(err))
	}
	return found[:min(len(found), limit)], nil
}

type searcher struct {
	c             *Client
	host, address string
	scheme        string
	client        *http.Client
}

func (s *searcher) search(ctx context.Context, term string, limit int) ([]Found, error) {
	if s.host == defaultDomain {
		s.address = legacyDomain // which is where the search is
		s.client = &http.Client{Transport: s.c.roundTripper(s.c.retry)}
		return s.v1(ctx, term, limit)
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	found, err := s.v1(ctx, term, limit)
	if err == nil || !answered(err) {
		return found, err
	}
	found, cerr := s.catalog(ctx, term, limit)
	if cerr != nil && answered(cerr) {
		return nil, problemf(ErrUnsupported, "this registry offers no search, and no list of its repositories: %w", &oneLine{cerr})
	}
	return found, cerr
}

// answered tells an answer that is none to the question from a registry that is not there.
func answered(err error) bool {
	var status *transport.Error
	return errors.As(err, &status) && status.StatusCode < 500 && status.StatusCode != http.StatusTooManyRequests || errors.Is(err, ErrCorrupt)
}

// connect finds out how the registry is talked to. One that only knows the search of old is asked without more ado.
func (s *searcher) connect(ctx context.Context) error {
	reg, err := s.c.registry(endpoint{host: s.host})
	if err != nil {
		return err
	}
	auth, err := s.c.login(ctx, s.host, "")
	if err != nil {
		return err
	}
	rt, err := transport.NewWithContext(ctx, reg, auth, s.c.roundTripper(s.c.retry), []string{catalogScope})
	if err != nil && auth == authn.Anonymous && answered(err) {
		rt, err = s.c.roundTripper(s.c.retry), nil
		if isLoopback(s.host) && !s.c.hasCerts(s.host) {
			s.scheme = "http"
		}
	}
	s.client = &http.Client{Transport: rt}
	return err
}

// get reads a document of JSON.
func (s *searcher) get(ctx context.Context, path string, query url.Values, to any) (http.Header, error) {
	u := url.URL{Scheme: s.scheme, Host: s.address, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSearchSize)).Decode(to); err != nil {
		return nil, problemf(ErrCorrupt, "answer to GET %s: %w", path, err)
	}
	return resp.Header, nil
}

func (s *searcher) v1(ctx context.Context, term string, limit int) ([]Found, error) {
	var page struct {
		Results *[]struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			StarCount   int    `json:"star_count"`
			IsOfficial  bool   `json:"is_official"`
			IsAutomated bool   `json:"is_automated"`
		} `json:"results"`
	}
	if _, err := s.get(ctx, "/v1/search", url.Values{"q": {term}, "n": {fmt.Sprint(limit)}}, &page); err != nil {
		return nil, err
	}
	if page.Results == nil {
		return nil, problemf(ErrCorrupt, "answer to GET /v1/search: it has no results")
	}
	var found []Found
	for _, r := range *page.Results {
		found = append(found, Found{s.name(r.Name), r.Description, r.StarCount, r.IsOfficial, r.IsAutomated})
	}
	return found, nil
}

// catalog goes through the list of all repositories until enough of them have the term in their name.
func (s *searcher) catalog(ctx context.Context, term string, limit int) ([]Found, error) {
	var found []Found
	query := url.Values{"n": {fmt.Sprint(catalogPageSize)}}
	for range maxCatalogPages {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		h, err := s.get(ctx, "/v2/_catalog", query, &page)
		if err != nil {
			return nil, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, strings.ToLower(term)) {
				found = append(found, Found{Name: s.name(name)})
			}
		}
		if query = nextPage(h.Get("Link")); query == nil || len(found) >= limit {
			return found, nil
		}
	}
	s.c.opt.Log("%s: its list of repositories has more than %d pages, which were read", s.host, maxCatalogPages)
	return found, nil
}

// name is a repository's as a pull wants it.
func (s *searcher) name(repo string) string {
	if s.host == defaultDomain || strings.HasPrefix(repo, s.host+"/") {
		return repo
	}
	return s.host + "/" + repo
}

// ByStars orders what was found as Docker does: the most liked first, then by name.
func ByStars(a, b Found) int { return cmp.Or(b.Stars-a.Stars, strings.Compare(a.Name, b.Name)) }
