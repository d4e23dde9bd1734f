package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hijack takes the connection away from net/http, to break it as it likes.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}

// reset ends a connection by RST, not FIN.
func reset(w http.ResponseWriter) {
	conn := hijack(w)
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// TestDownloadSurvives breaks the download of a layer in every way that should not matter.
func TestDownloadSurvives(t *testing.T) {
	const size = 900_000
	img := makeImage(t, hostHere(), size)
	content := img.layers[0]
	layer := "/blobs/" + img.manifest.Layers[0].Digest.String()
	// cut sends the response's beginning and breaks; every answer brings n bytes more.
	cut := func(w http.ResponseWriter, r *http.Request, n int, end func(http.ResponseWriter)) {
		start := rangeStart(r)
		if start > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(content)-1, len(content)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)-start))
		if start > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(content[start:min(start+n, len(content))])
		if start+n < len(content) {
			w.(http.Flusher).Flush()
			end(w)
		}
	}
	gentle := func(w http.ResponseWriter) { hijack(w).Close() }
	status := func(code int, header ...string) func(int32, http.ResponseWriter, *http.Request) bool {
		return func(n int32, w http.ResponseWriter, _ *http.Request) bool {
			if n > 2 {
				return false
			}
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	for _, tt := range []struct {
		name string
		// fault answers the nth request (from 1) for the layer, or returns false to let it in.
		fault    func(n int32, w http.ResponseWriter, r *http.Request) bool
		requests int32
	}{
		{"whole", func(int32, http.ResponseWriter, *http.Request) bool { return false }, 1},
		{"cut body", func(_ int32, w http.ResponseWriter, r *http.Request) bool { cut(w, r, 100_000, gentle); return true }, 10},
		{"reset", func(_ int32, w http.ResponseWriter, r *http.Request) bool { cut(w, r, 100_000, reset); return true }, 0},
		{"short body of unknown length", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 {
				return false
			}
			w.(http.Flusher).Flush()
			w.Write(content[:1234])
			return true
		}, 2},
		{"range ignored", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			if n == 1 {
				cut(w, r, 300_000, gentle)
				return true
			}
			return false
		}, 2},
		{"wrong range", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, r, 300_000, gentle)
			} else if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(content)
			} else {
				return false
			}
			return true
		}, 3},
		{"range refused", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, r, 300_000, gentle)
			} else if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			} else {
				return false
			}
			return true
		}, 3},
		{"range of unknown total", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, r, 300_000, gentle)
				return true
			}
			start := rangeStart(r)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", start, len(content)-1))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[start:])
			return true
		}, 2},
		{"503", status(503), 3},
		{"500", status(500), 3},
		{"429", status(429, "Retry-After", "0"), 3},
		{"reset before the answer", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if n < 3 {
				reset(w)
			}
			return n < 3
		}, 0},
		{"slow start", func(n int32, w http.ResponseWriter, r *http.Request) bool {
			time.Sleep(30 * time.Millisecond)
			return false
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newRegistry(t)
			img.put(t, reg, "x", "v1")
			var n atomic.Int32
			reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, layer) || r.Method != http.MethodGet {
					return false
				}
				return tt.fault(n.Add(1), w, r)
			})
			got, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1"))
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, got, img)
			if tt.requests > 0 && n.Load() != tt.requests {
				t.Errorf("%d requests, want %d", n.Load(), tt.requests)
			}
		})
	}
}

func rangeStart(r *http.Request) int {
	var start, end int
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end)
	return start
}

// TestDownloadGivesUp breaks it for good.
func TestDownloadGivesUp(t *testing.T) {
	img := makeImage(t, hostHere(), 100_000)
	layer := "/blobs/" + img.manifest.Layers[0].Digest.String()
	for _, tt := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request)
		kind  error
		text  string
		max   int
	}{
		{"always cut", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(img.layers[0])))
			w.Write(img.layers[0][:10])
			w.(http.Flusher).Flush()
			reset(w)
		}, ErrUnavailable, "of 101888 bytes", 12},
		{"always 503", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, ErrUnavailable, "503", 6},
		{"not there", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, ErrNotFound, "404", 1},
		{"not allowed", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, ErrUnauthorized, "403", 1},
		{"come back tomorrow", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(429)
		}, ErrUnavailable, "429", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newRegistry(t)
			img.put(t, reg, "x", "v1")
			var n atomic.Int32
			reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, layer) {
					return false
				}
				n.Add(1)
				tt.fault(w, r)
				return true
			})
			_, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1"))
			if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("got %v\nwant %v … %s", err, tt.kind, tt.text)
			}
			if int(n.Load()) > tt.max {
				t.Errorf("%d requests, want at most %d", n.Load(), tt.max)
			}
		})
	}
}

// TestManifestSurvives breaks a manifest in the middle; one that never ends well is an unavailable registry.
func TestManifestSurvives(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 10)
	img.put(t, reg, "x", "v1")
	var n, bad atomic.Int32
	bad.Store(2)
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || n.Add(1) > bad.Load() {
			return false
		}
		w.Header().Set("Content-Length", "500")
		w.Write([]byte(`{"schemaVersion":`))
		w.(http.Flusher).Flush()
		reset(w)
		return true
	})
	got, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1"))
	if err != nil || n.Load() != 3 {
		t.Fatalf("after %d requests: %v", n.Load(), err)
	}
	checkLayers(t, got, img)
	bad.Store(1000)
	if _, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("always broken: %v", err)
	}
}

// TestSecretAddress has the registry redirect to a storage that is down, by an address that is a secret.
func TestSecretAddress(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 10)
	img.put(t, reg, "x", "v1")
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, "http://127.0.0.1:1/blob?signature=geheim", http.StatusTemporaryRedirect)
		return true
	})
	_, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1"))
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1/blob") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("got %v", err)
	}
}

// TestStall has a registry go silent: before the answer, and in the middle of a body. Each silence costs one limit, and
// the download goes on.
func TestStall(t *testing.T) {
	img := makeImage(t, hostHere(), 300_000)
	content := img.layers[0]
	reg := newRegistry(t)
	img.put(t, reg, "x", "v1")
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	var manifests, layers atomic.Int32
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/manifests/") && manifests.Add(1) == 2:
			<-stop
			return true
		case strings.HasSuffix(r.URL.Path, img.manifest.Layers[0].Digest.String()) && layers.Add(1) == 1:
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:100_000])
			w.(http.Flusher).Flush()
			<-stop
			return true
		}
		return false
	})
	c := newTestClient(t, Options{})
	c.retry.stall = 100 * time.Millisecond
	for range 2 {
		got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, got, img)
	}
	if manifests.Load() != 3 || layers.Load() != 3 {
		t.Errorf("%d requests for the manifest, %d for the layer, want 3 and 3", manifests.Load(), layers.Load())
	}
}

// TestTrickle: a registry that keeps sending, but a byte now and then, is given up like one that stands still.
func TestTrickle(t *testing.T) {
	img := makeImage(t, hostHere(), 300_000)
	reg := newRegistry(t)
	img.put(t, reg, "x", "v1")
	for _, what := range []string{"/manifests/", "/blobs/" + img.manifest.Layers[0].Digest.String()} {
		var sent atomic.Int32
		reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, what) {
				return false
			}
			if what != "/manifests/" {
				w.Header().Set("Content-Length", fmt.Sprint(len(img.layers[0])))
			}
			for r.Context().Err() == nil {
				w.Write([]byte{' '})
				w.(http.Flusher).Flush()
				sent.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
			return true
		})
		c := newTestClient(t, Options{})
		c.retry.stall, c.retry.attempts = 200*time.Millisecond, 2
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := pulled(ctx, c, reg.ref(t, "x:v1"))
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "next to nothing, came for 200ms") {
			t.Errorf("%s: %v", what, err)
		}
		if sent.Load() < 10 {
			t.Errorf("%s: only %d bytes were sent", what, sent.Load())
		}
	}
}

// TestSlowReader takes longer than the stall limit between reads, which is nobody's fault.
func TestSlowReader(t *testing.T) {
	img := makeImage(t, hostHere(), 3<<20)
	reg := newRegistry(t)
	img.put(t, reg, "x", "v1")
	c := newTestClient(t, Options{})
	c.retry.stall, c.retry.attempts = 50*time.Millisecond, 1
	got, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := got.Layers()
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if _, err := r.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
}

// TestDownloadCancel ends a download that is waiting: for bytes, and for its next attempt.
func TestDownloadCancel(t *testing.T) {
	img := makeImage(t, hostHere(), 300_000)
	for name, fault := range map[string]func(w http.ResponseWriter, stop chan struct{}){
		"silence": func(w http.ResponseWriter, stop chan struct{}) {
			w.Header().Set("Content-Length", fmt.Sprint(len(img.layers[0])))
			w.(http.Flusher).Flush()
			<-stop
		},
		"backoff": func(w http.ResponseWriter, _ chan struct{}) { w.WriteHeader(503) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			img.put(t, reg, "x", "v1")
			stop := make(chan struct{})
			t.Cleanup(func() { close(stop) })
			reached := make(chan struct{}, 1)
			reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, img.manifest.Layers[0].Digest.String()) {
					return false
				}
				reached <- struct{}{}
				fault(w, stop)
				return true
			})
			ctx, cancel := context.WithCancel(t.Context())
			c := newTestClient(t, Options{})
			c.retry.base, c.retry.limit = time.Hour, time.Hour
			done := make(chan error, 1)
			go func() { _, err := pulled(ctx, c, reg.ref(t, "x:v1")); done <- err }()
			<-reached
			time.Sleep(10 * time.Millisecond)
			start := time.Now()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d > time.Minute { // the next attempt is in an hour
				t.Errorf("the end took %v", d)
			}
		})
	}
}

// TestVerified reads one blob in sizes that take its different ways.
func TestVerified(t *testing.T) {
	content := noise(3*bufferSize+17, 1)
	d := describe("", content)
	for _, size := range []int{1000, bufferSize - 1, bufferSize, 4 * bufferSize} {
		r, err := openBlob(t.Context(), bytesSource(content), d)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		buf := make([]byte, size)
		for {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("reads of %d: %v", size, err)
			}
		}
		if string(got) != string(content) {
			t.Errorf("reads of %d: other bytes", size)
		}
		if _, err := r.Read(buf); err != io.EOF {
			t.Errorf("reads of %d: after the end: %v", size, err)
		}
	}
	for name, bad := range map[string]bytesSource{"flipped": append([]byte{content[0] ^ 1}, content[1:]...), "short": bytesSource(content[1:]), "long": append([]byte{1}, content...)} {
		r, _ := openBlob(t.Context(), bad, d)
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: the verdict is forgotten: %v", name, err)
		}
	}
}

type bytesSource []byte

func (b bytesSource) document(context.Context, string) ([]byte, string, error) { return b, "", nil }
func (b bytesSource) blob(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(b))), nil
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"7": 7 * time.Second, "0": 0, "": 0, "-3": 0, "soon": 0, "1.5": 0, "99999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	p := defaultRetry()
	for n := 1; n < 100; n++ {
		full := p.limit
		if n < 7 {
			full = min(p.limit, p.base<<(n-1))
		}
		if d := p.backoff(n); d < full/2 || d > full {
			t.Errorf("backoff(%d) = %v, not between %v and %v", n, d, full/2, full)
		}
	}
}

// TestRetryHonoursRegistry waits as long as it was asked to.
func TestRetryHonoursRegistry(t *testing.T) {
	reg := newRegistry(t)
	makeImage(t, hostHere(), 1).put(t, reg, "x", "v1")
	var n atomic.Int32
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 2 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(429)
		return true
	})
	start := time.Now()
	if _, err := newTestClient(t, Options{}).Head(t.Context(), reg.ref(t, "x:v1")); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < time.Second {
		t.Errorf("came back after %v", d)
	}
}
