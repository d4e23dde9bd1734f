package run

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// minMemory is the least memory a container can be limited to, Docker's 6 MiB: less and its first process does not come up.
const minMemory = 6 << 20

// Complete looks for wishes that are impossible on any host or contradict one another, and fills in what follows from the
// others: total memory with swap (twice the memory), the CPU quota. It touches nothing but c and may be called again.
func (c *Config) Complete() error {
	for _, check := range []func() error{
		c.checkNames, c.Process.check, c.Lifetime.check, c.Files.check, c.Network.check, c.Limits.complete, c.Isolation.check, c.checkShared,
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
	return CheckName(c.Name)
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
	if l.Timeout < 0 {
		return fmt.Errorf("timeout %s: want seconds", l.Timeout)
	}
	if l.Remove && l.Restart.Name != "" {
		return fmt.Errorf("restart %q: conflicting options: cannot specify both --restart and --rm", l.Restart.Name)
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
		// Without them the host's files would be written to, or keep their owner: not what was asked for.
		if m.Overlay || m.Chown {
			return fmt.Errorf("mount %q: options O and U are not known yet", m.Target)
		}
		if seen[m.Target] {
			return fmt.Errorf("mount %q: Duplicate mount point: %s", m.Target, m.Target)
		}
		seen[m.Target] = true
	}
	if f.ShmSize < 0 {
		return fmt.Errorf("shm-size %d: SHM size can not be less than 0", f.ShmSize)
	}
	return nil
}

func (n *NetworkConfig) check() error {
	if n.Mode != "" && n.Mode != "none" && n.Mode != NamespaceHost {
		return fmt.Errorf("network %q: want none or host, the networks there are so far", n.Mode)
	}
	// The kernel's limit for both (__NEW_UTS_LEN).
	for _, name := range []string{n.Hostname, n.Domainname} {
		if len(name) > 64 || hasBlank(name) {
			return fmt.Errorf("hostname %q: want at most 64 characters and no blank", name)
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
	if o.AppArmor != "" && o.AppArmor != "unconfined" {
		return fmt.Errorf("security-opt %q: AppArmor profiles are not known yet: seccomp and capabilities protect the host", "apparmor="+o.AppArmor)
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
