package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const refsFolder = "_refs" // no part of a repository's name begins so

// serveStore keeps what a served registry holds in files. It is the library's blob handler; the library's own one for
// disks hashes a blob anew for each HEAD and GET of it.
type serveStore struct{ dir string }

func openServeStore(dir string) (*serveStore, error) {
	s := &serveStore{dir}
	if err := os.RemoveAll(s.uploads()); err != nil {
		return nil, fmt.Errorf("clear uploads: %w", err)
	}
	for _, d := range []string{s.uploads(), filepath.Join(dir, "blobs/sha256"), s.names()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make registry: %w", err)
		}
	}
	return s, nil
}

func (s *serveStore) uploads() string { return filepath.Join(s.dir, "uploads") }
func (s *serveStore) names() string   { return filepath.Join(s.dir, "names") }

func (s *serveStore) blob(h v1.Hash) string { return filepath.Join(s.dir, blobPath(h)) }

func (s *serveStore) ref(r route) string {
	return filepath.Join(s.names(), filepath.FromSlash(r.repo), refsFolder, r.last)
}

// Stat gives a blob's size. Its bytes were verified when it came.
func (s *serveStore) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	fi, err := os.Stat(s.blob(h))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ggcr.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Get opens a blob; it is an *os.File, so the server can use sendfile and serve ranges.
func (s *serveStore) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	f, err := os.Open(s.blob(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ggcr.ErrNotFound
	}
	return f, err
}

// Put stores a blob that came in one request; the library verifies what is read from r.
func (s *serveStore) Put(_ context.Context, _ string, h v1.Hash, r io.ReadCloser) error {
	f, err := os.CreateTemp(s.uploads(), "blob-*")
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	return publish(f, s.blob(h))
}

// Delete removes a blob.
func (s *serveStore) Delete(_ context.Context, _ string, h v1.Hash) error {
	return os.Remove(s.blob(h))
}

// publish makes a written temporary file durable and gives it its name.
func publish(f *os.File, name string) error {
	err := f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (s *serveStore) write(name string, content []byte) error {
	f, err := os.CreateTemp(s.uploads(), "doc-*")
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	return publish(f, name)
}

// keepManifest stores a manifest as a blob, and then what it is called.
func (s *serveStore) keepManifest(r route, mediaType string, raw []byte) error {
	h, err := sumOf(raw, "")
	if err != nil {
		return err
	}
	if err := s.write(s.blob(h), raw); err != nil {
		return err
	}
	ref, err := json.Marshal(v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(raw)), Digest: h})
	if err != nil {
		return err
	}
	for _, name := range []string{h.String(), r.last} {
		if err := s.write(s.ref(route{r.repo, r.kind, name}), ref); err != nil {
			return err
		}
	}
	return nil
}

// kept is a stored manifest, on its way back into the library's memory.
type kept struct {
	route
	desc v1.Descriptor
}

// replay puts the stored manifests into a fresh handler: images first, and an index when what it names is there, which
// is what the library wants. An index that has lost a part stays out, as the library would not have taken it.
func (s *serveStore) replay(inner http.Handler) error {
	all, err := s.kept()
	if err != nil {
		return fmt.Errorf("read registry: %w", err)
	}
	for {
		var later []kept
		for _, k := range all {
			raw, err := os.ReadFile(s.blob(k.desc.Digest))
			if errors.Is(err, fs.ErrNotExist) {
				continue // somebody removed the blob; then its names mean nothing
			}
			if err != nil {
				return fmt.Errorf("read registry: %w", err)
			}
			if answer := putManifest(inner, k.route, string(k.desc.MediaType), raw); answer.code != http.StatusCreated {
				later = append(later, k)
			}
		}
		if len(later) == 0 || len(later) == len(all) {
			return nil
		}
		all = later
	}
}

func (s *serveStore) kept() ([]kept, error) {
	var all []kept
	err := filepath.WalkDir(s.names(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var desc v1.Descriptor
		if err := json.Unmarshal(raw, &desc); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		repo, err := filepath.Rel(s.names(), filepath.Dir(filepath.Dir(path)))
		all = append(all, kept{route{filepath.ToSlash(repo), "manifests", e.Name()}, desc})
		return err
	})
	return all, err
}

// putManifest has the library take a manifest, and catches its answer.
func putManifest(inner http.Handler, r route, mediaType string, raw []byte) *answer {
	a := &answer{header: http.Header{}, code: http.StatusOK}
	req, err := http.NewRequest(http.MethodPut, "/v2/"+r.repo+"/manifests/"+r.last, bytes.NewReader(raw))
	if err != nil {
		a.code = http.StatusBadRequest
		return a
	}
	req.Header.Set("Content-Type", mediaType)
	inner.ServeHTTP(a, req)
	return a
}

// answer is an http.ResponseWriter that keeps a short answer.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) send(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
	w.Write(a.body.Bytes())
}
