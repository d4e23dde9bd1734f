package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	refNameAnnotation = "org.opencontainers.image.ref.name"
	// containerdAnnotation is where containerd, Docker and hull keep the full name, for ref.name is by the letter of the
	// specification only a tag.
	containerdAnnotation = "io.containerd.image.name"
	layoutVersion        = "1.0.0"
)

// layout is a source over the files of an OCI image layout.
type layout struct{ files fs.FS }

// openLayout finds an image in a layout by the name it has there.
func openLayout(files fs.FS, tag, local string, platform *v1.Platform) (*image, string, error) {
	index, err := readLayoutIndex(files)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", problemf(ErrNotFound, "no index.json, so this is no OCI image layout")
	}
	if err != nil {
		return nil, "", err
	}
	entries, err := named(index.index.Manifests, tag)
	if err != nil {
		return nil, "", err
	}
	img, err := layoutImage(files, index, entries, platform)
	if err != nil {
		return nil, "", err
	}
	return img, fullName(local, names(entries[0])...), nil
}

// named picks the entries of index.json that are meant: those of the name (or digest), or all if they can only be one
// image. Several entries of one name, or of none, are that image for several platforms.
func named(entries []v1.Descriptor, tag string) ([]v1.Descriptor, error) {
	entries = slices.DeleteFunc(slices.Clone(entries), isAttestation)
	if len(entries) == 0 {
		return nil, problemf(ErrNotFound, "the layout holds no image")
	}
	var found []v1.Descriptor
	var all []string
	for _, d := range entries {
		n := append(names(d), d.Digest.String())
		if slices.Contains(n, tag) || tag == "" {
			found = append(found, d)
		}
		all = append(all, n[0])
	}
	if len(found) == 0 {
		return nil, problemf(ErrNotFound, "no image %q; there is %s", tag, quoted(all))
	}
	for i, d := range found {
		for _, e := range found[:i] {
			if !isVariant(d, e) {
				return nil, problemf(ErrNotFound, "which of several images? Add one of %s, after a colon", quoted(all))
			}
		}
	}
	return found, nil
}

// isVariant tells whether two entries can be one image: the same name, and platforms that tell them apart.
func isVariant(d, e v1.Descriptor) bool {
	if !slices.Equal(names(d), names(e)) || d.Platform == nil || e.Platform == nil {
		return d.Digest == e.Digest
	}
	return d.Digest == e.Digest || normal(*d.Platform).String() != normal(*e.Platform).String()
}

// names are what an entry is called, first what the layout's specification looks at.
func names(d v1.Descriptor) []string {
	var n []string
	for _, key := range []string{refNameAnnotation, containerdAnnotation} {
		if v := d.Annotations[key]; v != "" {
			n = append(n, v)
		}
	}
	return n
}

func quoted(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// document is source's.
func (l layout) document(_ context.Context, ref string) ([]byte, string, error) {
	h, err := v1.NewHash(ref)
	if err != nil {
		return nil, "", problemf(ErrCorrupt, "%w", err)
	}
	raw, err := readFile(l.files, blobPath(h), maxManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		err = problemf(ErrNotFound, "the layout has no such blob: %w", err)
	}
	return raw, "", err
}

// blob is source's.
func (l layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return openSized(l.files, blobPath(d.Digest), d.Size)
}

// openSized opens a file that must have a certain size; better to say so now than after unpacking it.
func openSized(files fs.FS, name string, size int64) (io.ReadCloser, error) {
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problemf(ErrNotFound, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() != size) {
		err = problemf(ErrCorrupt, "%s has %d bytes, its descriptor says %d", name, fi.Size(), size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
