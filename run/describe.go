package run

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Document shows the container as inspect does, with the configuration of its image where that is still here.
func (c *Container) Document() *Document {
	var config *v1.ConfigFile
	if img, err := c.host.Images.Lookup(c.ImageID); err == nil {
		config = img.Config
	}
	d := Describe(&c.State, config)
	d.State.Health = c.Health()
	d.NetworkSettings.Report = c.NetworkReport()
	if d.HostConfig.MaskedPaths != nil {
		d.HostConfig.MaskedPaths = maskedPaths(hotCPUs())
	}
	if c.Detached && d.HostConfig.LogConfig.Type == LogJSONFile {
		d.LogPath = c.logPath()
	}
	for i := range d.Mounts {
		if m := &d.Mounts[i]; m.Type == MountVolume {
			m.Source = c.host.volumeData(m.Name)
		}
	}
	return d
}

// Describe puts what is known of a container into the form of docker inspect. It reads nothing: image is the configuration
// the container was made from, or nil if that is gone. The paths of hosts and the like are empty: they lie in memory; those
// of volumes, too, for where they lie is not the container's to say.
func Describe(s *State, image *v1.ConfigFile) *Document {
	var from v1.Config
	if image != nil {
		from = image.Config
	}
	d := &Document{
		ID: s.ID, Name: "/" + s.Name, Created: docTime(s.Created), Image: s.ImageID,
		State: describeState(s), RestartCount: s.RestartCount,
		Driver: "overlay2", Platform: "linux", AppArmorProfile: s.AppArmor,
		HostConfig: describeHost(&s.Config), GraphDriver: DocGraphDriver{Name: "overlay2", Data: map[string]string{}},
		Mounts: describeMounts(s), Config: describeConfig(s, &from),
		NetworkSettings: describeNetwork(s, mergePorts(from.ExposedPorts, s.Config.Network.Expose)),
		Args:            []string{},
	}
	if len(s.Args) > 0 {
		d.Path, d.Args = s.Args[0], s.Args[1:]
	}
	return d
}

func describeState(s *State) DocState {
	return DocState{
		Status: s.Status, Running: s.Status.Alive(), Paused: s.Status == Paused, Restarting: s.Status == Restarting,
		Dead: s.Status == Dead, OOMKilled: s.OOMKilled, TimedOut: s.TimedOut, Used: s.Used, Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: docTime(s.Started), FinishedAt: docTime(s.Finished),
	}
}

func docTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func describeConfig(s *State, from *v1.Config) DocConfig {
	c := &s.Config
	d := DocConfig{
		Hostname: s.hostname(), Domainname: c.Network.Domainname,
		User: cmp.Or(c.Process.User, from.User), Tty: c.Process.TTY, OpenStdin: c.Process.Interactive, StdinOnce: c.Process.Interactive && !c.Process.KeepStdin,
		AttachStdin: c.attached("stdin"), AttachStdout: c.attached("stdout"), AttachStderr: c.attached("stderr"),
		Env: MergeEnv(from.Env, slices.Concat(c.Host.Env, c.Process.Env)...), Cmd: from.Cmd, Image: c.Image, Volumes: anonymousTargets(from.Volumes, c.Files.Mounts),
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
	if c.Process.Attach != nil {
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
		Binds: binds(c.Files.Mounts), Mounts: longMounts(c.Files.Mounts), Tmpfs: tmpfs(c.Files.Mounts),
		VolumesFrom: c.Files.VolumesFrom, ContainerIDFile: c.Lifetime.CIDFile,
		LogConfig:   describeLog(&c.Log),
		NetworkMode: cmp.Or(c.Network.Mode, "none"), PortBindings: portBindings(&c.Network), PublishAllPorts: c.Network.PublishAll,
		RestartPolicy: DocRestartPolicy{cmp.Or(c.Lifetime.Restart.Name, "no"), c.Lifetime.Restart.MaxRetries},
		AutoRemove:    c.Lifetime.Remove, Annotations: c.Annotations,
		CapAdd: c.Isolation.CapAdd, CapDrop: c.Isolation.CapDrop, CgroupnsMode: cmp.Or(c.Isolation.Cgroupns, "private"),
		DNS: orEmpty(c.Network.DNS), DNSOptions: orEmpty(c.Network.DNSOptions), DNSSearch: orEmpty(c.Network.DNSSearch),
		ExtraHosts: extraHosts(c.Network.AddHost), GroupAdd: c.Process.GroupAdd,
		IpcMode: cmp.Or(c.Isolation.IPC, "private"), PidMode: c.Isolation.PID, UTSMode: c.Isolation.UTS, UsernsMode: c.Isolation.Userns,
		Privileged: c.Isolation.Privileged, ReadonlyRootfs: c.Files.ReadOnly, SecurityOpt: c.Isolation.Security.list(),
		ShmSize: cmp.Or(c.Files.ShmSize, 64<<20), Sysctls: c.Limits.Sysctls, Runtime: "hull", Devices: devices(c.Files.Devices),
		DeviceCgroupRules: c.Files.DeviceRules,
	}
	if !c.Isolation.Privileged && !c.Isolation.Security.UnmaskPaths {
		d.MaskedPaths, d.ReadonlyPaths = maskedPaths(nil), readonlyPaths()
	}
	if c.Process.Init {
		d.Init = &c.Process.Init
	}
	describeLimits(&d, &c.Limits)
	return d
}

func describeLog(l *LogConfig) DocLogConfig {
	d := DocLogConfig{Type: cmp.Or(l.Driver, LogJSONFile), Config: l.Options}
	if d.Config == nil {
		d.Config = map[string]string{}
	}
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

// binds are the mounts of -v, but for those without a source.
func binds(mounts []MountSpec) (out []string) {
	for _, m := range mounts {
		if m.Long || m.Type == MountTmpfs || m.Source == "" {
			continue
		}
		bind, mode := m.Source+":"+m.Target, m.mode()
		if m.NoCopy {
			mode = strings.TrimPrefix(mode+",nocopy", ",")
		}
		if mode != "" {
			bind += ":" + mode
		}
		out = append(out, bind)
	}
	return out
}

// longMounts are the mounts of --mount.
func longMounts(mounts []MountSpec) (out []DocLongMount) {
	for _, m := range mounts {
		if m.Long {
			out = append(out, DocLongMount{m.Type, m.Source, m.Target, m.ReadOnly})
		}
	}
	return out
}

// tmpfs are the mounts of --tmpfs.
func tmpfs(mounts []MountSpec) map[string]string {
	var out map[string]string
	for _, m := range mounts {
		if m.Type == MountTmpfs && !m.Long {
			out = put(out, m.Target, m.mode())
		}
	}
	return out
}

// anonymousTargets are the image's volumes and those of -v without a source.
func anonymousTargets(image map[string]struct{}, mounts []MountSpec) map[string]struct{} {
	out := maps.Clone(image)
	for _, m := range mounts {
		if m.Type == MountVolume && m.Source == "" && !m.Long {
			if out == nil {
				out = map[string]struct{}{}
			}
			out[m.Target] = struct{}{}
		}
	}
	return out
}

// describeMounts leaves out what --tmpfs mounts, as Docker does.
func describeMounts(s *State) []DocMount {
	out := []DocMount{}
	for _, m := range s.Mounts {
		d := DocMount{Type: m.Type, Source: m.Source, Destination: m.Target, Mode: m.mode(), RW: !m.ReadOnly}
		switch {
		case m.Type == MountTmpfs && !m.Long:
			continue
		case m.Type == MountBind:
			d.Propagation = cmp.Or(m.Propagation, "rprivate")
		case m.Type == MountVolume:
			d.Name, d.Source, d.Driver = m.Source, "", volumeDriver
			if d.Mode == "" && !slices.Contains(s.Volumes, m.Source) {
				d.Mode = "z" // Docker's word for a named volume that was given none
			}
		}
		out = append(out, d)
	}
	return out
}
