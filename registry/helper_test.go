package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// clean keeps the tester's own logins, proxies and certificates out of a test.
func clean(t testing.TB) {
	t.Helper()
	home := t.TempDir()
	for _, k := range []string{"DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"} {
		t.Setenv(k, "")
	}
	t.Setenv("HOME", home)
}

// newTestClient is impatient: it waits milliseconds where a real one waits seconds.
func newTestClient(t testing.TB, opt Options) *Client {
	t.Helper()
	clean(t)
	if opt.CertDirs == nil {
		opt.CertDirs = []string{t.TempDir()}
	}
	if opt.Log == nil {
		opt.Log = logTo(t)
	}
	c := New(opt)
	c.retry.base, c.retry.limit = time.Millisecond, 5*time.Millisecond
	t.Cleanup(func() {
		for _, tr := range c.transports {
			tr.CloseIdleConnections()
		}
	})
	return c
}

// logTo is t.Logf that may be called late.
func logTo(t testing.TB) func(string, ...any) {
	var mu sync.Mutex
	over := false
	t.Cleanup(func() { mu.Lock(); over = true; mu.Unlock() })
	return func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			t.Logf(format, a...)
		}
	}
}

// testRegistry is go-containerregistry's own in memory, with a door that may answer first.
type testRegistry struct {
	*httptest.Server
	host string
	mu   sync.Mutex
	log  []string                                                 // "GET /v2/…"
	door func(w http.ResponseWriter, r *http.Request) (done bool) // nil lets all in
}

func newRegistry(t testing.TB) *testRegistry { return startRegistry(t, (*httptest.Server).Start) }

func startRegistry(t testing.TB, start func(*httptest.Server)) *testRegistry {
	t.Helper()
	reg := &testRegistry{}
	inner := ggcr.New(ggcr.Logger(quiet()))
	reg.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.mu.Lock()
		reg.log = append(reg.log, r.Method+" "+r.URL.Path)
		door := reg.door
		reg.mu.Unlock()
		if door == nil || !door(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	reg.Config.ErrorLog = quiet()
	start(reg.Server)
	t.Cleanup(reg.Close)
	reg.host = strings.TrimPrefix(strings.TrimPrefix(reg.URL, "https://"), "http://")
	return reg
}

func (r *testRegistry) guard(door func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.door, r.log = door, nil
}

func (r *testRegistry) count(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, line := range r.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (r *testRegistry) ref(t testing.TB, name string) Reference {
	t.Helper()
	ref, err := ParseReference(r.host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// do sends a request past the door, to put things in.
func (r *testRegistry) do(t testing.TB, method, path, contentType string, body []byte) {
	t.Helper()
	r.mu.Lock()
	door := r.door
	r.door = nil
	r.mu.Unlock()
	defer r.guard(door)
	req, err := http.NewRequest(method, r.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := r.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
}

// putBlob stores content and describes it.
func (r *testRegistry) putBlob(t testing.TB, repo string, mediaType types.MediaType, content []byte) v1.Descriptor {
	t.Helper()
	d := describe(mediaType, content)
	r.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", content)
	return d
}

// putDocument stores a manifest or index under ref ("" for its digest only).
func (r *testRegistry) putDocument(t testing.TB, repo, ref string, mediaType types.MediaType, doc any) v1.Descriptor {
	t.Helper()
	raw, ok := doc.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
	}
	d := describe(mediaType, raw)
	if ref == "" {
		ref = d.Digest.String()
	}
	r.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, string(mediaType), raw)
	return d
}

func describe(mediaType types.MediaType, content []byte) v1.Descriptor {
	sum := sha256.Sum256(content)
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
}

// testImage is an image in pieces: real bytes, which a test may bend.
type testImage struct {
	layers   [][]byte // uncompressed tars
	config   []byte
	manifest v1.Manifest
}

// makeImage makes an image with layers of the given sizes, of random bytes inside a tar.
func makeImage(t testing.TB, platform string, sizes ...int) *testImage {
	t.Helper()
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	img := &testImage{}
	cfg := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, Config: v1.Config{Cmd: []string{"true"}}}
	cfg.RootFS.Type = "layers"
	img.manifest = v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for i, size := range sizes {
		content := makeTar(t, map[string][]byte{fmt.Sprintf("file%d", i): noise(size, uint64(i+1))})
		d := describe(types.OCIUncompressedLayer, content)
		img.layers = append(img.layers, content)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, d.Digest)
		img.manifest.Layers = append(img.manifest.Layers, d)
	}
	if img.config, err = json.Marshal(cfg); err != nil {
		t.Fatal(err)
	}
	img.manifest.Config = describe(types.OCIConfigJSON, img.config)
	return img
}

// put pushes it by plain requests and returns the manifest's descriptor.
func (i *testImage) put(t testing.TB, r *testRegistry, repo, tag string) v1.Descriptor {
	t.Helper()
	r.putBlob(t, repo, types.OCIConfigJSON, i.config)
	for _, l := range i.layers {
		r.putBlob(t, repo, types.OCIUncompressedLayer, l)
	}
	return r.putDocument(t, repo, tag, i.manifest.MediaType, i.manifest)
}

func makeTar(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	w.Close()
	return b.Bytes()
}

// noise is the same for the same seed and does not compress.
func noise(n int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// pulled pulls and reads all layers to their end.
func pulled(ctx context.Context, c *Client, ref Reference) ([][]byte, error) {
	img, err := c.Pull(ctx, ref, nil)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, l := range layers {
		b, err := readLayer(l)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

func readLayer(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func checkLayers(t testing.TB, got [][]byte, want *testImage) {
	t.Helper()
	if len(got) != len(want.layers) {
		t.Fatalf("%d layers, want %d", len(got), len(want.layers))
	}
	for i := range got {
		if !bytes.Equal(got[i], want.layers[i]) {
			t.Fatalf("layer %d: %d bytes that differ from the %d that were put", i, len(got[i]), len(want.layers[i]))
		}
	}
}

// hostHere is the platform that a pull without one asks for.
func hostHere() string { p := hostPlatform(); return p.String() }

// mtime is any fixed time, for http.ServeContent.
func (*testImage) mtime() time.Time { return time.Unix(1_700_000_000, 0) }
