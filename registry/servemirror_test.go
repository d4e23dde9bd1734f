package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// mirrorOf runs a Server that mirrors an upstream, with little patience.
func mirrorOf(t *testing.T, upstream, dir string) string {
	t.Helper()
	clean(t)
	host, _ := start(t, &Server{Dir: dir, Mirror: "http://" + upstream, patience: 500 * time.Millisecond})
	return host
}

// TestMirror: what is missing comes from upstream, once, and stays when upstream is gone.
func TestMirror(t *testing.T) {
	up := newRegistry(t)
	img := makeImage(t, hostHere(), 100_000, 3_000_000)
	img.put(t, up, "team/app", "v1")
	dir := t.TempDir()
	host := mirrorOf(t, up.host, dir)
	c := newTestClient(t, Options{})
	blobs := "GET /v2/team/app/blobs/"

	// Six clients at once, while upstream takes its time with blobs.
	up.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.Method+" "+r.URL.Path, blobs) {
			time.Sleep(100 * time.Millisecond)
		}
		return false
	})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			got, err := pulled(t.Context(), New(c.opt), mustParse(t, host+"/team/app:v1"))
			if err != nil {
				t.Error(err)
				return
			}
			checkLayers(t, got, img)
		})
	}
	wg.Wait()
	if n := up.count(blobs); n != 3 {
		t.Errorf("upstream was asked for %d blobs, want its 3 once each", n)
	}
	request(t, http.MethodGet, host, "/v2/team/app/manifests/no", nil, http.StatusNotFound)
	request(t, http.MethodGet, host, "/v2/team/app/blobs/sha256:"+strings.Repeat("1", 64), nil, http.StatusNotFound)

	// A tag moves with upstream's; one that was pushed here does not.
	other := makeImage(t, hostHere(), 5_000)
	putImage(t, host, "team/app", "mine", "", nil, "a/b")
	other.put(t, up, "team/app", "v1")
	other.put(t, up, "team/app", "mine")
	other.put(t, up, "team/app", "v2")
	got, err := pulled(t.Context(), c, mustParse(t, host+"/team/app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, other)
	if _, got := request(t, http.MethodGet, host, "/v2/team/app/manifests/mine", nil, http.StatusOK); !bytes.Contains(got, []byte("a/b")) {
		t.Errorf("mine is %s", got)
	}
	if tags, err := c.Tags(t.Context(), mustParse(t, host+"/team/app")); err != nil || fmt.Sprint(tags) != "[mine v1 v2]" {
		t.Errorf("Tags = %v, %v", tags, err)
	}

	up.Close()
	if got, err = pulled(t.Context(), c, mustParse(t, host+"/team/app:v1")); err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, other)
	_, body := request(t, http.MethodGet, host, "/v2/team/app/manifests/v2", nil, http.StatusBadGateway)
	wantErrorCode(t, body, "UNKNOWN")
	request(t, http.MethodGet, host, "/v2/team/app/tags/list", nil, http.StatusOK)
	request(t, http.MethodGet, host, "/v2/team/app/referrers/sha256:"+strings.Repeat("1", 64), nil, http.StatusOK)
}

// TestMirrorRange: a range, a HEAD and a push that names what only upstream has.
func TestMirrorRange(t *testing.T) {
	up := newRegistry(t)
	content := noise(500_000, 3)
	d := up.putBlob(t, "a", "", content)
	host := mirrorOf(t, up.host, t.TempDir())
	path := "/v2/a/blobs/" + d.Digest.String()
	resp, _ := request(t, http.MethodHead, host, path, nil, http.StatusOK)
	if resp.ContentLength != 500_000 || up.count("GET "+path) != 0 {
		t.Errorf("HEAD: %d bytes, fetched %d times", resp.ContentLength, up.count("GET "+path))
	}
	if _, got := request(t, http.MethodGet, host, path, nil, http.StatusPartialContent, "Range", "bytes=100000-100009"); !bytes.Equal(got, content[100_000:100_010]) {
		t.Error("other bytes came back")
	}
	layer := up.putBlob(t, "b", "", []byte("layer"))
	manifest := fmt.Sprintf(`{"layers":[{"mediaType":"a/b","digest":%q,"size":5}]}`, layer.Digest)
	request(t, http.MethodPut, host, "/v2/b/manifests/v1", []byte(manifest), http.StatusCreated, "Content-Type", "a/b")
	request(t, http.MethodPost, host, "/v2/c/blobs/uploads/?mount="+layer.Digest.String()+"&from=b", nil, http.StatusCreated)
	up.Close()
	request(t, http.MethodGet, host, "/v2/b/blobs/"+layer.Digest.String(), nil, http.StatusOK)
}

// TestMirrorCorrupt: wrong bytes from upstream never look whole to a client, and are not kept.
func TestMirrorCorrupt(t *testing.T) {
	up := newRegistry(t)
	content := noise(300_000, 3)
	d := up.putBlob(t, "a", "", content)
	path := "/v2/a/blobs/" + d.Digest.String()
	up.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Path != path {
			return false
		}
		bad := bytes.Clone(content)
		bad[7]++
		w.Write(bad)
		return true
	})
	dir := t.TempDir()
	host := mirrorOf(t, up.host, dir)
	resp, err := http.Get("http://" + host + path)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", resp.Status)
		} else if len(got) == len(content) {
			t.Error("all bytes came")
		}
	}
	if err == nil {
		t.Error("wrong bytes were served as if they were right")
	}
	if left, _ := os.ReadDir(dir + "/blobs/sha256"); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
	up.guard(nil)
	if _, got := request(t, http.MethodGet, host, path, nil, http.StatusOK); !bytes.Equal(got, content) {
		t.Error("not even the second time")
	}
	if left, _ := os.ReadDir(dir + "/uploads"); len(left) > 0 {
		t.Errorf("uploads: %v", left)
	}
}

// TestMirrorStall: an upstream that takes connections and says nothing is waited for once, and not for long.
func TestMirrorStall(t *testing.T) {
	up := newRegistry(t)
	makeImage(t, hostHere(), 5_000).put(t, up, "a", "v1")
	host := mirrorOf(t, up.host, t.TempDir())
	c := newTestClient(t, Options{})
	if _, err := pulled(t.Context(), c, mustParse(t, host+"/a:v1")); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	defer close(release)
	up.guard(func(http.ResponseWriter, *http.Request) bool { <-release; return true })
	if _, err := pulled(t.Context(), c, mustParse(t, host+"/a:v1")); err != nil { // for ever, if it waited for an answer
		t.Error(err)
	}
	asked := up.count("")
	_, body := request(t, http.MethodGet, host, "/v2/a/manifests/v2", nil, http.StatusBadGateway)
	if again := up.count(""); again != asked {
		t.Errorf("asked %d times more: %s", again-asked, body)
	}
}
