package run

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/network"
)

// minMemory is the least memory a container can be limited to, Docker's 6 MiB: less and its first process does not come up.
const minMemory = 6 << 20

// Complete looks for wishes that are impossible on any host or contradict one another, and fills in what follows from the
// others: what makes a sandbox, total memory with swap (twice the memory), the CPU quota. It touches nothing but c and may be called again.
func (c *Config) Complete() error {
	for _, check := range []func() error{
		c.applySandbox, c.checkNames, c.Process.check, c.Lifetime.check, c.Files.check, c.Network.check, c.Limits.complete, c.Isolation.check, c.Health.check, c.checkShared,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// The words for namespaces that several fields of IsolationConfig know.
const (
	NamespaceHost    = "host"
	NamespacePrivate = "private"
)

func (c *Config) checkNames() error {
	if c.Image == "" {
		return errors.New("image \"\": empty name")
	}
	switch c.Pull {
	case "", PullMissing, PullAlways, PullNever, PullNewer:
	default:
		return fmt.Errorf("pull %q: invalid pull option: want missing, always, never or newer", c.Pull)
	}
	if c.Replace && c.Name == "" {
		return errors.New("replace: needs the name of the container to replace")
	}
	if c.Name == "" {
		return nil
	}
	if err := CheckName(c.Name); err != nil {
		return err
	}
	c.Name = strings.TrimPrefix(c.Name, "/")
	return nil
}

func (l *LifetimeConfig) check() error {
	if l.StopSignal != "" {
		if _, err := ParseSignal(l.StopSignal); err != nil {
			return fmt.Errorf("stop-%w", err)
		}
	}
	if l.StopTimeout != nil && *l.StopTimeout < -1 {
		return fmt.Errorf("stop-timeout %d: want seconds, or -1 for ever", *l.StopTimeout)
	}
	if l.TimeoutGrace < 0 || l.TimeoutGrace > 0 && l.Timeout == 0 {
		return fmt.Errorf("timeout %s,%s: a grace needs a time that it follows, and is not negative", l.Timeout, l.TimeoutGrace)
	}
	if l.Remove && l.Restart.Name != "" {
		return fmt.Errorf("restart %q: conflicting options: cannot specify both --restart and --rm", l.Restart.Name)
	}
	return nil
}

func (h *HealthConfig) check() error {
	switch h.OnFailure {
	case "", "none", "kill", "restart", "stop":
	default:
		return fmt.Errorf("health-on-failure %q: want none, kill, restart or stop", h.OnFailure)
	}
	if h.Retries < 0 {
		return fmt.Errorf("health-retries %d: cannot be negative", h.Retries)
	}
	return nil
}

func (p *ProcessConfig) check() error {
	if p.Workdir != "" && !path.IsAbs(p.Workdir) {
		return fmt.Errorf("workdir %q: the working directory is invalid, it needs to be an absolute path", p.Workdir)
	}
	if _, _, err := ParseUser(p.User); err != nil {
		return err
	}
	if _, err := strconv.ParseUint(p.Umask, 8, 9); err != nil && p.Umask != "" {
		return fmt.Errorf("umask %q: want octal, at most 777", p.Umask)
	}
	for _, stream := range p.Attach {
		if stream != "stdin" && stream != "stdout" && stream != "stderr" {
			return fmt.Errorf("attach %q: want stdin, stdout or stderr", stream)
		}
	}
	return nil
}

func (f *FilesConfig) check() error {
	seen := map[string]bool{}
	for _, m := range f.Mounts {
		if seen[m.Target] {
			return fmt.Errorf("mount %q: Duplicate mount point: %s", m.Target, m.Target)
		}
		seen[m.Target] = true
		if err := checkProcMount(m); err != nil {
			return err
		}
	}
	for _, spec := range f.VolumesFrom {
		if _, _, err := ParseVolumesFrom(spec); err != nil {
			return fmt.Errorf("volumes-from %q: %w", spec, err)
		}
	}
	if f.ShmSize < 0 {
		return fmt.Errorf("shm-size %d: SHM size can not be less than 0", f.ShmSize)
	}
	return nil
}

// checkProcMount refuses mounts over the kernel's own files, as runc does (checkProcMount in libcontainer): what tells of the
// machine may be covered, as lxcfs does, and all of /proc by the host's, but nothing that programs rely on for their safety.
func checkProcMount(m MountSpec) error {
	switch m.Target {
	case "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
		"/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled":
		return nil
	case "/proc":
		if m.Type == MountBind && m.Source == "/proc" {
			return nil
		}
	default:
		if !strings.HasPrefix(m.Target, "/proc/") {
			return nil
		}
	}
	return fmt.Errorf("mount %q: cannot be mounted because it is inside /proc", m.Target)
}

func (n *NetworkConfig) check() error {
	if err := n.checkModes(); err != nil {
		return err
	}
	// The kernel's limit for both (__NEW_UTS_LEN).
	for _, name := range []string{n.Hostname, n.Domainname} {
		if len(name) > 64 || hasBlank(name) {
			return fmt.Errorf("hostname %q: want at most 64 characters and no blank", name)
		}
	}
	return nil
}

// checkModes refuses wishes for a network that the container does not get, in Docker's words.
func (n *NetworkConfig) checkModes() error {
	if n.named() && !n.alone() && len(n.Networks) == 0 {
		n.Networks = []NetworkWish{{Name: n.Mode}}
	}
	for _, spec := range n.Publish {
		if _, err := network.ParsePort(spec); err != nil {
			return err
		}
	}
	if n.pasta() {
		return n.checkPasta()
	}
	if n.named() {
		return n.checkWishes()
	}
	conflict := func(what string, kind ...string) error {
		return fmt.Errorf("network %q: conflicting options: %s and the %snetwork mode", cmp.Or(n.Mode, network.None), what, strings.Join(kind, ""))
	}
	switch {
	case len(n.Networks) > 0:
		return fmt.Errorf("network %q: conflicting options: cannot attach both user-defined and non-user-defined network-modes", n.Networks[0].Name)
	case n.joins() && n.Mode == modeContainer:
		return fmt.Errorf("network %q: invalid container format container:<name|id>", n.Mode)
	case !n.joins():
		return nil
	case n.Hostname+n.Domainname != "":
		return conflict("hostname")
	case len(n.AddHost) > 0:
		return conflict("custom host-to-IP mapping")
	case len(n.DNS)+len(n.DNSSearch)+len(n.DNSOptions) > 0:
		return conflict("dns")
	case len(n.Publish) > 0 || n.PublishAll:
		return conflict("port publishing", "container type ")
	case len(n.Expose) > 0:
		return conflict("port exposing", "container type ")
	}
	return nil
}

// checkWishes looks at the addresses that are asked for.
func (n *NetworkConfig) checkWishes() error {
	seen := map[string]bool{}
	for _, w := range n.Networks {
		if seen[w.Name] {
			return fmt.Errorf("network %q is specified multiple times", w.Name)
		}
		seen[w.Name] = true
		for _, ip := range []string{w.IP, w.IP6} {
			if _, err := netip.ParseAddr(ip); ip != "" && err != nil {
				return fmt.Errorf("invalid IP address: %q", ip)
			}
		}
		if mac, err := net.ParseMAC(w.MAC); w.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0) { // odd are those of groups
			return fmt.Errorf("%s is not a valid mac address of an interface", w.MAC)
		}
	}
	return nil
}

func (i *IsolationConfig) check() error {
	kinds := []struct{ name, value, more string }{{"pid", i.PID, ""}, {"uts", i.UTS, ""}, {"cgroupns", i.Cgroupns, ""}, {"ipc", i.IPC, "none shareable"}}
	for _, kind := range kinds {
		switch kind.value {
		case "", NamespaceHost, NamespacePrivate:
			continue
		}
		if !strings.Contains(" "+kind.more+" ", " "+kind.value+" ") {
			want := strings.ReplaceAll(strings.TrimSpace("host private "+kind.more), " ", ", ")
			return fmt.Errorf("%s %q: invalid mode: want one of %s", kind.name, kind.value, want)
		}
	}
	if err := i.Security.check(); err != nil {
		return err
	}
	_, err := ParseUserns(i.Userns)
	return err
}

// check refuses protection that was asked for and would not be there.
func (o *SecurityOpts) check() error {
	if strings.ContainsAny(o.AppArmor, "\x00\n") {
		return fmt.Errorf("security-opt %q: invalid name of an AppArmor profile", "apparmor="+o.AppArmor)
	}
	for _, l := range o.Labels {
		if l != "disable" {
			return fmt.Errorf("security-opt %q: SELinux labels are not known yet: seccomp and capabilities protect the host", "label="+l)
		}
	}
	return nil
}

// checkShared refuses wishes that would change a namespace which belongs to the host.
func (c *Config) checkShared() error {
	if c.Isolation.UTS == NamespaceHost && c.Network.Hostname+c.Network.Domainname != "" {
		return fmt.Errorf("hostname %q: conflicting options: hostname and the UTS mode: --uts host shares the host's name",
			c.Network.Hostname+c.Network.Domainname)
	}
	for key := range c.Limits.Sysctls {
		switch {
		case strings.HasPrefix(key, "net.") && c.Network.Mode == NamespaceHost:
			return fmt.Errorf("sysctl %q: sysctl %q not allowed in host network namespace", key, key)
		case isIPCSysctl(key) && c.Isolation.IPC == NamespaceHost:
			return fmt.Errorf("sysctl %q: sysctl %q not allowed in host IPC namespace", key, key)
		}
	}
	return nil
}

func (l *LimitsConfig) complete() error {
	if l.OOMScoreAdj != nil && (*l.OOMScoreAdj < -1000 || *l.OOMScoreAdj > 1000) {
		return fmt.Errorf("oom-score-adj %d: invalid value, range for oom score adj is [-1000, 1000]", *l.OOMScoreAdj)
	}
	if l.NanoCPUs != 0 {
		if err := l.setQuota(); err != nil {
			return err
		}
	}
	if err := completeMemory(l.Resources.Memory); err != nil {
		return err
	}
	if err := checkCPU(l.Resources.CPU); err != nil {
		return err
	}
	if io := l.Resources.BlockIO; io != nil && io.Weight != nil && (*io.Weight < 10 || *io.Weight > 1000) {
		return fmt.Errorf("blkio-weight %d: range of blkio weight is from 10 to 1000", *io.Weight)
	}
	return nil
}

// cpuPeriod is the period in µs that --cpus counts its quota in, the kernel's default.
const cpuPeriod = 100_000

func (l *LimitsConfig) setQuota() error {
	if l.Resources.CPU == nil {
		l.Resources.CPU = &specs.LinuxCPU{}
	}
	quota, period := l.NanoCPUs*cpuPeriod/1e9, uint64(cpuPeriod)
	cpu := l.Resources.CPU
	if cpu.Quota != nil && *cpu.Quota != quota || cpu.Period != nil && *cpu.Period != period {
		return fmt.Errorf("cpus %g: conflicting options: --cpus cannot be combined with --cpu-period or --cpu-quota", float64(l.NanoCPUs)/1e9)
	}
	cpu.Quota, cpu.Period = &quota, &period
	return nil
}

func completeMemory(m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	limit, swap, soft := value(m.Limit), value(m.Swap), value(m.Reservation)
	switch {
	case limit != 0 && limit < minMemory:
		return fmt.Errorf("memory %d: Minimum memory limit allowed is 6MB", limit)
	case limit == 0 && swap > 0:
		return fmt.Errorf("memory-swap %d: You should always set the Memory limit when using Memoryswap limit", swap)
	case swap > 0 && swap < limit:
		return fmt.Errorf("memory-swap %d: Minimum memoryswap limit should be larger than memory limit", swap)
	case soft != 0 && soft < minMemory:
		return fmt.Errorf("memory-reservation %d: Minimum memory reservation allowed is 6MB", soft)
	case limit != 0 && limit < soft:
		return fmt.Errorf("memory-reservation %d: Minimum memory limit can not be less than memory reservation limit", soft)
	case m.Swappiness != nil && *m.Swappiness > 100:
		return fmt.Errorf("memory-swappiness %d: invalid value, valid memory swappiness range is 0-100", *m.Swappiness)
	}
	if limit != 0 && swap == 0 {
		total := int64(math.MaxInt64)
		if limit <= total/2 {
			total = 2 * limit
		}
		m.Swap = &total
	}
	return nil
}

func checkCPU(cpu *specs.LinuxCPU) error {
	if cpu == nil {
		return nil
	}
	if p := value(cpu.Period); p != 0 && (p < 1000 || p > 1_000_000) {
		return fmt.Errorf("cpu-period %d: CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", p)
	}
	if q := value(cpu.Quota); q > 0 && q < 1000 || q < -1 {
		return fmt.Errorf("cpu-quota %d: CPU cfs quota can not be less than 1ms (i.e. 1000)", q)
	}
	if err := CheckCPUSet(cpu.Cpus); err != nil {
		return err
	}
	return CheckCPUSet(cpu.Mems)
}

// value is what p points at, or zero.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
