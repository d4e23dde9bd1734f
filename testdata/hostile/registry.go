package hostile

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Registry serves images by their repository's name, over the calls of the distribution API that a pull makes.
type Registry struct {
	mu     sync.Mutex
	images map[string]*Image
}

// Put offers an image under a name, in place of another one.
func (s *Registry) Put(name string, m *Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.images == nil {
		s.images = map[string]*Image{}
	}
	s.images[name] = m
}

// ServeHTTP answers GET and HEAD of manifests and blobs.
func (s *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/") // NAME/manifests/REF
	s.mu.Lock()
	m := s.images[parts[0]]
	s.mu.Unlock()
	switch {
	case m != nil && m.Answer != nil && m.Answer(w, r), r.URL.Path == "/v2/":
		return
	case m == nil:
		http.NotFound(w, r)
		return
	}
	last := parts[len(parts)-1]
	body, kind := m.Blobs[last], "application/octet-stream"
	if strings.Contains(r.URL.Path, "/manifests/") {
		body, kind = m.manifest(last)
	}
	if body == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

// manifest finds a manifest by its digest, or the image's by its own or any tag.
func (m *Image) manifest(ref string) ([]byte, string) {
	b := m.Manifests[ref]
	if b == nil && (!strings.Contains(ref, ":") || ref == digest(m.RawManifest)) {
		return m.RawManifest, m.Type
	}
	if strings.Contains(string(b), `"manifests"`) {
		return b, indexType
	}
	return b, "application/vnd.oci.image.manifest.v1+json"
}
