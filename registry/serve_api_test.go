package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// start runs a Server until the returned function is called.
func start(t testing.TB, s *Server) (host string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.Log == nil {
		s.Log = logTo(t)
	}
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// putBlob stores a blob in one request and returns its digest.
func putBlob(t testing.TB, host, repo string, content []byte) string {
	t.Helper()
	digest := describe("", content).Digest.String()
	request(t, http.MethodPost, host, "/v2/"+repo+"/blobs/uploads/?digest="+digest, content, http.StatusCreated)
	return digest
}

// putImage stores a small image and returns its manifest's digest. What is different about it goes into the configuration.
func putImage(t testing.TB, host, repo, tag, different string, subject *v1.Descriptor, artifact string) string {
	t.Helper()
	config, layer := []byte(`{"x":"`+different+`"}`), []byte("layer")
	putBlob(t, host, repo, config)
	putBlob(t, host, repo, layer)
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Subject: subject,
		Config: describe(types.MediaType(artifact), config), Layers: []v1.Descriptor{describe(types.OCILayer, layer)}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	digest := describe("", raw).Digest.String()
	if tag == "" {
		tag = digest
	}
	request(t, http.MethodPut, host, "/v2/"+repo+"/manifests/"+tag, raw, http.StatusCreated, "Content-Type", string(m.MediaType))
	return digest
}

func wantErrorCode(t testing.TB, body []byte, code string) {
	t.Helper()
	var got struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &got); err != nil || len(got.Errors) != 1 || got.Errors[0].Code != code || got.Errors[0].Message == "" {
		t.Errorf("error %s, want the code %s", body, code)
	}
}

func TestServePages(t *testing.T) {
	host, _ := start(t, &Server{})
	for _, tag := range []string{"b", "A", "c", "a", "1"} {
		putImage(t, host, "x/y", tag, "", nil, "a/b")
	}
	putImage(t, host, "x", "t", "", nil, "a/b")
	putImage(t, host, "w", "t", "", nil, "a/b")
	putBlob(t, host, "only/blobs", []byte("x"))
	for _, tt := range []struct{ path, want, link string }{
		{"/v2/x/y/tags/list", `{"name":"x/y","tags":["1","A","a","b","c"]}`, ""},
		{"/v2/x/y/tags/list?n=2", `{"name":"x/y","tags":["1","A"]}`, `</v2/x/y/tags/list?last=A&n=2>; rel="next"`},
		{"/v2/x/y/tags/list?n=2&last=A", `{"name":"x/y","tags":["a","b"]}`, `</v2/x/y/tags/list?last=b&n=2>; rel="next"`},
		{"/v2/x/y/tags/list?n=2&last=b", `{"name":"x/y","tags":["c"]}`, ""},
		{"/v2/x/y/tags/list?n=5", `{"name":"x/y","tags":["1","A","a","b","c"]}`, ""},
		{"/v2/x/y/tags/list?last=bb", `{"name":"x/y","tags":["c"]}`, ""},
		{"/v2/x/y/tags/list?last=z", `{"name":"x/y","tags":[]}`, ""},
		{"/v2/x/y/tags/list?n=0", `{"name":"x/y","tags":[]}`, ""},
		{"/v2/only/blobs/tags/list", `{"name":"only/blobs","tags":[]}`, ""},
		{"/v2/_catalog", `{"repositories":["w","x","x/y"]}`, ""},
		{"/v2/_catalog?n=2", `{"repositories":["w","x"]}`, `</v2/_catalog?last=x&n=2>; rel="next"`},
		{"/v2/_catalog?n=2&last=x", `{"repositories":["x/y"]}`, ""},
	} {
		resp, got := request(t, http.MethodGet, host, tt.path, nil, http.StatusOK)
		if string(got) != tt.want || resp.Header.Get("Link") != tt.link {
			t.Errorf("%s: %s, Link %q", tt.path, got, resp.Header.Get("Link"))
		}
	}
	_, got := request(t, http.MethodGet, host, "/v2/x/y/tags/list?n=-1", nil, http.StatusBadRequest)
	wantErrorCode(t, got, "PAGINATION_NUMBER_INVALID")
	_, got = request(t, http.MethodGet, host, "/v2/no/tags/list", nil, http.StatusNotFound)
	wantErrorCode(t, got, "NAME_UNKNOWN")
}

// TestServeShared: what two repositories have in common outlives either, and goes with the last.
func TestServeShared(t *testing.T) {
	dir := t.TempDir()
	host, _ := start(t, &Server{Dir: dir})
	content := noise(1000, 7)
	digest := putBlob(t, host, "a", content)
	path := "/blobs/" + digest
	file := dir + "/blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")
	_, got := request(t, http.MethodGet, host, "/v2/b"+path, nil, http.StatusNotFound)
	wantErrorCode(t, got, "BLOB_UNKNOWN")
	request(t, http.MethodPost, host, "/v2/b/blobs/uploads/?mount="+digest+"&from=a", nil, http.StatusCreated)
	request(t, http.MethodPost, host, "/v2/c/blobs/uploads/?mount="+digest, nil, http.StatusCreated)
	request(t, http.MethodPost, host, "/v2/d/blobs/uploads/?mount="+digest+"&from=no/such", nil, http.StatusAccepted)
	request(t, http.MethodDelete, host, "/v2/a"+path, nil, http.StatusAccepted)
	request(t, http.MethodDelete, host, "/v2/a"+path, nil, http.StatusNotFound)
	request(t, http.MethodDelete, host, "/v2/c"+path, nil, http.StatusAccepted)
	request(t, http.MethodHead, host, "/v2/a"+path, nil, http.StatusNotFound)
	if _, got := request(t, http.MethodGet, host, "/v2/b"+path, nil, http.StatusOK); !bytes.Equal(got, content) {
		t.Error("b has lost its blob")
	}
	request(t, http.MethodDelete, host, "/v2/b"+path, nil, http.StatusAccepted)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the last is gone, its file is not: %v", err)
	}

	// A manifest takes its tags along, a tag nothing.
	first := putImage(t, host, "m", "one", "1", nil, "a/b")
	putImage(t, host, "m", "two", "1", nil, "a/b")
	second := putImage(t, host, "m", "three", "2", nil, "a/b")
	putImage(t, host, "n", "one", "1", nil, "a/b")
	request(t, http.MethodDelete, host, "/v2/m/manifests/three", nil, http.StatusAccepted)
	request(t, http.MethodHead, host, "/v2/m/manifests/"+second, nil, http.StatusOK)
	request(t, http.MethodDelete, host, "/v2/m/manifests/"+first, nil, http.StatusAccepted)
	request(t, http.MethodHead, host, "/v2/m/manifests/two", nil, http.StatusNotFound)
	request(t, http.MethodHead, host, "/v2/n/manifests/one", nil, http.StatusOK)
	if _, got := request(t, http.MethodGet, host, "/v2/m/tags/list", nil, http.StatusOK); string(got) != `{"name":"m","tags":[]}` {
		t.Errorf("tags %s", got)
	}
}

// TestServeManifestRefused: a manifest that cannot be what it says, or that lacks a part, is not taken.
func TestServeManifestRefused(t *testing.T) {
	host, _ := start(t, &Server{})
	digest := describe("", []byte("{}")).Digest.String()
	missing := fmt.Sprintf(`{"config":{"mediaType":"a/b","digest":%q,"size":2}}`, digest)
	for _, tt := range []struct {
		ref, mediaType, content string
		status                  int
		code                    string
	}{
		{"v1", "a/b", "no JSON", http.StatusBadRequest, "MANIFEST_INVALID"},
		{"v1", "a/b", `{"mediaType":"c/d"}`, http.StatusBadRequest, "MANIFEST_INVALID"},
		{"v1", "", `{}`, http.StatusBadRequest, "MANIFEST_INVALID"},
		{"v1", "a/b", missing, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"},
		{digest, "a/b", "{ }", http.StatusBadRequest, "DIGEST_INVALID"},
		{"sha256:abc", "a/b", "{}", http.StatusBadRequest, "DIGEST_INVALID"},
		{"-", "a/b", "{}", http.StatusBadRequest, "MANIFEST_INVALID"},
	} {
		_, got := request(t, http.MethodPut, host, "/v2/x/manifests/"+tt.ref, []byte(tt.content), tt.status, "Content-Type", tt.mediaType)
		wantErrorCode(t, got, tt.code)
	}
	// What lies elsewhere by its nature may be missing, and a type that nobody knows is kept.
	foreign := fmt.Sprintf(`{"layers":[{"mediaType":%q,"digest":%q,"size":2,"urls":["https://example.com"]}]}`, types.OCIRestrictedLayer, digest)
	request(t, http.MethodPut, host, "/v2/x/manifests/v1", []byte(foreign), http.StatusCreated, "Content-Type", "application/vnd.example+json")
	if resp, _ := request(t, http.MethodHead, host, "/v2/x/manifests/v1", nil, http.StatusOK); resp.Header.Get("Content-Type") != "application/vnd.example+json" {
		t.Errorf("Content-Type %q", resp.Header.Get("Content-Type"))
	}
}

// TestServeResume: an upload goes on at its last byte when the server has come back, with either algorithm.
func TestServeResume(t *testing.T) {
	dir := t.TempDir()
	content := noise(200_000, 9)
	for _, digest := range []string{describe("", content).Digest.String(), sum512(t, content)} {
		host, stop := start(t, &Server{Dir: dir})
		resp, _ := request(t, http.MethodPost, host, "/v2/a/blobs/uploads/", nil, http.StatusAccepted)
		at := resp.Header.Get("Location")
		request(t, http.MethodPatch, host, at, content[:150_000], http.StatusAccepted, "Content-Range", "0-149999")
		stop()
		host, stop = start(t, &Server{Dir: dir})
		resp, _ = request(t, http.MethodGet, host, at, nil, http.StatusNoContent)
		if got := resp.Header.Get("Range"); got != "0-149999" {
			t.Errorf("Range %q", got)
		}
		request(t, http.MethodPut, host, at+"?digest="+digest, content[150_000:], http.StatusCreated, "Content-Range", "150000-199999")
		request(t, http.MethodGet, host, at, nil, http.StatusNotFound)
		if _, got := request(t, http.MethodGet, host, "/v2/a/blobs/"+digest, nil, http.StatusOK); !bytes.Equal(got, content) {
			t.Error("other bytes came back")
		}
		stop()
	}
}

func sum512(t testing.TB, content []byte) string {
	t.Helper()
	sum, err := sumOf(content, "sha512:")
	if err != nil {
		t.Fatal(err)
	}
	return sum.String()
}

// TestServeBrokenPiece: what came of a piece whose sender went away is kept and told.
func TestServeBrokenPiece(t *testing.T) {
	host, _ := start(t, &Server{Dir: t.TempDir()})
	content := noise(1_000_000, 9)
	resp, _ := request(t, http.MethodPost, host, "/v2/a/blobs/uploads/", nil, http.StatusAccepted)
	at := resp.Header.Get("Location")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", at)
	conn.Write(content[:400_000])
	conn.Close()
	next := 0
	for deadline := time.Now().Add(10 * time.Second); next != 400_000 && time.Now().Before(deadline); {
		resp, _ := request(t, http.MethodGet, host, at, nil, http.StatusNoContent)
		if _, err := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &next); err != nil {
			t.Fatal(err)
		}
		next++
	}
	if next != 400_000 {
		t.Fatalf("the next byte is %d", next)
	}
	digest := describe("", content).Digest.String()
	request(t, http.MethodPut, host, at+"?digest="+digest, content[next:], http.StatusCreated)
}

func TestServeReadOnly(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, &Server{Dir: dir})
	digest := putImage(t, host, "a", "v1", "", nil, "a/b")

	// A folder has one server that writes.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, dir); err == nil || !strings.Contains(err.Error(), "another registry serves this folder") {
		t.Errorf("two at once: %v", err)
	}
	stop()

	// Readers share it, and change nothing.
	before := tree(t, dir)
	start(t, &Server{Dir: dir, ReadOnly: true})
	host, _ = start(t, &Server{Dir: dir, ReadOnly: true})
	for _, tt := range [][2]string{{"POST", "blobs/uploads/"}, {"PATCH", "blobs/uploads/x"}, {"PUT", "manifests/v2"}, {"DELETE", "manifests/v1"}, {"DELETE", "blobs/" + digest}} {
		_, got := request(t, tt[0], host, "/v2/a/"+tt[1], []byte("{}"), http.StatusMethodNotAllowed)
		wantErrorCode(t, got, "UNSUPPORTED")
	}
	request(t, http.MethodGet, host, "/v2/a/manifests/v1", nil, http.StatusOK)
	request(t, http.MethodGet, host, "/v2/a/referrers/"+digest, nil, http.StatusOK)
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Server{Dir: dir + "/no", ReadOnly: true}).Serve(t.Context(), l); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// tree is a folder's content with the times.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, path := range walk(t, dir) {
		fi, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, path, fi.Mode(), fi.Size(), fi.ModTime())
	}
	return all.String()
}

func walk(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, dir+"/"+e.Name())
		if e.IsDir() {
			all = append(all, walk(t, dir+"/"+e.Name())...)
		}
	}
	return all
}

// TestServeReferrers: by the API, by the tag schema though nobody has pushed such a tag, and from a tag that an old client
// has pushed.
func TestServeReferrers(t *testing.T) {
	host, _ := start(t, &Server{Dir: t.TempDir()})
	top := putImage(t, host, "a", "v1", "", nil, "a/b")
	hash, err := v1.NewHash(top)
	if err != nil {
		t.Fatal(err)
	}
	subject := &v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: hash, Size: 1}
	sig := putImage(t, host, "a", "", "sig", subject, "text/signature")
	sbom := putImage(t, host, "a", "", "sbom", subject, "text/sbom")
	list := func(path string) string {
		resp, raw := request(t, http.MethodGet, host, "/v2/a/"+path, nil, http.StatusOK)
		var index v1.IndexManifest
		if err := json.Unmarshal(raw, &index); err != nil || resp.Header.Get("Content-Type") != string(types.OCIImageIndex) {
			t.Fatalf("%s: %v, %v", raw, err, resp.Header)
		}
		var got []string
		for _, d := range index.Manifests {
			got = append(got, map[string]string{sig: "sig", sbom: "sbom", top: "top"}[d.Digest.String()]+"="+d.ArtifactType)
		}
		return strings.Join(got, " ")
	}
	both := list("referrers/" + top)
	if both != "sig=text/signature sbom=text/sbom" && both != "sbom=text/sbom sig=text/signature" {
		t.Errorf("referrers: %s", both)
	}
	if got := list("referrers/" + top + "?artifactType=text/sbom"); got != "sbom=text/sbom" {
		t.Errorf("filtered: %s", got)
	}
	tag := strings.Replace(top, ":", "-", 1)
	if got := list("manifests/" + tag); got != both {
		t.Errorf("by tag: %s", got)
	}
	request(t, http.MethodGet, host, "/v2/a/manifests/"+strings.Replace(sig, ":", "-", 1), nil, http.StatusNotFound)
	request(t, http.MethodDelete, host, "/v2/a/manifests/"+sig, nil, http.StatusAccepted)
	if got := list("referrers/" + top); got != "sbom=text/sbom" {
		t.Errorf("after a deletion: %s", got)
	}

	// An old client's list counts for what is here; the one about top itself stands for any.
	other := "sha256:" + strings.Repeat("1", 64)
	gone := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("2", 64)}}
	here := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: hash, ArtifactType: "old"}
	put(t, host, "/v2/a/manifests/"+strings.Replace(other, ":", "-", 1), types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{gone, here}})
	if got := list("referrers/" + other); got != "top=old" {
		t.Errorf("from a tag: %s", got)
	}
	if got := list("referrers/sha256:" + strings.Repeat("3", 64)); got != "" {
		t.Errorf("of nobody: %s", got)
	}
}

// TestServeConcurrent pushes images that share layers from all sides, while others are deleted. What was acknowledged and
// not deleted must be whole.
func TestServeConcurrent(t *testing.T) {
	host, _ := start(t, &Server{})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 10 {
				repo := fmt.Sprintf("r%d", (n+i)%3)
				mine := fmt.Sprintf("%d-%d", n, i)
				digest := putImage(t, host, "own"+fmt.Sprint(n), mine, mine, nil, "a/b")
				shared := putImage(t, host, "gone"+repo, "x"+mine, mine, nil, "a/b")
				request(t, http.MethodDelete, host, "/v2/gone"+repo+"/manifests/"+shared, nil, http.StatusAccepted)
				request(t, http.MethodDelete, host, "/v2/own"+fmt.Sprint(n)+"/blobs/"+putBlob(t, host, "own"+fmt.Sprint(n), []byte(mine)), nil, http.StatusAccepted)
				if _, got := request(t, http.MethodGet, host, "/v2/own"+fmt.Sprint(n)+"/manifests/"+mine, nil, http.StatusOK); describe("", got).Digest.String() != digest {
					t.Errorf("%s is other bytes", mine)
				}
			}
		})
	}
	wg.Wait()
	for n := range 8 {
		for i := range 10 {
			_, raw := request(t, http.MethodGet, host, fmt.Sprintf("/v2/own%d/manifests/%d-%d", n, n, i), nil, http.StatusOK)
			m, err := v1.ParseManifest(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []v1.Descriptor{m.Config, m.Layers[0]} {
				request(t, http.MethodGet, host, fmt.Sprintf("/v2/own%d/blobs/%s", n, d.Digest), nil, http.StatusOK)
			}
		}
	}
}

// TestServeLastOwner: while one repository gives up its copy of a blob, another gets its own, and has it.
func TestServeLastOwner(t *testing.T) {
	host, _ := start(t, &Server{})
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			repo := fmt.Sprint("r", n)
			for range 60 {
				digest := putBlob(t, host, repo, []byte("the same"))
				request(t, http.MethodGet, host, "/v2/"+repo+"/blobs/"+digest, nil, http.StatusOK)
				request(t, http.MethodDelete, host, "/v2/"+repo+"/blobs/"+digest, nil, http.StatusAccepted)
			}
		})
	}
	wg.Wait()
}

// TestServeTemporary: a temporary folder goes with its server, and that of a killed one with the next.
func TestServeTemporary(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, name := range []string{"old", "new"} {
		if err := os.MkdirAll(tmp+"/"+temporaryFolder+name+"/blobs", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(tmp+"/"+temporaryFolder+"old", then, then); err != nil {
		t.Fatal(err)
	}
	_, stop := start(t, &Server{})
	if entries, _ := os.ReadDir(tmp); len(entries) != 2 {
		t.Errorf("while it serves: %v", entries)
	}
	stop()
	if entries, _ := os.ReadDir(tmp); len(entries) != 1 || entries[0].Name() != temporaryFolder+"new" {
		t.Errorf("left: %v", entries)
	}
}
