package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

func writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func auths(host, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, basic(user, password))
}

// tokenDoor makes a registry that wants tokens, which it hands out itself to whoever has the password. Each token is good
// for uses requests.
type tokenDoor struct {
	reg    *testRegistry
	realm  string
	uses   int
	mu     sync.Mutex
	issued int
	left   map[string]int
	scopes []string
}

func (d *tokenDoor) enter(w http.ResponseWriter, r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.URL.Path == "/token" {
		d.token(w, r)
		return true
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if d.left[token] > 0 || d.left[token] == 0 && d.uses == 0 && token != "" {
		d.left[token]--
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="test",scope="repository:x:pull"`, d.realm))
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

func (d *tokenDoor) token(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Basic "+basic("me", "secret") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	d.scopes = append(d.scopes, r.URL.Query().Get("scope"))
	d.issued++
	token := fmt.Sprint("token", d.issued)
	d.left[token] = d.uses
	json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func TestToken(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 100_000)
	img.put(t, reg, "x", "v1")
	door := &tokenDoor{reg: reg, realm: reg.URL + "/token", uses: 2, left: map[string]int{}}
	reg.guard(door.enter)

	c := newTestClient(t, Options{})
	if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil); !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "login is missing or wrong") {
		t.Errorf("without a login: %v", err)
	}
	c = newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", auths(reg.host, "me", "wrong"), 0o600))})
	if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("with a wrong password: %v", err)
	} else if strings.Contains(err.Error(), "wrong") && strings.Contains(err.Error(), basic("me", "wrong")) {
		t.Errorf("the error tells the password: %v", err)
	}

	c = newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", auths(reg.host, "me", "secret"), 0o600))})
	for range 3 { // tokens run out on the way
		got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, got, img)
	}
	if door.issued < 3 || door.scopes[0] != "repository:x:pull" {
		t.Errorf("%d tokens, for %v", door.issued, door.scopes)
	}
	pulledImage, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	door.uses = 100
	if err := c.Push(t.Context(), reg.ref(t, "y:v1"), pulledImage, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if last := door.scopes[len(door.scopes)-1]; last != "repository:y:push,pull" {
		t.Errorf("the push asked for %q", last)
	}
}

func TestBasic(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 1000)
	img.put(t, reg, "x", "v1")
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Basic "+basic("me", "sec:ret") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	c := newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", auths(reg.host, "me", "sec:ret"), 0o600))})
	got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, img)
	if tags, err := c.Tags(t.Context(), reg.ref(t, "x")); err != nil || len(tags) != 1 {
		t.Errorf("Tags = %v, %v", tags, err)
	}
	if _, err := newTestClient(t, Options{}).Tags(t.Context(), reg.ref(t, "x")); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("tags without a login: %v", err)
	}
}

// TestRedirectKeepsLogin has the registry redirect to storage on another port of the same address, which net/http takes
// for the same host. The storage must see neither password nor token, not even when it asks for a login.
func TestRedirectKeepsLogin(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 200_000)
	img.put(t, reg, "x", "v1")
	content := img.layers[0]
	var mu sync.Mutex
	var seen []http.Header
	ask := false
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Clone())
		if ask {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="evil"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.ServeContent(w, r, "", img.mtime(), strings.NewReader(string(content)))
	}))
	defer storage.Close()

	door := &tokenDoor{reg: reg, realm: reg.URL + "/token", left: map[string]int{}}
	for name, enter := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"token": door.enter,
		"basic": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "Basic "+basic("me", "secret") {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
	} {
		for _, ask = range []bool{false, true} {
			reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
				if enter(w, r) {
					return true
				}
				if strings.HasSuffix(r.URL.Path, img.manifest.Layers[0].Digest.String()) {
					http.Redirect(w, r, storage.URL+"/blob?signature=geheim", http.StatusTemporaryRedirect)
					return true
				}
				return false
			})
			seen = nil
			c := newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", auths(reg.host, "me", "secret"), 0o600))})
			got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
			if !ask {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				checkLayers(t, got, img)
			} else if !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: storage that wants a login: %v", name, err)
			}
			if len(seen) == 0 {
				t.Fatalf("%s: nobody came to the storage", name)
			}
			for _, h := range seen {
				if h.Get("Authorization") != "" || h.Get("Cookie") != "" {
					t.Errorf("%s: the storage saw %v", name, h)
				}
			}
		}
	}
}

// TestLogins looks a host up in each of the places, and in their order.
func TestLogins(t *testing.T) {
	clean(t)
	dir := t.TempDir()
	helper := func(suffix, answer string) {
		writeFile(t, dir+"/bin/docker-credential-"+suffix, "#!/bin/sh\nread host\n[ \"$1\" = get ] || exit 1\n"+answer, 0o755)
	}
	helper("good", `echo "{\"ServerURL\":\"$host\",\"Username\":\"helped\",\"Secret\":\"for $host\"}"`)
	helper("token", `echo "{\"ServerURL\":\"$host\",\"Username\":\"<token>\",\"Secret\":\"identity\"}"`)
	helper("empty", `echo "credentials not found in native keychain"; exit 1`)
	helper("broken", `echo "locked"; exit 1`)
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	dockerDir := func(config string) string {
		d := t.TempDir()
		writeFile(t, d+"/config.json", config, 0o600)
		return d
	}
	for _, tt := range []struct {
		name   string
		env    map[string]string
		config string
		host   string // "a.test" if empty
		want   authn.AuthConfig
	}{
		{name: "nothing", config: `{}`},
		{name: "file", config: auths("a.test", "u", "p"), want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "another host", config: auths("b.test", "u", "p")},
		{name: "URL as key", config: auths("https://a.test/v1/", "u", "p"), want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "port", config: auths("a.test:5000", "u", "p"), host: "a.test:5000", want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "port is part of the host", config: auths("a.test", "u", "p"), host: "a.test:5000"},
		{name: "hub", config: auths("https://index.docker.io/v1/", "u", "p"), host: "docker.io", want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "hub as podman writes it", config: auths("docker.io", "u", "p"), host: "docker.io", want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "path", config: auths("a.test/team", "team", "p"), want: authn.AuthConfig{Username: "team", Password: "p"}},
		{name: "identity token", config: `{"auths":{"a.test":{"identitytoken":"id"}}}`, want: authn.AuthConfig{IdentityToken: "id"}},
		{name: "registry token", config: `{"auths":{"a.test":{"registrytoken":"rt"}}}`, want: authn.AuthConfig{RegistryToken: "rt"}},
		{name: "helper", config: `{"credHelpers":{"a.test":"good"},"credsStore":"broken"}`, want: authn.AuthConfig{Username: "helped", Password: "for a.test"}},
		{name: "helper token", config: `{"credHelpers":{"a.test":"token"}}`, want: authn.AuthConfig{IdentityToken: "identity"}},
		{name: "store", config: `{"credsStore":"good"}`, host: "docker.io", want: authn.AuthConfig{Username: "helped", Password: "for https://index.docker.io/v1/"}},
		{name: "store has none, file has", config: `{"credsStore":"empty",` + auths("a.test", "u", "p")[1:], want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "broken helper", config: `{"credsStore":"broken"}`},
		{name: "missing helper", config: `{"credsStore":"nonesuch"}`},
		{name: "malformed file", config: `{`, env: map[string]string{"REGISTRY_AUTH_FILE": writeFile(t, dir+"/a.json", auths("a.test", "podman", "p"), 0o600)},
			want: authn.AuthConfig{Username: "podman", Password: "p"}},
		{name: "environment first", config: auths("a.test", "u", "p"), env: map[string]string{"DOCKER_AUTH_CONFIG": auths("a.test", "env", "e")},
			want: authn.AuthConfig{Username: "env", Password: "e"}},
		{name: "environment knows another", config: auths("a.test", "u", "p"), env: map[string]string{"DOCKER_AUTH_CONFIG": auths("b.test", "env", "e")},
			want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "environment malformed", config: auths("a.test", "u", "p"), env: map[string]string{"DOCKER_AUTH_CONFIG": "nonsense"},
			want: authn.AuthConfig{Username: "u", Password: "p"}},
		{name: "podman's file as a fallback", config: `{"psFormat":"x"}`, env: map[string]string{"REGISTRY_AUTH_FILE": writeFile(t, dir+"/b.json", auths("a.test", "podman", "p"), 0o600)},
			want: authn.AuthConfig{Username: "podman", Password: "p"}},
		{name: "podman's runtime file", config: `{}`, env: map[string]string{"XDG_RUNTIME_DIR": filepath.Dir(filepath.Dir(writeFile(t, dir+"/run/containers/auth.json", auths("a.test", "run", "p"), 0o600)))},
			want: authn.AuthConfig{Username: "run", Password: "p"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			host := tt.host
			if host == "" {
				host = "a.test"
			}
			// Both ways to say where the directory is.
			docker := dockerDir(tt.config)
			t.Setenv("DOCKER_CONFIG", docker)
			for _, c := range []*Client{New(Options{Log: logTo(t)}), New(Options{ConfigDir: docker, Log: logTo(t)})} {
				auth, err := c.login(t.Context(), host, "team/app")
				if err != nil {
					t.Fatal(err)
				}
				got, err := auth.Authorization()
				if err != nil {
					t.Fatal(err)
				}
				got.Auth = ""
				if got.Username == "<token>" {
					got.Username = ""
				}
				if *got != tt.want {
					t.Errorf("got %+v, want %+v", *got, tt.want)
				}
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		helper("slow", "exec sleep 300")
		c := New(Options{ConfigDir: dockerDir(`{"credsStore":"slow"}`)})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := c.login(ctx, "a.test", "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		helper("silent", "exec sleep 300")
		var said string
		c := New(Options{ConfigDir: dockerDir(`{"credsStore":"silent"}`), Log: func(f string, a ...any) { said += fmt.Sprintf(f, a...) }})
		c.helperPatience = 10 * time.Millisecond
		if auth, err := c.login(t.Context(), "a.test", "x"); err != nil || auth != authn.Anonymous || !strings.Contains(said, "docker-credential-silent: error getting credentials - err: no answer for 10ms") {
			t.Errorf("got %v, %v, said %q", auth, err, said)
		}
	})
	t.Run("no home", func(t *testing.T) {
		t.Setenv("HOME", "")
		if auth, err := New(Options{}).login(t.Context(), "a.test", "x"); err != nil || auth != authn.Anonymous {
			t.Errorf("got %v, %v", auth, err)
		}
	})
}
