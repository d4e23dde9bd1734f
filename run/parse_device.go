package run

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Device is a wish for a device of the host inside the container.
type Device struct {
	// Source is the path on the host, a node or a folder of nodes; Target the path inside. Both are absolute.
	Source, Target string
	// Permissions is a choice of r, w and m (mknod), "rwm" unless told otherwise.
	Permissions string
}

// ParseDevice reads --device: SOURCE[:TARGET[:rwm]], where the middle may be left out before permissions.
func ParseDevice(s string) (Device, error) {
	d, err := parseDevice(s)
	if err != nil {
		return Device{}, fmt.Errorf("device %q: %w", s, err)
	}
	return d, nil
}

func parseDevice(s string) (Device, error) {
	if !strings.HasPrefix(s, "/") && strings.Contains(s, "=") {
		return Device{}, errors.New("CDI device names are not known yet: give the path of the device")
	}
	parts := strings.Split(s, ":")
	d := Device{Source: parts[0], Permissions: "rwm"}
	switch len(parts) {
	case 1:
	case 2:
		if isDeviceMode(parts[1]) {
			d.Permissions = parts[1]
		} else {
			d.Target = parts[1]
		}
	case 3:
		d.Target, d.Permissions = parts[1], parts[2]
	default:
		return Device{}, errors.New("invalid device specification: too many colons: want SOURCE[:TARGET[:rwm]]")
	}
	if !isDeviceMode(d.Permissions) {
		return Device{}, fmt.Errorf("bad mode specified: %q: want some of r, w and m", d.Permissions)
	}
	if d.Target == "" {
		d.Target = d.Source
	}
	for _, p := range []*string{&d.Source, &d.Target} {
		if !path.IsAbs(*p) {
			return Device{}, fmt.Errorf("%q is not an absolute path", *p)
		}
		*p = path.Clean(*p)
	}
	return d, nil
}

// isDeviceMode tells whether s is a choice of r, w and m, each at most once.
func isDeviceMode(s string) bool {
	if s == "" || strings.Trim(s, "rwm") != "" {
		return false
	}
	return strings.Count(s, "r") < 2 && strings.Count(s, "w") < 2 && strings.Count(s, "m") < 2
}
