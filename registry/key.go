package registry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hullrun/hull/internal/given"
)

const (
	// envPrefix before a key's name means an environment variable that holds the key, as cosign writes it.
	envPrefix = "env://"
	// maxKeySize is as much as a file with a public key may hold, in bytes. The largest that is accepted needs 3 kB.
	maxKeySize = 64 << 10
	// The sizes of RSA keys in bits: below, they are breakable; above, a signature takes a second to look at.
	minRSA, maxRSA = 2048, 16384
)

// Key is a public key by which images are signed. [ReadKey] makes valid ones.
type Key struct {
	// Name is what the caller called it: its file, or env://VARIABLE.
	Name string
	// Fingerprint is the SHA-256 of the key in its PKIX form, in hexadecimal.
	Fingerprint string
	public      crypto.PublicKey
}

// ReadKey reads a public key, as cosign generate-key-pair writes it (PEM of PKIX: ECDSA on P-256, P-384 or P-521, RSA, or
// Ed25519), from a file or from the environment variable VARIABLE of env://VARIABLE.
func ReadKey(name string) (Key, error) {
	text, err := readKeyText(name)
	if err == nil {
		var k Key
		if k, err = parseKey(text); err == nil {
			k.Name = name
			return k, nil
		}
	}
	return Key{}, fmt.Errorf("public key %q: %w", name, err)
}

func readKeyText(name string) ([]byte, error) {
	variable, isVariable := strings.CutPrefix(name, envPrefix)
	switch {
	case isVariable && os.Getenv(variable) == "":
		return nil, fmt.Errorf("the variable %s is not set", variable)
	case isVariable:
		return []byte(os.Getenv(variable)), nil
	case strings.Contains(name, "://"):
		return nil, errors.New("want a file or env://VARIABLE; a key that comes over the network is anybody's")
	}
	return given.ReadFile(name, maxKeySize)
}

func parseKey(text []byte) (Key, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return Key{}, errors.New("it is not PEM (-----BEGIN PUBLIC KEY-----)")
	case strings.Contains(block.Type, "PRIVATE"):
		return Key{}, errors.New("it is a private key\ncosign public-key --key FILE writes the public one of it")
	case block.Type != "PUBLIC KEY":
		return Key{}, fmt.Errorf("it is a %q, not a PUBLIC KEY", block.Type)
	case strings.TrimSpace(string(rest)) != "":
		return Key{}, errors.New("there is something behind the key; want one key in a file")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, err
	}
	if err := checkKey(public); err != nil {
		return Key{}, err
	}
	// Written anew, so that one key has one fingerprint.
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, err
	}
	sum := sha256.Sum256(der)
	return Key{Fingerprint: hex.EncodeToString(sum[:]), public: public}, nil
}

func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return errors.New("ECDSA on P-224: want P-256, P-384 or P-521")
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA of %d bits: want %d to %d", n, minRSA, maxRSA)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T: want ECDSA, RSA or Ed25519", public)
	}
	return nil
}

// signed tells whether sig is the key's signature of a message. cosign's key pairs sign SHA-256 sums; those of other tools, and
// newer versions for larger curves, the sum that belongs to the curve. Ed25519 signs the message or (Ed25519ph) its SHA-512.
func (k Key) signed(message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(public, sum[:], sig) {
			return true
		}
		switch public.Curve {
		case elliptic.P384():
			sum := sha512.Sum384(message)
			return ecdsa.VerifyASN1(public, sum[:], sig)
		case elliptic.P521():
			sum := sha512.Sum512(message)
			return ecdsa.VerifyASN1(public, sum[:], sig)
		}
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig) == nil || rsa.VerifyPSS(public, crypto.SHA256, sum[:], sig, nil) == nil
	case ed25519.PublicKey:
		long := sha512.Sum512(message)
		return ed25519.Verify(public, message, sig) || ed25519.VerifyWithOptions(public, long[:], sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}
