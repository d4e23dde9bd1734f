package run

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/ns"
)

// What --sandbox limits a container to where nobody has said otherwise. They are meant for a build or a test run, and are
// the ones that docs/sandbox.md names.
const (
	sandboxMemory = 2 << 30       // bytes, and no swap
	sandboxTmp    = 512 << 20     // bytes in /tmp, which count as memory too
	sandboxPids   = 512           // processes and threads
	sandboxCPUs   = 2_000_000_000 // billionths of a processor
	sandboxTime   = time.Hour
	sandboxGrace  = 10 * time.Second
)

// LandlockConfig is about Landlock, see ns.Landlock: which files may be written follows from the mounts.
type LandlockConfig struct {
	On bool
	// NoTCP refuses TCP altogether.
	NoTCP bool
}

// applySandbox turns Isolation.Sandbox into ordinary settings. It fills in what nobody has asked for, by a value or by being
// named in SandboxExcept, refuses what cannot go together, and does nothing the second time.
func (c *Config) applySandbox() error {
	i := &c.Isolation
	if !i.Sandbox {
		return nil
	}
	if err := c.checkSandbox(); err != nil {
		return err
	}
	if i.Userns == "" {
		i.Userns = "auto"
	}
	if !slices.Contains(i.CapDrop, allCapabilities) {
		i.CapDrop = append(slices.Clone(i.CapDrop), allCapabilities)
	}
	i.Security.NoNewPrivileges = true
	i.Landlock.On = true
	if c.Network.Mode == "" && !i.excepts("network") {
		c.Network.Mode, i.Landlock.NoTCP = "none", true
	}
	c.sandboxFiles()
	c.sandboxLimits()
	if l := &c.Lifetime; l.Timeout == 0 && !i.excepts("timeout") {
		l.Timeout, l.TimeoutGrace = sandboxTime, sandboxGrace
	}
	return nil
}

// SandboxFlags are the flags of which it matters that they were given, beside their values: see IsolationConfig.SandboxExcept.
func SandboxFlags() []string {
	return []string{"network", "read-only", "memory", "memory-swap", "memory-reservation", "cpus", "cpu-quota", "cpu-period", "pids-limit", "timeout"}
}

// excepts says whether one of these flags was given, so that the sandbox leaves alone what it is about.
func (i *IsolationConfig) excepts(flags ...string) bool {
	return slices.ContainsFunc(flags, func(f string) bool { return slices.Contains(i.SandboxExcept, f) })
}

// implies says whether a limit is there because of the sandbox alone. Of several flags that a warning names the first counts.
func (i *IsolationConfig) implies(flag string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(flag, "--"), " ")
	return i.Sandbox && !i.excepts(name)
}

// checkSandbox refuses wishes that would leave nothing of what the sandbox is for.
func (c *Config) checkSandbox() error {
	i := &c.Isolation
	for _, wish := range []struct {
		flag  string
		there bool
	}{
		{"--privileged", i.Privileged}, {"--cap-add ALL", slices.Contains(i.CapAdd, allCapabilities)},
		{"--userns host", i.Userns == NamespaceHost}, {"--pid host", i.PID == NamespaceHost}, {"--ipc host", i.IPC == NamespaceHost},
		{"--uts host", i.UTS == NamespaceHost}, {"--cgroupns host", i.Cgroupns == NamespaceHost},
		{"--security-opt seccomp=unconfined", i.Security.Seccomp == "unconfined"},
		{"--security-opt systempaths=unconfined", i.Security.UnmaskPaths}, {"--security-opt writable-cgroups", i.Security.WritableCgroups},
	} {
		if wish.there {
			return fmt.Errorf("sandbox: conflicting options: %s takes away what --sandbox is for: leave out one of the two", wish.flag)
		}
	}
	return nil
}

// sandboxFiles makes the root read-only, and gives the program two places to write to: its working directory and /tmp.
func (c *Config) sandboxFiles() {
	f := &c.Files
	if f.OwnWorkdir = true; !c.Isolation.excepts("read-only") {
		f.ReadOnly = true
	}
	if !slices.ContainsFunc(f.Mounts, func(m MountSpec) bool { return m.Target == "/tmp" }) {
		f.Mounts = append(slices.Clone(f.Mounts), MountSpec{Type: MountTmpfs, Target: "/tmp", TmpfsSize: sandboxTmp, Options: []string{"exec"}})
	}
}

func (c *Config) sandboxLimits() {
	i, l := &c.Isolation, &c.Limits
	r := &l.Resources
	if r.Memory == nil && !i.excepts("memory", "memory-swap", "memory-reservation") {
		limit, swap := int64(sandboxMemory), int64(sandboxMemory)
		r.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &swap}
	}
	if l.NanoCPUs == 0 && (r.CPU == nil || r.CPU.Quota == nil) && !i.excepts("cpus", "cpu-quota", "cpu-period") {
		l.NanoCPUs = sandboxCPUs
	}
	if r.Pids == nil && !i.excepts("pids-limit") {
		limit := int64(sandboxPids)
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	var more []specs.POSIXRlimit
	if r.Pids != nil && value(r.Pids.Limit) > 0 { // in a user namespace the kernel counts its processes alone, cgroup or none
		n := uint64(*r.Pids.Limit)
		more = append(more, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: n, Hard: n})
	}
	more = append(more, specs.POSIXRlimit{Type: "RLIMIT_CORE"})
	for _, u := range more {
		if !slices.ContainsFunc(l.Ulimits, func(old specs.POSIXRlimit) bool { return old.Type == u.Type }) {
			l.Ulimits = append(l.Ulimits[:len(l.Ulimits):len(l.Ulimits)], u)
		}
	}
}

// workdir is the directory that the program starts in.
func workdir(c *Config, image *v1.Config) string {
	return path.Clean("/" + cmp.Or(c.Process.Workdir, image.WorkingDir)) // old builders left the image's slash out
}

// covering is the deepest of some places that path is in, -1 if it is in none.
func covering(path string, places []string) int {
	best := -1
	for n, p := range places {
		if (p == path || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/")) && (best < 0 || len(p) > len(places[best])) {
			best = n
		}
	}
	return best
}

// ownWorkdir gives a layer of its own to the mount in which the working directory lies, if it is one that the host keeps, and
// that may be written.
func ownWorkdir(c *Config, image *v1.Config, mounts []MountSpec) []MountSpec {
	if !c.Files.OwnWorkdir {
		return mounts
	}
	places := make([]string, len(mounts))
	for n, m := range mounts {
		places[n] = m.Target
	}
	n := covering(workdir(c, image), places)
	if n < 0 || mounts[n].ReadOnly || mounts[n].Type != MountBind && mounts[n].Type != MountVolume {
		return mounts
	}
	mounts = slices.Clone(mounts)
	mounts[n].Overlay, mounts[n].Chown = true, false
	return mounts
}

// inRootItself says whether the working directory lies in the root file system, and in no mount.
func inRootItself(dir string, mounts []specs.Mount) bool {
	places := make([]string, len(mounts))
	for n, m := range mounts {
		places[n] = m.Destination
	}
	n := covering(dir, places)
	return n < 0 || places[n] == "/"
}

// landlock says what a program may write: what is mounted for that, and the file systems of the kernel's, which have rights
// of their own.
func landlock(c *Config, cwd string, mounts []MountSpec) *ns.Landlock {
	if !c.Isolation.Landlock.On {
		return nil
	}
	l := &ns.Landlock{Writable: []string{"/dev", "/proc"}, NoTCP: c.Isolation.Landlock.NoTCP}
	if !c.Files.ReadOnly {
		l.Writable = []string{"/"}
		return l
	}
	if c.Files.OwnWorkdir && cwd != "/" {
		l.Writable = append(l.Writable, cwd)
	}
	for _, m := range mounts {
		if !m.ReadOnly && m.Type != MountImage {
			l.Writable = append(l.Writable, m.Target)
		}
	}
	for _, d := range c.Files.Devices {
		l.Writable = append(l.Writable, d.Target)
	}
	return l
}
