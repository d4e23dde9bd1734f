package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pushing pushes an image, and gives the last phase of each layer.
func pushing(t *testing.T, c *Client, ref Reference, img v1.Image, from ...string) ([]Sent, error) {
	t.Helper()
	var got []Sent
	busy := false
	err := c.Push(t.Context(), ref, img, PushOptions{
		From: func(v1.Hash) []string { return from },
		Progress: func(s Sent) {
			if busy {
				t.Error("two calls of Progress at once")
			}
			busy = true
			defer func() { busy = false }()
			if len(got) <= s.Index {
				got = append(got, make([]Sent, s.Index+1-len(got))...)
			}
			if done := got[s.Index].Phase; done == "done" || done == "exists" || done == "mounted" {
				t.Errorf("%q after %q", s.Phase, done)
			}
			got[s.Index] = s
		},
	})
	return got, err
}

func phases(sent []Sent) (list []string) {
	for _, s := range sent {
		list = append(list, s.Phase)
	}
	return list
}

// TestPushWhatIsMissing: layers that are there are not sent, nor those that are in another repository.
func TestPushWhatIsMissing(t *testing.T) {
	from, to := newRegistry(t), newRegistry(t)
	want := makeImage(t, hostHere(), 900_000, 10)
	want.put(t, from, "x", "v1")
	c := newTestClient(t, Options{})
	img, err := c.Pull(t.Context(), from.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := pushing(t, c, to.ref(t, "a/b:c"), img)
	if err != nil || !slices.Equal(phases(sent), []string{"done", "done"}) || sent[0].Done != sent[0].Total || sent[0].Count != 2 {
		t.Fatalf("%+v, %v", sent, err)
	}
	// The registry of the tests has one heap of blobs; this one has repositories.
	to.guard(func(w http.ResponseWriter, r *http.Request) bool {
		apart := strings.HasPrefix(r.URL.Path, "/v2/m/") || strings.HasPrefix(r.URL.Path, "/v2/n/")
		switch from := r.URL.Query().Get("from"); {
		case apart && r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/"):
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost && from == "a/b":
			w.WriteHeader(http.StatusCreated)
		case from != "":
			w.WriteHeader(http.StatusForbidden) // then it goes without
		default:
			return false
		}
		return true
	})
	uploads := to.count("PATCH")
	for _, tt := range []struct {
		ref   string
		from  []string
		phase string
	}{
		{"a/b:c", nil, "exists"}, {"a/b:other", nil, "exists"}, {"m:1", []string{"m", "a/b"}, "mounted"},
		{"n:1", []string{"nowhere"}, "done"}, {"n:2", []string{"n"}, "done"},
	} {
		sent, err := pushing(t, c, to.ref(t, tt.ref), img, tt.from...)
		if err != nil || !slices.Equal(phases(sent), []string{tt.phase, tt.phase}) {
			t.Errorf("%s: %+v, %v; want %s", tt.ref, sent, err, tt.phase)
		}
		if tt.phase == "mounted" && sent[0].From != "a/b" {
			t.Errorf("%+v", sent)
		}
		if more := to.count("PATCH") - uploads; tt.phase != "done" && more > 1 { // the library does not mount the configuration
			t.Errorf("%s: %d uploads", tt.ref, more)
		}
		uploads = to.count("PATCH")
		got, err := pulled(t.Context(), c, to.ref(t, tt.ref))
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, got, want)
	}
}

// TestPushAgain: what breaks off is sent again, and one answer that is no use does no harm.
func TestPushAgain(t *testing.T) {
	from, to := newRegistry(t), newRegistry(t)
	want := makeImage(t, hostHere(), 2_000_000)
	want.put(t, from, "x", "v1")
	c := newTestClient(t, Options{})
	img, err := c.Pull(t.Context(), from.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	broken := map[string]int{}
	fail := func(what string, times int) bool {
		mu.Lock()
		defer mu.Unlock()
		broken[what]++
		return broken[what] <= times
	}
	to.guard(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPost && fail("post", 1):
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodPatch && r.ContentLength > 1_000_000 && fail("patch", 2):
			_, _ = io.CopyN(io.Discard, r.Body, 300_000)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && fail("manifest", 1):
			w.WriteHeader(http.StatusBadGateway)
		default:
			return false
		}
		return true
	})
	sent, err := pushing(t, c, to.ref(t, "y:v1"), img)
	if err != nil || phases(sent)[0] != "done" {
		t.Fatalf("%+v, %v", sent, err)
	}
	if broken["post"] < 2 || broken["patch"] < 3 || broken["manifest"] < 2 {
		t.Errorf("not all was tried: %v", broken)
	}
	got, err := pulled(t.Context(), c, to.ref(t, "y:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, want)

	to.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if _, err := pushing(t, c, to.ref(t, "z:v1"), img); !errors.Is(err, ErrUnauthorized) || to.count("POST") > 2 {
		t.Errorf("a registry that refuses: %v, after %d requests", err, to.count("POST"))
	}
}

// TestPushStall: a registry that takes no more bytes, or does not answer, is given up.
func TestPushStall(t *testing.T) {
	from, to := newRegistry(t), newRegistry(t)
	makeImage(t, hostHere(), 8_000_000).put(t, from, "x", "v1")
	c := newTestClient(t, Options{})
	img, err := c.Pull(t.Context(), from.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.retry.stall, c.retry.attempts = 30*time.Millisecond, 2
	over := make(chan struct{})
	defer close(over)
	to.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		<-over
		return true
	})
	start := time.Now()
	err = c.Push(t.Context(), to.ref(t, "y:v1"), img, PushOptions{})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "next to nothing, came for") || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.retry.stall = time.Minute
	if err := c.Push(ctx, to.ref(t, "y:v1"), img, PushOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestPushScopes: one token is for here and for where layers are taken from. Each runs out at once, so that all is sent
// twice; the second time any will do, for two blobs go at once, and one may use up what the other has fetched.
func TestPushScopes(t *testing.T) {
	from, reg := newRegistry(t), newRegistry(t)
	makeImage(t, hostHere(), 1000).put(t, from, "x", "v1")
	door := &tokenDoor{reg: reg, realm: reg.URL + "/token", uses: 1, left: map[string]int{}}
	var mu sync.Mutex
	var asked []string
	refused := map[string]bool{}
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/token" {
			asked = r.URL.Query()["scope"]
			return door.enter(w, r)
		}
		request := r.Method + r.URL.String()
		if again := refused[request]; again && r.Header.Get("Authorization") != "" {
			return false
		}
		refused[request] = door.enter(w, r)
		return refused[request]
	})
	c := newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", auths(reg.host, "me", "secret"), 0o600))})
	img, err := c.Pull(t.Context(), from.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pushing(t, c, reg.ref(t, "y:v1"), img, "lib/base"); err != nil {
		t.Fatal(err)
	}
	if door.issued < 5 {
		t.Errorf("%d tokens", door.issued)
	}
	if want := []string{"repository:y:push,pull", "repository:lib/base:pull"}; !slices.Equal(asked[max(0, len(asked)-2):], want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}
