package run

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
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

// ParseDeviceRule reads --device-cgroup-rule: TYPE MAJOR:MINOR ACCESS, where the type is a for both c and b, a number may be
// * for all, and the access is a choice of r, w and m. What it names is allowed; Docker's grammar, exactly one space apart.
func ParseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	rule, ok := parseDeviceRule(s)
	if !ok {
		return rule, fmt.Errorf("device-cgroup-rule %q: invalid device cgroup format: want a, b or c, MAJOR:MINOR or *, and some of r, w and m",
			s)
	}
	return rule, nil
}

func parseDeviceRule(s string) (rule specs.LinuxDeviceCgroup, ok bool) {
	words := strings.Split(s, " ")
	if len(words) != 3 || len(words[0]) != 1 || !strings.Contains("abc", words[0]) {
		return rule, false
	}
	major, minor, ok := strings.Cut(words[1], ":")
	rule = specs.LinuxDeviceCgroup{Allow: true, Type: words[0], Access: words[2]}
	if !ok || len(words[2]) > 3 || words[2] == "" || strings.Trim(words[2], "rwm") != "" {
		return rule, false
	}
	if rule.Major, ok = deviceNumber(major); ok {
		rule.Minor, ok = deviceNumber(minor)
	}
	return rule, ok
}

// deviceNumber reads a number that a device may have; nil stands for all.
func deviceNumber(s string) (*int64, bool) {
	if s == "*" {
		return nil, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	number := int64(n)
	return &number, err == nil && s[0] != '+'
}
