package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSearch asks servers that offer different things.
func TestSearch(t *testing.T) {
	v1 := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("q") != "box" || r.URL.Query().Get("n") != "3" {
			t.Errorf("asked %s", r.URL)
		}
		fmt.Fprint(w, `{"num_results": 2, "results": [{"name": "a/box", "description": "d", "star_count": 7, "is_official": true}, {"name": "box2"}]}`)
	}
	pages := 0
	catalog := func(w http.ResponseWriter, r *http.Request) {
		pages++
		switch r.URL.Query().Get("last") {
		case "":
			w.Header().Set("Link", `<http://elsewhere.test/v2/_catalog?last=m&n=1000>; rel="next"`)
			fmt.Fprint(w, `{"repositories": ["abox", "m"]}`)
		case "m":
			w.Header().Set("Link", `</v2/_catalog?last=x&n=1000>; rel="next"`)
			fmt.Fprint(w, `{"repositories": ["n", "team/box", "x", "yBox"]}`)
		default:
			fmt.Fprint(w, `{"repositories": ["zbox1", "zbox2", "zbox3"]}`)
		}
	}
	status := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); fmt.Fprint(w, text) }
	}
	ping := status(http.StatusOK, "{}")
	for _, test := range []struct {
		name              string
		ping, v1, catalog http.HandlerFunc
		want              string // names with stars, or an error's words
		kind              error
	}{
		{"v1", ping, v1, status(500, ""), "a/box 7 true,box2 0 false", nil},
		{"v1 alone", status(404, ""), v1, status(404, ""), "a/box 7 true,box2 0 false", nil},
		{"catalogue", ping, status(404, "no"), catalog, "abox 0 false,team/box 0 false,zbox1 0 false", nil},
		{"a page for people instead of v1", ping, status(200, "<html>"), catalog, "abox 0 false,team/box 0 false,zbox1 0 false", nil},
		{"JSON of another kind", ping, status(200, "{}"), catalog, "abox 0 false,team/box 0 false,zbox1 0 false", nil},
		{"nothing", ping, status(404, ""), status(404, ""), "offers no search, and no list of its repositories: ", ErrUnsupported},
		{"forbidden", ping, status(404, ""), status(401, `{"errors":[{"code":"DENIED","message":"a\nb"}]}`), "DENIED: a b", ErrUnsupported},
		{"nonsense", ping, status(200, "[]"), status(200, "[1"), "offers no search", ErrUnsupported},
		{"overloaded", ping, status(503, ""), catalog, "503", ErrUnavailable},
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("/v2/{$}", test.ping)
		mux.HandleFunc("/v1/search", test.v1)
		mux.HandleFunc("/v2/_catalog", test.catalog)
		srv := httptest.NewServer(mux)
		host := strings.TrimPrefix(srv.URL, "http://")
		found, err := newTestClient(t, Options{}).Search(t.Context(), host, "box", 3)
		srv.Close()
		var names []string
		for _, f := range found {
			names = append(names, fmt.Sprint(strings.TrimPrefix(f.Name, host+"/"), " ", f.Stars, " ", f.Official))
		}
		got := strings.Join(names, ",")
		if test.kind != nil && (!errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		} else if test.kind == nil && (err != nil || got != test.want) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	if pages != 3*3 {
		t.Errorf("%d pages were read of three lists", pages)
	}
}

// TestSearchEndless: a list that goes on for ever is read no further than is sensible.
func TestSearchEndless(t *testing.T) {
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/_catalog":
			n++
			w.Header().Set("Link", `</v2/_catalog?last=x>; rel="next"`)
			fmt.Fprint(w, `{"repositories": ["x"]}`)
		case "/v2/":
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	var said logged
	found, err := newTestClient(t, Options{Log: said.log}).Search(t.Context(), strings.TrimPrefix(srv.URL, "http://"), "box", 3)
	if err != nil || len(found) != 0 || n != maxCatalogPages || !strings.Contains(said.text(), "more than 100 pages") {
		t.Errorf("%v, %v after %d pages; %s", found, err, n, said.text())
	}
}

// TestSearchHub: the Hub's search is at a host of its own, and its names have no host.
func TestSearchHub(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "index.docker.io" || r.URL.String() != "/v1/search?n=25&q=busy+box" {
			t.Errorf("asked %s at %s", r.URL, r.Host)
		}
		fmt.Fprint(w, `{"results": [{"name": "busybox", "star_count": 3000, "is_official": true}]}`)
	}))
	defer srv.Close()
	c := newTestClient(t, Options{Insecure: []string{"index.docker.io"}})
	c.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	found, err := c.Search(t.Context(), "docker.io", "busy box", 25)
	if err != nil || len(found) != 1 || found[0].Name != "busybox" || found[0].Stars != 3000 || !found[0].Official {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestSplitTerm(t *testing.T) {
	for _, test := range [][3]string{
		{"busybox", "docker.io", "busybox"}, {"me/x", "docker.io", "me/x"}, {"docker.io/x", "docker.io", "x"},
		{"index.docker.io/x", "docker.io", "x"}, {"localhost/x/y", "localhost", "x/y"}, {"a.test:5000/", "a.test:5000", ""},
		{"", "", ""}, {"docker.io/", "", ""}, {"a..b/x", "", ""}, {"a.test:x/y", "", ""},
	} {
		host, term, err := SplitTerm(test[0])
		if host != test[1] || term != test[2] || (err != nil) != (test[1] == "") {
			t.Errorf("%q: %q %q %v", test[0], host, term, err)
		}
	}
}
