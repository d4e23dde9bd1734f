package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLogins: a file of logins, whatever is in it, is read or refused, and what it says of one registry is no other's.
func FuzzLogins(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"a.example":{"auth":"dTpw"},"https://index.docker.io/v1/":{"auth":"dTpw"}}}`, `{"auths":{"a.example/x":{"auth":"dTpw"},"":{"auth":"Og=="}}}`,
		`{"auths":null}`, `{`, ``, `[]`, `{"auths":{"a.example":{"auth":"%"}}}`, `{"auths":{"a.example":{"identitytoken":"t"}},"HttpHeaders":{"a":"b"}}`,
		`{"auths":{"https://a.example/v2":{"username":"u","password":"p"}},"credHelpers":{},"credsStore":""}`,
	} {
		f.Add([]byte(s))
	}
	name := filepath.Join(f.TempDir(), "config.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		cf, err := loadLogins(name)
		if err != nil {
			return
		}
		if cf.CredentialsStore != "" || len(cf.CredentialHelpers) > 0 {
			return // those are programs, and not to be run here
		}
		if _, err := New(Options{}).lookup(t.Context(), cf, "a.example", "x/y"); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if auth, err := New(Options{}).lookup(t.Context(), cf, "nowhere.invalid", "x"); err == nil && !bytes.Contains(text, []byte("nowhere")) && !bytes.Contains(text, []byte{'\\'}) && (auth.Password != "" || auth.IdentityToken != "") {
			t.Errorf("%q gives nowhere.invalid %+v", text, auth)
		}
	})
}
