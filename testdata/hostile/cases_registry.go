package hostile

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// registries answer in bad faith.
func registries(target string) []Case {
	on := func(name, pull, part string, f http.HandlerFunc) Case {
		return Case{Name: "registry-" + name, Pull: pull, Make: func(m *Image) {
			m.Answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, part) {
					return false
				}
				f(w, r)
				return true
			}
		}}
	}
	redirect := func(name, pull, part, to string) Case {
		return on("redirect-"+name, pull, part, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", strings.ReplaceAll(to, "SELF", r.URL.Path))
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for some := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := w.Write(some); err != nil {
				return
			}
		}
	}
	stall := func(c Case) Case {
		c.Endless = true
		return c
	}
	challenge := func(name, pull, value string) Case {
		c := on("auth-"+name, pull, "/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", value)
			w.WriteHeader(http.StatusUnauthorized)
		})
		answers := c.Make
		c.Make = func(m *Image) { answers(m); m.Alone = true }
		return c
	}
	return []Case{
		on("endless-manifest", "the limit", "/manifests/", endless),
		on("manifest-100mb", "the limit", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(100<<20))
			for some := make([]byte, 1<<20); ; {
				if _, err := w.Write(some); err != nil {
					return
				}
			}
		}),
		on("endless-blob", "bytes", "/blobs/", endless),
		on("endless-error", "registry unavailable", "/manifests/", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotImplemented)
			endless(w, r)
		}),
		on("large-headers", "wrong content", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 500 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}),
		on("error-speaks-to-terminal", "[31m", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			w.Write(encode(Doc{"errors": []any{Doc{"code": "DENIED", "message": "\x1b[31m\x1b]0;owned\x07\r\nhull: all is well\b\u009b2J\u202e"}}}))
		}),
		stall(on("stalls", "interrupted", "/manifests/", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })),
		stall(on("stalls-in-blob", "interrupted", "/blobs/", func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("{"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})),
		stall(on("retry-after", "interrupted", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "59")
			w.WriteHeader(http.StatusServiceUnavailable)
		})),
		on("retry-after-years", "registry unavailable", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "2000000000")
			w.WriteHeader(http.StatusServiceUnavailable)
		}),
		redirect("file", "file", "/manifests/", "file://"+target+"/secret"),
		redirect("blob-file", "file", "/blobs/", "file:///etc/passwd"),
		redirect("loop", "redirects", "/manifests/", "SELF"),
		redirect("blob-loop", "redirects", "/blobs/", "SELF"),
		redirect("gopher", "gopher", "/manifests/", "gopher://127.0.0.1:1/"),
		redirect("nowhere", "307", "/manifests/", ""),
		redirect("plain-elsewhere", "plain http to 192.0.2.1", "/blobs/", "http://192.0.2.1/latest/meta-data"),
		challenge("realm-file", "hull", `Bearer realm="file:///etc/passwd",service="x"`),
		challenge("realm-plain-elsewhere", "plain http to 192.0.2.1", `Bearer realm="http://192.0.2.1/token",service="x"`),
		challenge("realm-rubbish", "hull", `Bearer realm="\x1b[31m`),
		challenge("unknown-scheme", "hull", "Negotiate \x1b[2J"),
		on("digest-header", "the registry says that it is", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			w.Write([]byte("{}"))
		}),
		on("content-length-short", "the answer broke off", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			w.Write([]byte(`{"schemaVersion":2}`))
		}),
		on("content-length-blob", "the manifest says", "/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.Write([]byte("12345"))
		}),
		on("gzip-encoding", "not JSON", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(gz(strings.Repeat(" ", 1<<20)))
		}),
		on("content-range", "hull", "/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/18446744073709551616")
			w.WriteHeader(http.StatusPartialContent)
		}),
		on("informational", "hull", "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				w.WriteHeader(http.StatusEarlyHints)
			}
			w.WriteHeader(http.StatusNoContent)
		}),
	}
}
