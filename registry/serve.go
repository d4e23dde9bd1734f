package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// serveGrace is how long requests under way may take to end when a served registry is told to stop. A connection that a
	// client opened in advance counts as one.
	serveGrace = time.Second
	// serveStall is how long a client may leave the next byte of a request's body out.
	serveStall = time.Minute
	// serveIdle is how long a connection without a request is kept.
	serveIdle = 2 * time.Minute
)

// Server is a registry that speaks OCI's distribution API, version 1.1, to hull, docker, podman, skopeo and crane: pull,
// push (whole, in pieces, by mount), deletion, tags, catalogue, referrers. It asks nobody for a login, so it should
// listen on a loopback address. The zero value keeps everything in a temporary folder while it serves.
//
// What a client was told to be stored is stored: a file is written under another name, synced, renamed, and its folder
// synced before the answer goes out. Two things are weaker: pieces of an upload survive the server's death but perhaps
// not the machine's, and a temporary folder is not synced at all.
//
// Memory does not depend on the size of blobs; a manifest has 4 MiB at most.
type Server struct {
	// Dir keeps the content; "" means a temporary folder. It is made if need be, and has one server at a time:
	//
	//	blobs/ALGORITHM/HEX                        blobs and manifests, as in an OCI image layout
	//	names/REPOSITORY/_refs/REF                 a tag or digest: the descriptor of its manifest, as JSON
	//	names/REPOSITORY/_blobs/DIGEST             empty; says that the repository has the blob
	//	names/REPOSITORY/_referrers/SUBJECT/DIGEST the descriptor of a manifest about another one, as JSON
	//	uploads/                                   what is still coming
	Dir string
	// ReadOnly refuses all that clients would change, with 405 and UNSUPPORTED. Without Mirror, Dir is not written to.
	ReadOnly bool
	// Mirror is a registry, [http[s]://]HOST[:PORT][/PREFIX], from which what is missing here is fetched, verified and kept.
	// A tag that came from there is compared with it at each use; one that was pushed here is not. Where it does not answer
	// in time, what is here is served.
	Mirror string
	// Upstream says how to talk to Mirror: logins, certificates.
	Upstream Options
	// Ready is called, if it is not nil, when the content was found to be usable and requests are answered.
	Ready func()
	// Log gets a line for what went wrong without being a client's mistake. nil drops them. It may be called from several
	// goroutines.
	Log func(format string, a ...any)

	patience time.Duration // with Mirror, for tests; 0 means upstreamPatience
}

// Serve runs a [Server] that keeps its content in dir, or in a temporary folder, and is otherwise a zero value.
func Serve(ctx context.Context, l net.Listener, dir string) error {
	return (&Server{Dir: dir}).Serve(ctx, l)
}

// Serve serves on l until ctx ends, and then returns nil. l is closed in any case.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h, err := s.handler(ctx)
	if err != nil {
		return fmt.Errorf("serve registry: %w", err)
	}
	defer h.close()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: serveIdle, ErrorLog: quiet()}
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
	if s.Ready != nil {
		s.Ready()
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// server is a Server at work.
type server struct {
	store    *serveStore
	uploads  *uploads
	mirror   *mirror // nil where there is none
	readOnly bool
	log      func(format string, a ...any)
}

func (s *Server) handler(ctx context.Context) (*server, error) {
	h := &server{readOnly: s.ReadOnly, log: s.Log}
	if h.log == nil {
		h.log = func(string, ...any) {}
	}
	var ep endpoint
	var err error
	if s.Mirror != "" {
		if ep, err = parseMirror(s.Mirror); err != nil {
			return nil, fmt.Errorf("mirror %q: %w", s.Mirror, err)
		}
	}
	if h.store, err = openServeStore(s.Dir, s.ReadOnly && s.Mirror == ""); err != nil {
		return nil, err
	}
	h.uploads = newUploads(ctx, h.store)
	if s.Mirror != "" {
		h.mirror = newMirror(ctx, ep, s, h.store)
	}
	return h, nil
}

func (h *server) close() {
	if h.mirror != nil {
		h.mirror.wait()
	}
	h.store.close()
}

// refusal is an answer that says no; code is one of the specification's error codes.
type refusal struct {
	status int
	code   string
	cause  error
}

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(status int, code, format string, a ...any) error {
	return &refusal{status, code, fmt.Errorf(format, a...)}
}

func (h *server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	req.Body = &patientBody{req.Body, http.NewResponseController(w)}
	if err := h.serve(w, req); err != nil {
		h.answer(w, req, err)
	}
}

// answer tells a client why not, in the specification's words.
func (h *server) answer(w http.ResponseWriter, req *http.Request, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		// A full disk has a status of its own, which clients do not take for something that passes by itself.
		r = &refusal{http.StatusInternalServerError, "UNKNOWN", err}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.status, r.code = http.StatusNotFound, "NAME_UNKNOWN"
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			r.status = http.StatusInsufficientStorage
		}
	}
	if r.status >= 500 && req.Context().Err() == nil {
		h.log("%s %s: %v", req.Method, req.URL.Path, err)
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Del("Content-Length")
	sendJSON(w, r.status, "application/json", map[string][]entry{"errors": {{r.code, r.cause.Error()}}})
}

func sendJSON(w http.ResponseWriter, status int, mediaType string, doc any) {
	raw, err := json.Marshal(doc)
	if err != nil {
		status, raw = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
	w.WriteHeader(status)
	w.Write(raw)
}

// patientBody gives a client serveStall for each read of its body.
type patientBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.conn.SetReadDeadline(time.Now().Add(serveStall))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// route is a parsed path of the API: /v2/REPO/KIND/LAST, where KIND may be "blobs/uploads".
type route struct{ repo, kind, last string }

func parseRoute(path string) (route, bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return route{}, false
	}
	if strings.HasSuffix(rest, "/blobs/uploads") {
		rest += "/"
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

// check refuses repositories, tags and digests that are none. They become file names.
func (r route) check() error {
	if err := checkPath(r.repo); err != nil {
		return &refusal{http.StatusBadRequest, "NAME_INVALID", err}
	}
	_, err := v1.NewHash(r.last)
	switch {
	case r.kind == "manifests" && err != nil && !strings.Contains(r.last, ":"):
		if err := checkTag(r.last); err != nil {
			return &refusal{http.StatusBadRequest, "MANIFEST_INVALID", err}
		}
	case err != nil && (r.kind == "manifests" || r.kind == "blobs" || r.kind == "referrers"):
		return &refusal{http.StatusBadRequest, "DIGEST_INVALID", err}
	}
	return nil
}

// serve finds who answers. GET stands for HEAD, too: net/http keeps the body back.
func (h *server) serve(w http.ResponseWriter, req *http.Request) error {
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h.readOnly && method != http.MethodGet {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the registry is read-only")
	}
	switch strings.TrimSuffix(req.URL.Path, "/") {
	case "/v2":
		sendJSON(w, http.StatusOK, "application/json", struct{}{})
		return nil
	case "/v2/_catalog":
		return h.catalog(w, req)
	}
	r, ok := parseRoute(req.URL.Path)
	if !ok {
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "no such page; the registry's are below /v2/")
	}
	if err := r.check(); err != nil {
		return err
	}
	serve := map[string]func(http.ResponseWriter, *http.Request, route) error{
		"GET manifests":        h.getManifest,
		"PUT manifests":        h.putManifest,
		"DELETE manifests":     h.deleteManifest,
		"GET blobs":            h.getBlob,
		"DELETE blobs":         h.deleteBlob,
		"POST blobs/uploads":   h.startUpload,
		"GET blobs/uploads":    h.getUpload,
		"PATCH blobs/uploads":  h.patchUpload,
		"PUT blobs/uploads":    h.commitUpload,
		"DELETE blobs/uploads": h.cancelUpload,
		"GET tags":             h.tags,
		"GET referrers":        h.referrers,
	}[method+" "+r.kind]
	if serve == nil {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "no %s of %s", req.Method, r.kind)
	}
	return serve(w, req, r)
}
