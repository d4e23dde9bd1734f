package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxLooks is how many manifests and signatures are looked at for one image. Who may push can put any number there.
	maxLooks = 256
	// maxReferrerPages bounds the list of what refers to an image.
	maxReferrerPages = 10
	// maxReasons is how many reasons against signatures an error gives.
	maxReasons = 3
)

// ErrUnsigned: no signature by a key that was asked for was found for the image, or none that is good.
var ErrUnsigned error = signatureProblem("not verified")

// signatureSource is a source that may have signatures beside an image.
type signatureSource interface {
	source
	// signatures gives the manifests that may hold signatures of an image, and what went wrong in finding them.
	signatures(ctx context.Context, image string) iter.Seq2[*document, error]
}

// Verify looks where an image came from, by [Client.Pull], [Open] or [OpenArchive], for a signature of it by one of keys. One of
// the index that it was chosen from will do: that names it by its digest. Nothing of the layers is read. It gives the key; the
// error matches [ErrUnsigned].
//
// Signatures are those of cosign's key pairs: the tag sha256-HEX.sig, and what refers to the image by OCI's referrers API or tag
// schema, as simple signing or as a Sigstore bundle. No certificate and no transparency log is asked.
func Verify(ctx context.Context, img v1.Image, keys []Key) (Key, error) {
	digest, err := img.Digest()
	if err != nil {
		return Key{}, err
	}
	images := []string{digest.String()}
	i, ok := img.(*image)
	if !ok {
		return Key{}, unsigned(images, keys, nil)
	}
	if i.top.Digest != digest {
		images = []string{i.top.Digest.String(), digest.String()}
	}
	src, ok := i.src.(signatureSource)
	if !ok {
		return Key{}, unsigned(images, keys, nil)
	}
	return verify(ctx, src, images, keys)
}

// Verify is [Verify] for an image that is here already, of which ref is a name and digest the manifest's. A signature of an index
// counts if ref stands for that, and for this image in it, still.
func (c *Client) Verify(ctx context.Context, ref Reference, digest string, platform *v1.Platform, keys []Key) (Key, error) {
	src := &remoteSource{c: c}
	for _, ep := range c.endpoints(ref) {
		src.sessions = append(src.sessions, c.session(ep, ref, transport.PullScope))
	}
	key, err := verify(ctx, src, []string{digest}, keys)
	if err == nil || ctx.Err() != nil {
		return key, err
	}
	img, pullErr := c.Pull(ctx, ref, platform)
	if pullErr != nil {
		return Key{}, err // it is about the signature; what is wrong with the registry is in it
	}
	if now, _ := img.Digest(); now.String() != digest {
		return Key{}, fmt.Errorf("%w; %s is another image at the registry by now\nhull pull brings that", err, ref.Familiar())
	}
	return Verify(ctx, img, keys)
}

func verify(ctx context.Context, src signatureSource, images []string, keys []Key) (Key, error) {
	v := &verifier{src: src, images: images, keys: keys, left: maxLooks}
	for _, image := range images {
		for doc, err := range src.signatures(ctx, image) {
			if v.left--; v.left < 0 {
				break
			}
			if err == nil {
				var key Key
				if key, err = v.manifest(ctx, doc); err == nil {
					return key, nil
				}
			}
			v.note(err)
		}
	}
	if v.left < 0 {
		v.note(fmt.Errorf("there are more than %d signatures", maxLooks))
	}
	return Key{}, unsigned(images, keys, v.reasons)
}

// verifier looks for one good signature.
type verifier struct {
	src     source
	images  []string // digests, one of which has to be signed
	keys    []Key
	left    int // how many manifests and signatures may still be looked at
	reasons []string

	// payload is the last that was read: signatures of one image mostly are of the same.
	payload []byte
	of      v1.Hash
}

// note keeps a reason for the error. That there is nothing at a place is none.
func (v *verifier) note(err error) {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, errNoSignature) {
		return
	}
	if text := (&oneLine{err}).Error(); !slices.Contains(v.reasons, text) && len(v.reasons) < maxReasons {
		v.reasons = append(v.reasons, text)
	}
}

// errNoSignature says that a manifest holds none.
var errNoSignature error = signatureProblem("no signature")

// manifest looks through the layers of a manifest. Its error is about the last of them.
func (v *verifier) manifest(ctx context.Context, doc *document) (Key, error) {
	last := errNoSignature
	if doc.image == nil {
		return Key{}, last
	}
	for _, l := range doc.image.Layers {
		if l.MediaType != simpleSigning && l.MediaType != sigstoreBundle {
			continue
		}
		if v.left--; v.left < 0 {
			return Key{}, last
		}
		c, err := v.layer(ctx, l)
		if err == nil && !slices.ContainsFunc(c.images, func(i string) bool { return slices.Contains(v.images, i) }) {
			err = fmt.Errorf("a signature by %s is for another image, %s", c.key.Name, strings.Join(c.images[:min(len(c.images), 2)], ", "))
		}
		if err == nil {
			return c.key, nil
		}
		v.note(last)
		last = err
	}
	return Key{}, last
}

// layer reads and verifies one signature.
func (v *verifier) layer(ctx context.Context, l v1.Descriptor) (claim, error) {
	limit := int64(maxPayload)
	if l.MediaType == sigstoreBundle {
		limit = maxBundle
	}
	if l.Size < 0 || l.Size > limit {
		return claim{}, fmt.Errorf("a signature has %d bytes, the limit is %d", l.Size, limit)
	}
	if v.payload == nil || v.of != l.Digest {
		content, err := readBlob(ctx, v.src, l)
		if err != nil {
			return claim{}, err
		}
		v.payload, v.of = content, l.Digest
	}
	if l.MediaType == sigstoreBundle {
		return readBundle(v.payload, v.keys)
	}
	return readSimple(v.payload, l.Annotations[signatureAnnotation], v.keys)
}

// unsigned is the error about an image without a good signature.
func unsigned(images []string, keys []Key, reasons []string) error {
	names := make([]string, len(keys))
	for n, k := range keys {
		names[n] = k.Name
	}
	text := fmt.Sprintf("no signature by %s for %s", strings.Join(names, " or "), images[0])
	if len(reasons) > 0 {
		text += " (" + strings.Join(reasons, "; ") + ")"
	}
	return problemf(ErrUnsigned, "%s", text)
}

// signatureTag is the tag that what belongs to an image has by cosign's or OCI's schema, without what comes behind the digest.
func signatureTag(image string) string { return strings.Replace(image, ":", "-", 1) }

// cutSignatureTag takes sha256-HEX.KIND apart.
func cutSignatureTag(tag string) (hex, kind string, ok bool) {
	tag, ok = strings.CutPrefix(tag, "sha256-")
	hex, kind, _ = strings.Cut(tag, ".")
	return hex, kind, ok
}

// signatures asks each endpoint in turn: a mirror may have an image without its signatures.
func (s *remoteSource) signatures(ctx context.Context, image string) iter.Seq2[*document, error] {
	return func(yield func(*document, error) bool) {
		for n := range s.sessions {
			at := &remoteSource{c: s.c, sessions: s.sessions[n:]}
			raw, mediaType, err := at.document(ctx, signatureTag(image)+".sig")
			var doc *document
			if err == nil {
				doc, err = parseDocument(raw, mediaType, "", 0)
			}
			if !yield(doc, explain(err)) {
				return
			}
			list, err := at.referrers(ctx, image)
			if err != nil && !yield(nil, explain(err)) {
				return
			}
			if !eachDocument(ctx, at, list, yield) {
				return
			}
		}
	}
}

// eachDocument fetches those that may be signatures.
func eachDocument(ctx context.Context, src source, list []v1.Descriptor, yield func(*document, error) bool) bool {
	for _, d := range list {
		if !mayBeSignature(d) {
			continue
		}
		if !yield(fetchDocument(ctx, src, d)) {
			return false
		}
	}
	return true
}

// mayBeSignature tells by its descriptor whether what refers to an image can be a signature. In the tag that takes the place of the
// API, cosign 2 gives a bundle's configuration type, which is that of no content.
func mayBeSignature(d v1.Descriptor) bool {
	kind := d.Annotations[predicateAnnotation]
	return slices.Contains([]string{"", signatureArtifact, string(sigstoreBundle), emptyArtifact}, d.ArtifactType) && (kind == "" || kind == signPredicate)
}

// referrers lists what refers to an image, by the API of the distribution specification 1.1, or where there is none by the tag
// that takes its place.
func (s *remoteSource) referrers(ctx context.Context, image string) (list []v1.Descriptor, err error) {
	query := url.Values{}
	for page := range maxReferrerPages {
		index, next, err := s.referrersPage(ctx, image, query)
		if err != nil && page == 0 {
			var mediaType string
			var raw []byte
			if raw, mediaType, err = s.document(ctx, signatureTag(image)); err != nil {
				return nil, err
			}
			index, err = parseDocument(raw, mediaType, "", 0)
		}
		if err != nil || index.index == nil {
			return list, err
		}
		list = append(list, index.index.Manifests...)
		if query = next; query == nil || len(list) > maxManifests {
			break
		}
	}
	return list, nil
}

func (s *remoteSource) referrersPage(ctx context.Context, image string, query url.Values) (*document, url.Values, error) {
	path := "referrers/" + image
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := s.sessions[0].do(ctx, http.MethodGet, path, http.Header{"Accept": {string(types.OCIImageIndex)}})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifestSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxManifestSize {
		return nil, nil, problemf(ErrUnsupported, "the list of what refers to %s has more than the %d bytes that are the limit", image, maxManifestSize)
	}
	doc, err := parseDocument(raw, resp.Header.Get("Content-Type"), "", 0)
	return doc, nextPage(resp.Header.Get("Link")), err
}

// signatures of a layout are manifests that its index.json names beside the image, whatever they are called.
func (l layout) signatures(ctx context.Context, _ string) iter.Seq2[*document, error] {
	return func(yield func(*document, error) bool) {
		index, err := readLayoutIndex(l.files)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, d := range index.index.Manifests {
			if !isSignature(d) {
				continue
			}
			doc, err := fetchDocument(ctx, l, d)
			switch {
			case err == nil && doc.index != nil:
				if !eachDocument(ctx, l, doc.index.Manifests, yield) {
					return
				}
			case !yield(doc, err):
				return
			}
		}
	}
}
