package registry

import (
	"net/http"
	"strings"
)

// listening hears from a push's own requests what becomes of each layer, which go-containerregistry does not tell.
type listening struct {
	inner http.RoundTripper
	p     *push
}

func (l *listening) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.inner.RoundTrip(req)
	if err == nil && strings.HasPrefix(req.URL.Path, "/v2/"+l.p.repo.RepositoryStr()+"/blobs/") {
		l.hear(req, resp.StatusCode)
	}
	return resp, err
}

// hear reads an answer about a blob: there it is (HEAD), it was taken from elsewhere (POST with mount), or it has arrived
// (PUT).
func (l *listening) hear(req *http.Request, status int) {
	query := req.URL.Query()
	switch {
	case req.Method == http.MethodHead && status == http.StatusOK:
		digest := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
		l.p.report(digest, "exists", "", l.p.size(digest))
	case req.Method == http.MethodPost && status == http.StatusCreated:
		digest := query.Get("mount")
		l.p.report(digest, "mounted", query.Get("from"), l.p.size(digest))
	case req.Method == http.MethodPut && status == http.StatusCreated:
		digest := query.Get("digest")
		l.p.report(digest, "done", "", l.p.size(digest))
	}
}

func (p *push) size(digest string) int64 {
	if s := p.sent[digest]; s != nil {
		return s.Total
	}
	return 0
}
