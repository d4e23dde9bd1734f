package commands

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// insecureFlag is Docker's --insecure.
func insecureFlag(to *bool) *option {
	return toggle(to, "insecure", "let the registry be one without TLS, or with a certificate that nobody vouches for")
}

// clientFor is a client that talks to the registries of refs, to unsafe ones too if insecure is set.
func (s *session) clientFor(h *run.Host, insecure bool, refs ...registry.Reference) (*registry.Client, error) {
	if !insecure {
		return h.Client()
	}
	opt, err := h.ClientOptions()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		opt.Insecure = append(opt.Insecure, ref.Domain)
	}
	return registry.New(opt), nil
}

func parseReferences(words []string) ([]registry.Reference, error) {
	var refs []registry.Reference
	for _, w := range words {
		ref, err := registry.ParseReference(w)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func manifestCreateCommand(s *session) ([]*option, action) {
	var amend, insecure bool
	flags := []*option{
		toggle(&amend, "amend,a", "add to a list that is there"),
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
		list, err := h.ManifestList(refs[0])
		switch {
		case errors.Is(err, run.ErrNoManifestList):
			list = &run.ManifestList{Ref: refs[0]}
		case err != nil:
			return err
		case !amend:
			return fmt.Errorf("refusing to amend an existing manifest list with no --amend flag: %s", refs[0].Familiar())
		}
		for _, ref := range refs[1:] {
			part, _, err := client.Describe(ctx, ref)
			if err != nil {
				return err
			}
			if !part.MediaType.IsImage() {
				return fmt.Errorf("manifest create %q: %s is a manifest list itself; its images can be added by digest", refs[0].Familiar(), ref.Familiar())
			}
			list.Add(part)
		}
		if err := h.SaveManifestList(list); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "Created manifest list %s\n", refs[0])
		return err
	}
}

func manifestAnnotateCommand(s *session) ([]*option, action) {
	var p v1.Platform
	flags := []*option{
		text(&p.OS, "os", "OS", "the operating system that the image is for"),
		text(&p.Architecture, "arch", "ARCH", "the architecture that it is for"),
		text(&p.Variant, "variant", "VARIANT", "the variant of that"),
		text(&p.OSVersion, "os-version", "VERSION", "the version of the operating system"),
		list(&p.OSFeatures, "os-features", "FEATURE", "a feature that the operating system must have"),
	}
	return flags, func(_ context.Context, args []string) error {
		refs, err := parseReferences(args)
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		list, err := h.ManifestList(refs[0])
		if err != nil {
			return err
		}
		n := list.Find(refs[1])
		if n < 0 {
			return fmt.Errorf("manifest annotate %q: there is no %s in it", refs[0].Familiar(), refs[1].Familiar())
		}
		have := list.Parts[n].Platform
		if have == nil {
			have = &v1.Platform{}
			list.Parts[n].Platform = have
		}
		annotate(have, p)
		if !registry.KnownPlatform(*have) {
			return fmt.Errorf("manifest annotate %q: unsupported os/arch combination: %s/%s", refs[0].Familiar(), have.OS, have.Architecture)
		}
		return h.SaveManifestList(list)
	}
}

// annotate changes what was asked for.
func annotate(have *v1.Platform, p v1.Platform) {
	for _, change := range []struct {
		to   *string
		from string
	}{{&have.OS, p.OS}, {&have.Architecture, p.Architecture}, {&have.Variant, p.Variant}, {&have.OSVersion, p.OSVersion}} {
		if change.from != "" {
			*change.to = change.from
		}
	}
	if p.OSFeatures != nil {
		have.OSFeatures = p.OSFeatures
	}
}

func manifestPushCommand(s *session) ([]*option, action) {
	var purge, insecure bool
	flags := []*option{
		toggle(&purge, "purge,p", "forget the list here once it is pushed"),
		insecureFlag(&insecure),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		ref, err := registry.ParseReference(args[0])
		if err != nil {
			return err
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		list, err := h.ManifestList(ref)
		if err != nil {
			return err
		}
		refs := []registry.Reference{ref}
		for _, p := range list.Parts {
			if p.Platform == nil || !registry.KnownPlatform(*p.Platform) {
				return fmt.Errorf("manifest push %q: %s does not say which platform it is for\nmanifest annotate says it", ref.Familiar(), p.From.Familiar())
			}
			refs = append(refs, p.From)
		}
		client, err := s.clientFor(h, insecure, refs...)
		if err != nil {
			return err
		}
		index, err := client.Combine(ctx, list.Parts, nil)
		if err != nil {
			return err
		}
		if err := client.Push(ctx, ref, index, registry.PushOptions{}); err != nil {
			return err
		}
		digest, err := index.Digest()
		if err == nil && purge {
			err = h.RemoveManifestList(ref)
		}
		if err == nil {
			_, err = fmt.Fprintln(s.out, digest)
		}
		return err
	}
}

func manifestRemoveCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			ref, err := registry.ParseReference(name)
			if err == nil {
				err = h.RemoveManifestList(ref)
			}
			failed = append(failed, err)
		}
		return errors.Join(failed...)
	}
}

// localDocument is what manifest inspect shows of a list that is here, or of one of its images; nil if there is no such list.
func localDocument(ctx context.Context, h *run.Host, client *registry.Client, refs []registry.Reference) (raw []byte, d v1.Descriptor, err error) {
	list, err := h.ManifestList(refs[0])
	if errors.Is(err, run.ErrNoManifestList) && len(refs) == 1 {
		return nil, d, nil
	}
	if err != nil {
		return nil, d, err
	}
	if len(refs) == 1 {
		index, err := client.Combine(ctx, list.Parts, nil)
		if err != nil {
			return nil, d, err
		}
		return document(index)
	}
	n := list.Find(refs[1])
	if n < 0 {
		return nil, d, fmt.Errorf("manifest inspect %q: there is no %s in it", refs[0].Familiar(), refs[1].Familiar())
	}
	from := list.Parts[n].From
	from.Digest = list.Parts[n].Digest.String()
	raw, _, err = client.Document(ctx, from)
	return raw, list.Parts[n].Descriptor, err
}

// document gives a content's own document.
func document(c registry.Content) ([]byte, v1.Descriptor, error) {
	raw, err := c.RawManifest()
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	d, err := partial.Descriptor(c)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	return raw, *d, nil
}
