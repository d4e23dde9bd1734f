package run

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// tmpfsDefaults are the options that a tmpfs in a container has unless told otherwise, Docker's.
func tmpfsDefaults() []string { return []string{"nosuid", "nodev", "noexec"} }

// ParseTmpfs reads the value of --tmpfs: PATH[:OPTION,…], where an option is one of mount(8)'s for a tmpfs.
// The result's Options begin with Docker's defaults (nosuid, nodev, noexec), so that "exec" takes one of them back.
func ParseTmpfs(s string) (MountSpec, error) {
	target, options, _ := strings.Cut(s, ":")
	m := MountSpec{Type: MountTmpfs, Options: tmpfsDefaults()}
	var err error
	if m.Target, err = cleanTarget(target); err != nil {
		return MountSpec{}, fmt.Errorf("tmpfs %q: %w", s, err)
	}
	if options == "" {
		return m, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		if err := m.tmpfsOption(option); err != nil {
			return MountSpec{}, fmt.Errorf("tmpfs %q: %w", s, err)
		}
	}
	return m, nil
}

func (m *MountSpec) tmpfsOption(option string) error {
	key, value, hasValue := strings.Cut(option, "=")
	if hasValue {
		return m.tmpfsValue(key, value)
	}
	switch option {
	case "ro", "rw":
		m.ReadOnly = option == "ro"
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev",
		"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
		"sync", "async", "dirsync", "mand", "nomand":
		m.Options = append(m.Options, option)
	case "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
		m.Propagation = option
	default:
		return fmt.Errorf("invalid tmpfs option %q", option)
	}
	return nil
}

func (m *MountSpec) tmpfsValue(key, value string) (err error) {
	if value == "" {
		return fmt.Errorf("option %q has no value", key)
	}
	switch key {
	case "size":
		// A percentage of memory is the kernel's to work out.
		if strings.HasSuffix(value, "%") {
			return m.tmpfsPercent(value)
		}
		m.TmpfsSize, err = ParseBytes(value)
	case "mode":
		m.TmpfsMode, err = parseMode(value)
	case "uid", "gid":
		if _, err := strconv.ParseUint(value, 10, 32); err != nil {
			return fmt.Errorf("option %q: want a number, not %q", key, value)
		}
		m.Options = append(m.Options, key+"="+value)
	case "nr_inodes", "nr_blocks":
		if strings.Trim(value, "0123456789kKmMgG") != "" {
			return fmt.Errorf("option %q: want a number, not %q", key, value)
		}
		m.Options = append(m.Options, key+"="+value)
	case "mpol", "huge":
		m.Options = append(m.Options, key+"="+value)
	default:
		return fmt.Errorf("invalid tmpfs option %q", key)
	}
	return err
}

func (m *MountSpec) tmpfsPercent(value string) error {
	if n, err := strconv.ParseUint(strings.TrimSuffix(value, "%"), 10, 16); err != nil || n == 0 {
		return errors.New("size: want a positive percentage of memory")
	}
	m.Options = append(m.Options, "size="+value)
	return nil
}
