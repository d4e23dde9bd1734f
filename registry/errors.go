package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What can be wrong with an image elsewhere. Every error of this package that is about one of these matches it with
// errors.Is; the text names the operation, the image and the cause, for example
//
//	pull "127.0.0.1:5000/nope:latest": not found: GET http://127.0.0.1:5000/v2/nope/manifests/latest: MANIFEST_UNKNOWN: …
var (
	// ErrNotFound: the registry has no such repository, tag, manifest or blob; or the layout or archive has not.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry or its token server answered 401 or 403. The Hub says so of a repository that does
	// not exist, too.
	ErrUnauthorized = errors.New("access refused")
	// ErrUnavailable: no usable answer, after the retries: nobody listens, the name is unknown, the certificate is not
	// trusted, the registry is overloaded or broken.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrUnsupported: there is something, but not an image that hull can run: schema 1, foreign layers, an artifact of
	// another kind, an unknown media type, a document beyond its size limit.
	ErrUnsupported = errors.New("not supported")
	// ErrCorrupt: bytes that are not what their digest, size or descriptor says.
	ErrCorrupt = errors.New("wrong content")
	// ErrNoPlatform: the image exists, but not for the platform that was asked for.
	ErrNoPlatform = errors.New("no image for the platform")
)

// problem joins one of the errors above, for programs, with the cause, for people.
type problem struct{ kind, cause error }

func (p *problem) Error() string   { return p.kind.Error() + ": " + p.cause.Error() }
func (p *problem) Unwrap() []error { return []error{p.kind, p.cause} }

func problemf(kind error, format string, a ...any) error {
	return &problem{kind, fmt.Errorf(format, a...)}
}

// explain sorts an error that came up from the network into one of the kinds. One that has a kind keeps it, and a
// cancelled context stays recognisable as that.
func explain(err error) error {
	var p *problem
	if err == nil || errors.As(err, &p) || errors.Is(err, context.Canceled) {
		return err
	}
	hideQuery(err)
	var status *transport.Error
	if errors.As(err, &status) {
		err = &oneLine{err}
		switch code := status.StatusCode; {
		case code == http.StatusNotFound:
			return &problem{ErrNotFound, err}
		case code == http.StatusUnauthorized, code == http.StatusForbidden:
			return problemf(ErrUnauthorized, "%w (the login is missing or wrong, or there is no such repository)", err)
		case code == http.StatusTooManyRequests, code >= 500:
			return &problem{ErrUnavailable, err}
		}
	}
	var ue *url.Error
	var ne net.Error
	if errors.As(err, &ue) || errors.As(err, &ne) || retryable(err) {
		return &problem{ErrUnavailable, err}
	}
	return err
}

// oneLine is an error with words of the registry's, which might otherwise add lines of its own to hull's, or pages.
type oneLine struct{ error }

// Error is the text on one line of at most 1000 characters.
func (e *oneLine) Error() string {
	text := []rune(strings.Join(strings.Fields(e.error.Error()), " "))
	if len(text) > 1000 {
		text = append(text[:1000], '…')
	}
	return string(text)
}

// Unwrap gives the error itself.
func (e *oneLine) Unwrap() error { return e.error }

// hideQuery cuts the query off the address in err: a registry redirects to storage by addresses whose query is itself
// the permission to read, and error messages end in logs.
func hideQuery(err error) {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return
	}
	if u, perr := url.Parse(ue.URL); perr == nil && u.RawQuery != "" {
		u.RawQuery = ""
		ue.URL = u.String()
	}
}
