package registry

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// serveGrace is how long requests under way may take to end when a served registry is told to stop. A connection that a
// client opened in advance counts as one.
const serveGrace = time.Second

// Serve runs a registry on l until ctx ends, and then returns nil. It is go-containerregistry's, which speaks the
// distribution API to hull, docker, podman, skopeo and crane. It asks nobody for a login, so l should be a loopback
// address. l is closed in any case.
//
// With dir "" all is kept in memory and gone afterwards. Otherwise blobs, manifests and unfinished uploads are files
// below dir, which is made if need be, and a later Serve on dir has them again:
//
//	dir/blobs/sha256/HEX                 blobs and manifests
//	dir/names/REPOSITORY/_refs/REF       a tag or digest: the media type and digest of its manifest, as JSON
//	dir/uploads/                         rubbish after a crash; emptied at the start
//
// Two processes must not serve one dir at a time.
func Serve(ctx context.Context, l net.Listener, dir string) error {
	defer l.Close()
	handler, err := newServer(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second, ErrorLog: quiet()}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), serveGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func newServer(dir string) (http.Handler, error) {
	if dir == "" {
		return checkNames(ggcr.New(ggcr.Logger(quiet()), ggcr.WithReferrersSupport(true))), nil
	}
	store, err := openServeStore(dir)
	if err != nil {
		return nil, err
	}
	inner := ggcr.New(ggcr.Logger(quiet()), ggcr.WithReferrersSupport(true), ggcr.WithBlobHandler(store))
	if err := store.replay(inner); err != nil {
		return nil, err
	}
	return checkNames(&persistent{inner: inner, store: store}), nil
}

// checkNames refuses repositories, tags and digests that are none, which the library takes as they come. They become
// file names.
func checkNames(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r, ok := parseRoute(req.URL.Path)
		// "CONNECT host" and "OPTIONS *" have no path, at which the library panics.
		if !strings.HasPrefix(req.URL.Path, "/") || ok && (checkPath(r.repo) != nil || r.kind == "manifests" && checkTag(r.last) != nil && checkDigest(r.last) != nil) {
			http.Error(w, `{"errors":[{"code":"NAME_INVALID","message":"no valid repository, tag or digest"}]}`, http.StatusBadRequest)
			return
		}
		inner.ServeHTTP(w, req)
	})
}

// route is a parsed path of the API: /v2/REPO/KIND/LAST, where KIND may be "blobs/uploads".
type route struct{ repo, kind, last string }

func parseRoute(path string) (route, bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return route{}, false
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	if n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads" {
		return route{strings.Join(parts[:n-3], "/"), "blobs/uploads", parts[n-1]}, true
	}
	if n < 3 {
		return route{}, false
	}
	return route{strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]}, true
}
