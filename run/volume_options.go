package run

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// volumeSource is what the options of a volume mean: what containers see in the place of its own directory. The options
// are those of Docker's driver local: type, device and o as mount(8) takes them, and size for a tmpfs.
type volumeSource struct {
	// kind is a type of file system, "bind" for a directory of the host, or "" for the volume's own directory.
	kind    string
	device  string
	options []string
}

func parseVolumeOptions(options map[string]string) (s volumeSource, err error) {
	for key := range options {
		if !slices.Contains([]string{"type", "device", "o", "size"}, key) {
			return s, fmt.Errorf("invalid option: %q: want type, device, o or size", key)
		}
	}
	s.kind, s.device = options["type"], options["device"]
	if options["o"] != "" {
		s.options = strings.Split(options["o"], ",")
	}
	isBind := func(o string) bool { return o == "bind" || o == "rbind" }
	switch {
	case s.kind == "bind" || slices.ContainsFunc(s.options, isBind):
		s.kind = "bind"
		if !filepath.IsAbs(s.device) {
			return s, fmt.Errorf("device %q: a bind needs the absolute path of a directory", s.device)
		}
	case s.kind == "tmpfs":
		if size := options["size"]; size != "" {
			s.options = append(s.options, "size="+size)
		}
		return s, nil
	case s.kind == "" && s.device == "" && s.options == nil:
	case s.kind == "" || s.kind == "none":
		return s, errors.New(`missing required option: "type": want tmpfs, nfs or another file system, or none with o=bind`)
	case s.device == "":
		return s, errors.New(`missing required option: "device"`)
	}
	if options["size"] != "" {
		return s, errors.New(`option "size": only a volume of type tmpfs can be limited`)
	}
	return s, nil
}

// check says why the calling user cannot have such a volume.
func (s *volumeSource) check(rootless bool) error {
	if rootless && s.kind != "" && s.kind != "bind" && s.kind != "tmpfs" {
		return fmt.Errorf("type %q: only root may mount it: want tmpfs, or none with o=bind", s.kind)
	}
	return nil
}

// source reads the options of a volume that is about to be mounted.
func (v *Volume) source(rootless bool) (volumeSource, error) {
	s, err := parseVolumeOptions(v.Options)
	if err == nil {
		err = s.check(rootless)
	}
	if err != nil {
		return s, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	s.options = slices.DeleteFunc(s.options, func(o string) bool { return o == "dev" }) // no node in a volume opens
	return s, nil
}

// mount describes the mount of a file system where m wants the volume.
func (s *volumeSource) mount(m MountSpec) (specs.Mount, error) {
	if m.Subpath != "" {
		return specs.Mount{}, fmt.Errorf("volume-subpath %q: not in a volume of type %s", m.Subpath, s.kind)
	}
	words := append(slices.Clone(s.options), "nodev")
	for i, o := range words {
		if name, ok := strings.CutPrefix(o, "addr="); ok {
			var err error
			if words[i], err = address(name); err != nil {
				return specs.Mount{}, err
			}
		}
	}
	words = append(words, m.Options...)
	if m.ReadOnly {
		words = append(words, "ro")
	}
	return specs.Mount{Destination: m.Target, Type: s.kind, Source: cmp.Or(s.device, s.kind), Options: words}, nil
}

// bind gives a mount the source and the options of a volume that is a directory: its own, or another of the host.
func (s *volumeSource) bind(m *MountSpec, own string) {
	if s.kind == "" {
		m.Source = own
		return
	}
	m.Source, m.NonRecursive = s.device, true
	for _, o := range s.options {
		switch {
		case o == "rbind":
			m.NonRecursive = false
		case o == "ro":
			m.ReadOnly = true
		case isPropagation(o):
			m.Propagation = o
		case o != "bind" && o != "rw":
			m.Options = append(m.Options, o)
		}
	}
}

// address is the option addr= with the address of a server: the kernel looks no names up.
func address(name string) (string, error) {
	if net.ParseIP(name) == nil {
		ip, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return "", fmt.Errorf("option %q: %w", "addr="+name, err)
		}
		name = ip.String()
	}
	return "addr=" + name, nil
}
