package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// imagetools is what the words of buildx imagetools ask for.
type imagetools struct {
	raw, insecure  bool
	format         string
	tags, files    []string
	annotations    []string
	add, dry, list bool
}

func imagetoolsCommand(s *session) ([]*option, action) {
	o := imagetools{list: true}
	flags := slices.Concat(
		in("inspect", toggle(&o.raw, "raw", "print the manifest or index as it is"),
			text(&o.format, "format", "FORMAT", "a Go template: .Name, .Manifest.Digest, .Manifest.MediaType, .Manifest.Size")),
		in("create", list(&o.tags, "tag,t", "NAME[:TAG]", "what the new index is called, where it is pushed to"),
			toggle(&o.add, "append", "begin with what has the name already"),
			list(&o.annotations, "annotation", "[index:|manifest-descriptor[PLATFORM]:]KEY=VALUE", "write an annotation into the index, or into its entries"),
			toggle(&o.dry, "dry-run", "print the index, and push nothing"),
			list(&o.files, "file,f", "FILE", "take a source's descriptor, of the name's repository, from a file"),
			toggle(&o.list, "prefer-index", "make an index of a single image, too; else it is copied as it is").def("true")),
		[]*option{insecureFlag(&o.insecure), hide(opt("builder", "NAME", "", func(string) error { return nil })), // there is none
			hide(opt("progress", "KIND", "", func(string) error { return nil }))},
	)
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		switch {
		case args[0] == "create":
			return s.imagetoolsCreate(ctx, &o, args[1:])
		case args[0] == "inspect" && len(args) == 2:
			return s.imagetoolsInspect(ctx, &o, args[1])
		case args[0] == "inspect":
			return usageError("'hull buildx imagetools inspect' requires 1 argument")
		}
		return usageError(fmt.Sprintf("buildx imagetools %q: want inspect or create", args[0]))
	}
}

func (s *session) imagetoolsInspect(ctx context.Context, o *imagetools, name string) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	h, err := s.host()
	if err != nil {
		return err
	}
	client, err := s.clientFor(h, o.insecure, ref)
	if err != nil {
		return err
	}
	text, d, err := client.Document(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case o.raw:
		_, err = s.out.Write(text)
		return err
	case o.format != "":
		return s.imagetoolsFormat(o.format, ref, text, d)
	}
	return s.print(func(w io.Writer) { imagetoolsText(w, ref, text, d) })
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

// imagetoolsCreate makes an index of what sources name, at the registries of the tags.
func (s *session) imagetoolsCreate(ctx context.Context, o *imagetools, words []string) error {
	tags, err := parseReferences(o.tags)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Digest != "" {
			return usageError(fmt.Sprintf("--tag %q: want a name without a digest", t.Familiar()))
		}
	}
	switch {
	case len(tags) == 0 && !o.dry:
		return usageError("buildx imagetools create: can't push with no tags specified, please set --tag or --dry-run")
	case len(words)+len(o.files) == 0:
		return usageError("buildx imagetools create: no sources specified")
	}
	sources, err := parseReferences(words)
	if err != nil {
		return err
	}
	if o.add {
		sources = append(slices.Clone(tags), sources...)
	}
	h, err := s.host()
	if err != nil {
		return err
	}
	client, err := s.clientFor(h, o.insecure, append(slices.Clone(tags), sources...)...)
	if err != nil {
		return err
	}
	content, err := o.content(ctx, client, sources, tags)
	if err != nil {
		return err
	}
	if o.dry {
		raw, err := content.RawManifest()
		if err != nil {
			return err
		}
		return s.indented(raw)
	}
	for _, t := range tags {
		var opt registry.PushOptions
		if _, lone := content.(v1.Image); lone && sources[0].Domain == t.Domain {
			opt.From = func(v1.Hash) []string { return []string{sources[0].Path} } // an index tells by itself
		}
		if err := client.Push(ctx, t, content, opt); err != nil {
			return err
		}
	}
	digest, err := content.Digest()
	if err == nil {
		_, err = fmt.Fprintln(s.out, digest)
	}
	return err
}

// content is what is to be pushed: a lone index as it is, else a new one. As in buildx, the entries of an index that is a source
// become entries of the new one, attestations and indexes among them too.
func (o *imagetools) content(ctx context.Context, client *registry.Client, sources, tags []registry.Reference) (registry.Content, error) {
	list := run.ManifestList{}
	var last registry.Content
	for _, ref := range sources {
		part, content, err := client.Describe(ctx, ref)
		if err != nil {
			return nil, err
		}
		last = content
		index, ok := content.(v1.ImageIndex)
		if !ok {
			addPart(&list, part)
			continue
		}
		m, err := index.IndexManifest()
		if err != nil {
			return nil, err
		}
		for _, d := range m.Manifests {
			addPart(&list, registry.Part{From: ref, Descriptor: d})
		}
	}
	for _, file := range o.files {
		part, err := partFromFile(ctx, client, file, tags)
		if err != nil {
			return nil, err
		}
		addPart(&list, part)
	}
	if len(sources) == 1 && len(o.files)+len(o.annotations) == 0 {
		if _, isIndex := last.(v1.ImageIndex); isIndex || !o.list {
			return last, nil
		}
	}
	top, err := annotateParts(list.Parts, o.annotations)
	if err != nil {
		return nil, err
	}
	return client.Combine(ctx, list.Parts, top)
}

// addPart adds an entry unless the same manifest is there for the same platform.
func addPart(list *run.ManifestList, p registry.Part) {
	same := func(q registry.Part) bool {
		return p.Digest == q.Digest && (p.Platform == nil) == (q.Platform == nil) && (p.Platform == nil || p.Platform.Equals(*q.Platform))
	}
	if !slices.ContainsFunc(list.Parts, same) {
		list.Parts = append(list.Parts, p)
	}
}

// partFromFile reads a descriptor, whose manifest is in the repository of the first tag. Platform and annotations are the
// file's where it has some.
func partFromFile(ctx context.Context, client *registry.Client, file string, tags []registry.Reference) (registry.Part, error) {
	var d v1.Descriptor
	data, err := given.ReadFile(file, given.Limit)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err == nil && d.Digest.Hex == "" {
		err = errors.New("it has no digest: want a descriptor, {\"digest\": \"sha256:…\"}")
	}
	if err != nil {
		return registry.Part{}, fmt.Errorf("--file %q: %w", file, err)
	}
	if len(tags) == 0 {
		return registry.Part{}, usageError("--file: --tag must say which repository has it")
	}
	ref := tags[0]
	ref.Tag, ref.Digest = "", d.Digest.String()
	part, _, err := client.Describe(ctx, ref)
	if err != nil {
		return part, err
	}
	if d.Platform != nil {
		part.Platform = d.Platform
	}
	part.Annotations = d.Annotations
	return part, nil
}

// annotateParts reads --annotation: what is for entries goes into parts, and the rest comes back.
func annotateParts(parts []registry.Part, words []string) (map[string]string, error) {
	var top map[string]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		kind, name, typed := strings.Cut(key, ":")
		if !typed {
			kind, name = "index", key
		}
		platform, bracket := "", ""
		if before, inner, some := strings.Cut(kind, "["); some {
			kind = before
			platform, bracket, _ = strings.Cut(inner, "]")
		}
		if !ok || name == "" || bracket != "" {
			return nil, usageError(fmt.Sprintf("--annotation %q: want [TYPE:]KEY=VALUE", w))
		}
		switch kind {
		case "index":
			if top == nil {
				top = map[string]string{}
			}
			top[name] = value
		case "manifest-descriptor":
			if !annotateEntries(parts, platform, name, value) {
				return nil, fmt.Errorf("--annotation %q: no image for %s is among the sources", w, platform)
			}
		default:
			return nil, usageError(fmt.Sprintf("--annotation %q: the type may be index or manifest-descriptor; a manifest's own would change its digest", w))
		}
	}
	return top, nil
}

// annotateEntries writes an annotation into the entries for a platform, "" for all images; false says that there is none.
func annotateEntries(parts []registry.Part, platform, name, value string) (found bool) {
	for i := range parts {
		p := parts[i].Platform
		if platform != "" && (p == nil || p.String() != platform) || platform == "" && p != nil && p.OS == "unknown" {
			continue
		}
		found = true
		a := map[string]string{}
		for k, v := range parts[i].Annotations {
			a[k] = v
		}
		a[name] = value
		parts[i].Annotations = a
	}
	return found
}
