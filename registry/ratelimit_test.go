package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// logged collects what a client says.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) log(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, a...))
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// TestRateLimit: a registry that says how many pulls are left is quoted when they are few, and once.
func TestRateLimit(t *testing.T) {
	reg := newRegistry(t)
	makeImage(t, hostHere(), 100).put(t, reg, "x", "v1")
	for _, test := range []struct{ limit, left, want string }{
		{"100;w=21600", "7;w=21600", "HOST lets this address pull 7 more images in 6 h; hull login HOST raises that"},
		{"100;w=21600", "10;w=21600", "pull 10 more images in 6 h"},
		{"100;w=21600", "11;w=21600", ""},
		{"100;w=21600", "1;w=5400", "pull 1 more image in 1 h 30 min;"},
		{"100", "0", "pull 0 more images;"},
		{"100;w=x", "0;w=-3", "pull 0 more images;"},
		{"", "0;w=21600", ""}, {"100;w=21600", "", ""}, {"0;w=1", "0;w=1", ""}, {"many", "few", ""}, {"-5", "-7", ""},
		{"99999999999999999999", "1", ""},
	} {
		reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("ratelimit-limit", test.limit)
				w.Header().Set("ratelimit-remaining", test.left)
			}
			return false
		})
		var said logged
		c := newTestClient(t, Options{Log: said.log})
		if _, err := c.Head(t.Context(), reg.ref(t, "x:v1")); err != nil || said.text() != "" {
			t.Errorf("%q %q: a HEAD, which does not count: %v, %q", test.limit, test.left, err, said.text())
		}
		for range 2 {
			if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil); err != nil {
				t.Fatal(err)
			}
		}
		want := strings.ReplaceAll(test.want, "HOST", reg.host)
		if got := said.text(); (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("%q %q: said %q, want %q", test.limit, test.left, got, want)
		}
	}
}

// TestRateLimitLogin: somebody who has logged in is not told to.
func TestRateLimitLogin(t *testing.T) {
	reg := newRegistry(t)
	makeImage(t, hostHere(), 100).put(t, reg, "x", "v1")
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if user, _, _ := r.BasicAuth(); user != "me" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		w.Header().Set("ratelimit-limit", "200;w=21600")
		w.Header().Set("ratelimit-remaining", "3;w=21600")
		return false
	})
	var said logged
	c := newTestClient(t, Options{Log: said.log, ConfigDir: t.TempDir()})
	if _, err := c.keepLogin(t.Context(), reg.host, "me", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil); err != nil {
		t.Fatal(err)
	}
	if want := reg.host + " lets you pull 3 more images in 6 h"; said.text() != want {
		t.Errorf("said %q, want %q", said.text(), want)
	}
}

// TestTooManyRequests: when the limit has bitten, the error tells when to come back, and nothing is asked again at once.
func TestTooManyRequests(t *testing.T) {
	reg := newRegistry(t)
	makeImage(t, hostHere(), 100).put(t, reg, "x", "v1")
	after := ""
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Retry-After", after)
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your\npull rate limit."}]}`)
		return true
	})
	for _, test := range []struct{ after, want string }{
		{"21480", "TOOMANYREQUESTS: You have reached your pull rate limit.; it asks to come back in 5 h 58 min\nhull login " + reg.host + " may raise the limit"},
		{"61", "come back in 2 min\n"},
		{time.Now().Add(3 * time.Hour).UTC().Format(http.TimeFormat), "come back in "},
	} {
		after = test.after
		reg.guard(reg.door)
		_, err := newTestClient(t, Options{}).Pull(t.Context(), reg.ref(t, "x:v1"), nil)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "too many requests") {
			t.Errorf("%s: %v", test.after, err)
		}
		if n := reg.count("GET /v2/x/manifests/"); n > 2 { // without a handshake, and with one
			t.Errorf("%s: asked %d times", test.after, n)
		}
	}
}
