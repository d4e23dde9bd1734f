package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseVolume reads the value of -v: [SOURCE:]TARGET[:OPTION,…], in Docker's grammar with podman's further options.
// No source is an anonymous volume; a source that starts with /, . or ~ is a host path, counted from cwd and home, and is
// made if missing; any other is the name of a volume. Options nobody knows are handed back in MountSpec.Unknown.
func ParseVolume(s, cwd, home string) (MountSpec, error) {
	m, err := parseVolume(s, cwd, home)
	if err != nil {
		return MountSpec{}, fmt.Errorf("volume %q: %w", s, err)
	}
	return m, nil
}

func parseVolume(s, cwd, home string) (MountSpec, error) {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return MountSpec{}, errors.New("too many colons: want [SOURCE:]TARGET[:OPTIONS]")
	}
	if slices.Contains(parts, "") {
		return MountSpec{}, errors.New("empty section between colons: want [SOURCE:]TARGET[:OPTIONS]")
	}
	m := MountSpec{Type: MountVolume, Target: parts[0]}
	if len(parts) > 1 {
		m.Target = parts[1]
		if err := m.setSource(parts[0], cwd, home); err != nil {
			return m, err
		}
	}
	var err error
	if m.Target, err = cleanTarget(m.Target); err != nil {
		return m, err
	}
	if len(parts) == 3 {
		return m, m.setVolumeOptions(strings.Split(parts[2], ","))
	}
	return m, nil
}

// setSource decides between a host path and the name of a volume by the first character, as Docker's client does.
func (m *MountSpec) setSource(source, cwd, home string) (err error) {
	if !strings.ContainsAny(source[:1], "/.~") {
		m.Source = source
		return CheckVolumeName(source)
	}
	m.Type, m.CreateSource = MountBind, true
	m.Source, err = hostPath(source, cwd, home)
	return err
}

func (m *MountSpec) setVolumeOptions(options []string) error {
	var modes, labels int
	for _, o := range options {
		switch o {
		case "ro", "rw":
			m.ReadOnly = o == "ro"
			modes++
		case "z", "Z":
			m.Relabel = o
			labels++
		case "nocopy":
			m.NoCopy = true
		case "O":
			m.Overlay = true
		case "U":
			m.Chown = true
		case "noexec", "exec", "nosuid", "suid", "nodev", "dev":
			m.Options = append(m.Options, o)
		case "copy", "consistent", "cached", "delegated", "":
			// What happens anyway, and Docker Desktop's hints about caches.
		default:
			if !isPropagation(o) {
				m.Unknown = append(m.Unknown, o)
				continue
			}
			if m.Propagation != "" {
				return fmt.Errorf("options %s and %s contradict each other", m.Propagation, o)
			}
			m.Propagation = o
		}
	}
	if modes > 1 && slices.Contains(options, "ro") && slices.Contains(options, "rw") {
		return errors.New("options ro and rw contradict each other")
	}
	if labels > 1 && slices.Contains(options, "z") && slices.Contains(options, "Z") {
		return errors.New("options z and Z contradict each other")
	}
	return m.checkVolumeOptions()
}

// checkVolumeOptions refuses options that mean nothing for this kind of mount.
func (m *MountSpec) checkVolumeOptions() error {
	if m.Type == MountVolume && m.Propagation != "" {
		return fmt.Errorf("option %s is for a bind mount, and this is a volume", m.Propagation)
	}
	if m.Type == MountBind && m.NoCopy {
		return errors.New("option nocopy is for a volume, and this is a bind mount")
	}
	if m.Overlay && m.ReadOnly {
		return errors.New("options O and ro contradict each other")
	}
	if m.Overlay && m.Chown {
		return errors.New("options O and U contradict each other: what is shown through O keeps its owners")
	}
	return nil
}
