package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestGet: a file somewhere, one that is not there, and servers that say nothing or stop in the middle.
func TestGet(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/whole":
			_, _ = io.WriteString(w, "words")
		case "/moved":
			http.Redirect(w, r, "/whole", http.StatusFound)
		case "/silent":
			<-stop
		case "/half":
			_, _ = io.WriteString(w, "wo")
			w.(http.Flusher).Flush()
			<-stop
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	defer close(stop)
	c := newTestClient(t, Options{})
	c.retry.stall, c.retry.attempts = 200*time.Millisecond, 2
	for path, want := range map[string]string{"/whole": "words", "/moved": "words", "/silent": "", "/half": "", "/none": "404 Not Found"} {
		body, err := c.Get(t.Context(), server.URL+path)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(body)
			body.Close()
		}
		switch {
		case want == "words" && (err != nil || string(text) != want):
			t.Errorf("%s: %q, %v", path, text, err)
		case want != "words" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
