package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

// inspectFlags are --format and what is asked for together with it.
func inspectFlags(format *string, size *bool) []*option {
	return []*option{
		text(format, "format,f", "FORMAT", formatUsage),
		toggle(size, "size,s", "show how much a container has written"),
	}
}

func inspectCommand(s *session) ([]*option, action) {
	var format, kind string
	var size bool
	flags := append(inspectFlags(&format, &size), text(&kind, "type", "TYPE", "look only for a container, an image, a network or a volume"))
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		find, err := finder(h, kind, size)
		if err != nil {
			return err
		}
		return s.inspect(format, args, find)
	}
}

func containerInspectCommand(s *session) ([]*option, action) {
	var format string
	var size bool
	return inspectFlags(&format, &size), func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.inspect(format, args, func(name string) (any, error) { return inspectContainer(h, name, size) })
	}
}

func inspectContainer(h *run.Host, name string, size bool) (any, error) {
	c, err := h.Find(name)
	if err != nil {
		return nil, err
	}
	doc := c.Document()
	if size {
		written, all, err := c.Size()
		if err != nil {
			return nil, err
		}
		doc.SizeRw, doc.SizeRootFs = &written, &all
	}
	return doc, nil
}

// finder looks for things of one type, or of any: containers first and networks and volumes last, as Docker does.
func finder(h *run.Host, kind string, size bool) (func(string) (any, error), error) {
	container := func(name string) (any, error) { return inspectContainer(h, name, size) }
	image := func(name string) (any, error) { return inspectImage(h, name) }
	volume := func(name string) (any, error) { return h.Volume(name) }
	network := func(name string) (any, error) { return h.Network(name) }
	switch kind {
	case "container":
		return container, nil
	case "image":
		return image, nil
	case "volume":
		return volume, nil
	case "network":
		return network, nil
	case "":
		return func(name string) (any, error) {
			doc, err := container(name)
			if errors.Is(err, run.ErrNotFound) {
				doc, err = image(name)
			}
			if errors.Is(err, layers.ErrNotFound) {
				doc, err = network(name)
			}
			if errors.Is(err, run.ErrNotFound) {
				doc, err = volume(name)
			}
			if errors.Is(err, run.ErrNotFound) {
				err = noSuch{"object", name, err}
			}
			return doc, err
		}, nil
	case "plugin", "secret", "service", "task", "node", "config":
		return func(name string) (any, error) { return nil, noSuch{kind, name, nil} }, nil
	}
	return nil, fmt.Errorf("type %q: not a valid value: want container, image, network or volume", kind)
}
