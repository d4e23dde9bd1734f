package hostile

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
)

// Doc is a JSON object that may say anything.
type Doc = map[string]any

// Image is an image in the making, and how it is served.
type Image struct {
	Layers []Layer
	// Config and Manifest are made from Layers by Describe; attacks change them afterwards.
	Config, Manifest Doc
	// RawConfig and RawManifest stand in for them, byte by byte.
	RawConfig, RawManifest []byte
	// Type is the manifest's Content-Type.
	Type string
	// Blobs are served besides layers and configuration, by digest; Manifests besides the image's, by digest too.
	Blobs     map[string][]byte
	Manifests map[string][]byte
	// Answer, if set, sees each request first and says whether it has answered it.
	Answer func(w http.ResponseWriter, r *http.Request) bool
	// Alone gives it a registry of its own, whose /v2/ Answer answers too.
	Alone bool
	// Archive has the image come from a docker-archive, made by this function, instead of a registry.
	Archive func(*Tar)
	// Layout has it come from an OCI layout on disk; the function may spoil the folder.
	Layout func(dir string) error

	lie func()
}

// newImage is a good image: one layer with the program in it.
func newImage() *Image {
	m := &Image{Type: "application/vnd.oci.image.manifest.v1+json", Blobs: map[string][]byte{}, Manifests: map[string][]byte{}}
	m.Add(func(t *Tar) { t.Add(Head{Name: "program", Mode: 0o755}, string(program())) })
	return m
}

// Good is an image without malice.
func Good() *Image { return newImage() }

// Add puts a layer on top.
func (m *Image) Add(write func(*Tar)) { m.Layers = append(m.Layers, layer(write)) }

// Lie has f change Config and Manifest once they are made; the manifest has the configuration's true digest afterwards unless
// it changed that.
func (m *Image) Lie(f func()) { m.lie = f }

// set changes fields of the configuration's "config", as "Env" or "User".
func (m *Image) set(pairs ...any) {
	m.Lie(func() {
		c := m.Config["config"].(Doc)
		for i := 0; i+1 < len(pairs); i += 2 {
			c[pairs[i].(string)] = pairs[i+1]
		}
	})
}

// Finish makes the documents. It is called once, by who serves the image.
func (m *Image) Finish() {
	ids, blobs := []any{}, []any{}
	for _, l := range m.Layers {
		ids = append(ids, l.DiffID)
		blobs = append(blobs, Doc{"mediaType": l.Type, "digest": digest(l.Blob), "size": len(l.Blob)})
		m.Blobs[digest(l.Blob)] = l.Blob
	}
	m.Config = Doc{"architecture": runtime.GOARCH, "os": "linux", "config": Doc{"Cmd": []any{"/program"}},
		"rootfs": Doc{"type": "layers", "diff_ids": ids}}
	config := Doc{"mediaType": "application/vnd.oci.image.config.v1+json"}
	m.Manifest = Doc{"schemaVersion": 2, "mediaType": m.Type, "config": config, "layers": blobs}
	if lie := m.lie; lie != nil {
		m.lie = nil
		lie()
	}
	m.encode()
}

// encode makes the documents' bytes, unless they are made already.
func (m *Image) encode() {
	config := m.Manifest["config"].(Doc)
	if m.RawConfig == nil {
		m.RawConfig = encode(m.Config)
	}
	m.Blobs[digest(m.RawConfig)] = m.RawConfig
	if config["digest"] == nil {
		config["digest"] = digest(m.RawConfig)
	}
	if config["size"] == nil {
		config["size"] = len(m.RawConfig)
	}
	if m.RawManifest == nil {
		m.RawManifest = encode(m.Manifest)
	}
}

// top makes a document be what the image's name stands for.
func (m *Image) top(b []byte) {
	m.encode()
	m.Manifests[digest(m.RawManifest)] = m.RawManifest
	m.RawManifest, m.Type = b, indexType
}

// index is an index of these manifests.
func index(manifests ...[]byte) []byte {
	list := []any{}
	for _, b := range manifests {
		kind := "application/vnd.oci.image.manifest.v1+json"
		if strings.Contains(string(b), `"manifests"`) {
			kind = indexType
		}
		list = append(list, Doc{"mediaType": kind, "digest": digest(b), "size": len(b),
			"platform": Doc{"os": "linux", "architecture": runtime.GOARCH}})
	}
	return encode(Doc{"schemaVersion": 2, "mediaType": indexType, "manifests": list})
}

const indexType = "application/vnd.oci.image.index.v1+json"

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// WriteLayout writes the image as an OCI layout.
func (m *Image) WriteLayout(put func(name string, content []byte) error) error {
	top := Doc{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{
		Doc{"mediaType": m.Type, "digest": digest(m.RawManifest), "size": len(m.RawManifest)}}}
	all := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": encode(top)}
	m.Blobs[digest(m.RawManifest)] = m.RawManifest
	for sum, b := range m.Blobs {
		all["blobs/"+strings.Replace(sum, ":", "/", 1)] = b
	}
	for name, b := range all {
		if err := put(name, b); err != nil {
			return err
		}
	}
	return nil
}
