package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// uploadLife is how long an upload may rest before it is forgotten.
const uploadLife = 24 * time.Hour

// uploads are the blobs that are still coming. Each is a file whose name is its ID, so that a client can go on after the
// server has died; what is in memory is only the hash so far.
type uploads struct {
	store *serveStore
	mu    sync.Mutex
	known map[string]*upload
}

// upload is one of them.
type upload struct {
	mu   sync.Mutex // one request at a time
	name string
	size int64     // of the file
	hash hash.Hash // sha256 of the file, nil if it must be read for that
	gone bool      // stored or given up
}

func newUploads(ctx context.Context, store *serveStore) *uploads {
	u := &uploads{store: store, known: map[string]*upload{}}
	u.tidy(true)
	go func() {
		for tick := time.NewTicker(time.Hour); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				u.tidy(false)
			}
		}
	}()
	return u
}

// tidy removes uploads that nobody goes on with and, at the start, whatever else a dead server has left there.
func (u *uploads) tidy(start bool) {
	entries, _ := os.ReadDir(u.store.uploads())
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && (start && !isUpload(e.Name()) || isUpload(e.Name()) && time.Since(fi.ModTime()) > uploadLife) {
			u.forget(e.Name())
			os.RemoveAll(filepath.Join(u.store.uploads(), e.Name()))
		}
	}
}

// isUpload tells an ID, as crypto/rand.Text makes it, from the name of another temporary file.
func isUpload(id string) bool {
	return len(id) >= 26 && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func (u *uploads) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, id)
}

// get finds an upload and locks it.
func (u *uploads) get(id string) (*upload, error) {
	unknown := refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
	if !isUpload(id) {
		return nil, unknown
	}
	u.mu.Lock()
	up := u.known[id]
	if up == nil {
		name := filepath.Join(u.store.uploads(), id)
		fi, err := os.Stat(name)
		if err != nil {
			u.mu.Unlock()
			if errors.Is(err, fs.ErrNotExist) {
				err = unknown
			}
			return nil, err
		}
		up = &upload{name: name, size: fi.Size()}
		u.known[id] = up
	}
	u.mu.Unlock()
	up.mu.Lock()
	if up.gone {
		up.mu.Unlock()
		return nil, unknown
	}
	return up, nil
}

// begin makes an upload.
func (u *uploads) begin() (id string, err error) {
	id = rand.Text()
	f, err := os.OpenFile(filepath.Join(u.store.uploads(), id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	return id, f.Close()
}

// drop ends an upload. Its lock is held.
func (u *uploads) drop(up *upload) {
	up.gone = true
	os.Remove(up.name)
	u.forget(filepath.Base(up.name))
}

// append takes the next piece. When the connection breaks, what came is kept, and the client may ask how much that is;
// file, size and hash agree in any case.
func (up *upload) append(r io.Reader) error {
	f, err := os.OpenFile(up.name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := up.rehash(f); err != nil {
		return err
	}
	if _, err := f.Seek(up.size, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, bufferSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return errors.Join(err, f.Truncate(up.size))
			}
			up.hash.Write(buf[:n])
			up.size += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return refuse(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the piece broke off: %w", err)
		}
	}
}

// rehash reads what an earlier server has left.
func (up *upload) rehash(f *os.File) error {
	if up.hash != nil {
		return nil
	}
	sum, err := v1.Hasher("sha256")
	if err != nil {
		return err
	}
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	up.hash = sum
	return nil
}

// commit publishes the upload if it has that digest.
func (u *uploads) commit(up *upload, repo string, want v1.Hash) error {
	f, err := os.OpenFile(up.name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := up.hash
	if want.Algorithm != "sha256" {
		if sum, err = v1.Hasher(want.Algorithm); err != nil {
			return err
		}
		if _, err := io.Copy(sum, f); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		u.drop(up)
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the digest is %s:%s, not %s", want.Algorithm, got, want)
	}
	err = u.store.keepBlob(repo, want, f)
	u.drop(up)
	return err
}

// startUpload begins an upload, or spares it: with ?mount= and perhaps from=, or with the whole blob and ?digest=.
func (h *server) startUpload(w http.ResponseWriter, req *http.Request, r route) error {
	query := req.URL.Query()
	if mount, err := v1.NewHash(query.Get("mount")); err == nil {
		if h.mount(r.repo, query.Get("from"), mount) == nil {
			created(w, r.repo, "blobs", mount)
			return nil
		}
	}
	id, err := h.uploads.begin()
	if err != nil {
		return err
	}
	if query.Get("digest") != "" {
		err := h.commitUpload(w, req, route{r.repo, r.kind, id})
		if err != nil {
			h.giveUp(id) // nobody else knows the ID
		}
		return err
	}
	h.progress(w, r.repo, id, 0)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (h *server) mount(repo, from string, d v1.Hash) error {
	if from != "" {
		if err := checkPath(from); err != nil {
			return err
		}
		if h.mirror != nil {
			if err := h.mirror.keep(from, d); err != nil {
				return err
			}
		}
	}
	return h.store.mountBlob(repo, from, d)
}

// created says that something is there now, and where.
func created(w http.ResponseWriter, repo, kind string, d v1.Hash) {
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Location", "/v2/"+repo+"/"+kind+"/"+d.String())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// progress says how far an upload is. An empty one has the range 0-0, as everywhere.
func (h *server) progress(w http.ResponseWriter, repo, id string, size int64) {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-Uuid", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	w.Header().Set("Content-Length", "0")
}

func (h *server) getUpload(w http.ResponseWriter, _ *http.Request, r route) error {
	up, err := h.uploads.get(r.last)
	if err != nil {
		return err
	}
	defer up.mu.Unlock()
	h.progress(w, r.repo, r.last, up.size)
	w.Header().Del("Content-Length") // 204 has none
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// giveUp ends an upload.
func (h *server) giveUp(id string) error {
	up, err := h.uploads.get(id)
	if err != nil {
		return err
	}
	defer up.mu.Unlock()
	h.uploads.drop(up)
	return nil
}

func (h *server) cancelUpload(w http.ResponseWriter, _ *http.Request, r route) error {
	if err := h.giveUp(r.last); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *server) patchUpload(w http.ResponseWriter, req *http.Request, r route) error {
	up, err := h.uploads.get(r.last)
	if err != nil {
		return err
	}
	defer up.mu.Unlock()
	if err := h.take(w, req, r, up); err != nil {
		return err
	}
	h.progress(w, r.repo, r.last, up.size)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// take appends a request's body, if it is the piece whose turn it is.
func (h *server) take(w http.ResponseWriter, req *http.Request, r route, up *upload) error {
	if at := req.Header.Get("Content-Range"); at != "" {
		if err := checkPiece(at, up.size, req.ContentLength); err != nil {
			h.progress(w, r.repo, r.last, up.size)
			return err
		}
	}
	err := up.append(req.Body)
	if r := (*refusal)(nil); err != nil && !errors.As(err, &r) {
		// The disk is full, or broken. The sender cannot help that, and what came would keep others from having room.
		h.uploads.drop(up)
	}
	return err
}

// checkPiece reads Content-Range, FIRST-LAST; some write it as HTTP has it, "bytes FIRST-LAST/SIZE".
func checkPiece(at string, next, length int64) error {
	at, _, _ = strings.Cut(strings.TrimPrefix(at, "bytes "), "/")
	first, last, ok := strings.Cut(at, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || err2 != nil || from > to {
		return refuse(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "Content-Range %q: want FIRST-LAST", at)
	}
	if from != next {
		return refuse(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "the next byte is %d", next)
	}
	if length >= 0 && to-from+1 != length {
		return refuse(http.StatusBadRequest, "SIZE_INVALID", "Content-Range %s has %d bytes, the body %d", at, to-from+1, length)
	}
	return nil
}

// commitUpload takes the last piece, if any, and publishes the blob if it has the digest that the sender says.
func (h *server) commitUpload(w http.ResponseWriter, req *http.Request, r route) error {
	up, err := h.uploads.get(r.last)
	if err != nil {
		return err
	}
	defer up.mu.Unlock()
	want, err := v1.NewHash(req.URL.Query().Get("digest"))
	if err != nil {
		h.uploads.drop(up)
		return &refusal{http.StatusBadRequest, "DIGEST_INVALID", err}
	}
	if err := h.take(w, req, r, up); err != nil {
		return err
	}
	if err := h.uploads.commit(up, r.repo, want); err != nil {
		return err
	}
	created(w, r.repo, "blobs", want)
	return nil
}
