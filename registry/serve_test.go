package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// serve runs Serve until the returned function is called.
func serve(t testing.TB, dir string) (host string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, dir) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func mustParse(t testing.TB, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestServe(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "disk": t.TempDir() + "/registry"} {
		t.Run(name, func(t *testing.T) {
			c := newTestClient(t, Options{})
			img, err := random.Image(300_000, 3)
			if err != nil {
				t.Fatal(err)
			}
			host, stop := serve(t, dir)
			for _, ref := range []string{"/a/b:v1", "/a/b:v2", "/c:v1"} {
				if err := c.Push(t.Context(), mustParse(t, host+ref), img, PushOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			digest, _ := img.Digest()
			check := func(host string) {
				t.Helper()
				for _, ref := range []string{"/a/b:v1", "/c:v1", "/a/b@" + digest.String()} {
					if _, err := pulled(t.Context(), c, mustParse(t, host+ref)); err != nil {
						t.Error(err)
					}
				}
				if tags, err := c.Tags(t.Context(), mustParse(t, host+"/a/b")); err != nil || fmt.Sprint(tags) != "[v1 v2]" {
					t.Errorf("Tags = %v, %v", tags, err)
				}
			}
			check(host)
			if dir == "" {
				return
			}

			// An index, which the library takes only after its parts, and a deletion; both after a restart, too.
			index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{MediaType: types.DockerManifestSchema2, Digest: digest, Size: 1, Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}}}
			size, _ := img.Size()
			index.Manifests[0].Size = size
			put(t, host, "/v2/a/b/manifests/0index", types.OCIImageIndex, index)
			request(t, http.MethodDelete, host, "/v2/c/manifests/v1", nil, http.StatusAccepted)
			stop()
			writeFile(t, dir+"/uploads/rubbish", "x", 0o644)

			host, _ = serve(t, dir)
			if _, err := pulled(t.Context(), c, mustParse(t, host+"/a/b:v1")); err != nil {
				t.Error(err)
			}
			if _, err := c.Pull(t.Context(), mustParse(t, host+"/a/b:0index"), &v1.Platform{OS: "linux", Architecture: "amd64"}); err != nil {
				t.Error(err)
			}
			if _, err := c.Pull(t.Context(), mustParse(t, host+"/c:v1"), nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("a deleted tag: %v", err)
			}
			if left, _ := os.ReadDir(dir + "/uploads"); len(left) > 0 {
				t.Errorf("uploads: %v", left)
			}
		})
	}
}

func put(t testing.TB, host, path string, mediaType types.MediaType, doc any) {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	request(t, http.MethodPut, host, path, raw, http.StatusCreated, "Content-Type", string(mediaType))
}

// request sends one and wants a status; it returns the answer, its body read.
func request(t testing.TB, method, host, path string, body []byte, want int, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s %s: %s, want %d: %s", method, path, resp.Status, want, got)
	}
	return resp, got
}

// TestServeUploads speaks the upload protocol by hand: in pieces, out of turn, with a wrong digest.
func TestServeUploads(t *testing.T) {
	dir := t.TempDir()
	host, _ := serve(t, dir)
	content := noise(100_000, 1)
	digest := describe("", content).Digest.String()
	begin := func() string {
		resp, _ := request(t, http.MethodPost, host, "/v2/a/b/blobs/uploads/", nil, http.StatusAccepted)
		return resp.Header.Get("Location")
	}
	at := begin()
	resp, _ := request(t, http.MethodPatch, host, at, content[:60_000], http.StatusAccepted, "Content-Range", "0-59999")
	if got := resp.Header.Get("Range"); got != "0-59999" {
		t.Errorf("Range %q", got)
	}
	request(t, http.MethodPatch, host, at, content[:1], http.StatusRequestedRangeNotSatisfiable, "Content-Range", "0-0")
	request(t, http.MethodPatch, host, resp.Header.Get("Location"), content[60_000:90_000], http.StatusAccepted, "Content-Range", "60000-89999")
	resp, _ = request(t, http.MethodPut, host, at+"?digest="+digest, content[90_000:], http.StatusCreated)
	if got := resp.Header.Get("Location"); got != "/v2/a/b/blobs/"+digest {
		t.Errorf("Location %q", got)
	}
	if _, got := request(t, http.MethodGet, host, "/v2/a/b/blobs/"+digest, nil, http.StatusOK); !bytes.Equal(got, content) {
		t.Error("other bytes came back")
	}
	for _, r := range []string{"bytes=99990-", "bytes=99990-99999"} {
		if _, got := request(t, http.MethodGet, host, "/v2/a/b/blobs/"+digest, nil, http.StatusPartialContent, "Range", r); !bytes.Equal(got, content[99990:]) {
			t.Errorf("%s: %d bytes", r, len(got))
		}
	}
	small := describe("", content[:10]).Digest.String()
	request(t, http.MethodPost, host, "/v2/a/b/blobs/uploads/?digest="+small, content[:10], http.StatusCreated)
	request(t, http.MethodHead, host, "/v2/a/b/blobs/"+small, nil, http.StatusOK)
	request(t, http.MethodDelete, host, "/v2/a/b/blobs/"+small, nil, http.StatusAccepted)
	request(t, http.MethodHead, host, "/v2/a/b/blobs/"+small, nil, http.StatusNotFound)
	at = begin()
	request(t, http.MethodPatch, host, at, content[:10], http.StatusAccepted)
	request(t, http.MethodPut, host, at+"?digest="+digest, nil, http.StatusBadRequest)
	request(t, http.MethodPut, host, begin()+"?digest=sha512:"+strings.Repeat("a", 128), content, http.StatusBadRequest)
	request(t, http.MethodPut, host, "/v2/a/b/manifests/big", make([]byte, maxManifestSize+1), http.StatusRequestEntityTooLarge)
	for _, path := range []string{"/v2/../x/manifests/v1", "/v2/a/b/manifests/..", "/v2/UPPER/manifests/v1", "/v2/a/_refs/manifests/v1", "/v2/a//b/manifests/v1", "/v2/a/b/manifests/sha256:../../x"} {
		resp, _ := request(t, http.MethodPut, host, strings.ReplaceAll(path, "..", "%2e%2e"), []byte("{}"), http.StatusBadRequest)
		if resp.StatusCode == http.StatusCreated {
			t.Errorf("%s was taken", path)
		}
	}
	if left, _ := os.ReadDir(dir + "/uploads"); len(left) > 0 {
		t.Errorf("uploads: %v", left)
	}
}

func TestServeErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, t.TempDir()+"/file", "", 0o644)
	if err := Serve(t.Context(), l, file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as folder: %v", err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

// TestDistribution talks to the registry that most of the world runs.
func TestDistribution(t *testing.T) {
	const binary = "/usr/bin/docker-registry"
	if _, err := os.Stat(binary); err != nil {
		t.Skip("the Debian package docker-registry is not installed")
	}
	clean(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := writeFile(t, dir+"/config.yml", fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), host), 0o644)
	cmd := exec.Command(binary, "serve", config)
	// Of its own environment REGISTRY_… would be configuration, and REGISTRY_AUTH_FILE is podman's.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "OTEL_TRACES_EXPORTER=none"}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("docker-registry: %s", log.Bytes())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", host); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not listen: %s", log.Bytes())
		}
	}

	c := newTestClient(t, Options{})
	img, err := random.Image(500_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	ref := mustParse(t, host+"/team/app:v1")
	if _, err := c.Head(t.Context(), ref); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the push: %v", err)
	}
	for _, tag := range []string{"v1", "v2"} {
		ref.Tag = tag
		if err := c.Push(t.Context(), ref, img, PushOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pulled(t.Context(), c, ref); err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	if d, err := c.Resolve(t.Context(), ref, nil); err != nil || d.Digest != want {
		t.Errorf("Resolve = %v, %v", d, err)
	}
	if tags, err := c.Tags(t.Context(), ref); err != nil || fmt.Sprint(tags) != "[v1 v2]" {
		t.Errorf("Tags = %v, %v", tags, err)
	}
	// The range that a broken download asks for.
	layers, _ := img.Layers()
	digest, _ := layers[0].Digest()
	size, _ := layers[0].Size()
	d := &download{ctx: t.Context(), from: []*session{c.session(endpoint{host: host}, ref, "pull")}, policy: c.retry, log: c.opt.Log,
		blob: v1.Descriptor{Digest: digest, Size: size}, off: size - 100}
	if rest, err := io.ReadAll(d); err != nil || len(rest) != 100 || d.noRange {
		t.Errorf("the last 100 bytes: %d, %v, range refused: %v", len(rest), err, d.noRange)
	}
}
