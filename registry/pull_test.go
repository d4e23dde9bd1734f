package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestPull(t *testing.T) {
	reg := newRegistry(t)
	want := makeImage(t, hostHere(), 10, 600_000, 0)
	desc := want.put(t, reg, "library/x", "v1")
	c := newTestClient(t, Options{})
	reg.guard(nil)

	img, err := c.Pull(t.Context(), reg.ref(t, "library/x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := reg.count(""); n != 2 {
		t.Errorf("%d requests for manifest and configuration on loopback: %v", n, reg.log)
	}
	if d, err := partial.Descriptor(img); err != nil || d.Digest != desc.Digest {
		t.Errorf("digest %v, %v, want %v", d, err, desc.Digest)
	}
	if top, err := Named(img); err != nil || top.Digest != desc.Digest {
		t.Errorf("Named = %v, %v", top, err)
	}
	if _, err := img.LayerByDigest(want.manifest.Config.Digest); err != nil {
		t.Errorf("the configuration is no layer: %v", err)
	}
	got, err := pulled(t.Context(), c, reg.ref(t, "library/x:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, want)

	gzipped, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Push(t.Context(), reg.ref(t, "random"), gzipped, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if img, err = c.Pull(t.Context(), reg.ref(t, "random"), nil); err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("not a consistent v1.Image: %v", err)
	}

	byDigest := reg.ref(t, "library/x@"+desc.Digest.String())
	if got, err = pulled(t.Context(), c, byDigest); err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, want)
	if d, err := c.Head(t.Context(), byDigest); err != nil || d.Digest != desc.Digest {
		t.Errorf("Head = %v, %v", d, err)
	}
}

// TestPlatforms chooses from an index as registries have them: several variants, attestations, an artifact, an index
// inside.
func TestPlatforms(t *testing.T) {
	reg := newRegistry(t)
	entry := func(platform string, n int) v1.Descriptor {
		d := makeImage(t, platform, n).put(t, reg, "x", "")
		d.Platform, _ = v1.ParsePlatform(platform)
		return d
	}
	amd, arm6, arm7, arm64 := entry("linux/amd64", 1), entry("linux/arm/v6", 2), entry("linux/arm/v7", 3), entry("linux/arm64/v8", 4)
	attestation := entry("unknown/unknown", 5)
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	statement := makeImage(t, "unknown/unknown", 8).put(t, reg, "x", "") // one that only its annotation marks
	statement.Annotations = attestation.Annotations
	inner := reg.putDocument(t, "x", "", types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{entry("linux/s390x", 6)}})
	bare := entry("linux/riscv64", 7)
	bare.Platform = nil
	reg.putDocument(t, "x", "v1", types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{attestation, statement, arm6, arm64, amd, arm7, inner, bare}})
	c := newTestClient(t, Options{})
	ref := reg.ref(t, "x:v1")

	for platform, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm/v7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/arm": "linux/arm/v7",
		"linux/arm/v8": "linux/arm/v7", "linux/arm64": "linux/arm64/v8", "linux/amd64/v3": "linux/amd64", "linux/s390x": "linux/s390x", "linux/riscv64": "linux/riscv64",
	} {
		p, err := ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		img, err := c.Pull(t.Context(), ref, p)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		cfg, _ := img.ConfigFile()
		if got := cfg.Platform().String(); got != want {
			t.Errorf("%s: got %s, want %s", platform, got, want)
		}
		digest, _ := img.Digest()
		if d, err := c.Resolve(t.Context(), ref, p); err != nil || d.Digest != digest {
			t.Errorf("%s: Resolve = %v, %v, Pull has %v", platform, d.Digest, err, digest)
		}
	}

	named, all, err := c.Platforms(t.Context(), ref)
	if err != nil || len(all) != 6 {
		t.Errorf("Platforms = %v, %v", all, err)
	}
	for platform, digest := range all { // each is the one that a pull takes
		p, _ := ParsePlatform(platform)
		d, err := c.Resolve(t.Context(), ref, p)
		if err != nil || d.Digest.String() != digest {
			t.Errorf("%s: Platforms has %s, Resolve %v, %v", platform, digest, d.Digest, err)
		}
	}

	top, err := c.Head(t.Context(), ref)
	if top.Digest != named.Digest {
		t.Errorf("Head = %v, Platforms has %v", top.Digest, named.Digest)
	}
	img, _ := c.Pull(t.Context(), ref, &v1.Platform{OS: "linux", Architecture: "amd64"})
	if named, _ := Named(img); err != nil || named.Digest != top.Digest || top.MediaType != types.OCIImageIndex {
		t.Errorf("Head = %v, %v; Named = %v", top, err, named)
	}

	_, err = c.Pull(t.Context(), ref, &v1.Platform{OS: "linux", Architecture: "mips"})
	if !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), "linux/mips; there is linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64, linux/riscv64, linux/s390x") || strings.Contains(err.Error(), "unknown") {
		t.Errorf("error for a missing platform: %v", err)
	}
	for _, never := range []*v1.Platform{{OS: "unknown", Architecture: "unknown"}, {}} {
		if _, err := c.Pull(t.Context(), ref, never); !errors.Is(err, ErrNoPlatform) {
			t.Errorf("platform %q: %v", never, err)
		}
	}
	if runtime.GOARCH == "amd64" {
		if img, err := c.Pull(t.Context(), ref, nil); err != nil {
			t.Errorf("the machine's own platform: %v", err)
		} else if cfg, _ := img.ConfigFile(); cfg.Architecture != "amd64" {
			t.Errorf("the machine's own platform: %s", cfg.Architecture)
		}
	}
}

// TestRefused lists what is refused before a layer is fetched, and how it is said.
func TestRefused(t *testing.T) {
	const foreign, plugin = types.DockerForeignLayer, types.DockerPluginConfig
	bend := func(f func(*testImage)) func(*testing.T, *testRegistry) {
		return func(t *testing.T, reg *testRegistry) {
			img := makeImage(t, hostHere(), 100)
			f(img)
			img.put(t, reg, "x", "v1")
		}
	}
	raw := func(mediaType types.MediaType, text string) func(*testing.T, *testRegistry) {
		return func(t *testing.T, reg *testRegistry) { reg.putDocument(t, "x", "v1", mediaType, []byte(text)) }
	}
	for _, tt := range []struct {
		name string
		put  func(*testing.T, *testRegistry)
		kind error
		text string
	}{
		{"foreign layer", bend(func(i *testImage) { i.manifest.Layers[0].MediaType = foreign }), ErrUnsupported, "foreign (nondistributable) layer"},
		{"unknown layer", bend(func(i *testImage) { i.manifest.Layers[0].MediaType = "application/x-cake" }), ErrUnsupported, `unknown media type "application/x-cake"`},
		{"encrypted layer", bend(func(i *testImage) { i.manifest.Layers[0].MediaType = types.OCILayer + "+encrypted" }), ErrUnsupported, "encrypted"},
		{"negative size", bend(func(i *testImage) { i.manifest.Layers[0].Size = -1 }), ErrCorrupt, "-1 bytes"},
		{"artifact", bend(func(i *testImage) { i.manifest.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), ErrUnsupported, "artifact of type"},
		{"plugin", bend(func(i *testImage) { i.manifest.Config.MediaType = plugin }), ErrUnsupported, "plugin"},
		{"huge config", bend(func(i *testImage) { i.manifest.Config.Size = maxConfigSize + 1 }), ErrUnsupported, "the limit is 8388608"},
		{"config size", bend(func(i *testImage) { i.manifest.Config.Size++ }), ErrCorrupt, "the registry has"},
		{"config digest", bend(func(i *testImage) { i.manifest.Config.Digest.Hex = digestA[7:] }), ErrNotFound, "BLOB_UNKNOWN"},
		{"config not JSON", func(t *testing.T, reg *testRegistry) {
			img := makeImage(t, hostHere(), 100)
			img.config = []byte("<html>")
			img.manifest.Config = describe(types.OCIConfigJSON, img.config)
			img.put(t, reg, "x", "v1")
		}, ErrCorrupt, "configuration sha256:"},
		{"diff IDs missing", func(t *testing.T, reg *testRegistry) {
			img := makeImage(t, hostHere(), 100)
			img.config = []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`)
			img.manifest.Config = describe(types.OCIConfigJSON, img.config)
			img.put(t, reg, "x", "v1")
		}, ErrCorrupt, "0 diff IDs for 1 layers"},
		{"schema 1", raw(types.DockerManifestSchema1Signed, `{"schemaVersion":1,"name":"x","tag":"v1","fsLayers":[]}`), ErrUnsupported, "schema 1"},
		{"other JSON", raw("application/vnd.cake+json", `{"schemaVersion":2,"cake":true}`), ErrUnsupported, `"application/vnd.cake+json" is no image and no index`},
		{"login page", raw("text/html", "<html>"), ErrCorrupt, "not JSON"},
		{"both", raw(types.OCIManifestSchema1, `{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`), ErrUnsupported, "neither clearly"},
		{"index as image", raw(types.OCIManifestSchema1, `{"schemaVersion":2,"mediaType":"`+string(types.OCIImageIndex)+`","manifests":[]}`), ErrCorrupt, "does not fit"},
		{"empty index", raw(types.OCIImageIndex, `{"schemaVersion":2,"manifests":[]}`), ErrNoPlatform, "no image at all"},
		{"bad digest in it", raw(types.OCIImageIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"`+string(types.OCIManifestSchema1)+`","digest":"sha256:../../x","size":1}]}`), ErrCorrupt, "sha256"},
		{"nothing", func(*testing.T, *testRegistry) {}, ErrNotFound, "NAME_UNKNOWN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newRegistry(t)
			if strings.HasPrefix(tt.name, "bad digest") {
				reg.guard(serveDocument(types.OCIImageIndex, []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}`)))
			} else {
				tt.put(t, reg)
			}
			_, err := newTestClient(t, Options{}).Pull(t.Context(), reg.ref(t, "x:v1"), nil)
			if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Fatalf("got %v\nwant %v … %s", err, tt.kind, tt.text)
			}
			if want := fmt.Sprintf("pull %q: ", reg.host+"/x:v1"); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q does not begin with %s", err, want)
			}
			if reg.count("GET /v2/x/blobs") > 1 {
				t.Errorf("a layer was fetched: %v", reg.log)
			}
		})
	}
}

// serveDocument answers every request for a manifest with the same bytes, whatever digest was asked for.
func serveDocument(mediaType types.MediaType, raw []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", string(mediaType))
		w.Write(raw)
		return true
	}
}

// TestNesting builds indexes in indexes. A digest cannot contain itself, so one that says so is a lie about a digest.
func TestNesting(t *testing.T) {
	reg := newRegistry(t)
	inner := makeImage(t, "linux/amd64", 1).put(t, reg, "x", "")
	var depth [8]v1.Descriptor
	for i := range depth {
		inner = reg.putDocument(t, "x", fmt.Sprint("depth", i+1), types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{inner}})
	}
	c := newTestClient(t, Options{})
	amd64 := &v1.Platform{OS: "linux", Architecture: "amd64"}
	if _, err := c.Pull(t.Context(), reg.ref(t, "x:depth4"), amd64); err != nil {
		t.Errorf("four indexes: %v", err)
	}
	_, err := c.Pull(t.Context(), reg.ref(t, "x:depth5"), amd64)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "more than 4 deep") {
		t.Errorf("five indexes: %v", err)
	}
	self, _ := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{MediaType: types.OCIImageIndex, Size: 5, Digest: v1.Hash{Algorithm: "sha256", Hex: digestA[7:]}}}})
	reg.guard(serveDocument(types.OCIImageIndex, self))
	if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), amd64); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an index that lies about its part: %v", err)
	}

	// Were a digest ever to contain itself, it would be noticed, not followed.
	doc, err := parseDocument(self, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	ch := &chooser{want: *amd64, seen: []v1.Hash{doc.desc.Digest}}
	if _, err := ch.pick(t.Context(), doc); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "contains itself") {
		t.Errorf("an index in itself: %v", err)
	}
}

// TestLies has the registry say one thing and send another.
func TestLies(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 50_000)
	desc := img.put(t, reg, "x", "v1")
	other, _ := json.Marshal(makeImage(t, hostHere(), 7).manifest)
	layer := "/v2/x/blobs/" + img.manifest.Layers[0].Digest.String()
	config := "/v2/x/blobs/" + img.manifest.Config.Digest.String()
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }
	send := func(path string, body []byte, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path || r.Method != http.MethodGet {
				return false
			}
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.Write(body)
			return true
		}
	}
	mediaType := string(types.OCIManifestSchema1)
	for _, tt := range []struct {
		name, ref string
		door      func(http.ResponseWriter, *http.Request) bool
		kind      error
		text      string
	}{
		{"manifest by digest", "x@" + desc.Digest.String(), send("/v2/x/manifests/"+desc.Digest.String(), other, "Content-Type", mediaType), ErrCorrupt, "has the digest"},
		{"digest header", "x:v1", send("/v2/x/manifests/v1", other, "Content-Type", mediaType, "Docker-Content-Digest", desc.Digest.String()), ErrCorrupt, "the registry says that it is"},
		{"huge manifest", "x:v1", send("/v2/x/manifests/v1", make([]byte, maxManifestSize+1), "Content-Type", mediaType), ErrUnsupported, "more than the 4194304 bytes"},
		{"config", "x:v1", send(config, flip(img.config)), ErrCorrupt, "has the digest sha256:"},
		{"layer", "x:v1", send(layer, flip(img.layers[0])), ErrCorrupt, "has the digest sha256:"},
		{"short layer", "x:v1", send(layer, img.layers[0][:1000]), ErrCorrupt, "the registry has 1000 bytes"},
		{"long layer", "x:v1", send(layer, append(bytes.Clone(img.layers[0]), 0), "Content-Length", fmt.Sprint(len(img.layers[0])+1)), ErrCorrupt, "the registry has"},
		{"long layer of unknown length", "x:v1", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != layer {
				return false
			}
			w.(http.Flusher).Flush() // no Content-Length
			w.Write(img.layers[0])
			w.Write([]byte("more"))
			return true
		}, ErrCorrupt, "has more than the"},
		{"layer is gone", "x:v1", send(layer, nil, "X", "Y"), ErrCorrupt, "the registry has 0 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg.guard(tt.door)
			_, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, tt.ref))
			if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Fatalf("got %v\nwant %v … %s", err, tt.kind, tt.text)
			}
		})
	}
}

// TestHeadFallsBack asks registries that answer HEAD with nothing of use.
func TestHeadFallsBack(t *testing.T) {
	reg := newRegistry(t)
	desc := makeImage(t, hostHere(), 1).put(t, reg, "x", "v1")
	for name, door := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"not allowed": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		},
		"no digest": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			}
			return r.Method == http.MethodHead
		},
	} {
		reg.guard(door)
		if d, err := newTestClient(t, Options{}).Head(t.Context(), reg.ref(t, "x:v1")); err != nil || d.Digest != desc.Digest || d.Size != desc.Size {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	reg.guard(nil)
	_, err := newTestClient(t, Options{}).Resolve(t.Context(), reg.ref(t, "x:nope"), nil)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") || !strings.HasPrefix(err.Error(), "look up ") {
		t.Errorf("a missing tag: %v", err)
	}
}

func TestTags(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 1)
	for _, tag := range []string{"a", "b", "c"} {
		img.put(t, reg, "x/y", tag)
	}
	// The real distribution server pages by Link; this one does not, so the door does it, with a host that must be ignored.
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("last") == "" && strings.HasSuffix(r.URL.Path, "/tags/list") {
			w.Header().Set("Link", `<http://192.0.2.1/v2/x/y/tags/list?n=2&last=b>; rel="next"`)
			fmt.Fprint(w, `{"name":"x/y","tags":["a","b"]}`)
			return true
		}
		return false
	})
	c := newTestClient(t, Options{})
	tags, err := c.Tags(t.Context(), reg.ref(t, "x/y"))
	if err != nil || !slices.Equal(tags, []string{"a", "b", "c"}) {
		t.Errorf("Tags = %v, %v", tags, err)
	}
	if _, err := c.Tags(t.Context(), reg.ref(t, "nope")); !errors.Is(err, ErrNotFound) {
		t.Errorf("tags of no repository: %v", err)
	}
}

func TestPush(t *testing.T) {
	from, to := newRegistry(t), newRegistry(t)
	want := makeImage(t, hostHere(), 300_000, 10)
	desc := want.put(t, from, "x", "v1")
	c := newTestClient(t, Options{})
	img, err := c.Pull(t.Context(), from.ref(t, "x:v1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"a/b:c", "a/b@" + desc.Digest.String()} {
		if err := c.Push(t.Context(), to.ref(t, ref), img, PushOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := pulled(t.Context(), c, to.ref(t, ref))
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, got, want)
	}
	if err := c.Push(t.Context(), to.ref(t, "a/b@"+digestA), img, PushOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("push by a digest that is another image's: %v", err)
	}
	if n := to.count("PATCH"); n > 3 {
		t.Errorf("blobs were uploaded %d times", n)
	}
}

func TestRegistryDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	ref, _ := ParseReference(host + "/x")
	c := newTestClient(t, Options{})
	for op, f := range map[string]func() error{
		"pull":    func() error { _, err := c.Pull(t.Context(), ref, nil); return err },
		"look up": func() error { _, err := c.Head(t.Context(), ref); return err },
		"push":    func() error { return c.Push(t.Context(), ref, empty.Image, PushOptions{}) },
	} {
		if err := f(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") || !strings.HasPrefix(err.Error(), op+" ") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestCancel(t *testing.T) {
	reg := newRegistry(t)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	reached := make(chan struct{}, 1)
	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		reached <- struct{}{}
		<-stop
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c := newTestClient(t, Options{})
	go func() { _, err := c.Pull(ctx, reg.ref(t, "x"), nil); done <- err }()
	<-reached
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled pull: %v", err)
	}
}

// FuzzParseDocument feeds what a registry may send, whatever it is.
func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+digestA+`","size":3},"layers":[{"mediaType":"`+string(types.OCILayer)+`","digest":"`+digestA+`","size":9}]}`), string(types.OCIManifestSchema1))
	f.Add([]byte(`{"manifests":[{"digest":"`+digestA+`","size":3,"platform":{"os":"linux"}}]}`), string(types.OCIImageIndex))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`), string(types.DockerManifestSchema1))
	f.Add([]byte(`{"layers":null,"manifests":null}`), "text/plain; charset=x")
	f.Add([]byte(`[]`), "")
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		doc, err := parseDocument(raw, mediaType, "", 0)
		if err != nil {
			return
		}
		if (doc.image == nil) == (doc.index == nil) || doc.desc.MediaType.IsIndex() != (doc.index != nil) {
			t.Fatalf("both or neither: %+v", doc.desc)
		}
		if doc.image != nil && checkImage(doc.image) == nil {
			for _, l := range doc.image.Layers {
				if l.Size < 0 || l.Digest.Algorithm != "sha256" || len(l.Digest.Hex) != 64 {
					t.Fatalf("layer %+v passed", l)
				}
			}
		}
		if doc.index != nil {
			ch := &chooser{want: v1.Platform{OS: "linux", Architecture: "amd64"}}
			ch.sort(doc.index.Manifests)
		}
	})
}

// TestPlatformsHostile: a platform is written into a file of lines, and must not make lines of its own.
func TestPlatformsHostile(t *testing.T) {
	reg, c := newRegistry(t), newTestClient(t, Options{})
	d := makeImage(t, "linux/amd64", 10).put(t, reg, "x", "one")
	for _, p := range []v1.Platform{
		{OS: "linux", Architecture: "amd64 sha256:0\nevil.test/x:1"}, {OS: "linux", Architecture: "\x1b[31m"}, {Architecture: "amd64"},
	} {
		d.Platform = &p
		reg.putDocument(t, "x", "v1", types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}})
		if _, all, err := c.Platforms(t.Context(), reg.ref(t, "x:v1")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v, %v", p.Architecture, all, err)
		}
	}
	// An index without an image has nothing to lock.
	reg.putDocument(t, "x", "v1", types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}})
	if _, _, err := c.Platforms(t.Context(), reg.ref(t, "x:v1")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an empty index: %v", err)
	}
}
