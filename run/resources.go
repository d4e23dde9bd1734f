package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/ns"
	"github.com/hullrun/hull/ns/seccomp"
)

// findMounts turns what was asked for into mounts of things that exist.
func (s *start) findMounts() ([]specs.Mount, error) {
	var mounts []specs.Mount
	for _, m := range ownWorkdir(&s.Config, &s.image.Config.Config, s.Mounts) {
		for _, o := range m.Unknown {
			s.host.warn("volume %s: option %q is unknown and ignored", m.Target, o)
		}
		one, err := s.findMount(m)
		if err != nil {
			return nil, err
		}
		if m.Chown && one.Type == "bind" {
			if err := s.giveToUser(one.Source); err != nil {
				return nil, fmt.Errorf("mount %q: option U: %w", m.Target, err)
			}
		}
		mounts = append(mounts, one)
	}
	return mounts, nil
}

func (s *start) findMount(m MountSpec) (specs.Mount, error) {
	switch m.Type {
	case MountTmpfs:
		return tmpfsMount(m), nil
	case MountVolume:
		return s.findVolume(m)
	case MountImage:
		return s.findImage(m)
	}
	if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) {
		if !m.CreateSource {
			return specs.Mount{}, fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return specs.Mount{}, fmt.Errorf("create bind source: %w", err)
		}
	} else if err != nil {
		return specs.Mount{}, fmt.Errorf("bind: %w", err)
	}
	if m.Overlay {
		return s.overlayBind(m)
	}
	if err := s.checkBind(m); err != nil {
		return specs.Mount{}, err
	}
	bind := bindMount(m)
	own := s.world.Identity
	if own.Mapped && !underDev(m.Source) {
		bind.Options = append(bind.Options, ns.IDMapOption)
	}
	// Not where a node that somebody else has made would show as one of the container's own.
	if own.UserNS && !own.Mapped || s.opensNodes() || harmlessDevice(m.Source) || underDev(m.Source) {
		// In a user namespace nobody makes a node that opens; for the host's /dev there are the rules of a cgroup.
		bind.Options = slices.DeleteFunc(bind.Options, func(o string) bool { return o == "nodev" })
	}
	return bind, nil
}

// findVolume shows a volume. No device node in it opens, except where they all may.
func (s *start) findVolume(m MountSpec) (specs.Mount, error) {
	v, err := s.host.Volume(m.Source)
	if err != nil {
		return specs.Mount{}, err
	}
	source, err := v.source(s.host.rootless)
	if err != nil {
		return specs.Mount{}, err
	}
	var mount specs.Mount
	switch source.kind {
	case "", "bind":
		if source.bind(&m, v.Mountpoint); m.Overlay {
			return s.overlayBind(m)
		}
		err = s.checkBind(m)
		if mount = bindMount(m); s.world.Identity.Mapped {
			mount.Options = append(mount.Options, ns.IDMapOption)
		}
	default:
		mount, err = source.mount(m)
	}
	if err != nil {
		return specs.Mount{}, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	if s.opensNodes() {
		mount.Options = slices.DeleteFunc(mount.Options, func(o string) bool { return o == "nodev" })
	}
	return mount, nil
}

// opensNodes says whether device nodes open wherever they are. With ids of its own, root of the container is nobody to the
// host's devices, and must not become somebody by the way in which files are shown.
func (s *start) opensNodes() bool {
	return (s.Config.Isolation.Privileged || s.world.OpenNodes) && !s.world.Identity.Mapped
}

// findImage shows an image, which cannot be written.
func (s *start) findImage(m MountSpec) (specs.Mount, error) {
	img, err := s.host.Images.Lookup(m.Image)
	if err != nil {
		return specs.Mount{}, fmt.Errorf("mount image %q: %w", m.Source, err)
	}
	mount, err := s.host.Images.Mount("", "", img, layers.MountOptions{ReadOnly: true, UserXattr: s.world.Identity.UserNS})
	mount.Destination = m.Target
	mount.Options = append(mount.Options, "nodev")
	if m.Subpath != "" {
		mount.Options = append(mount.Options, ns.SubdirOption+m.Subpath)
	}
	return mount, err
}

// checkBind refuses what the kernel would refuse without a reason, or silently not do.
func (s *start) checkBind(m MountSpec) error {
	if s.world.Identity.UserNS && m.NonRecursive {
		if err := checkSubmounts(m); err != nil {
			return err
		}
	}
	return s.host.checkPropagation(m, s.world.Identity.UserNS)
}

func underDev(path string) bool { return path == "/dev" || strings.HasPrefix(path, "/dev/") }

// harmlessDevice says whether path is one of the nodes that every container has: binding /dev/null over something is a
// common trick.
func harmlessDevice(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	return major == 1 && (minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9) || major == 5 && minor == 0
}

// bindMount shows a directory or file of the host. No device node in it opens: the container may have the right to make
// them.
func bindMount(m MountSpec) specs.Mount {
	options := []string{"rbind", "nodev"}
	if m.NonRecursive {
		options[0] = "bind"
	}
	options = append(options, m.Options...)
	switch {
	case m.ReadOnly && m.ReadOnlyNonRecursive:
		options = append(options, "ro")
	case m.ReadOnly:
		options = append(options, "rro")
	}
	if m.Propagation != "" {
		options = append(options, m.Propagation)
	} else {
		options = append(options, "rprivate")
	}
	if m.Subpath != "" {
		options = append(options, ns.SubdirOption+m.Subpath)
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options}
}

func tmpfsMount(m MountSpec) specs.Mount {
	options := slices.Clone(m.Options)
	for _, o := range tmpfsDefaults() {
		opposite := strings.TrimPrefix(o, "no")
		if !slices.Contains(options, o) && !slices.Contains(options, opposite) {
			options = append(options, o)
		}
	}
	if m.TmpfsSize > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.TmpfsSize))
	}
	mode := m.TmpfsMode
	if mode == 0 {
		mode = 0o1777
	}
	options = append(options, fmt.Sprintf("mode=%o", mode))
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}
}

// ownCapabilities are those that this process may give away.
func ownCapabilities() ([]string, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return nil, os.NewSyscallError("capget", err)
	}
	var list []string
	for n, name := range ns.AllCapabilities() {
		if data[n/32].Permitted&(1<<(n%32)) != 0 {
			list = append(list, name)
		}
	}
	return list, nil
}

// seccompProfile is the filter for a container with these capabilities: none, the default, or a file's.
func seccompProfile(c *Config, bounding []string) (*specs.LinuxSeccomp, error) {
	switch file := c.Isolation.Security.Seccomp; {
	case file == "unconfined" || file == "" && c.Isolation.Privileged:
		return nil, nil
	case file == "" || file == "builtin":
		return seccomp.Default(bounding, "")
	default:
		text, err := given.ReadFile(file, given.Limit)
		if err != nil {
			return nil, fmt.Errorf("seccomp profile: %w", err)
		}
		p, err := seccomp.Load(bytes.NewReader(text), bounding, "")
		if err != nil {
			return nil, fmt.Errorf("%q: %w", file, err)
		}
		return p, nil
	}
}

// makeGroup makes the cgroup, where there is use for one. On v2 there always is, for it costs next to nothing. On v1 only a
// limit, or a container without a pid namespace that bounds its life, is worth ten milliseconds.
func (s *start) makeGroup() error {
	resources, err := s.resources()
	if err != nil {
		return err
	}
	if err := s.checkOOMScore(); err != nil {
		return err
	}
	wanted := limited(resources) || s.Config.Isolation.PID == "host" || s.Config.Limits.CgroupParent != ""
	if !wanted && cgroups.Version() != 2 {
		return nil
	}
	group, warnings, err := cgroups.New(s.ID, resources, cgroups.Options{
		Parent: s.Config.Limits.CgroupParent, Rootless: s.host.rootless, Always: wanted, Measure: s.Config.Isolation.Sandbox,
	})
	if err != nil {
		return err
	}
	s.group = group
	if group != nil {
		s.Cgroups = group.Paths()
		s.world.CgroupV2 = group.Dir() != nil
		s.world.CgroupV1 = !s.world.CgroupV2
	}
	s.world.OpenNodes = group != nil && len(s.Config.Files.DeviceRules) > 0 && !s.world.Identity.UserNS &&
		!slices.ContainsFunc(warnings, func(w cgroups.Warning) bool { return w.Flag == cgroups.FlagDevices })
	return s.warnOfLimits(resources, warnings)
}

// warnOfLimits says what cannot be kept. What only --sandbox has asked for is one line together.
func (s *start) warnOfLimits(resources *specs.LinuxResources, warnings []cgroups.Warning) error {
	var implied []string
	cause := ""
	for _, w := range warnings {
		if w.Flag == "--memory-swap" && (impliedSwap(resources.Memory) || s.Config.Isolation.Sandbox) || w.Flag == "--cpu-period" && s.Config.Limits.NanoCPUs > 0 {
			continue // nobody asked for it, and --memory has a line of its own
		}
		if w.Flag == "--pids-limit" && s.Config.Isolation.Sandbox && s.host.rootless {
			continue // RLIMIT_NPROC keeps it, see sandboxLimits
		}
		if s.Config.Limits.Require {
			return fmt.Errorf("%v (--require-limits)", w)
		}
		if s.Config.Isolation.implies(w.Flag) {
			implied, cause = append(implied, w.Flag), w.Cause
			continue
		}
		s.host.warn("%v", w)
	}
	if len(implied) > 0 {
		s.host.warn("--sandbox: without the effect of %s: %s", strings.Join(implied, ", "), cause)
	}
	return nil
}

// checkOOMScore warns of a score that the kernel will not take.
func (s *start) checkOOMScore() error {
	if adj := s.Config.Limits.OOMScoreAdj; adj != nil && s.host.rootless && *adj < 0 {
		if s.Config.Limits.Require {
			return fmt.Errorf("--oom-score-adj %d: only root may lower it (--require-limits)", *adj)
		}
		s.host.warn("--oom-score-adj %d: only root may lower it: left as it is", *adj)
	}
	return nil
}

// impliedSwap says whether the limit on memory and swap is the one that follows from the limit on memory.
func impliedSwap(m *specs.LinuxMemory) bool {
	return m != nil && m.Limit != nil && m.Swap != nil && *m.Swap == 2**m.Limit
}

// limited says whether any limit was asked for.
func limited(r *specs.LinuxResources) bool {
	return r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || len(r.Devices) > 0 || len(r.HugepageLimits) > 0
}

// resources are the asked limits with block devices looked up.
func (s *start) resources() (*specs.LinuxResources, error) {
	l := &s.Config.Limits
	r := l.Resources
	rules, err := s.deviceRules()
	if err != nil {
		return nil, err
	}
	r.Devices = append(slices.Clone(r.Devices), rules...)
	if len(l.BlkioWeightDevice)+len(l.ReadBps)+len(l.WriteBps)+len(l.ReadIOPS)+len(l.WriteIOPS) > 0 {
		block := specs.LinuxBlockIO{}
		if r.BlockIO != nil {
			block = *r.BlockIO
		}
		for _, rates := range []struct {
			list []DeviceRate
			to   *[]specs.LinuxThrottleDevice
		}{
			{l.ReadBps, &block.ThrottleReadBpsDevice}, {l.WriteBps, &block.ThrottleWriteBpsDevice},
			{l.ReadIOPS, &block.ThrottleReadIOPSDevice}, {l.WriteIOPS, &block.ThrottleWriteIOPSDevice},
		} {
			for _, d := range rates.list {
				major, minor, err := blockDevice(d.Path)
				if err != nil {
					return nil, err
				}
				t := specs.LinuxThrottleDevice{Rate: d.Rate}
				t.Major, t.Minor = major, minor
				*rates.to = append(*rates.to, t)
			}
		}
		for _, d := range l.BlkioWeightDevice {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return nil, err
			}
			weight := uint16(d.Rate)
			w := specs.LinuxWeightDevice{Weight: &weight}
			w.Major, w.Minor = major, minor
			block.WeightDevice = append(block.WeightDevice, w)
		}
		r.BlockIO = &block
	}
	return &r, nil
}

func blockDevice(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("limit of device %q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("limit of device %q: not a block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// hierarchies names the cgroup v1 hierarchies that the container sees.
func (s *start) hierarchies() []string {
	if s.world.CgroupV2 {
		return nil
	}
	var list []string
	for _, path := range s.Cgroups { // CONTROLLERS:DIRECTORY
		if h, _, ok := strings.Cut(path, ":"); ok {
			list = append(list, h)
		}
	}
	return list
}
