// Package signing signs images as cosign does with a key pair, for tests: what it writes is, field for field, what cosign 2
// and 3 push. It is not for signing anything else.
package signing

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// The media types, as the world knows them.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	emptyType    = "application/vnd.oci.empty.v1+json"
	SimpleType   = "application/vnd.dev.cosign.simplesigning.v1+json"
	BundleType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	ArtifactType = "application/vnd.dev.cosign.artifact.sig.v1+json"
	Annotation   = "dev.cosignproject.cosign/signature"
	Predicate    = "https://sigstore.dev/cosign/sign/v1"
)

// Descriptor describes a blob or a manifest.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Manifest is that of a signature.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Artifact is a manifest and the blobs that it names.
type Artifact struct {
	Manifest Manifest
	Blobs    [][]byte
}

// WriteKey writes a public key as PEM.
func WriteKey(file string, public crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

// Digest is the SHA-256 of content.
func Digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// Describe describes content.
func Describe(mediaType string, content []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: Digest(content), Size: len(content)}
}

// Sign signs a message, as base64: ECDSA and RSA sign its SHA-256, Ed25519 the message.
func Sign(key crypto.Signer, message []byte) string {
	sum := sha256.Sum256(message)
	toSign, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
	if _, ok := key.(ed25519.PrivateKey); ok {
		toSign, opts = message, crypto.Hash(0)
	}
	sig, err := key.Sign(rand.Reader, toSign, opts)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

// Payload is what is signed of an image in a repository, "simple signing".
func Payload(repository, digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		repository, digest)
}

// Simple is the signature of a payload, for the tag sha256-HEX.sig.
func Simple(key crypto.Signer, payload []byte) Artifact {
	d := Describe(SimpleType, payload)
	d.Annotations = map[string]string{Annotation: Sign(key, payload)}
	config := fmt.Appendf(nil, `{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":[%q]},"config":{}}`, d.Digest)
	m := Manifest{SchemaVersion: 2, MediaType: manifestType, Config: Describe("application/vnd.oci.image.config.v1+json", config), Layers: []Descriptor{d}}
	return Artifact{m, [][]byte{config, payload}}
}

// Refer makes a Simple signature one that refers to its image, as cosign's experimental OCI 1.1 mode does.
func (a Artifact) Refer(image Descriptor) Artifact {
	a.Manifest.Config.MediaType, a.Manifest.Subject = ArtifactType, &image
	return a
}

// Statement is an in-toto statement of some kind about an image.
func Statement(predicate, digest string) []byte {
	_, hex, _ := strings.Cut(digest, ":")
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, hex, predicate)
}

// Bundle is a statement's signature that refers to its image, as cosign 3 makes it.
func Bundle(key crypto.Signer, statement []byte, image Descriptor, predicate string) Artifact {
	const kind = "application/vnd.in-toto+json"
	sig := Sign(key, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement))
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]}}`,
		BundleType, base64.StdEncoding.EncodeToString(statement), kind, sig)
	empty := []byte("{}")
	m := Manifest{
		SchemaVersion: 2, MediaType: manifestType, ArtifactType: BundleType, Config: Describe(emptyType, empty), Layers: []Descriptor{Describe(BundleType, bundle)},
		Subject: &image, Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicate},
	}
	return Artifact{m, [][]byte{empty, bundle}}
}

// Push puts an artifact into a repository, http://HOST/v2/PATH, under a tag, or "" for its digest, and describes it.
func Push(repository, tag string, a Artifact) (Descriptor, error) {
	for _, b := range a.Blobs {
		if err := upload(repository, b); err != nil {
			return Descriptor{}, err
		}
	}
	raw, err := json.Marshal(a.Manifest)
	if err != nil {
		return Descriptor{}, err
	}
	d := Describe(manifestType, raw)
	d.ArtifactType = a.Manifest.Config.MediaType // so does cosign 2, though the manifest has a type of its own
	if tag == "" {
		tag = d.Digest
	}
	_, err = send(http.MethodPut, repository+"/manifests/"+tag, manifestType, raw)
	return d, err
}

// Tag lists what refers to an image under the tag that takes the place of the referrers API.
func Tag(repository, image string, list ...Descriptor) error {
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": list})
	if err != nil {
		return err
	}
	_, err = send(http.MethodPut, repository+"/manifests/"+strings.Replace(image, ":", "-", 1), indexType, raw)
	return err
}

// Head describes the manifest that a tag of a repository stands for.
func Head(repository, tag string) (Descriptor, error) {
	raw, err := send(http.MethodGet, repository+"/manifests/"+tag, "", nil)
	return Describe(manifestType, raw), err
}

func upload(repository string, content []byte) error {
	resp, err := http.Post(repository+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return fmt.Errorf("upload to %s: %s: %w", repository, resp.Status, err)
	}
	query := to.Query()
	query.Set("digest", Digest(content))
	to.RawQuery = query.Encode()
	_, err = send(http.MethodPut, to.String(), "application/octet-stream", content)
	return err
}

func send(method, url, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header["Accept"] = []string{manifestType, indexType, "application/vnd.docker.distribution.manifest.v2+json"}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, resp.Status, raw)
	}
	return raw, err
}
