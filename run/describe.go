package run

import (
	"cmp"
	"math"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Document shows the container as inspect does, with the configuration of its image where that is still here.
func (c *Container) Document() *Document {
	var config *v1.ConfigFile
	if img, err := c.host.Images.Lookup(c.ImageID); err == nil {
		config = img.Config
	}
	return Describe(&c.State, config)
}

// Describe puts what is known of a container into the form of docker inspect. It reads nothing: image is the configuration
// the container was made from, or nil if that is gone. The paths of hosts and the like are empty: they lie in memory.
func Describe(s *State, image *v1.ConfigFile) *Document {
	var from v1.Config
	if image != nil {
		from = image.Config
	}
	d := &Document{
		ID: s.ID, Name: "/" + s.Name, Created: s.Created.UTC(), Image: s.ImageID,
		State:  describeState(s),
		Driver: "overlay2", Platform: "linux",
		HostConfig: describeHost(&s.Config), GraphDriver: DocGraphDriver{Name: "overlay2", Data: map[string]string{}},
		Mounts: describeMounts(s.Config.Files.Mounts), Config: describeConfig(s, &from),
		NetworkSettings: DocNetworkSettings{
			Ports:    map[string][]DocPort{},
			Networks: map[string]DocNetwork{cmp.Or(s.Config.Network.Mode, "none"): {}},
		},
		Args: []string{},
	}
	if len(s.Args) > 0 {
		d.Path, d.Args = s.Args[0], s.Args[1:]
	}
	return d
}

func describeState(s *State) DocState {
	return DocState{
		Status: s.Status, Running: s.Status == Running, OOMKilled: s.OOMKilled, Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.Started.UTC(), FinishedAt: s.Finished.UTC(),
	}
}

func describeConfig(s *State, from *v1.Config) DocConfig {
	c := &s.Config
	d := DocConfig{
		Hostname: cmp.Or(c.Network.Hostname, ShortID(s.ID)), Domainname: c.Network.Domainname,
		User: cmp.Or(c.Process.User, from.User), Tty: c.Process.TTY, OpenStdin: c.Process.Interactive, StdinOnce: c.Process.Interactive,
		AttachStdin: c.attached("stdin"), AttachStdout: c.attached("stdout"), AttachStderr: c.attached("stderr"),
		Env: MergeEnv(from.Env, c.Process.Env...), Cmd: from.Cmd, Image: c.Image, Volumes: from.Volumes,
		WorkingDir: cmp.Or(c.Process.Workdir, from.WorkingDir), Entrypoint: from.Entrypoint, OnBuild: from.OnBuild,
		Labels: mergeLabels(from.Labels, c.Labels), StopSignal: cmp.Or(c.Lifetime.StopSignal, from.StopSignal),
		StopTimeout: c.Lifetime.StopTimeout, Shell: from.Shell, ExposedPorts: mergePorts(from.ExposedPorts, c.Network.Expose),
	}
	if c.Process.Entrypoint != nil {
		d.Entrypoint, d.Cmd = *c.Process.Entrypoint, nil
	}
	if len(c.Args) > 0 {
		d.Cmd = c.Args
	}
	return d
}

// attached tells whether a stream of the caller is connected: those named, or by default the two outputs, and the input
// where it was asked for.
func (c *Config) attached(stream string) bool {
	if len(c.Process.Attach) > 0 {
		return slices.Contains(c.Process.Attach, stream)
	}
	return stream != "stdin" || c.Process.Interactive
}

// mergeLabels lays the user's labels over the image's. Never nil: scripts index it.
func mergeLabels(base, over map[string]string) map[string]string {
	labels := make(map[string]string, len(base)+len(over))
	for _, m := range []map[string]string{base, over} {
		for k, v := range m {
			labels[k] = v
		}
	}
	return labels
}

func mergePorts(base map[string]struct{}, more []string) map[string]struct{} {
	ports := make(map[string]struct{}, len(base)+len(more))
	for p := range base {
		ports[p] = struct{}{}
	}
	for _, p := range more {
		ports[p] = struct{}{}
	}
	return ports
}

func describeHost(c *Config) DocHostConfig {
	d := DocHostConfig{
		Binds: binds(c.Files.Mounts), ContainerIDFile: c.Lifetime.CIDFile, Tmpfs: tmpfs(c.Files.Mounts),
		LogConfig:   DocLogConfig{Type: "none", Config: map[string]string{}},
		NetworkMode: cmp.Or(c.Network.Mode, "none"), PortBindings: map[string][]DocPort{},
		RestartPolicy: DocRestartPolicy{cmp.Or(c.Lifetime.Restart.Name, "no"), c.Lifetime.Restart.MaxRetries},
		AutoRemove:    c.Lifetime.Remove, Annotations: c.Annotations,
		CapAdd: c.Isolation.CapAdd, CapDrop: c.Isolation.CapDrop, CgroupnsMode: cmp.Or(c.Isolation.Cgroupns, "private"),
		DNS: orEmpty(c.Network.DNS), DNSOptions: orEmpty(c.Network.DNSOptions), DNSSearch: orEmpty(c.Network.DNSSearch),
		ExtraHosts: extraHosts(c.Network.AddHost), GroupAdd: c.Process.GroupAdd,
		IpcMode: cmp.Or(c.Isolation.IPC, "private"), PidMode: c.Isolation.PID, UTSMode: c.Isolation.UTS, UsernsMode: c.Isolation.Userns,
		Privileged: c.Isolation.Privileged, ReadonlyRootfs: c.Files.ReadOnly, SecurityOpt: c.Isolation.Security.list(),
		ShmSize: cmp.Or(c.Files.ShmSize, 64<<20), Sysctls: c.Limits.Sysctls, Runtime: "hull", Devices: devices(c.Files.Devices),
	}
	if !c.Isolation.Privileged && !c.Isolation.Security.UnmaskPaths {
		d.MaskedPaths, d.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	if c.Process.Init {
		d.Init = &c.Process.Init
	}
	describeLimits(&d, &c.Limits)
	return d
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func describeLimits(d *DocHostConfig, l *LimitsConfig) {
	d.NanoCPUs, d.CgroupParent, d.OomScoreAdj = l.NanoCPUs, l.CgroupParent, value(l.OOMScoreAdj)
	if m := l.Resources.Memory; m != nil {
		d.Memory, d.MemorySwap, d.MemoryReservation = value(m.Limit), value(m.Swap), value(m.Reservation)
		d.MemorySwappiness, d.OomKillDisable = m.Swappiness, m.DisableOOMKiller
	}
	if c := l.Resources.CPU; c != nil {
		d.CPUShares, d.CpusetCpus, d.CpusetMems = value(c.Shares), c.Cpus, c.Mems
		d.CPURealtimePeriod, d.CPURealtimeRuntime = value(c.RealtimePeriod), value(c.RealtimeRuntime)
		if l.NanoCPUs == 0 {
			d.CPUPeriod, d.CPUQuota = value(c.Period), value(c.Quota)
		}
	}
	if p := l.Resources.Pids; p != nil {
		d.PidsLimit = p.Limit
	}
	if b := l.Resources.BlockIO; b != nil {
		d.BlkioWeight = value(b.Weight)
	}
	for _, r := range l.BlkioWeightDevice {
		d.BlkioWeightDevice = append(d.BlkioWeightDevice, DocWeight{r.Path, uint16(r.Rate)})
	}
	d.BlkioDeviceReadBps, d.BlkioDeviceWriteBps = rates(l.ReadBps), rates(l.WriteBps)
	d.BlkioDeviceReadIOps, d.BlkioDeviceWriteIOps = rates(l.ReadIOPS), rates(l.WriteIOPS)
	for _, u := range l.Ulimits {
		d.Ulimits = append(d.Ulimits, DocUlimit{strings.ToLower(strings.TrimPrefix(u.Type, "RLIMIT_")), signed(u.Hard), signed(u.Soft)})
	}
}

// signed shows a limit as Docker does: -1 is none.
func signed(n uint64) int64 {
	if n > math.MaxInt64 {
		return -1
	}
	return int64(n)
}

func rates(list []DeviceRate) (out []DocRate) {
	for _, r := range list {
		out = append(out, DocRate(r))
	}
	return out
}

func devices(list []Device) []DocDevice {
	out := []DocDevice{}
	for _, d := range list {
		out = append(out, DocDevice{d.Source, d.Target, d.Permissions})
	}
	return out
}

func extraHosts(list []HostEntry) (out []string) {
	for _, h := range list {
		out = append(out, h.Name+":"+h.IP)
	}
	return out
}

// list is --security-opt again.
func (o *SecurityOpts) list() (out []string) {
	add := func(set bool, word string) {
		if set {
			out = append(out, word)
		}
	}
	add(o.NoNewPrivileges, "no-new-privileges")
	add(o.Seccomp != "", "seccomp="+o.Seccomp)
	add(o.AppArmor != "", "apparmor="+o.AppArmor)
	for _, l := range o.Labels {
		add(true, "label="+l)
	}
	add(o.UnmaskPaths, "systempaths=unconfined")
	add(o.WritableCgroups, "writable-cgroups=true")
	return out
}

// mode is the last part of -v again.
func (m *MountSpec) mode() string {
	var words []string
	if m.ReadOnly {
		words = append(words, "ro")
	}
	for _, word := range []string{m.Relabel, m.Propagation} {
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(append(words, m.Options...), ",")
}

// binds are mounts as -v takes them.
func binds(mounts []MountSpec) (out []string) {
	for _, m := range mounts {
		if m.Type == MountTmpfs || m.Source == "" {
			continue
		}
		bind := m.Source + ":" + m.Target
		if mode := m.mode(); mode != "" {
			bind += ":" + mode
		}
		out = append(out, bind)
	}
	return out
}

func tmpfs(mounts []MountSpec) map[string]string {
	var out map[string]string
	for _, m := range mounts {
		if m.Type == MountTmpfs {
			out = put(out, m.Target, m.mode())
		}
	}
	return out
}

func describeMounts(mounts []MountSpec) []DocMount {
	out := []DocMount{}
	for _, m := range mounts {
		d := DocMount{Type: m.Type, Source: m.Source, Destination: m.Target, Mode: m.mode(), RW: !m.ReadOnly}
		switch m.Type {
		case MountBind:
			d.Propagation = cmp.Or(m.Propagation, "rprivate")
		case MountVolume:
			d.Name, d.Source, d.Driver = m.Source, "", cmp.Or(m.Driver, "local")
		}
		out = append(out, d)
	}
	return out
}
