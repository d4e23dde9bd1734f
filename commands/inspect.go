package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run"
)

// inspectFlags are --format and what is asked for together with it.
func inspectFlags(format *string) []*option {
	return append([]*option{text(format, "format,f", "FORMAT", formatUsage)},
		later("is not known yet; there is no size to show", "!size,s")...)
}

func inspectCommand(s *session) ([]*option, action) {
	var format, kind string
	flags := append(inspectFlags(&format), text(&kind, "type", "TYPE", "look only for a container or an image"))
	return flags, func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		find, err := finder(h, kind)
		if err != nil {
			return err
		}
		return s.inspect(format, args, find)
	}
}

func containerInspectCommand(s *session) ([]*option, action) {
	var format string
	return inspectFlags(&format), func(_ context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		return s.inspect(format, args, func(name string) (any, error) { return inspectContainer(h, name) })
	}
}

func inspectContainer(h *run.Host, name string) (any, error) {
	c, err := h.Find(name)
	if err != nil {
		return nil, err
	}
	return c.Document(), nil
}

// finder looks for things of one type, or of any: containers first, as Docker does.
func finder(h *run.Host, kind string) (func(string) (any, error), error) {
	container := func(name string) (any, error) { return inspectContainer(h, name) }
	image := func(name string) (any, error) { return inspectImage(h, name) }
	switch kind {
	case "container":
		return container, nil
	case "image":
		return image, nil
	case "":
		return func(name string) (any, error) {
			doc, err := container(name)
			if errors.Is(err, run.ErrNotFound) {
				doc, err = image(name)
			}
			if errors.Is(err, layers.ErrNotFound) {
				err = noSuch{"object", name, err}
			}
			return doc, err
		}, nil
	case "volume", "network", "plugin", "secret", "service", "task", "node", "config":
		return func(name string) (any, error) { return nil, noSuch{kind, name, nil} }, nil
	}
	return nil, fmt.Errorf("type %q: not a valid value: want container or image", kind)
}
