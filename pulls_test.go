package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// counter passes requests on to a registry and writes them down.
type counter struct {
	addr string

	mu   sync.Mutex
	seen []string // "GET /v2/…", with the Range if there is one
	slow string   // a digest whose blob stops after stopAt bytes, until the client has enough
}

const stopAt = 1 << 20

func newCounter(t *testing.T, upstream string) *counter {
	c := &counter{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream})
	proxy.FlushInterval = -1
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.URL.Path
		if rng := r.Header.Get("Range"); rng != "" {
			line += " " + rng
		}
		c.mu.Lock()
		c.seen = append(c.seen, line)
		slow := c.slow != "" && strings.HasSuffix(r.URL.Path, c.slow)
		c.mu.Unlock()
		if slow {
			w = &stopping{ResponseWriter: w, left: stopAt, gone: r.Context().Done()}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c.addr = strings.TrimPrefix(srv.URL, "http://")
	return c
}

// take gives the requests that begin so, and forgets all.
func (c *counter) take(prefix string) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.seen {
		if strings.HasPrefix(line, prefix) {
			list = append(list, line)
		}
	}
	c.seen = nil
	return list
}

// stopping writes so many bytes of a body and waits for the client to go.
type stopping struct {
	http.ResponseWriter
	left int
	gone <-chan struct{}
}

func (s *stopping) Write(p []byte) (int, error) {
	if s.left == 0 {
		<-s.gone
		return 0, io.ErrClosedPipe
	}
	n, err := s.ResponseWriter.Write(p[:min(len(p), s.left)])
	s.left -= n
	if err == nil && n < len(p) {
		s.ResponseWriter.(http.Flusher).Flush()
		<-s.gone
		return n, io.ErrClosedPipe
	}
	return n, err
}

// world is a home with a store of its own.
type pullWorld struct {
	t   *testing.T
	env []string
	dir string
}

func newPullWorld(t *testing.T) *pullWorld {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	w := &pullWorld{t, append(os.Environ(), "HOME="+dir, "HULL_ROOT="+root, "HULL_CONFIG=", "XDG_CONFIG_HOME="+dir, "DOCKER_CONFIG="+dir), dir}
	t.Cleanup(func() { w.run("rmi", "-f", "none") })
	return w
}

func (w *pullWorld) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(os.Getenv("HULL_BIN"), "hull"), args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	return cmd
}

func (w *pullWorld) run(args ...string) (string, error) {
	out, err := w.cmd(args...).CombinedOutput()
	return string(out), err
}

// must runs hull, which has to end well.
func (w *pullWorld) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("hull %q: %v\n%s", args, err, out)
	}
	return out
}

// pushRandom puts an image of random layers into a registry, on top of another one if that is not nil.
func pushRandom(t *testing.T, addr, repo string, base v1.Image, size int64, count int) v1.Image {
	t.Helper()
	img, err := random.Image(size, int64(count))
	if err == nil && base != nil {
		var more []v1.Layer
		if more, err = img.Layers(); err == nil {
			img, err = mutate.AppendLayers(base, more...)
		}
	}
	var config *v1.ConfigFile
	if err == nil {
		if config, err = img.ConfigFile(); err == nil {
			config = config.DeepCopy()
			config.OS, config.Architecture = "linux", runtime.GOARCH
			img, err = mutate.ConfigFile(img, config)
		}
	}
	var ref name.Reference
	if err == nil {
		if ref, err = name.ParseReference(addr+"/"+repo, name.Insecure); err == nil {
			err = remote.Write(ref, img)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPullsTogether: ten processes that pull two images with layers in common fetch each blob once; and for what is
// here run, create and inspect do not ask the registry at all.
func TestPullsTogether(t *testing.T) {
	upstream := serveRegistry(t)
	base := pushRandom(t, upstream, "one:1", nil, 3<<20, 3)
	pushRandom(t, upstream, "two:1", base, 1<<20, 2)
	c := newCounter(t, upstream)
	w := newPullWorld(t)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if out, err := w.run("pull", "-q", fmt.Sprintf("%s/%s:1", c.addr, []string{"one", "two"}[i%2])); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	var got []string
	for _, line := range c.take("GET ") {
		if _, blob, ok := strings.Cut(line, "/blobs/"); ok {
			got = append(got, blob)
		}
	}
	config := map[string]bool{}
	for _, img := range []string{"one", "two"} {
		config[strings.TrimSpace(w.must("image", "inspect", "-f", "{{.Id}}", c.addr+"/"+img+":1"))] = true
	}
	got = slices.DeleteFunc(got, func(d string) bool { return config[d] })
	slices.Sort(got)
	if len(got) != 5 || len(slices.Compact(slices.Clone(got))) != 5 {
		t.Errorf("want 5 layers, each once: %q", got)
	}
	for _, args := range [][]string{
		{"create", "--pull=missing", c.addr + "/one:1", "x"},
		{"--offline", "create", "--pull=always", c.addr + "/one:1", "x"},
		{"--offline", "pull", c.addr + "/one:1"},
		{"create", "--pull=never", c.addr + "/two:1", "x"},
		{"history", c.addr + "/two:1"},
	} {
		w.must(args...)
	}
	out, err := w.run("--offline", "pull", c.addr+"/three:1")
	if err == nil || !strings.Contains(out, "not on this disk") {
		t.Errorf("%v: %s", err, out)
	}
	if asked := c.take(""); len(asked) > 0 {
		t.Errorf("the registry was asked: %q", asked)
	}
	for _, id := range strings.Fields(w.must("ps", "-aq")) {
		w.must("rm", "-f", id)
	}
}

// TestPullKilled kills a pull in the middle of a layer. The next one asks for the rest alone.
func TestPullKilled(t *testing.T) {
	upstream := serveRegistry(t)
	img := pushRandom(t, upstream, "one:1", nil, 4<<20, 1)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	c := newCounter(t, upstream)
	c.slow = d.String()
	w := newPullWorld(t)
	cmd := w.cmd("pull", c.addr+"/one:1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(w.dir, "root", "tmp", "get-"+d.Hex)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if st, err := os.Stat(part); err == nil && st.Size() >= stopAt/2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing came")
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	st, err := os.Stat(part)
	if err != nil {
		t.Fatal(err)
	}
	c.take("")
	c.mu.Lock()
	c.slow = ""
	c.mu.Unlock()
	w.must("pull", c.addr+"/one:1")
	var asked []string
	for _, line := range c.take("GET ") {
		if strings.Contains(line, d.String()) {
			asked = append(asked, line)
		}
	}
	size, _ := layers[0].Size()
	if want := fmt.Sprintf("bytes=%d-%d", st.Size(), size-1); len(asked) != 1 || !strings.HasSuffix(asked[0], want) {
		t.Errorf("asked %q, want %s", asked, want)
	}
	if _, err := os.Stat(part); err == nil {
		t.Error("the part is still there")
	}
	if out := w.must("system", "check"); strings.Contains(out, "blob") {
		t.Error(out)
	}
}
