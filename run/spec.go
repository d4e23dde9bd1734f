package run

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// World is what has been found out on the host for the start of a container, and what [Spec] needs beside the wishes.
type World struct {
	ID       string
	Dir      string // of the container, where its root file system is mounted
	Root     specs.Mount
	Identity Identity
	User     User
	// Mounts are the volumes, binds and files of the host that were asked for; Devices those that are made as nodes.
	Mounts []specs.Mount
	// Env are variables that the wishes beat.
	Env     []string
	Devices []specs.LinuxDevice
	// Permitted are the capabilities that may be given at all, nil for every one.
	Permitted []string
	// CgroupV2 is true where the container gets a cgroup v2 group, CgroupV1 where it gets v1 groups.
	CgroupV1, CgroupV2 bool
	// OpenNodes is true where the rules of its cgroup, and no mount flag, say which device nodes open.
	OpenNodes bool
	// NetNS and UserNSPath are the namespaces of another container whose network is shared, and Hostname is its name, or that of the
	// host whose is; "" for those of its own.
	NetNS, UserNSPath, Hostname string
	// HotCPUs are the processors of the host that tell when they were too hot, see hotCPUs.
	HotCPUs []int
	// NoMqueue is true where the host has no /dev/mqueue to share.
	NoMqueue bool
	// Size of the caller's terminal, nil if it has none.
	ConsoleSize *specs.Box
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Spec joins an image's configuration and somebody's wishes into an OCI runtime specification. It reads and changes
// nothing. The seccomp filter is left out: see seccompProfile.
func Spec(c *Config, image *v1.ConfigFile, w World) (*specs.Spec, error) {
	args, err := commandLine(c, &image.Config)
	if err != nil {
		return nil, err
	}
	p, err := process(c, &image.Config, args, w)
	if err != nil {
		return nil, err
	}
	if err := checkText(p); err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:    specs.Version,
		Hostname:   cmp.Or(w.Hostname, hostname(c, w.ID)),
		Domainname: c.Network.Domainname,
		Root:       &specs.Root{Path: w.Dir, Readonly: c.Files.ReadOnly},
		Process:    p,
		Mounts:     mounts(c, w),
		Linux: &specs.Linux{
			Namespaces: namespaces(c, w), Sysctl: c.Limits.Sysctls, Devices: w.Devices,
			UIDMappings: w.Identity.UIDs, GIDMappings: w.Identity.GIDs,
		},
		Annotations: c.Annotations,
	}
	if c.Isolation.UTS == "host" {
		s.Hostname, s.Domainname = "", ""
	}
	if !c.Isolation.Privileged && !c.Isolation.Security.UnmaskPaths {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = maskedPaths(w.HotCPUs), readonlyPaths()
	}
	return s, nil
}

// checkText refuses what the kernel would read only half of: an image's words, and those of a caller that are no program's
// arguments, may hold zero bytes.
func checkText(p *specs.Process) error {
	for _, list := range []struct {
		what  string
		words []string
	}{{"argument", p.Args}, {"env", p.Env}, {"working directory", []string{p.Cwd}}} {
		for _, word := range list.words {
			if strings.IndexByte(word, 0) >= 0 {
				return fmt.Errorf("%s %q: zero byte", list.what, word[:min(len(word), 200)])
			}
		}
	}
	return nil
}

// process is the program and its rights.
func process(c *Config, image *v1.Config, args []string, w World) (*specs.Process, error) {
	cwd := cmp.Or(c.Process.Workdir, image.WorkingDir, "/")
	if !strings.HasPrefix(cwd, "/") {
		cwd = "/" + cwd // see workdir
	}
	user := w.User.User
	if c.Process.Umask != "" {
		mask, err := strconv.ParseUint(c.Process.Umask, 8, 9)
		if err != nil {
			return nil, fmt.Errorf("umask %q: want octal", c.Process.Umask)
		}
		bits := uint32(mask)
		user.Umask = &bits
	}
	return &specs.Process{
		Args: args, Cwd: cwd, Env: environment(c, image, w), User: user,
		Terminal: c.Process.TTY, ConsoleSize: w.ConsoleSize,
		Capabilities:    capabilities(c, w),
		NoNewPrivileges: c.Isolation.Security.NoNewPrivileges,
		Rlimits:         c.Limits.Ulimits, OOMScoreAdj: c.Limits.OOMScoreAdj,
	}, nil
}

// commandLine is entry point and command, each the user's or the image's: an entry point of the user's drops the image's
// command (Docker's rule).
func commandLine(c *Config, image *v1.Config) ([]string, error) {
	entry, cmd := image.Entrypoint, image.Cmd
	if c.Process.Entrypoint != nil {
		entry, cmd = *c.Process.Entrypoint, nil
	}
	if len(c.Args) > 0 {
		cmd = c.Args
	}
	args := slices.Concat(entry, cmd)
	if len(args) == 0 || args[0] == "" && len(args) == 1 {
		return nil, errors.New("no command specified, and the image names none")
	}
	return args, nil
}

// hostname is the asked one, or the beginning of the ID.
func hostname(c *Config, id string) string { return cmp.Or(c.Network.Hostname, ShortID(id)) }

// environment is the image's over a default PATH, then HOSTNAME and TERM, then the host's, then the user's own; HOME last if nobody set it.
func environment(c *Config, image *v1.Config, w World) []string {
	base := []string{defaultPath}
	if !c.Process.UnsetAllEnv {
		base = MergeEnv(base, image.Env...)
	}
	base = slices.DeleteFunc(base, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(c.Process.UnsetEnv, name)
	})
	more := []string{"HOSTNAME=" + hostname(c, w.ID)}
	if c.Process.TTY {
		more = append(more, "TERM=xterm")
	}
	env := MergeEnv(base, slices.Concat(more, w.Env, c.Host.Env, c.Process.Env)...)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+w.User.Home)
	}
	return env
}

// namespaces lists those that the container does not share with the host.
func namespaces(c *Config, w World) []specs.LinuxNamespace {
	i := &c.Isolation
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, n := range []struct {
		kind specs.LinuxNamespaceType
		own  bool
		path string
	}{
		{specs.UserNamespace, w.Identity.UserNS, w.UserNSPath}, {specs.PIDNamespace, i.PID != "host", ""}, {specs.IPCNamespace, i.IPC != "host", ""},
		{specs.UTSNamespace, i.UTS != "host", ""}, {specs.NetworkNamespace, c.Network.Mode != "host", w.NetNS},
		{specs.CgroupNamespace, i.Cgroupns != "host", ""},
	} {
		if n.own {
			list = append(list, specs.LinuxNamespace{Type: n.kind, Path: n.path})
		}
	}
	return list
}

// capabilities are Docker's: the default set, more or fewer as asked, kept by root and out of reach of anybody else
// but through a setuid program. A set that the caller does not have itself cannot be given.
func capabilities(c *Config, w World) *specs.LinuxCapabilities {
	bounding := Capabilities(c.Isolation.CapAdd, c.Isolation.CapDrop)
	if c.Isolation.Privileged {
		bounding = AllCapabilities()
	}
	if w.Permitted != nil {
		bounding = slices.DeleteFunc(bounding, func(name string) bool { return !slices.Contains(w.Permitted, name) })
	}
	caps := &specs.LinuxCapabilities{Bounding: bounding}
	if w.User.UID == 0 {
		caps.Effective, caps.Permitted = bounding, bounding
	}
	return caps
}

// mounts are the root, what was asked for, and what Docker mounts in every container: an asked one takes the place of
// a default one, and what lies deeper comes later.
func mounts(c *Config, w World) []specs.Mount {
	asked := byDepth(w.Mounts)
	root := w.Root
	if !c.Isolation.Privileged && !w.OpenNodes {
		root.Options = append([]string{"nodev"}, root.Options...)
	}
	list, above := []specs.Mount{root}, []specs.Mount{}
	for _, m := range asked {
		if inKernelTree(m.Destination) {
			above = append(above, m)
		} else {
			list = append(list, m)
		}
	}
	for _, m := range defaultMounts(c, w) {
		if !slices.ContainsFunc(asked, func(a specs.Mount) bool { return a.Destination == m.Destination }) {
			list = append(list, m)
		}
	}
	return append(list, above...)
}

// inKernelTree says whether a mount's place is in a file system that a container has from the kernel. All others come
// first: whoever shares a volume with the container may put a link there while it starts, and one that leads to /proc would
// lay the volume over what hull, or the container, takes for the kernel's word (CVE-2019-16884, CVE-2025-52881).
func inKernelTree(target string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	return top == "proc" || top == "sys" || top == "dev"
}

// byDepth puts mounts into an order in which none covers an earlier one.
func byDepth(mounts []specs.Mount) []specs.Mount {
	list := slices.Clone(mounts)
	slices.SortStableFunc(list, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return list
}

// defaultMounts are Docker's. Where the kernel lets nobody mount a file system afresh, because the container shares the
// namespace that it shows, the host's is bound.
func defaultMounts(c *Config, w World) []specs.Mount {
	const nosuid, noexec, nodev = "nosuid", "noexec", "nodev"
	shared := func(kind, target string, fresh bool, options ...string) specs.Mount {
		if w.Identity.UserNS && !fresh {
			return specs.Mount{Destination: target, Type: "bind", Source: target, Options: append([]string{"rbind"}, options...)}
		}
		return specs.Mount{Destination: target, Type: kind, Source: kind, Options: options}
	}
	own := func(mode string) bool { return mode != "host" }
	sys := []string{nosuid, noexec, nodev, "ro"}
	cgroup := sys
	if c.Isolation.Privileged {
		sys = sys[:3]
		cgroup = sys
	}
	if c.Isolation.Security.WritableCgroups {
		cgroup = sys[:3]
	}
	// nodev: not even a capability to make device nodes makes one that opens. The nodes of /dev are mounts of their own.
	dev := []string{nosuid, nodev, "strictatime", "mode=755", "size=65536k"}
	pts := []string{nosuid, noexec, "newinstance", "ptmxmode=0666", "mode=0620"}
	if w.Identity.maps(w.Identity.GIDs, 5) {
		pts = append(pts, "gid=5")
	}
	if (c.Isolation.Privileged || w.OpenNodes) && !w.Identity.UserNS {
		dev = slices.DeleteFunc(dev, func(o string) bool { return o == nodev })
	}
	list := []specs.Mount{
		shared("proc", "/proc", own(c.Isolation.PID), nosuid, noexec, nodev),
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: dev},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		shared("sysfs", "/sys", own(c.Network.Mode), sys...),
	}
	if w.CgroupV1 || w.CgroupV2 {
		kind := map[bool]string{true: "cgroup2", false: "cgroup"}[w.CgroupV2]
		list = append(list, shared(kind, "/sys/fs/cgroup", own(c.Isolation.Cgroupns) || w.CgroupV1, cgroup...))
	}
	if c.Isolation.IPC == "none" {
		return list
	}
	if c.Isolation.IPC == "host" && w.NoMqueue {
		return append(list, hostShm())
	}
	list = append(list, shared("mqueue", "/dev/mqueue", own(c.Isolation.IPC), nosuid, noexec, nodev))
	if c.Isolation.IPC == "host" {
		return append(list, hostShm())
	}
	return append(list, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{nosuid, noexec, nodev, "mode=1777", fmt.Sprintf("size=%dk", cmp.Or(c.Files.ShmSize, 64<<20)/1024)}})
}

func hostShm() specs.Mount {
	return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
}

// readonlyPaths are Docker's (moby, daemon/pkg/oci/defaults.go).
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
