package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/ns"
)

// findDevices adds the devices that were asked for: as nodes of the container's own, or in a user namespace, where nobody
// may make any, bound from the host.
func (s *start) findDevices() error {
	list := s.Config.Files.Devices
	if s.Config.Isolation.Privileged && !s.world.Identity.UserNS {
		if slices.ContainsFunc(s.Mounts, func(m MountSpec) bool { return m.Target == "/dev" }) {
			return nil // the user's own
		}
		return s.allDevices()
	}
	for _, d := range list {
		nodes, err := ns.HostDevice(d.Source, d.Target)
		if err != nil {
			return fmt.Errorf("device %q: %w", d.Source, err)
		}
		if !s.world.Identity.UserNS {
			s.world.Devices = append(s.world.Devices, nodes...)
			continue
		}
		for _, n := range nodes {
			source := d.Source + strings.TrimPrefix(n.Path, d.Target)
			options := []string{"bind", "nosuid", "noexec"}
			if !strings.Contains(d.Permissions, "w") {
				options = append(options, "ro")
			}
			s.world.Mounts = append(s.world.Mounts, specs.Mount{Destination: n.Path, Type: "bind", Source: source, Options: options})
		}
	}
	return nil
}

// allDevices gives a privileged container the host's devices, as nodes of its own.
func (s *start) allDevices() error {
	nodes, err := ns.HostDevice("/dev", "/dev")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Path, "/dev/pts/") || strings.HasPrefix(n.Path, "/dev/shm/") || n.Path == "/dev/console" || n.Path == "/dev/ptmx" {
			continue
		}
		s.world.Devices = append(s.world.Devices, n)
	}
	return nil
}

// deviceRules are for the cgroup of a container that could get around nodev: root's, if it may mount file systems, has a
// tmpfs without it or the host's /dev, or was given a device for less than everything, which only a cgroup can tell apart; and
// of one with rules of its own. They are Docker's: nodes may be made, but only the harmless ones and the given ones open.
// Elsewhere no rule is needed, and none costs anything.
func (s *start) deviceRules() (rules []specs.LinuxDeviceCgroup, err error) {
	c := &s.Config
	if len(c.Files.DeviceRules) > 0 && s.world.Identity.UserNS {
		const why = "--device-cgroup-rule: in a user namespace nobody makes device nodes"
		if c.Limits.Require {
			return nil, errors.New(why + " (--require-limits)")
		}
		s.host.warn("%s: ignored", why)
	}
	if s.world.Identity.UserNS || c.Isolation.Privileged {
		return nil, nil
	}
	partly := slices.ContainsFunc(c.Files.Devices, func(d Device) bool { return len(d.Permissions) < 3 })
	open := slices.ContainsFunc(s.Mounts, func(m MountSpec) bool {
		return m.Type == MountTmpfs && slices.Contains(m.Options, "dev") ||
			m.Type == MountBind && underDev(m.Source) && !harmlessDevice(m.Source)
	})
	if len(c.Files.DeviceRules) == 0 && !partly && !open && !slices.Contains(Capabilities(c.Isolation.CapAdd, c.Isolation.CapDrop), "CAP_SYS_ADMIN") {
		return nil, nil
	}
	rule := func(allow bool, kind string, major, minor int64, access string) {
		r := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		rules = append(rules, r)
	}
	rule(false, "a", -1, -1, "rwm")
	rule(true, "c", -1, -1, "m")
	rule(true, "b", -1, -1, "m")
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}} {
		rule(true, "c", d[0], d[1], "rwm")
	}
	for _, d := range c.Files.Devices {
		nodes, err := ns.HostDevice(d.Source, d.Target)
		if err != nil {
			return nil, fmt.Errorf("device %q: %w", d.Source, err)
		}
		for _, n := range nodes {
			rule(true, n.Type, n.Major, n.Minor, d.Permissions)
		}
	}
	for _, text := range c.Files.DeviceRules {
		r, err := ParseDeviceRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}
