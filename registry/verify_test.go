package registry

import (
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/hullrun/hull/internal/signing"
)

// subject is a descriptor as the signing package writes it.
func subject(d v1.Descriptor) signing.Descriptor {
	return signing.Descriptor{MediaType: string(d.MediaType), Digest: d.Digest.String(), Size: int(d.Size)}
}

func sigTag(d v1.Descriptor) string { return "sha256-" + d.Digest.Hex + ".sig" }

// TestVerify finds signatures in each place and form in which cosign leaves them, at registries with the referrers API and
// without, on the manifest and on the index it is chosen from.
func TestVerify(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	_, other := signingKey(t, elliptic.P256())
	forms := map[string]func(repo string, image v1.Descriptor, api bool) error{
		"tag": func(repo string, image v1.Descriptor, _ bool) error {
			_, err := signing.Push(repo, sigTag(image), signing.Simple(private, signing.Payload("elsewhere.test/x", image.Digest.String())))
			return err
		},
		"referrer": func(repo string, image v1.Descriptor, api bool) error {
			a := signing.Simple(private, signing.Payload("x", image.Digest.String())).Refer(subject(image))
			d, err := signing.Push(repo, "", a)
			if err == nil && !api {
				err = signing.Tag(repo, image.Digest.String(), d)
			}
			return err
		},
		"bundle": func(repo string, image v1.Descriptor, api bool) error {
			a := signing.Bundle(private, signing.Statement(signing.Predicate, image.Digest.String()), subject(image), signing.Predicate)
			d, err := signing.Push(repo, "", a)
			if err == nil && !api {
				err = signing.Tag(repo, image.Digest.String(), d)
			}
			return err
		},
	}
	for _, api := range []bool{false, true} {
		reg := newRegistry(t)
		if api {
			reg = hullRegistry(t)
		}
		for form, sign := range forms {
			for _, onIndex := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s api=%v index=%v", form, api, onIndex), func(t *testing.T) {
					c := newTestClient(t, Options{})
					repo := fmt.Sprintf("team/%s-%v", form, onIndex)
					ref, base := reg.ref(t, repo+":1"), reg.URL+"/v2/"+repo
					manifest, index := putPlatforms(t, reg, repo, "1")
					img, err := c.Pull(t.Context(), ref, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := Verify(t.Context(), img, []Key{key}); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "no signature by "+key.Name+" for "+index.Digest.String()) {
						t.Fatalf("unsigned: %v", err)
					}
					image := manifest
					if onIndex {
						image = index
					}
					if err := sign(base, image, api); err != nil {
						t.Fatal(err)
					}
					if got, err := Verify(t.Context(), img, []Key{other, key}); err != nil || got.Fingerprint != key.Fingerprint {
						t.Errorf("%v, %v", got.Name, err)
					}
					if _, err := Verify(t.Context(), img, []Key{other}); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "there is one by another key") {
						t.Errorf("another key: %v", err)
					}
					// The image alone, as the store knows it.
					if _, err := c.Verify(t.Context(), ref, manifest.Digest.String(), nil, []Key{key}); err != nil {
						t.Errorf("by the manifest's digest: %v", err)
					}
				})
			}
		}
	}
}

// hullRegistry is hull's own, which has the referrers API.
func hullRegistry(t testing.TB) *testRegistry {
	t.Helper()
	host, _ := start(t, &Server{Dir: t.TempDir()})
	server := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}))
	t.Cleanup(server.Close)
	return &testRegistry{Server: server, host: strings.TrimPrefix(server.URL, "http://")}
}

// putPlatforms puts an index of an image for this machine and one for another at a registry.
func putPlatforms(t testing.TB, r *testRegistry, repo, tag string) (here, index v1.Descriptor) {
	t.Helper()
	here = makeImage(t, hostHere(), 300).put(t, r, repo, "")
	p := hostPlatform()
	here.Platform = &p
	there := makeImage(t, "linux/s390x", 200).put(t, r, repo, "")
	there.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	return here, r.putDocument(t, repo, tag, types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{here, there}})
}

// TestVerifyLies: what is no signature of this image by this key, whoever put it where a signature belongs.
func TestVerifyLies(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	_, another384 := signingKey(t, elliptic.P384())
	stranger, _ := signingKey(t, elliptic.P256())
	reg := newRegistry(t)
	c := newTestClient(t, Options{})
	another := makeImage(t, hostHere(), 77).put(t, reg, "x/another", "1").Digest.String()
	simple := func(d string) signing.Artifact { return signing.Simple(private, signing.Payload("x", d)) }
	bend := func(a signing.Artifact, how func(*signing.Descriptor)) signing.Artifact {
		how(&a.Manifest.Layers[0])
		return a
	}
	n := 0
	for name, row := range map[string]struct {
		lie  func(image v1.Descriptor) signing.Artifact
		want string
	}{
		"good": {func(i v1.Descriptor) signing.Artifact { return simple(i.Digest.String()) }, ""},
		"signature for another image": {func(v1.Descriptor) signing.Artifact { return simple(another) },
			"a signature by " + key.Name + " is for another image, " + another},
		"by another key": {func(i v1.Descriptor) signing.Artifact {
			return signing.Simple(stranger, signing.Payload("x", i.Digest.String()))
		}, "there is one by another key"},
		"truncated base64": {func(i v1.Descriptor) signing.Artifact {
			return bend(simple(i.Digest.String()), func(d *signing.Descriptor) {
				d.Annotations[signing.Annotation] = d.Annotations[signing.Annotation][:21]
			})
		}, "illegal base64 data"},
		"no annotation": {func(i v1.Descriptor) signing.Artifact {
			return bend(simple(i.Digest.String()), func(d *signing.Descriptor) { d.Annotations = nil })
		}, "there is one by another key"},
		"payload swapped under its signature": {func(i v1.Descriptor) signing.Artifact {
			a := simple(i.Digest.String())
			a.Manifest.Layers[0].Annotations[signing.Annotation] = signing.Sign(private, signing.Payload("x", another))
			return a
		}, "there is one by another key"},
		"payload is no JSON": {func(v1.Descriptor) signing.Artifact { return signing.Simple(private, []byte("sha256:")) }, "its payload: "},
		"not an image's payload": {func(i v1.Descriptor) signing.Artifact {
			return signing.Simple(private, []byte(strings.Replace(string(signing.Payload("x", i.Digest.String())), "cosign container", "atomic container", 1)))
		}, `its payload is a "atomic container`},
		"huge payload": {func(i v1.Descriptor) signing.Artifact {
			return signing.Simple(private, append(signing.Payload("x", i.Digest.String()), make([]byte, maxPayload)...))
		}, "bytes, the limit is 65536"},
		"size below zero": {func(i v1.Descriptor) signing.Artifact {
			return bend(simple(i.Digest.String()), func(d *signing.Descriptor) { d.Size = -2 })
		}, "-2 bytes"},
		"payload shorter than said": {func(i v1.Descriptor) signing.Artifact {
			return bend(simple(i.Digest.String()), func(d *signing.Descriptor) { d.Size++ })
		}, "wrong content"},
		"10,000 layers": {func(i v1.Descriptor) signing.Artifact {
			a := signing.Simple(stranger, signing.Payload("x", i.Digest.String()))
			for range 9_999 {
				a.Manifest.Layers = append(a.Manifest.Layers, a.Manifest.Layers[0])
			}
			return a
		}, "it has 10000 layers, the limit is 128"},
		"only an attestation": {func(i v1.Descriptor) signing.Artifact {
			const kind = "https://cosign.sigstore.dev/attestation/vuln/v1"
			return signing.Bundle(private, signing.Statement(kind, i.Digest.String()), subject(i), kind)
		}, "a statement of the kind"},
		"an attestation that its manifest calls a signature": {func(i v1.Descriptor) signing.Artifact {
			return signing.Bundle(private, signing.Statement("https://slsa.dev/provenance/v1", i.Digest.String()), subject(i), signing.Predicate)
		}, `a statement of the kind "https://slsa.dev/provenance/v1"`},
		"a bundle for another image": {func(i v1.Descriptor) signing.Artifact {
			return signing.Bundle(private, signing.Statement(signing.Predicate, another), subject(i), signing.Predicate)
		}, "is for another image"},
		"a bundle by another key": {func(i v1.Descriptor) signing.Artifact {
			return signing.Bundle(stranger, signing.Statement(signing.Predicate, i.Digest.String()), subject(i), signing.Predicate)
		}, "there is one by another key"},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			repo := fmt.Sprint("x/", n)
			image := makeImage(t, hostHere(), 100+n).put(t, reg, repo, "1")
			if _, err := signing.Push(reg.URL+"/v2/"+repo, sigTag(image), row.lie(image)); err != nil {
				t.Fatal(err)
			}
			img, err := c.Pull(t.Context(), reg.ref(t, repo+":1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			reg.guard(nil)
			_, err = Verify(t.Context(), img, []Key{another384, key})
			if row.want == "" && err != nil || row.want != "" && (!errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v, want %q", err, row.want)
			}
			if n := reg.count("GET"); n > 8 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestVerifyBounded: who may push can put any number of signatures beside an image, in any form, and costs hull no more than
// some hundred requests.
func TestVerifyBounded(t *testing.T) {
	_, key := signingKey(t, elliptic.P256())
	stranger, _ := signingKey(t, elliptic.P256())
	reg := newRegistry(t)
	c := newTestClient(t, Options{})
	image := makeImage(t, hostHere(), 100).put(t, reg, "x", "1")
	img, err := c.Pull(t.Context(), reg.ref(t, "x:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	bundle := signing.Bundle(stranger, signing.Statement(signing.Predicate, image.Digest.String()), subject(image), signing.Predicate)
	pages := 0
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			pages++
			var list []v1.Descriptor
			for n := range 300 {
				list = append(list, v1.Descriptor{MediaType: types.OCIManifestSchema1, ArtifactType: signing.BundleType, Size: 10,
					Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", pages*1000+n)}})
			}
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			w.Header().Set("Link", `</v2/x/referrers/y?last=1>; rel="next"`)
			_ = json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
		case strings.HasSuffix(r.URL.Path, ".sig"):
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			m := bundle.Manifest
			for n := range 100 {
				d := m.Layers[0]
				d.Digest = fmt.Sprintf("sha256:%064x", n)
				m.Layers = append(m.Layers, d)
			}
			_ = json.NewEncoder(w).Encode(m)
		default:
			return false
		}
		return true
	})
	_, err = Verify(t.Context(), img, []Key{key})
	if !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "there are more than 256 signatures") {
		t.Errorf("%v", err)
	}
	if n := reg.count(""); n > maxLooks+maxReferrerPages+10 || pages != maxReferrerPages {
		t.Errorf("%d requests, %d pages", n, pages)
	}
}

// TestVerifyTroubles: what is wrong with the registry is no verdict about the signature, and is told.
func TestVerifyTroubles(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	reg := newRegistry(t)
	c := newTestClient(t, Options{})
	image := makeImage(t, hostHere(), 100).put(t, reg, "x", "1")
	img, err := c.Pull(t.Context(), reg.ref(t, "x:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(part string, status int) {
		reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, part) {
				http.Error(w, "sorry", status)
				return true
			}
			return false
		})
	}
	fail(".sig", http.StatusServiceUnavailable)
	if _, err := Verify(t.Context(), img, []Key{key}); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	fail("/referrers/", http.StatusBadRequest)
	d, err := signing.Push(reg.URL+"/v2/x", "", signing.Bundle(private, signing.Statement(signing.Predicate, image.Digest.String()), subject(image), signing.Predicate))
	if err == nil {
		err = signing.Tag(reg.URL+"/v2/x", image.Digest.String(), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), img, []Key{key}); err != nil {
		t.Errorf("a registry that has no such API: %v", err)
	}
}

// TestVerifyMirror: the signature may be at the registry alone, and a mirror's lie does not hide it.
func TestVerifyMirror(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	stranger, _ := signingKey(t, elliptic.P256())
	mirror, origin := newRegistry(t), newRegistry(t)
	c := newTestClient(t, Options{Mirrors: map[string][]string{origin.host: {"http://" + mirror.host}}})
	image := makeImage(t, hostHere(), 100)
	image.put(t, origin, "x", "1")
	d := image.put(t, mirror, "x", "1")
	img, err := c.Pull(t.Context(), origin.ref(t, "x:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Push(mirror.URL+"/v2/x", sigTag(d), signing.Simple(stranger, signing.Payload("x", d.Digest.String()))); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), img, []Key{key}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("%v", err)
	}
	if _, err := signing.Push(origin.URL+"/v2/x", sigTag(d), signing.Simple(private, signing.Payload("x", d.Digest.String()))); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), img, []Key{key}); err != nil {
		t.Errorf("%v", err)
	}
}

// TestVerifyMoved: a tag that moves between its resolution and the look at signatures gives neither image the other's.
func TestVerifyMoved(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	reg := newRegistry(t)
	c := newTestClient(t, Options{})
	good := makeImage(t, hostHere(), 100).put(t, reg, "x", "good")
	bad := makeImage(t, hostHere(), 200).put(t, reg, "x", "1")
	if _, err := signing.Push(reg.URL+"/v2/x", sigTag(good), signing.Simple(private, signing.Payload("x", good.Digest.String()))); err != nil {
		t.Fatal(err)
	}
	img, err := c.Pull(t.Context(), reg.ref(t, "x:1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	makeImage(t, hostHere(), 100).put(t, reg, "x", "1") // the signed one, from now on
	if _, err := Verify(t.Context(), img, []Key{key}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("the image that was resolved: %v", err)
	}
	_, err = c.Verify(t.Context(), reg.ref(t, "x:1"), bad.Digest.String(), nil, []Key{key})
	if !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "is another image at the registry by now\nhull pull") {
		t.Errorf("the image in the store: %v", err)
	}
}

// TestVerifyLayout: signatures that a layout has beside its image, by cosign save's marks or by their tag.
func TestVerifyLayout(t *testing.T) {
	private, key := signingKey(t, elliptic.P256())
	for name, row := range map[string]struct {
		mark func(*v1.Descriptor, string)
		sign bool
	}{
		"cosign save": {func(d *v1.Descriptor, _ string) {
			d.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/sigs"}
		}, true},
		"tag": {func(d *v1.Descriptor, hex string) {
			d.Annotations = map[string]string{refNameAnnotation: "sha256-" + hex + ".sig"}
		}, true},
		"artifactType": {func(d *v1.Descriptor, _ string) { d.ArtifactType = signatureArtifact }, true},
		"unsigned":     {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t, filepath.Join(t.TempDir(), "l"))
			l.add(t, makeImage(t, hostHere(), 100), "team/app:1", nil)
			digest := l.index.Manifests[0].Digest
			if row.sign {
				a := signing.Simple(private, signing.Payload("x", digest.String()))
				for _, b := range a.Blobs {
					l.blob(t, "", b)
				}
				raw, err := json.Marshal(a.Manifest)
				if err != nil {
					t.Fatal(err)
				}
				d := l.blob(t, types.OCIManifestSchema1, raw)
				row.mark(&d, digest.Hex)
				l.index.Manifests = append(l.index.Manifests, d)
			}
			l.write(t)
			img, ref, done, err := Open("oci:"+l.dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			if _, err := Verify(t.Context(), img, []Key{key}); (err == nil) != row.sign || ref != "docker.io/team/app:1" {
				t.Errorf("%s: %v", ref, err)
			}
		})
	}
}
