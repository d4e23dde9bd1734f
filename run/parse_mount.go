package run

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// ParseMount reads the value of --mount, one CSV record of KEY[=VALUE] fields in Docker's grammar, keys in any case.
// Without a type it is a volume. A source that begins with "." counts from cwd; other than with -v it has to exist.
func ParseMount(s, cwd string) (MountSpec, error) {
	m, err := parseMount(s, cwd)
	if err != nil {
		return MountSpec{}, fmt.Errorf("mount %q: %w", s, err)
	}
	return m, nil
}

// mountFields is a MountSpec on the way: which groups of keys were seen decides whether they fit the type, which may come last.
type mountFields struct {
	MountSpec
	cwd                   string
	bind, volume, inTmpfs bool
	image                 bool
}

func parseMount(s, cwd string) (MountSpec, error) {
	fields, err := csvFields(s)
	if err != nil {
		return MountSpec{}, err
	}
	m := mountFields{MountSpec: MountSpec{Type: MountVolume, Long: true}, cwd: cwd}
	for _, field := range fields {
		if err := m.field(field); err != nil {
			return MountSpec{}, err
		}
	}
	return m.MountSpec, m.check()
}

// csvFields splits exactly one CSV record.
func csvFields(s string) ([]string, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("value is empty")
	}
	r := csv.NewReader(strings.NewReader(strings.TrimSpace(s)))
	fields, err := r.Read()
	if err != nil {
		return nil, err
	}
	if _, err := r.Read(); err != io.EOF {
		return nil, errors.New("more than one line")
	}
	return fields, nil
}

func (m *mountFields) field(field string) error {
	key, value, hasValue := strings.Cut(field, "=")
	if strings.TrimSpace(key) != key {
		return fmt.Errorf("option %q should not have whitespace", key)
	}
	if hasValue && value == "" {
		return fmt.Errorf("value of %q is empty", key)
	}
	if strings.TrimSpace(value) != value {
		return fmt.Errorf("value of %q should not have whitespace around it", key)
	}
	key = strings.ToLower(key)
	if flag := m.boolean(key); flag != nil {
		return setBool(flag, key, value, hasValue)
	}
	if !hasValue {
		return fmt.Errorf("invalid field %q: must be a key=value pair", field)
	}
	if group, _, ok := strings.Cut(key, "-"); ok {
		switch group {
		case "bind":
			m.bind = true
			return m.bindField(key, value)
		case "volume":
			m.volume = true
			return m.volumeField(key, value)
		case "tmpfs":
			m.inTmpfs = true
			return m.tmpfsField(key, value)
		case "image":
			m.image = true
			if key != "image-subpath" {
				return fmt.Errorf("unknown option %q", key)
			}
			m.Subpath = value
			return nil
		}
	}
	return m.commonField(key, value)
}

// boolean returns where a key that needs no value is kept, nil for every other key.
func (m *mountFields) boolean(key string) *bool {
	switch key {
	case "ro", "readonly":
		return &m.ReadOnly
	case "bind-create-src":
		m.bind = true
		return &m.CreateSource
	case "bind-nonrecursive":
		m.bind = true
		return &m.NonRecursive
	case "volume-nocopy":
		m.volume = true
		return &m.NoCopy
	}
	return nil
}

func setBool(to *bool, key, value string, hasValue bool) error {
	if !hasValue {
		*to = true
		return nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("invalid value for %q: want true or false, not %q", key, value)
	}
	*to = b
	return nil
}

func (m *mountFields) commonField(key, value string) error {
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "src", "source":
		m.Source = value
	case "dst", "destination", "target":
		m.Target = value
	case "consistency":
		// A hint for Docker Desktop's file sharing.
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

func (m *mountFields) bindField(key, value string) error {
	switch key {
	case "bind-propagation":
		if m.Propagation = value; !isPropagation(value) {
			return fmt.Errorf("invalid value for %q: want rprivate, private, rshared, shared, rslave or slave, not %q", key, value)
		}
		return nil
	case "bind-recursive":
		return m.recursive(value)
	}
	return fmt.Errorf("unknown option %q", key)
}

func (m *mountFields) recursive(value string) error {
	switch value {
	case "enabled":
	case "disabled":
		m.NonRecursive = true
	case "writable":
		m.ReadOnlyNonRecursive = true
	case "readonly":
		m.ReadOnlyForceRecursive = true
	default:
		return fmt.Errorf("invalid value for %q: want enabled, disabled, writable or readonly, not %q", "bind-recursive", value)
	}
	return nil
}

func (m *mountFields) volumeField(key, value string) error {
	switch key {
	case "volume-subpath":
		m.Subpath = value
	case "volume-driver":
		m.Driver = value
	case "volume-label":
		k, v, _ := strings.Cut(value, "=")
		m.Labels = put(m.Labels, k, v)
	case "volume-opt":
		k, v, _ := strings.Cut(value, "=")
		m.DriverOpts = put(m.DriverOpts, k, v)
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

func put(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

func (m *mountFields) tmpfsField(key, value string) error {
	switch key {
	case "tmpfs-size":
		size, err := ParseBytes(value)
		if err != nil {
			return fmt.Errorf("invalid value for %q: %w", key, err)
		}
		m.TmpfsSize = size
	case "tmpfs-mode":
		mode, err := parseMode(value)
		if err != nil {
			return fmt.Errorf("invalid value for %q: %w", key, err)
		}
		m.TmpfsMode = mode
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

// parseMode reads permission bits in octal, at most 7777.
func parseMode(s string) (uint32, error) {
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o7777 {
		return 0, fmt.Errorf("want an octal mode such as 1777, not %q", s)
	}
	return uint32(mode), nil
}

// check looks at the whole: keys of another type, and what each type needs.
func (m *mountFields) check() (err error) {
	if m.Target == "" {
		return errors.New("target is required")
	}
	if m.Target, err = cleanTarget(m.Target); err != nil {
		return err
	}
	switch m.Type {
	case MountBind:
		err = m.checkBind()
	case MountVolume:
		err = m.checkVolume()
	case MountTmpfs:
		err = m.checkTmpfs()
	case MountImage:
		err = m.checkImage()
	default:
		return fmt.Errorf("invalid mount type %q: want bind, volume, tmpfs or image", m.Type)
	}
	if err != nil {
		return err
	}
	return m.checkGroups()
}

func (m *mountFields) checkGroups() error {
	switch {
	case m.bind && m.Type != MountBind:
		return fmt.Errorf("cannot mix 'bind-*' options with mount type %q", m.Type)
	case m.volume && m.Type != MountVolume:
		return fmt.Errorf("cannot mix 'volume-*' options with mount type %q", m.Type)
	case m.inTmpfs && m.Type != MountTmpfs:
		return fmt.Errorf("cannot mix 'tmpfs-*' options with mount type %q", m.Type)
	case m.image && m.Type != MountImage:
		return fmt.Errorf("cannot mix 'image-*' options with mount type %q", m.Type)
	}
	return nil
}

func (m *mountFields) checkBind() (err error) {
	if m.Source == "" {
		return errors.New("source is required for a bind mount")
	}
	if !strings.HasPrefix(m.Source, "/") && !strings.HasPrefix(m.Source, ".") {
		return fmt.Errorf("source path %q must be absolute", m.Source)
	}
	if m.Source, err = hostPath(m.Source, m.cwd, ""); err != nil {
		return err
	}
	if m.ReadOnlyNonRecursive && !m.ReadOnly {
		return errors.New("option 'bind-recursive=writable' requires 'readonly'")
	}
	if m.ReadOnlyForceRecursive && !m.ReadOnly {
		return errors.New("option 'bind-recursive=readonly' requires 'readonly'")
	}
	// A shared mount would hand the read-only flag on to the host.
	if m.ReadOnlyForceRecursive && m.Propagation != "rprivate" {
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate'")
	}
	return nil
}

func (m *mountFields) checkVolume() error {
	if m.Source != "" {
		if err := CheckVolumeName(m.Source); err != nil {
			return err
		}
	}
	if m.Subpath == "" {
		return nil
	}
	if m.Source == "" {
		return errors.New("volume-subpath needs the name of a volume in source")
	}
	return m.checkSubpath()
}

func (m *mountFields) checkSubpath() error {
	clean := path.Clean(m.Subpath)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return fmt.Errorf("subpath %q must be a relative path within the %s", m.Subpath, m.Type)
	}
	m.Subpath = clean
	return nil
}

// checkImage: nothing writes to an image.
func (m *mountFields) checkImage() error {
	if m.Source == "" {
		return errors.New("source is required for a mount of an image")
	}
	m.ReadOnly = true
	if m.Subpath == "" {
		return nil
	}
	return m.checkSubpath()
}

func (m *mountFields) checkTmpfs() error {
	if m.Source != "" {
		return errors.New("a tmpfs has no source")
	}
	m.Options = tmpfsDefaults()
	return nil
}
