package commands

import (
	"bytes"
	"context"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// manifestDocument is a manifest as manifest inspect -v shows it, with Docker's keys.
type manifestDocument struct {
	Ref              string
	Descriptor       v1.Descriptor
	Raw              []byte          // base64 in JSON
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

func manifestInspectCommand(s *session) ([]*option, action) {
	var verbose, insecure bool
	flags := []*option{
		toggle(&verbose, "verbose,v", "show every manifest of an index, too, and its descriptor"),
		insecureFlag(&insecure),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		refs, err := parseReferences(args)
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		client, err := s.clientFor(h, insecure, refs...)
		if err != nil {
			return err
		}
		ref := refs[len(refs)-1]
		raw, d, err := localDocument(ctx, h, client, refs)
		if raw == nil && err == nil {
			raw, d, err = client.Document(ctx, ref)
		}
		if err != nil {
			return err
		}
		if verbose {
			return s.manifestVerbose(ctx, h, client, ref, raw, d)
		}
		return s.indented(raw)
	}
}

// indented prints JSON for people.
func (s *session) indented(raw []byte) error {
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "\t"); err != nil {
		return err
	}
	text.WriteByte('\n')
	_, err := s.out.Write(text.Bytes())
	return err
}

// manifestVerbose prints a manifest with its descriptor, or all of an index as a list.
func (s *session) manifestVerbose(ctx context.Context, h *run.Host, client *registry.Client, ref registry.Reference, raw []byte, d v1.Descriptor) error {
	var answer any = describeManifest(ref, raw, d)
	if d.MediaType.IsIndex() {
		index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		parts := map[v1.Hash]registry.Reference{} // where the images of a list that is here are
		if local, err := h.ManifestList(ref); err == nil {
			for _, p := range local.Parts {
				parts[p.Digest] = p.From
			}
		}
		list := []manifestDocument{}
		for _, entry := range index.Manifests {
			inner := registry.Reference{Domain: ref.Domain, Path: ref.Path, Digest: entry.Digest.String()}
			if from, ok := parts[entry.Digest]; ok {
				inner.Domain, inner.Path = from.Domain, from.Path
			}
			raw, _, err := client.Document(ctx, inner)
			if err != nil {
				return err
			}
			inner.Tag = ref.Tag
			list = append(list, describeManifest(inner, raw, entry))
		}
		answer = list
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return s.indented(text)
}

func describeManifest(ref registry.Reference, raw []byte, d v1.Descriptor) manifestDocument {
	m := manifestDocument{Ref: ref.String(), Descriptor: d, Raw: raw}
	if d.MediaType == "application/vnd.docker.distribution.manifest.v2+json" {
		m.SchemaV2Manifest = raw
	} else {
		m.OCIManifest = raw
	}
	return m
}
