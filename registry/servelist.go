package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// serveContent sends a blob or manifest, or the range of it that was asked for. From a file the kernel sends by itself.
func serveContent(w http.ResponseWriter, req *http.Request, mediaType string, d v1.Hash, content io.ReadSeeker) error {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, content)
	return nil
}

func (h *server) getBlob(w http.ResponseWriter, req *http.Request, r route) error {
	d, err := v1.NewHash(r.last)
	if err != nil {
		return err
	}
	f, err := h.store.openBlob(r.repo, d)
	if errors.Is(err, fs.ErrNotExist) && h.mirror != nil && h.store.mountBlob(r.repo, "", d) == nil {
		f, err = h.store.openBlob(r.repo, d) // another repository has fetched it
	}
	if err == nil {
		defer f.Close()
		return serveContent(w, req, "application/octet-stream", d, f)
	}
	if errors.Is(err, fs.ErrNotExist) && h.mirror != nil {
		err = h.mirror.serveBlob(w, req, r.repo, d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return unknownBlob(r)
	}
	return err
}

func unknownBlob(r route) error {
	return refuse(http.StatusNotFound, "BLOB_UNKNOWN", "no blob %s in %s", r.last, r.repo)
}

func (h *server) deleteBlob(w http.ResponseWriter, _ *http.Request, r route) error {
	d, err := v1.NewHash(r.last)
	if err != nil {
		return err
	}
	if err := h.store.deleteBlob(r.repo, d); errors.Is(err, fs.ErrNotExist) {
		return unknownBlob(r)
	} else if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// byName is the order of tags: letters first, then capitals before small ones.
func byName(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// tags lists a repository's tags, sorted; it says fs.ErrNotExist where there is no such repository.
func (s *serveStore) tags(repo string) ([]string, error) {
	entries, err := os.ReadDir(s.own(repo, refsFolder))
	if err != nil {
		if _, berr := os.Stat(s.own(repo, blobsFolder)); berr == nil && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var tags []string
	for _, e := range entries {
		if !strings.Contains(e.Name(), ":") {
			tags = append(tags, e.Name())
		}
	}
	slices.SortFunc(tags, byName)
	return tags, nil
}

func (h *server) tags(w http.ResponseWriter, req *http.Request, r route) error {
	if r.last != "list" {
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "no such list")
	}
	tags, err := h.store.tags(r.repo)
	if h.mirror != nil {
		more, merr := h.mirror.tags(req.Context(), r.repo)
		if merr == nil {
			err = nil
		} else if err != nil {
			return merr
		}
		tags = append(tags, more...)
		slices.SortFunc(tags, byName)
		tags = slices.Compact(tags)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "no repository %s", r.repo)
	}
	if err != nil {
		return err
	}
	if tags, err = page(w, req, tags); err != nil {
		return err
	}
	sendJSON(w, http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{r.repo, tags})
	return nil
}

func (h *server) catalog(w http.ResponseWriter, req *http.Request) error {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "no %s of the catalogue", req.Method)
	}
	repos, err := h.store.repos()
	if err != nil {
		return err
	}
	repos = slices.DeleteFunc(repos, func(repo string) bool {
		names, err := os.ReadDir(h.store.own(repo, refsFolder))
		return err != nil || len(names) == 0
	})
	slices.SortFunc(repos, byName)
	if repos, err = page(w, req, repos); err != nil {
		return err
	}
	sendJSON(w, http.StatusOK, "application/json", map[string][]string{"repositories": repos})
	return nil
}

// page cuts ?n= entries after ?last= out of a sorted list, and says where the next page is. It never returns nil, which
// would be null in JSON.
func page(w http.ResponseWriter, req *http.Request, all []string) ([]string, error) {
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		all = all[len(all)-len(after(all, last)):]
	}
	if query.Get("n") != "" {
		n, err := strconv.Atoi(query.Get("n"))
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n=%s: want a number", query.Get("n"))
		}
		if n < len(all) {
			all = all[:n]
			if n > 0 {
				next := url.Values{"n": {fmt.Sprint(n)}, "last": {all[n-1]}}
				w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, req.URL.EscapedPath(), next.Encode()))
			}
		}
	}
	return append([]string{}, all...), nil
}

func after(all []string, last string) []string {
	at, found := slices.BinarySearchFunc(all, last, byName)
	if found {
		at++
	}
	return all[at:]
}

func (h *server) referrers(w http.ResponseWriter, req *http.Request, r route) error {
	subject, err := v1.NewHash(r.last)
	if err != nil {
		return err
	}
	index, err := h.listReferrers(req, r.repo, subject)
	if err != nil {
		return err
	}
	if want := req.URL.Query().Get("artifactType"); want != "" {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool { return d.ArtifactType != want })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	sendJSON(w, http.StatusOK, string(types.OCIImageIndex), index)
	return nil
}

// listReferrers lists the manifests about subject: those that were pushed, those in an index that a client has tagged
// with the subject's digest because an older registry had no such list, and the mirrored registry's.
func (h *server) listReferrers(req *http.Request, repo string, subject v1.Hash) (*v1.IndexManifest, error) {
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	entries, err := os.ReadDir(h.store.own(repo, referrersFolder, subject.String()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		d, err := readDescriptor(h.store.own(repo, referrersFolder, subject.String(), e.Name()))
		if err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, d)
	}
	more := h.taggedReferrers(repo, subject)
	if h.mirror != nil {
		more = append(more, h.mirror.referrers(req.Context(), repo, subject)...)
	}
	for _, d := range more {
		if !slices.ContainsFunc(index.Manifests, func(known v1.Descriptor) bool { return known.Digest == d.Digest }) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	return index, nil
}

// taggedReferrers reads the index of the tag schema, if somebody has pushed one. What it names must be here.
func (h *server) taggedReferrers(repo string, subject v1.Hash) []v1.Descriptor {
	top, err := h.store.ref(repo, fallbackTag(subject))
	if err != nil || top.Size > maxManifestSize {
		return nil
	}
	raw, err := os.ReadFile(h.store.blob(top.Digest))
	var index v1.IndexManifest
	if err != nil || json.Unmarshal(raw, &index) != nil {
		return nil
	}
	return slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool {
		_, err := h.store.ref(repo, d.Digest.String())
		return err != nil
	})
}

// fallbackTag is the tag of the referrers tag schema for digests of the two algorithms known here.
func fallbackTag(subject v1.Hash) string { return subject.Algorithm + "-" + subject.Hex[:64] }
