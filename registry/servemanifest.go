package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushed is what the registry wants to know of a manifest or index.
type pushed struct {
	MediaType    types.MediaType   `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *v1.Descriptor    `json:"config"`
	Layers       []v1.Descriptor   `json:"layers"`
	Subject      *v1.Descriptor    `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

// blobs are those that must be here for the manifest to be of use: not what lies elsewhere by its nature.
func (p *pushed) blobs() []v1.Hash {
	all := p.Layers
	if p.Config != nil {
		all = append([]v1.Descriptor{*p.Config}, all...)
	}
	var hashes []v1.Hash
	for _, d := range all {
		if d.MediaType.IsDistributable() && len(d.URLs) == 0 {
			hashes = append(hashes, d.Digest)
		}
	}
	return hashes
}

// kind is the type of artifact that a referrer is, by the rules of "Listing Referrers".
func (p *pushed) kind() string {
	if p.ArtifactType == "" && p.Config != nil {
		return string(p.Config.MediaType)
	}
	return p.ArtifactType
}

func (h *server) getManifest(w http.ResponseWriter, req *http.Request, r route) error {
	desc, err := h.lookUp(req, r)
	if errors.Is(err, fs.ErrNotExist) {
		if raw, ok := h.fallback(req, r); ok {
			return sendManifest(w, req, types.OCIImageIndex, raw)
		}
		return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest %s in %s", r.last, r.repo)
	}
	if err != nil {
		return err
	}
	f, err := os.Open(h.store.blob(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest %s was removed", desc.Digest)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return serveContent(w, req, string(desc.MediaType), desc.Digest, f)
}

// lookUp finds what a name stands for, here or at the mirrored registry. What is here counts when that one is silent.
func (h *server) lookUp(req *http.Request, r route) (v1.Descriptor, error) {
	here, err := h.store.ref(r.repo, r.last)
	if err == nil && strings.Contains(r.last, ":") || h.mirror == nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return here, err
	}
	if err == nil && here.Annotations[mirroredFrom] == "" {
		return here, nil
	}
	there, merr := h.mirror.manifest(req.Context(), r, here)
	if merr != nil && err == nil {
		h.log("%s:%s: serving what is here: %v", r.repo, r.last, merr)
		return here, nil
	}
	return there, merr
}

// fallback answers who looks for referrers by OCI's tag schema, ALGORITHM-HEX, though nobody has pushed such a tag.
func (h *server) fallback(req *http.Request, r route) ([]byte, bool) {
	subject, err := v1.NewHash(strings.Replace(r.last, "-", ":", 1))
	if err != nil || strings.Contains(r.last, ":") {
		return nil, false
	}
	index, err := h.listReferrers(req, r.repo, subject)
	if err != nil || len(index.Manifests) == 0 {
		return nil, false
	}
	raw, err := json.Marshal(index)
	return raw, err == nil
}

func sendManifest(w http.ResponseWriter, req *http.Request, mediaType types.MediaType, raw []byte) error {
	sum, err := sumOf(raw, "")
	if err != nil {
		return err
	}
	return serveContent(w, req, string(mediaType), sum, bytes.NewReader(raw))
}

func (h *server) putManifest(w http.ResponseWriter, req *http.Request, r route) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifestSize))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return refuse(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "a manifest has %d bytes at most", large.Limit)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest broke off: %w", err)
	}
	sum, err := sumOf(raw, digestIn(r.last))
	if err != nil || digestIn(r.last) != "" && sum.String() != r.last {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the manifest's digest is %s, not %s", sum, r.last)
	}
	doc, mediaType, err := readPushed(raw, req.Header.Get("Content-Type"))
	if err != nil {
		return &refusal{http.StatusBadRequest, "MANIFEST_INVALID", err}
	}
	for _, d := range doc.blobs() {
		if !h.store.hasBlob(r.repo, d) && (h.mirror == nil || h.mirror.keep(r.repo, d) != nil) {
			return refuse(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "blob %s is not in %s", d, r.repo)
		}
	}
	tags, err := wantedTags(req, r.last)
	if err != nil {
		return err
	}
	desc := v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(raw)), Digest: sum}
	if err := h.store.keepManifest(r.repo, desc, raw, doc, tags); err != nil {
		return err
	}
	if doc.Subject != nil {
		w.Header().Set("OCI-Subject", doc.Subject.Digest.String())
	}
	if digestIn(r.last) != "" && len(tags) > 0 {
		w.Header()["Oci-Tag"] = tags
	}
	created(w, r.repo, "manifests", sum)
	return nil
}

// digestIn is ref if that is a digest and not a tag.
func digestIn(ref string) string {
	if strings.Contains(ref, ":") {
		return ref
	}
	return ""
}

// wantedTags are those of the path or, for a digest, of ?tag=, which came after version 1.1 of the specification.
func wantedTags(req *http.Request, last string) ([]string, error) {
	if digestIn(last) == "" {
		return []string{last}, nil
	}
	tags := req.URL.Query()["tag"]
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return nil, &refusal{http.StatusBadRequest, "MANIFEST_INVALID", err}
		}
	}
	return tags, nil
}

// readPushed reads a manifest that was sent as mediaType. A manifest that says of itself to be something else is an
// attack or a mistake.
func readPushed(raw []byte, mediaType string) (*pushed, string, error) {
	doc := &pushed{}
	if err := json.Unmarshal(raw, doc); err != nil {
		return nil, "", err
	}
	if mediaType == "" {
		mediaType = string(doc.MediaType)
	}
	plain, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return nil, "", fmt.Errorf("Content-Type %q: %w", mediaType, err)
	}
	if doc.MediaType != "" && plain != string(doc.MediaType) {
		return nil, "", fmt.Errorf("sent as %s, but its mediaType is %s", plain, doc.MediaType)
	}
	return doc, mediaType, nil
}

// keepManifest stores a manifest, first its bytes, then what leads to them, the tags last: whoever finds a name finds
// everything.
func (s *serveStore) keepManifest(repo string, desc v1.Descriptor, raw []byte, doc *pushed, tags []string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.write(s.blob(desc.Digest), raw); err != nil {
		return err
	}
	if doc.Subject != nil {
		ref := v1.Descriptor{MediaType: desc.MediaType, Size: desc.Size, Digest: desc.Digest, ArtifactType: doc.kind(), Annotations: doc.Annotations}
		if err := s.writeDescriptor(s.own(repo, referrersFolder, doc.Subject.Digest.String(), desc.Digest.String()), ref); err != nil {
			return err
		}
	}
	for _, ref := range append([]string{desc.Digest.String()}, tags...) {
		if err := s.writeDescriptor(s.own(repo, refsFolder, ref), desc); err != nil {
			return err
		}
	}
	return nil
}

// deleteManifest takes a tag away or, for a digest, the manifest with all its tags.
func (h *server) deleteManifest(w http.ResponseWriter, _ *http.Request, r route) error {
	err := h.store.deleteManifest(r.repo, r.last)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest %s in %s", r.last, r.repo)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *serveStore) deleteManifest(repo, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	desc, err := s.ref(repo, ref)
	if err != nil {
		return err
	}
	if digestIn(ref) == "" {
		return s.remove(s.own(repo, refsFolder, ref))
	}
	tags, err := s.tags(repo)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if d, err := s.ref(repo, tag); err == nil && d.Digest == desc.Digest {
			if err := s.remove(s.own(repo, refsFolder, tag)); err != nil {
				return err
			}
		}
	}
	if err := s.forgetReferrer(repo, desc.Digest); err != nil {
		return err
	}
	if err := s.remove(s.own(repo, refsFolder, ref)); err != nil {
		return err
	}
	return s.sweep(desc.Digest)
}

// forgetReferrer takes a manifest out of the list of those about its subject.
func (s *serveStore) forgetReferrer(repo string, d v1.Hash) error {
	raw, err := os.ReadFile(s.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var doc pushed
	if json.Unmarshal(raw, &doc) != nil || doc.Subject == nil {
		return nil
	}
	if err := s.remove(s.own(repo, referrersFolder, doc.Subject.Digest.String(), d.String())); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
