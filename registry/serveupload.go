package registry

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// persistent stands before the library's handler and does what that keeps in memory only: manifests are written to disk
// when it has taken them, and blobs that come in pieces go to a file at once, not to a buffer of their size.
type persistent struct {
	inner http.Handler
	store *serveStore

	mu      sync.Mutex
	pending map[string]*upload
}

// upload is a blob that is still coming.
type upload struct {
	mu   sync.Mutex // one request at a time
	file *os.File
	hash hash.Hash
	size int64
}

func (p *persistent) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r, _ := parseRoute(req.URL.Path)
	switch {
	case r.kind == "manifests" && req.Method == http.MethodPut:
		p.putManifest(w, req, r)
	case r.kind == "manifests" && req.Method == http.MethodDelete:
		os.Remove(p.store.ref(r)) // where there is none, the library says so
		p.inner.ServeHTTP(w, req)
	case r.kind == "blobs/uploads" && req.Method == http.MethodPatch:
		p.patch(w, req, r)
	case r.kind == "blobs/uploads" && req.Method == http.MethodPut:
		p.commit(w, req, r)
	case r.kind == "blobs" && req.Method == http.MethodGet:
		p.closeRange(req, r)
		p.inner.ServeHTTP(w, req)
	default:
		p.inner.ServeHTTP(w, req)
	}
}

func refuse(w http.ResponseWriter, status int, code string, err error) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string][]entry{"errors": {{code, err.Error()}}})
}

func (p *persistent) putManifest(w http.ResponseWriter, req *http.Request, r route) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifestSize))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", err)
		return
	}
	mediaType := req.Header.Get("Content-Type")
	a := putManifest(p.inner, r, mediaType, raw)
	if a.code == http.StatusCreated {
		if err := p.store.keepManifest(r, mediaType, raw); err != nil {
			refuse(w, http.StatusInternalServerError, "UNKNOWN", err)
			return
		}
	}
	a.send(w)
}

// closeRange writes the end into a range that goes to the blob's end; the library wants it.
func (p *persistent) closeRange(req *http.Request, r route) {
	start, ok := strings.CutSuffix(req.Header.Get("Range"), "-")
	h, err := v1.NewHash(r.last)
	if !ok || err != nil {
		return
	}
	if size, err := p.store.Stat(req.Context(), r.repo, h); err == nil {
		req.Header.Set("Range", fmt.Sprintf("%s-%d", start, size-1))
	}
}

// upload finds an upload by the ID that the library made for it, or begins it.
func (p *persistent) upload(id string) (*upload, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.pending[id]; u != nil {
		return u, nil
	}
	f, err := os.CreateTemp(p.store.uploads(), "blob-*")
	if err != nil {
		return nil, err
	}
	if p.pending == nil {
		p.pending = map[string]*upload{}
	}
	h, err := v1.Hasher("sha256")
	p.pending[id] = &upload{file: f, hash: h}
	return p.pending[id], err
}

func (p *persistent) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, id)
}

// append takes the next piece.
func (u *upload) append(r io.Reader) error {
	n, err := io.CopyBuffer(io.MultiWriter(u.file, u.hash), r, make([]byte, bufferSize))
	u.size += n
	return err
}

func (p *persistent) patch(w http.ResponseWriter, req *http.Request, r route) {
	u, err := p.upload(r.last)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if at := req.Header.Get("Content-Range"); at != "" && !strings.HasPrefix(strings.TrimPrefix(at, "bytes "), fmt.Sprintf("%d-", u.size)) {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", fmt.Errorf("the next byte is %d", u.size))
		return
	}
	if err := u.append(req.Body); err != nil {
		// What came of the piece is hashed and kept, and nobody knows how much that is; the sender begins anew.
		p.drop(r.last, u)
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", err)
		return
	}
	w.Header().Set("Location", req.URL.Path)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	w.WriteHeader(http.StatusAccepted)
}

// commit takes the last piece, if any, and publishes the blob if it has the digest that the sender says.
func (p *persistent) commit(w http.ResponseWriter, req *http.Request, r route) {
	u, err := p.upload(r.last)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	want, err := v1.NewHash(req.URL.Query().Get("digest"))
	if err == nil {
		err = u.append(req.Body)
	}
	if sum := hex.EncodeToString(u.hash.Sum(nil)); err == nil && (want.Algorithm != "sha256" || sum != want.Hex) {
		err = fmt.Errorf("the digest is sha256:%s, not %s", sum, want)
	}
	if err != nil {
		p.drop(r.last, u)
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", err)
		return
	}
	p.forget(r.last)
	if err := publish(u.file, p.store.blob(want)); err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err)
		return
	}
	w.Header().Set("Docker-Content-Digest", want.String())
	w.Header().Set("Location", strings.TrimSuffix(req.URL.Path, "uploads/"+filepath.Base(r.last))+want.String())
	w.WriteHeader(http.StatusCreated)
}

// drop ends an upload that failed.
func (p *persistent) drop(id string, u *upload) {
	p.forget(id)
	u.file.Close()
	os.Remove(u.file.Name())
}
