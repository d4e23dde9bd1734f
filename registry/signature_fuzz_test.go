package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/hullrun/hull/internal/signing"
)

// FuzzSignature: whatever a registry has in place of a signature is read or refused, and nothing counts but what the key has signed.
func FuzzSignature(f *testing.F) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)) // the same in every process of the fuzzer
	keys := []Key{publicKey(f, private)}
	image := "sha256:" + strings.Repeat("ab", 32)
	payload := signing.Payload("reg.test/x", image)
	other := []byte(`{"critical":{"type":"another signature"}}`)
	signed := [][]byte{payload, other, []byte("no JSON"), []byte("{}")}
	for _, p := range signed {
		f.Add(p, signing.Sign(private, p), false)
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	another := "sha256:" + strings.Repeat("cd", 32)
	f.Add(signing.Payload("reg.test/x", another), signing.Sign(private, payload), false)
	f.Add(signing.Payload("reg.test/x", another), signing.Sign(stranger, signing.Payload("reg.test/x", another)), false)
	f.Add(signing.Bundle(stranger, signing.Statement(signing.Predicate, another), signing.Descriptor{}, signing.Predicate).Blobs[1], "", true)
	f.Add(payload, "", false)
	f.Add(payload, "%", false)
	statement := signing.Statement(signing.Predicate, image)
	for _, s := range [][]byte{statement, signing.Statement("https://elsewhere.test", image), []byte("{"), []byte("null"),
		[]byte(`{"predicateType":"` + signing.Predicate + `","subject":[{},{"digest":null},{"digest":{"sha512":"x"}}]}`)} {
		f.Add(signing.Bundle(private, s, signing.Descriptor{}, signing.Predicate).Blobs[1], "", true)
	}
	for _, b := range []string{"", "null", `{"dsseEnvelope":null}`, `{"dsseEnvelope":{"payloadType":"` + inTotoType + `","signatures":[{},{"sig":"AA=="}]}}`} {
		f.Add([]byte(b), "", true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, signature string, isBundle bool) {
		if isBundle {
			c, err := readBundle(raw, keys)
			if err == nil && len(c.images) > 0 && !slices.Equal(c.images, []string{image}) {
				t.Errorf("%q is for %q", raw, c.images)
			}
			return
		}
		c, err := readSimple(raw, signature, keys)
		if err == nil && (!bytes.Equal(raw, payload) || !slices.Equal(c.images, []string{image})) {
			t.Errorf("%q with %q is for %q", raw, signature, c.images)
		}
	})
}

// FuzzKey: whatever is in a file is a key of a kind that is allowed, with one fingerprint, or none.
func FuzzKey(f *testing.F) {
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKey(text)
		if err != nil {
			return
		}
		if err := checkKey(k.public); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		der, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if err != nil || again.Fingerprint != k.Fingerprint {
			t.Errorf("%q: %s, then %s, %v", text, k.Fingerprint, again.Fingerprint, err)
		}
		k.signed([]byte("message"), []byte("no signature"))
	})
}
