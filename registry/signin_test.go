package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "index.docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io",
		"registry-1.docker.io": "docker.io", "a.test": "a.test", "https://a.test:5000/v2/x": "a.test:5000", "localhost:5000": "localhost:5000",
	} {
		if got, err := ParseHost(in); got != want || err != nil {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"a b", "-x", "a.test:99999", "http:///x y"} {
		if got, err := ParseHost(in); err == nil && got != defaultDomain {
			t.Errorf("ParseHost(%q) = %q", in, got)
		}
	}
}

// loginRegistry wants me and hush, and says so by asking for a password, or by a token.
func loginRegistry(t *testing.T, byToken bool) *testRegistry {
	reg := newRegistry(t)
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		known := r.Header.Get("Authorization") == "Basic "+basic("me", "hush")
		switch {
		case byToken && r.URL.Path == "/token" && known:
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "ours"})
			return true
		case byToken && r.Header.Get("Authorization") == "Bearer ours", !byToken && known:
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		if byToken {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, reg.URL))
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	return reg
}

func TestLogin(t *testing.T) {
	for _, byToken := range []bool{false, true} {
		reg := loginRegistry(t, byToken)
		dir := filepath.Join(t.TempDir(), "made", "docker")
		c := newTestClient(t, Options{ConfigDir: dir})
		if found, err := c.LoginAgain(t.Context(), reg.host); found || err != nil {
			t.Errorf("again, before: %v, %v", found, err)
		}
		if _, err := c.Login(t.Context(), reg.host, "me", "wrong"); !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), basic("me", "wrong")) {
			t.Errorf("wrong password: %v", err)
		}
		if _, err := os.Stat(dir + "/config.json"); err == nil {
			t.Error("a wrong password is kept")
		}
		kept, err := c.Login(t.Context(), reg.host, "me", "hush")
		if err != nil || kept != (KeptLogin{File: dir + "/config.json"}) {
			t.Fatalf("Login = %+v, %v", kept, err)
		}
		if found, err := c.LoginAgain(t.Context(), reg.host); !found || err != nil {
			t.Errorf("again: %v, %v", found, err)
		}
		if fi, err := os.Stat(dir + "/config.json"); err != nil || fi.Mode() != 0o600 {
			t.Errorf("config.json: %v, %v", fi, err)
		}
		if err := c.Logout(t.Context(), reg.host); err != nil {
			t.Error(err)
		}
		if found, err := c.LoginAgain(t.Context(), reg.host); found || err != nil {
			t.Errorf("again, after: %v, %v", found, err)
		}
	}
}

// TestLoginFile: what else is in config.json stays, and where it lies, but not that others may read it.
func TestLoginFile(t *testing.T) {
	reg := loginRegistry(t, false)
	dir := t.TempDir()
	before := `{"future": {"a": [1, 2.50]}, "auths": {"other.test": {"auth": "eDp5", "email": "x@y"}}, "psFormat": "{{.ID}}"}`
	real := writeFile(t, dir+"/elsewhere/real.json", before, 0o644)
	if err := os.Symlink("elsewhere/real.json", dir+"/config.json"); err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, Options{ConfigDir: dir})
	if _, err := c.Login(t.Context(), reg.host, "me", "hush"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Readlink(dir + "/config.json"); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
	if fi, err := os.Stat(real); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if err := c.Logout(t.Context(), reg.host); err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	after, err := os.ReadFile(real)
	if err == nil {
		err = errors.Join(json.Unmarshal(after, &got), json.Unmarshal([]byte(before), &want))
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after login and logout %s, %v", after, err)
	}
	if left, _ := filepath.Glob(dir + "/elsewhere/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if !strings.Contains(string(after), "2.50") {
		t.Errorf("%s", after)
	}
	writeFile(t, real, "{broken", 0o600)
	if _, err := c.Login(t.Context(), reg.host, "me", "hush"); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("a broken file: %v", err)
	}
	if text, _ := os.ReadFile(real); string(text) != "{broken" {
		t.Errorf("a broken file is now %q", text)
	}
}

// TestLoginHelper: a helper that exists gets the password, and the file has it no more.
func TestLoginHelper(t *testing.T) {
	reg := loginRegistry(t, false)
	dir := t.TempDir()
	writeFile(t, dir+"/bin/docker-credential-note", "#!/bin/sh\nread line\necho \"$1 $line\" >>"+dir+"/log\n", 0o755)
	writeFile(t, dir+"/bin/docker-credential-bad", "#!/bin/sh\necho locked; exit 1\n", 0o755)
	writeFile(t, dir+"/bin/docker-credential-secretservice", "#!/bin/sh\nread line\necho \"secret $1\" >>"+dir+"/log\n", 0o755)
	for _, tt := range []struct{ config, helper, logged, file string }{
		{`{"credsStore":"note","auths":{"` + reg.host + `":{"auth":"old"}}}`, "note", "store {\"ServerURL\":\"" + reg.host + "\",\"Username\":\"me\",\"Secret\":\"hush\"}\nerase " + reg.host + "\n", `"credsStore": "note"`},
		{`{"credHelpers":{"` + reg.host + `":"note"},"credsStore":"bad"}`, "note", "store {", `"credHelpers"`},
		{`{"psFormat":"x"}`, "secretservice", "secret store\nsecret erase\n", `"credsStore": "secretservice"`},
		{`{"auths":{"other.test":{"auth":"eDp5"}}}`, "", "", `"auth": "` + basic("me", "hush") + `"`},
	} {
		docker := filepath.Dir(writeFile(t, t.TempDir()+"/config.json", tt.config, 0o600))
		c := newTestClient(t, Options{ConfigDir: docker})
		t.Setenv("PATH", dir+"/bin:/usr/bin:/bin")
		os.Remove(dir + "/log")
		kept, err := c.Login(t.Context(), reg.host, "me", "hush")
		if err != nil || kept.Helper != tt.helper {
			t.Fatalf("%s: %+v, %v", tt.config, kept, err)
		}
		text, err := os.ReadFile(docker + "/config.json")
		if err != nil || !strings.Contains(string(text), tt.file) || !strings.Contains(string(text), reg.host) {
			t.Errorf("%s: file %s, %v", tt.config, text, err)
		}
		if tt.helper != "" && (strings.Contains(string(text), basic("me", "hush")) || strings.Contains(string(text), "old")) {
			t.Errorf("%s: a password in the file: %s", tt.config, text)
		}
		if err := c.Logout(t.Context(), reg.host); err != nil {
			t.Error(err)
		}
		if text, _ := os.ReadFile(dir + "/log"); !strings.HasPrefix(string(text), tt.logged) || tt.logged == "" && len(text) > 0 {
			t.Errorf("%s: the helper heard %q", tt.config, text)
		}
	}
	c := newTestClient(t, Options{ConfigDir: filepath.Dir(writeFile(t, t.TempDir()+"/config.json", `{"credsStore":"bad"}`, 0o600))})
	if _, err := c.Login(t.Context(), reg.host, "me", "hush"); err == nil || !strings.Contains(err.Error(), "locked") || strings.Contains(err.Error(), "hush") {
		t.Errorf("a helper that does not work: %v", err)
	}
}

// TestLoginTogether: of many logins at once none is lost.
func TestLoginTogether(t *testing.T) {
	dir := t.TempDir()
	c := newTestClient(t, Options{ConfigDir: dir})
	t.Setenv("PATH", "")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := c.keepLogin(t.Context(), fmt.Sprintf("h%d.test", i), "me", "hush"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f, err := readLoginFile(dir + "/config.json")
	if err != nil || len(f.auths) != 20 {
		t.Errorf("%d logins, %v", len(f.auths), err)
	}
}
