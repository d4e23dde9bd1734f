package run

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hullrun/hull/internal/signing"
	"github.com/hullrun/hull/registry"
)

// TestPolicyRule: which entry of a policy counts for a name.
func TestPolicyRule(t *testing.T) {
	p := Policy{
		"*": {"reject"}, "docker.io": {"reject"}, "docker.io/library": {"/l"}, "docker.io/busybox": {"/b"}, "docker.io/bitnami": {"/n"},
		"REG.example": {"/r"}, "reg.example/team": {"/t"}, "reg.example/team/app": {"/a"}, "reg.example:5000/team": {"/5"}, "localhost": {"accept"},
	}
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"busybox": "docker.io/busybox", "busybox:1": "docker.io/busybox", "docker.io/library/busybox": "docker.io/busybox",
		"index.docker.io/library/busybox": "docker.io/busybox", "registry-1.docker.io/library/busybox": "docker.io/busybox",
		"DOCKER.IO/library/busybox": "docker.io/busybox", "docker.io:443/library/busybox": "docker.io/busybox",
		"busybox2": "docker.io/library", "library/x": "docker.io/library", "busybox/x": "docker.io/busybox",
		"bitnami/redis": "docker.io/bitnami", "bitnami2/redis": "docker.io", "libraryx/y": "docker.io",
		"reg.example/x": "REG.example", "REG.example:443/x": "REG.example", "reg.example/team": "reg.example/team", "reg.example/teams/x": "REG.example",
		"reg.example/team/app": "reg.example/team/app", "reg.example/team/app@sha256:" + strings.Repeat("1", 64): "reg.example/team/app",
		"reg.example/team/app2": "reg.example/team", "reg.example/team/app/x": "reg.example/team/app",
		"reg.example:5000/team/app": "reg.example:5000/team", "reg.example:5000/app": "*", "other.example/reg.example/team": "*", "localhost/x": "localhost",
	} {
		ref, err := registry.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.rule(ref); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := p.rule(registry.Reference{}); got != "*" {
		t.Errorf("no name: %q", got)
	}
	if got := (Policy{"docker.io": {"reject"}}).rule(registry.Reference{}); got != "" {
		t.Errorf("no name, no entry: %q", got)
	}
}

// TestPolicyWords: what may stand in a policy.
func TestPolicyWords(t *testing.T) {
	for text, want := range map[string]string{
		`{"docker.io": "reject", "*": "accept", "r.test/x": "/k.pub", "r.test/y/": ["/a.pub", "/b.pub"]}`: `"r.test/y/": want REGISTRY[/PATH]`,
		`{"docker.io": "reject", "*": "accept", "r.test/x": "/k.pub", "r.test/y": ["/a.pub", "/b.pub"]}`:  "",
		`{"docker.io": "rejekt"}`:                              `"docker.io": "rejekt": want "reject", "accept" or the absolute path`,
		`{"docker.io": "k.pub"}`:                               "the absolute path",
		`{"docker.io": "env://KEY"}`:                           "the absolute path",
		`{"docker.io": ["reject"]}`:                            "",
		`{"docker.io": ["/k.pub", "accept"]}`:                  `"accept": want`,
		`{"docker.io": []}`:                                    "want \"reject\"",
		`{"docker.io": null}`:                                  "want \"reject\"",
		`{"docker.io": {"key": "/k.pub"}}`:                     "want \"reject\"",
		`{"busybox": "reject"}`:                                `want REGISTRY[/PATH]: is "docker.io/busybox" meant?`,
		`{"library/busybox": "reject"}`:                        `is "docker.io/library/busybox" meant?`,
		`{"": "reject"}`:                                       "want REGISTRY[/PATH]",
		`{"docker.io/": "reject"}`:                             "want REGISTRY[/PATH]",
		`{"docker.io/x:1": "reject"}`:                          "without tag",
		`{"docker.io/x*": "reject"}`:                           "want REGISTRY[/PATH]",
		`{"docker.io/X": "reject"}`:                            "want REGISTRY[/PATH]",
		`{"docker.io": "reject", "index.docker.io": "accept"}`: `"docker.io" and "index.docker.io" mean the same`,
		`{"docker.io/busybox": "reject", "docker.io/library/busybox": "accept"}`: "mean the same",
		`{"r.test": "reject", "R.test:443": "accept"}`:                           "mean the same",
		`["reject"]`: "cannot unmarshal",
	} {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(`{"policy": `+text+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := (&Host{ConfigFile: file}).Settings()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestPoliciesAdd: no file takes back what another demands, be its entry as long as may be.
func TestPoliciesAdd(t *testing.T) {
	dir := t.TempDir()
	key := func(name string) string {
		file := filepath.Join(dir, name+".pub")
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err == nil {
			err = signing.WriteKey(file, private.Public())
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	a, b := key("a"), key("b")
	system := fmt.Sprintf(`{"policy": {"docker.io": "reject", "reg.test": %q, "free.test": "accept"}}`, a)
	for user, want := range map[string][]string{ // by name, the keys that are demanded, or "reject"
		`{}`: {"reject", a, "", ""},
		`{"policy": {"docker.io/library/busybox": "accept", "reg.test/team/app": "accept", "*": "accept"}}`:            {"reject", a, "", ""},
		fmt.Sprintf(`{"policy": {"docker.io/library/busybox": %[1]q, "reg.test/team": %[1]q, "free.test": %[1]q}}`, b): {"reject", a + " " + b, b, ""},
		`{"policy": {"*": "reject"}}`: {"reject", "reject", "reject", "reject"},
	} {
		var s Settings
		for _, text := range []string{system, user} {
			file := filepath.Join(dir, "config.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			more, err := readSettings(file)
			if err != nil {
				t.Fatal(err)
			}
			s.join(more)
		}
		for n, name := range []string{"busybox", "reg.test/team/app", "free.test/x", "other.test/x"} {
			ref, err := registry.ParseReference(name)
			if err != nil {
				t.Fatal(err)
			}
			all, err := s.demands(ref)
			got := ""
			for _, d := range all {
				got = strings.TrimSpace(got + " " + keyNames(d.keys))
			}
			if err != nil {
				got = "reject"
				if !strings.Contains(err.Error(), "policy rejects "+ref.String()+"\nit says so of ") {
					t.Errorf("%s: %v", name, err)
				}
			}
			if got != want[n] {
				t.Errorf("%s with %s: %q, want %q", name, user, got, want[n])
			}
		}
	}
}

// TestPolicyKeyGone: a key that cannot be read opens nothing.
func TestPolicyKeyGone(t *testing.T) {
	s := Settings{policies: []filedPolicy{{"/etc/x.json", Policy{"docker.io": {"/no/such.pub"}}}}}
	ref, err := registry.ParseReference("busybox")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.demands(ref); err == nil || !strings.Contains(err.Error(), `policy for "docker.io" in /etc/x.json: public key "/no/such.pub"`) {
		t.Errorf("%v, %v", all, err)
	}
}

// FuzzPolicy: a policy is read or refused whatever is in it, and then says one thing of a repository, however that is spelt.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		`{"*": "reject"}`, `{"docker.io": "accept", "docker.io/busybox": ["/a.pub", "/b.pub"], "docker.io/library": "reject"}`, `{"index.docker.io/busybox": "reject"}`,
		`{"reg.test:443/x": "reject", "REG.test": "/k"}`, `{"reg.test/x/": "reject"}`, `{"x": null}`, `{"": "reject"}`, `{"[::1]:5000/x": "accept"}`, `null`, `{`,
	} {
		f.Add(s, "busybox", "reg.test/x/y:1")
	}
	f.Fuzz(func(t *testing.T, text, one, two string) {
		var p Policy
		if json.Unmarshal([]byte(text), &p) != nil || p.check() != nil {
			return
		}
		for _, name := range []string{one, two, "docker.io/" + one} {
			ref, err := registry.ParseReference(name)
			if err != nil {
				continue
			}
			entry := p.rule(ref)
			if _, known := p[entry]; entry != "" && !known || entry == "" && p[policyAll] != nil {
				t.Errorf("%s of %q: entry %q", text, name, entry)
			}
			other := ref
			other.Domain = strings.ToUpper(ref.Domain)
			if policyHost(ref.Domain) == "docker.io" {
				other.Domain = "registry-1.docker.io:443"
			}
			for range 3 { // maps have no order
				if got := p.rule(other); got != entry {
					t.Errorf("%s: %q for %s, %q for %s", text, entry, ref, got, other)
				}
			}
		}
	})
}
