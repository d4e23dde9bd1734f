package layers

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Addition is an image with the full names that it is to have, none for a nameless one.
type Addition struct {
	Names []string
	Image v1.Image
}

// AddMany adds images as Add does, and waits for the disk once for all of them: they become visible together. Where one cannot
// be added, those that are all here nevertheless get their names, and are given back beside the error; each image comes as often
// as it has names.
func (s *Store) AddMany(ctx context.Context, list []Addition, opt AddOptions) ([]*Image, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	p := &plan{raw: make(map[v1.Hash][]byte), partly: true}
	var failed error
	for _, a := range list {
		if failed = p.add(a); failed != nil {
			break
		}
	}
	var carried error
	if len(p.images) > 0 {
		carried = s.carryOut(ctx, p, opt)
	}
	added, err := s.form(opt).added(p)
	if carried != nil && len(added) < len(p.images) {
		carried = fmt.Errorf("add image %q: %w", firstMissing(p.images, added), carried)
	}
	return added, or(carried, or(failed, err))
}

// firstMissing is the name of the first image that was planned and not added.
func firstMissing(images []planned, added []*Image) string {
	for n, i := range images {
		if n == len(added) || added[n].Name != i.name || added[n].Digest != i.desc.Digest.String() {
			return i.name
		}
	}
	return ""
}

// add plans an image by all its names.
func (p *plan) add(a Addition) error {
	name := ""
	if len(a.Names) > 0 {
		name = a.Names[0]
	}
	for _, n := range a.Names {
		if fullName(n) == "" {
			return fmt.Errorf("add image %q: not an image name", n)
		}
	}
	if err := p.addImage(name, a.Image); err != nil {
		return fmt.Errorf("add image %q: %w", name, err)
	}
	first := p.images[len(p.images)-1]
	for _, n := range a.Names[min(1, len(a.Names)):] {
		first.name = n
		p.images = append(p.images, first)
	}
	return nil
}

// added gives the images of a plan that are in the store by their names, with their layers.
func (s *Store) added(p *plan) (added []*Image, err error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	for _, i := range p.images {
		if !isNamed(index, i.name, i.top.Digest) {
			continue
		}
		i.top.Annotations = named(i.top.Annotations, i.name)
		e, err := s.entry(i.top)
		if err != nil {
			return added, err
		}
		img, err := s.image(e)
		if err != nil {
			return added, err
		}
		if img.Layers != nil {
			added = append(added, img)
		}
	}
	return added, nil
}
