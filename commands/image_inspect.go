package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// imageDocument is an image as image inspect shows it, with Docker's keys.
type imageDocument struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      string
	Author       string
	Config       v1.Config
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	GraphDriver  graphDriver
	RootFS       rootFS
	Metadata     imageMetadata
	Descriptor   imageDescriptor
}

type graphDriver struct {
	Data map[string]string
	Name string
}

type rootFS struct {
	Type   string
	Layers []string
}

// imageMetadata is what Docker's engine knows of an image beyond the image itself. hull does not note when a name was given.
type imageMetadata struct{ LastTagTime time.Time }

type imageDescriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// inspectImage looks an image up and collects all its names.
func inspectImage(h *run.Host, name string) (*imageDocument, error) {
	img, err := h.Images.Lookup(name)
	if err != nil {
		return nil, noSuchImage(name, err)
	}
	all, err := h.Images.List()
	if err != nil {
		return nil, err
	}
	doc := describeImage(img, all)
	doc.GraphDriver = graphDriver{Name: "overlay2", Data: map[string]string{}}
	for i, dir := range h.Images.Dirs(img) {
		if i > 0 {
			doc.GraphDriver.Data["LowerDir"] += ":"
		}
		doc.GraphDriver.Data["LowerDir"] += dir
	}
	if source, err := h.Images.Image(name); err == nil {
		if m, err := source.Manifest(); err == nil {
			doc.Descriptor.MediaType = string(m.MediaType)
		}
		doc.Descriptor.Size, _ = source.Size()
	}
	return doc, nil
}

func describeImage(img *layers.Image, all []*layers.Image) *imageDocument {
	c := img.Config
	doc := &imageDocument{
		ID: img.ID, RepoTags: []string{}, RepoDigests: []string{},
		Author: c.Author, Config: c.Config, Architecture: c.Architecture, Variant: c.Variant, Os: cmp.Or(c.OS, "linux"),
		Size: img.Size, RootFS: rootFS{"layers", img.DiffIDs},
		Descriptor: imageDescriptor{Digest: img.Digest},
	}
	if !img.Created.IsZero() {
		doc.Created = img.Created.UTC().Format(time.RFC3339Nano)
	}
	if n := len(c.History); n > 0 {
		doc.Comment = c.History[n-1].Comment
	}
	for _, other := range all {
		ref, err := registry.ParseReference(other.Name)
		if other.ID != img.ID || other.Name == "" || err != nil {
			continue
		}
		if ref.Tag != "" {
			doc.RepoTags = append(doc.RepoTags, registry.Reference{Domain: ref.Domain, Path: ref.Path, Tag: ref.Tag}.Familiar())
		}
		if digest := repositoryOf(ref) + "@" + other.Digest; !slices.Contains(doc.RepoDigests, digest) {
			doc.RepoDigests = append(doc.RepoDigests, digest)
		}
	}
	return doc
}

func imageInspectCommand(s *session) ([]*option, action) {
	var format string
	flags := []*option{
		text(&format, "format,f", "FORMAT", formatUsage),
		hide(opt("platform", "PLATFORM", "", func(string) error { return nil })), // an image here has one platform
	}
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.inspect(format, args, func(name string) (any, error) { return inspectImage(h, name) })
	}
}

// inspect prints every thing that find knows, whatever happens to the others, and then what it does not.
func (s *session) inspect(format string, names []string, find func(string) (any, error)) error {
	var found []any
	var failed []error
	for _, name := range names {
		doc, err := find(name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, doc)
	}
	if err := printInspect(s.out, format, found); err != nil {
		return err
	}
	return errors.Join(failed...)
}
