package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

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

func imagetoolsCommand(s *session) ([]*option, action) {
	var raw bool
	var format string
	flags := []*option{
		toggle(&raw, "raw", "print the manifest or index as it is"),
		text(&format, "format", "FORMAT", "a Go template: .Name, .Manifest.Digest, .Manifest.MediaType, .Manifest.Size"),
		hide(opt("builder", "NAME", "", func(string) error { return nil })), // there is none
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		if args[0] != "inspect" {
			return usageError(fmt.Sprintf("buildx imagetools %q: want inspect", args[0]))
		}
		ref, err := registry.ParseReference(args[1])
		if err != nil {
			return err
		}
		client, err := s.client()
		if err != nil {
			return err
		}
		text, d, err := client.Document(ctx, ref)
		if err != nil {
			return err
		}
		switch {
		case raw:
			_, err = s.out.Write(text)
			return err
		case format != "":
			return s.imagetoolsFormat(format, ref, text, d)
		}
		return s.print(func(w io.Writer) { imagetoolsText(w, ref, text, d) })
	}
}

// imagetoolsFormat prints what a template asks for. Descriptor and manifest share .Manifest, as in buildx.
func (s *session) imagetoolsFormat(format string, ref registry.Reference, raw []byte, d v1.Descriptor) error {
	doc := struct {
		Name     string `json:"name"`
		Manifest struct {
			v1.Descriptor
			SchemaVersion int64           `json:"schemaVersion,omitempty"`
			Manifests     []v1.Descriptor `json:"manifests,omitempty"`
		} `json:"manifest"`
	}{Name: ref.String()}
	if err := json.Unmarshal(raw, &doc.Manifest); err != nil {
		return err
	}
	doc.Manifest.Descriptor = d
	return printInspect(s.out, format, []any{doc})
}

func imagetoolsText(w io.Writer, ref registry.Reference, raw []byte, d v1.Descriptor) {
	fmt.Fprintf(w, "Name:      %s\nMediaType: %s\nDigest:    %s\n", ref, d.MediaType, d.Digest)
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil || !d.MediaType.IsIndex() {
		return
	}
	fmt.Fprint(w, "           \nManifests: \n")
	for n, entry := range index.Manifests {
		if n > 0 {
			fmt.Fprintln(w, "             ")
		}
		inner := ref
		inner.Digest = entry.Digest.String()
		fmt.Fprintf(w, "  Name:      %s\n  MediaType: %s\n", inner, entry.MediaType)
		if entry.Platform != nil {
			fmt.Fprintf(w, "  Platform:  %s\n", entry.Platform)
		}
	}
}
