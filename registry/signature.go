package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The two forms of a signature, as cosign writes them: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md and
// https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md.
const (
	// simpleSigning is a layer that is the signed payload; the signature is in an annotation of the layer.
	simpleSigning types.MediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	// sigstoreBundle is a layer with payload and signature.
	sigstoreBundle types.MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

	signatureAnnotation = "dev.cosignproject.cosign/signature"
	// signatureArtifact is the type of a manifest of simpleSigning layers that refers to the image.
	signatureArtifact = "application/vnd.dev.cosign.artifact.sig.v1+json"

	emptyArtifact = "application/vnd.oci.empty.v1+json"

	imageSignature = "cosign container image signature"
	inTotoType     = "application/vnd.in-toto+json"
	// signPredicate is the one predicate that says no more than that the key's owner signs the image. A statement of another
	// kind, "has these holes" for instance, is signed by the same key and is no consent.
	signPredicate       = "https://sigstore.dev/cosign/sign/v1"
	predicateAnnotation = "dev.sigstore.bundle.predicateType"

	// maxPayload and maxBundle bound what is read of one signature, in bytes: cosign's have some hundred, and some ten thousand.
	maxPayload = 64 << 10
	maxBundle  = 512 << 10
	// maxSubjects is for how many images one statement may be looked through, maxEnvelope how many signatures it may have.
	maxSubjects = 1000
	maxEnvelope = 16
)

// errOtherKey says that a signature is by no key that was asked for, or none at all.
var errOtherKey error = signatureProblem("there is one by another key")

// signatureProblem is an error that costs nothing before main.
type signatureProblem string

func (p signatureProblem) Error() string { return string(p) }

// claim is what a signature says that was found good: the key, and the digests of the images it is for.
type claim struct {
	key    Key
	images []string
}

// readSimple verifies a payload against the signature from its layer's annotation. What a payload says is looked at only
// once one of the keys has signed it. The name in it (docker-reference) does not count, as with cosign: an image stays what
// it is in another repository, and a bundle has no name.
func readSimple(payload []byte, signature string, keys []Key) (claim, error) {
	key, err := signer(payload, signature, keys)
	if err != nil {
		return claim{}, err
	}
	var p struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return claim{}, fmt.Errorf("its payload: %w", err)
	}
	if p.Critical.Type != imageSignature {
		return claim{}, fmt.Errorf("its payload is a %q, not a %q", p.Critical.Type, imageSignature)
	}
	return claim{key, []string{p.Critical.Image.Digest}}, nil
}

// bundle is a Sigstore bundle with an envelope, as far as a key pair needs it.
type bundle struct {
	Envelope *struct {
		Payload     string `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig string `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// readBundle verifies a bundle's envelope (https://github.com/secure-systems-lab/dsse) and reads the in-toto statement in it.
func readBundle(raw []byte, keys []Key) (claim, error) {
	var b bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return claim{}, fmt.Errorf("bundle: %w", err)
	}
	e := b.Envelope
	switch {
	case e == nil:
		return claim{}, errors.New("the bundle has no envelope")
	case e.PayloadType != inTotoType:
		return claim{}, fmt.Errorf("the bundle's payload is a %q, not a %q", e.PayloadType, inTotoType)
	case len(e.Signatures) > maxEnvelope:
		return claim{}, fmt.Errorf("the bundle has %d signatures, the limit is %d", len(e.Signatures), maxEnvelope)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return claim{}, fmt.Errorf("the bundle's payload: %w", err)
	}
	err = errOtherKey
	for _, s := range e.Signatures {
		var key Key
		if key, err = signer(envelopeText(e.PayloadType, payload), s.Sig, keys); err == nil {
			return readStatement(payload, key)
		}
	}
	return claim{}, err
}

// envelopeText is what an envelope's signature is of: DSSE's "pre-authentication encoding".
func envelopeText(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func readStatement(payload []byte, key Key) (claim, error) {
	var s struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return claim{}, fmt.Errorf("statement: %w", err)
	}
	if s.PredicateType != signPredicate {
		return claim{}, fmt.Errorf("it is a statement of the kind %q, not a signature", s.PredicateType)
	}
	if len(s.Subject) > maxSubjects {
		return claim{}, fmt.Errorf("it is for %d images, the limit is %d", len(s.Subject), maxSubjects)
	}
	c := claim{key: key}
	for _, image := range s.Subject {
		if sum := image.Digest["sha256"]; sum != "" {
			c.images = append(c.images, "sha256:"+sum)
		}
	}
	return c, nil
}

// signer finds the key that a signature, in base64, is by.
func signer(message []byte, signature string, keys []Key) (Key, error) {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return Key{}, fmt.Errorf("its signature: %w", err)
	}
	if n := slices.IndexFunc(keys, func(k Key) bool { return k.signed(message, sig) }); n >= 0 {
		return keys[n], nil
	}
	return Key{}, errOtherKey
}

// isSignature tells whether an entry of a layout's index.json is a signature, or something else about an image that cosign has
// put beside it, and no image.
func isSignature(d v1.Descriptor) bool {
	switch d.Annotations["kind"] {
	case "dev.cosignproject.cosign/sigs", "dev.cosignproject.cosign/atts":
		return true
	}
	return slices.Contains([]string{signatureArtifact, string(sigstoreBundle)}, d.ArtifactType) || slices.ContainsFunc(names(d), func(n string) bool {
		hex, kind, ok := cutSignatureTag(n)
		return ok && isHex(hex, 64) && slices.Contains([]string{"", "sig", "att", "sbom"}, kind)
	})
}
