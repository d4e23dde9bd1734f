package registry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hullrun/hull/internal/signing"
)

// signingKey makes a key pair on a curve, and reads its public half as a user names it.
func signingKey(t testing.TB, curve elliptic.Curve) (*ecdsa.PrivateKey, Key) {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private, publicKey(t, private)
}

func publicKey(t testing.TB, private crypto.Signer) Key {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := signing.WriteKey(file, private.Public()); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeys: each kind of key accepts its own signatures, in each form in which they are made, and no other's.
func TestKeys(t *testing.T) {
	message := []byte("message")
	type form struct {
		hash crypto.Hash
		opts crypto.SignerOpts
	}
	sum := map[crypto.Hash]func() []byte{
		0:             func() []byte { return message },
		crypto.SHA256: func() []byte { s := sha256.Sum256(message); return s[:] },
		crypto.SHA384: func() []byte { s := sha512.Sum384(message); return s[:] },
		crypto.SHA512: func() []byte { s := sha512.Sum512(message); return s[:] },
	}
	plain := func(h crypto.Hash) form { return form{h, h} }
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	for name, c := range map[string]struct {
		key   crypto.Signer
		forms []form
	}{
		"P-256":   {p256, []form{plain(crypto.SHA256)}},
		"P-384":   {p384, []form{plain(crypto.SHA256), plain(crypto.SHA384)}},
		"P-521":   {p521, []form{plain(crypto.SHA256), plain(crypto.SHA512)}},
		"RSA":     {rsaKey, []form{plain(crypto.SHA256), {crypto.SHA256, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}}}},
		"Ed25519": {edKey, []form{plain(0), {crypto.SHA512, &ed25519.Options{Hash: crypto.SHA512}}}},
	} {
		k := publicKey(t, c.key)
		for _, f := range c.forms {
			sig, err := c.key.Sign(rand.Reader, sum[f.hash](), f.opts)
			if err != nil {
				t.Fatal(name, err)
			}
			if !k.signed(message, sig) {
				t.Errorf("%s: its signature of %v is refused", name, f.hash)
			}
			for _, other := range []crypto.Signer{p256, p384, p521, rsaKey, edKey} {
				if o := publicKey(t, other); o.Fingerprint != k.Fingerprint && o.signed(message, sig) {
					t.Errorf("%s: its signature is taken for one by a %T", name, other)
				}
			}
			sig[len(sig)-1] ^= 1
			if k.signed(message, sig) || k.signed([]byte("massage"), sig) || k.signed(message, nil) {
				t.Errorf("%s: a signature that is not its own is accepted", name)
			}
		}
	}
}

func TestReadKey(t *testing.T) {
	private, good := signingKey(t, elliptic.P256())
	text, err := os.ReadFile(good.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("A_KEY", string(text))
	if k, err := ReadKey("env://A_KEY"); err != nil || k.Fingerprint != good.Fingerprint || k.Name != "env://A_KEY" {
		t.Errorf("%+v, %v", k, err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	secret, _ := x509.MarshalPKCS8PrivateKey(private)
	small, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	weak, _ := x509.MarshalPKIXPublicKey(small.Public())
	for content, want := range map[string]string{
		"":                           "not PEM",
		"hello":                      "not PEM",
		block("PRIVATE KEY", secret): "it is a private key\ncosign public-key",
		block("ENCRYPTED SIGSTORE PRIVATE KEY", secret): "it is a private key",
		block("CERTIFICATE", secret):                    `it is a "CERTIFICATE"`,
		block("PUBLIC KEY", []byte("no DER")):           "asn1",
		block("PUBLIC KEY", weak):                       "P-224",
		string(text) + string(text):                     "something behind the key",
		string(text) + strings.Repeat("\n", maxKeySize): "more than 65536 bytes",
	} {
		file := filepath.Join(t.TempDir(), "k.pub")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "k.pub") {
			t.Errorf("%.60q: %v, want %q", content, err, want)
		}
	}
	for name, want := range map[string]string{
		"/no/such.pub": "no such file", "env://NO_SUCH_KEY": "NO_SUCH_KEY is not set", "https://example.test/k.pub": "a file or env://", "/dev/zero": "more than",
	} {
		if _, err := ReadKey(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
