package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/run"
)

// The headings in the help of run.
const (
	groupProcess   = "Process"
	groupFiles     = "Files"
	groupNetwork   = "Network"
	groupLimits    = "Limits"
	groupIsolation = "Isolation"
	groupHealth    = "Health and logs"
)

// wishes is a run.Config on the way: what several flags decide together is kept apart until all words are read.
type wishes struct {
	run.Config
	cwd, home string

	env, envFiles, labelFiles, labels []string
	envHost                           bool
	entrypoint                        *string
	networks                          []string
	first                             run.NetworkWish // what --ip and the like say of the first network
	arch, os, variant                 string
	memory                            specs.LinuxMemory
	cpu                               specs.LinuxCPU
	weight                            *uint64
	pids                              *int64
	swappiness                        int64
	detach                            bool
	health                            string
	noHealth                          bool
	logOptions                        []string
	flags                             []*option
	// warnings are about flags that were accepted without an effect.
	warnings []string
}

// runFlags are all flags of run: those of create, and those of somebody who stays, or does not.
func (w *wishes) runFlags() []*option {
	l := &w.Lifetime
	return append([]*option{
		toggle(&w.detach, "detach,d", "leave it running in the background and print its ID"),
		opt("sig-proxy", "", "pass signals on to the command", w.setSigProxy).def("true"),
		opt("detach-keys", "KEYS", "keys that leave it running", w.setDetachKeys(&l.DetachKeys)).def("ctrl-p,ctrl-q"),
	}, w.createFlags()...)
}

// createFlags are all flags of create, each put where package run looks for it.
func (w *wishes) createFlags() []*option {
	w.swappiness = -1
	w.flags = slices.Concat(
		w.lifeFlags(),
		in(groupProcess, w.processFlags()...),
		in(groupFiles, w.fileFlags()...),
		in(groupNetwork, w.networkFlags()...),
		in(groupLimits, w.limitFlags()...),
		in(groupIsolation, w.isolationFlags()...),
		in(groupHealth, w.healthFlags()...),
		w.laterFlags(),
		w.ignoredFlags(),
	)
	return w.flags
}

func (w *wishes) lifeFlags() []*option {
	c := &w.Config
	return []*option{
		text(&c.Name, "name", "NAME", "name the container"),
		toggle(&c.Lifetime.Remove, "rm", "remove the container when its command ends"),
		toggle(&c.Replace, "replace", "first remove a container of the same name"),
		opt("pull", "WHEN", "pull the image missing, always, newer or never", w.setPull).def("missing"),
		text(&c.Platform, "platform", "OS[/ARCH[/VARIANT]]", "choose among an image's platforms"),
		text(&w.arch, "arch", "ARCH", "choose the platform's architecture"),
		text(&w.os, "os", "OS", "choose the platform's system"),
		text(&w.variant, "variant", "VARIANT", "choose the platform's variant"),
		toggle(&c.Quiet, "quiet,q", "show no progress of a pull"),
		list(&w.labels, "label,l", "KEY=VALUE", "label the container"),
		list(&w.labelFiles, "label-file", "FILE", "read labels from a file, a line each"),
		opt("annotation", "KEY=VALUE", "annotate the OCI specification", pairs(&c.Annotations, run.ParseLabel)),
		text(&c.Lifetime.CIDFile, "cidfile", "FILE", "write the container's ID to a file"),
		text(&c.Lifetime.PIDFile, "pidfile", "FILE", "write the pid on the host to a file"),
		text(&c.Lifetime.StopSignal, "stop-signal", "SIGNAL", "signal that stops the container"),
		opt("stop-timeout", "SECONDS", "grace before a stop kills, -1 for ever", ref(&c.Lifetime.StopTimeout, parseInt)).def("10"),
		opt("timeout", "TIME[,GRACE]", "end the command after that time (status 124): kill it, or after its stop signal and a grace", setTimeout(&c.Lifetime.Timeout, &c.Lifetime.TimeoutGrace)),
		opt("restart", "POLICY", "when to start it again: no, on-failure[:N], always, unless-stopped", one(&c.Lifetime.Restart, run.ParseRestart)).def("no"),
	}
}

func (w *wishes) setPull(when string) error {
	w.Pull = run.PullPolicy(when)
	return nil
}

// healthFlags are about finding out how a container is.
func (w *wishes) healthFlags() []*option {
	h, l := &w.Health, &w.Log
	return []*option{
		text(&w.health, "health-cmd", "COMMAND", "probe that the container is well, by the image's shell"),
		opt("health-interval", "DURATION", "time between two probes", one(&h.Interval, parseDuration)).def("30s"),
		opt("health-timeout", "DURATION", "longest that a probe may take", one(&h.Timeout, parseDuration)).def("30s"),
		opt("health-retries", "NUMBER", "failures in a row that make it unhealthy", one(&h.Retries, parseInt)).def("3"),
		opt("health-start-period", "DURATION", "time at first in which failures do not count", one(&h.StartPeriod, parseDuration)).def("0s"),
		opt("health-start-interval", "DURATION", "time between two probes at first", one(&h.StartInterval, parseDuration)).def("5s"),
		text(&h.OnFailure, "health-on-failure", "ACTION", "what an unhealthy container gets: none, kill, restart or stop").def("none"),
		toggle(&w.noHealth, "no-healthcheck", "do not probe, whatever the image says"),
		text(&l.Driver, "log-driver", "DRIVER", "where output goes: json-file, journald or none").def("json-file"),
		list(&w.logOptions, "log-opt", "KEY=VALUE", "max-size and max-file of a log"),
	}
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errValue{s, "want a duration such as 30s or 1m"}
	}
	return d, nil
}

func (w *wishes) setDetachKeys(to *string) func(string) error {
	return func(s string) error {
		*to = s
		_, err := run.ParseDetachKeys(s)
		return err
	}
}

// joinHealth turns the flags about health and logs into wishes.
func (w *wishes) joinHealth() error {
	switch {
	case w.noHealth && w.health != "":
		return errors.New("--no-healthcheck conflicts with --health-* options")
	case w.noHealth:
		w.Health.Test = []string{"NONE"}
	case w.health != "":
		w.Health.Test = []string{"CMD-SHELL", w.health}
	}
	w.Process.KeepStdin = w.detach && w.Process.Interactive
	return w.Log.Set(w.logOptions)
}

func (w *wishes) setSigProxy(s string) error {
	on := true
	err := boolTo(&on)(s)
	w.Lifetime.NoSigProxy = !on
	return err
}

func (w *wishes) processFlags() []*option {
	p := &w.Process
	return []*option{
		toggle(&p.Interactive, "interactive,i", "connect standard input"),
		toggle(&p.TTY, "tty,t", "give the command a terminal"),
		list(&p.Attach, "attach,a", "STREAM", "connect only stdin, stdout or stderr"),
		opt("entrypoint", "PROGRAM", "replace the image's entrypoint; \"\" clears it", ref(&w.entrypoint, asIs)),
		text(&p.Workdir, "workdir,w", "DIR", "start in DIR, which is made if missing"),
		text(&p.User, "user,u", "USER[:GROUP]", "run as that user, a name in the image or a number"),
		list(&p.GroupAdd, "group-add", "GROUP", "add the user to a group"),
		list(&w.env, "env,e", "NAME[=VALUE]", "set a variable; NAME alone takes yours"),
		list(&w.envFiles, "env-file", "FILE", "read variables from a file, a line each"),
		toggle(&w.envHost, "env-host", "pass on all of your variables"),
		list(&p.UnsetEnv, "unsetenv", "NAME", "leave out a variable of the image"),
		toggle(&p.UnsetAllEnv, "unsetenv-all", "leave out all variables of the image"),
		text(&p.Umask, "umask", "MODE", "permission bits that new files do not get").def("0022"),
		toggle(&w.Host.Proxies, "http-proxy", "set the proxies that Docker's config.json names, for no image made of the container").def("true"),
		text(&w.Host.Timezone, "tz", "ZONE", "tell the time of a zone: host, or a name of the host's zoneinfo"),
		toggle(&p.Init, "init", "run a small init that forwards signals and reaps orphans"),
	}
}

func (w *wishes) fileFlags() []*option {
	f := &w.Files
	return []*option{
		opt("volume,v", "[SRC:]DST[:OPTS]", "mount a host path or a volume",
			each(&f.Mounts, func(s string) (run.MountSpec, error) { return run.ParseVolume(s, w.cwd, w.home) })),
		opt("mount", "KEY=VALUE,...", "the same, spelled out",
			each(&f.Mounts, func(s string) (run.MountSpec, error) { return run.ParseMount(s, w.cwd) })),
		opt("tmpfs", "DIR[:OPTS]", "mount a file system in memory", each(&f.Mounts, run.ParseTmpfs)),
		toggle(&w.Host.Certs, "host-certs", "trust the certificates that the host trusts, by mounts and variables"),
		list(&f.VolumesFrom, "volumes-from", "CONTAINER[:ro]", "mount the volumes of another container"),
		toggle(&f.ReadOnly, "read-only", "make the root file system read-only"),
		opt("shm-size", "BYTES", "size of /dev/shm", one(&f.ShmSize, parseBytes)).def("64m"),
		opt("device", "SRC[:DST[:rwm]]", "show a device of the host", each(&f.Devices, run.ParseDevice)),
		opt("device-cgroup-rule", "TYPE MAJ:MIN rwm", "allow devices that the command makes nodes for", each(&f.DeviceRules, checkedRule)),
	}
}

func checkedRule(s string) (string, error) {
	_, err := run.ParseDeviceRule(s)
	return s, err
}

func (w *wishes) networkFlags() []*option {
	n := &w.Network
	return []*option{
		list(&w.networks, "network,net", "NETWORK", "bridge, none (loopback only), host, container:NAME, or a network by name; allow=HOST[:PORT],*.DOMAIN,CIDR for nothing else, log to see what that would be; pasta[:OPTION,...] for pasta(1)").def("bridge"),
		text(&n.Hostname, "hostname,h", "NAME", "the container's host name"),
		text(&n.Domainname, "domainname", "NAME", "the container's NIS domain"),
		opt("add-host", "NAME:IP", "add a line to /etc/hosts", each(&n.AddHost, run.ParseAddHost)),
		toggle(&n.NoHosts, "no-hosts", "leave the image's /etc/hosts alone"),
		opt("dns", "IP", "use a name server", each(&n.DNS, run.ParseIP)),
		list(&n.DNSSearch, "dns-search", "DOMAIN", "look short names up in a domain; . for none"),
		list(&n.DNSOptions, "dns-option,dns-opt", "OPTION", "an option in resolv.conf"),
		opt("expose", "PORT[/PROTOCOL]", "note a port in the container's description", each(&n.Expose, run.ParseExpose)),
		list(&n.Publish, "publish,p", "PORTS", "lead ports of the host to the container: [[IP:][HOSTPORT]:]PORT[/udp]"),
		toggle(&n.PublishAll, "publish-all,P", "lead free ports of the host to all exposed ones"),
		list(&w.first.Aliases, "network-alias,net-alias", "NAME", "one more name on the network"),
		text(&w.first.IP, "ip", "IP", "have this address on the network"),
		text(&w.first.IP6, "ip6", "IP", "have this IPv6 address on the network"),
		text(&w.first.MAC, "mac-address", "MAC", "have this hardware address on the network"),
	}
}

func hide(o *option) *option {
	o.hidden = true
	return o
}

func (w *wishes) limitFlags() []*option {
	l, m, c := &w.Limits, &w.memory, &w.cpu
	return []*option{
		opt("memory,m", "BYTES", "most memory", ref(&m.Limit, parseBytes)),
		opt("memory-swap", "BYTES", "most memory and swap together, -1 without end", ref(&m.Swap, parseSwap)).def("twice the memory"),
		opt("memory-reservation", "BYTES", "memory to be left with when the host is short", ref(&m.Reservation, parseBytes)),
		opt("memory-swappiness", "0-100", "eagerness to swap (cgroup v1)", one(&w.swappiness, parseInt64)),
		opt("oom-kill-disable", "", "wait instead of being killed when out of memory (cgroup v1)", ref(&m.DisableOOMKiller, parseBool)),
		opt("oom-score-adj", "-1000-1000", "be killed later or earlier when memory is out", ref(&l.OOMScoreAdj, parseInt)),
		opt("cpus", "NUMBER", "most processors, such as 1.5", one(&l.NanoCPUs, run.ParseCPUs)),
		opt("cpu-shares,c", "WEIGHT", "share of a busy machine's processors", ref(&c.Shares, parseUint64)).def("1024"),
		opt("cpu-period", "µs", "period that --cpu-quota counts in", ref(&c.Period, parseUint64)),
		opt("cpu-quota", "µs", "most processor time in a period", ref(&c.Quota, parseInt64)),
		opt("cpu-rt-period", "µs", "period of real-time scheduling (cgroup v1)", ref(&c.RealtimePeriod, parseUint64)),
		opt("cpu-rt-runtime", "µs", "most real-time in a period (cgroup v1)", ref(&c.RealtimeRuntime, parseInt64)),
		text(&c.Cpus, "cpuset-cpus", "LIST", "processors to run on, such as 0-3,5"),
		text(&c.Mems, "cpuset-mems", "LIST", "memory nodes to use"),
		opt("pids-limit", "NUMBER", "most processes, -1 without end", ref(&w.pids, parseInt64)),
		opt("blkio-weight", "10-1000", "share of busy disks", ref(&w.weight, parseUint64)),
		opt("blkio-weight-device", "DEV:WEIGHT", "share of one busy disk", each(&l.BlkioWeightDevice, run.ParseDeviceWeight)),
		opt("device-read-bps", "DEV:RATE", "most bytes a second read from a disk", each(&l.ReadBps, run.ParseDeviceBps)),
		opt("device-write-bps", "DEV:RATE", "most bytes a second written to a disk", each(&l.WriteBps, run.ParseDeviceBps)),
		opt("device-read-iops", "DEV:RATE", "most reads a second from a disk", each(&l.ReadIOPS, run.ParseDeviceIOPS)),
		opt("device-write-iops", "DEV:RATE", "most writes a second to a disk", each(&l.WriteIOPS, run.ParseDeviceIOPS)),
		opt("ulimit", "NAME=SOFT[:HARD]", "a limit of setrlimit, such as nofile=1024", each(&l.Ulimits, run.ParseUlimit)),
		text(&l.CgroupParent, "cgroup-parent", "GROUP", "make the container's cgroup below another"),
		toggle(&l.Require, "require-limits", "fail where a limit cannot be kept, instead of warning"),
	}
}

func (w *wishes) isolationFlags() []*option {
	i := &w.Isolation
	return []*option{
		toggle(&i.Sandbox, "sandbox", "run what nobody trusts: every protection and limit there is, see docs/sandbox.md"),
		opt("cap-add", "CAPABILITY", "add a capability, or ALL", each(&i.CapAdd, run.ParseCap)),
		opt("cap-drop", "CAPABILITY", "drop a capability, or ALL", each(&i.CapDrop, run.ParseCap)),
		toggle(&i.Privileged, "privileged", "give all capabilities and devices, take most protection away"),
		opt("security-opt", "OPTION", "no-new-privileges, seccomp=FILE|unconfined, apparmor=, label=, systempaths=", i.Security.Set),
		opt("sysctl", "KEY=VALUE", "set a kernel parameter of the container's own", pairs(&w.Limits.Sysctls, run.ParseSysctl)),
		text(&i.PID, "pid", "host", "see the host's processes"),
		text(&i.IPC, "ipc", "host|none|private", "share the host's semaphores and memory"),
		text(&i.UTS, "uts", "host", "share the host's name"),
		text(&i.Cgroupns, "cgroupns", "host|private", "see the host's cgroups"),
		opt("userns", "MODE", "map users: host, auto, keep-id, one-id, sub-ids", one(&i.Userns, run.ParseUserns)),
	}
}

// The reasons why a flag that Docker or podman knows is refused. Each says what works today.
const (
	needsNetwork = "is not known yet; --network-alias gives a container a name on a network"
	needsVolume  = "is not known yet; today -v, --mount and --tmpfs say what is mounted"
	notYet       = "is not known yet"
)

// laterFlags are refused: doing without them would silently run something else than what was asked for.
func (w *wishes) laterFlags() []*option {
	return slices.Concat(
		later(needsNetwork, "link-local-ip", "link"),
		later(needsVolume, "storage-opt", "!read-only-tmpfs", "secret", "rootfs"),
		later(notYet, "sdnotify", "gpus", "!rmi", "!passwd", "passwd-entry", "hostuser", "preserve-fds", "preserve-fd",
			"tls-verify", "authfile", "cert-dir", "creds", "retry", "retry-delay", "uidmap", "gidmap", "systemd", "cgroups"))
}

// later makes flags that are refused with a reason; a "!" before the name marks a switch, whose =false is fine.
func later(why string, names ...string) []*option {
	flags := make([]*option, len(names))
	for i, n := range names {
		name, isSwitch := strings.CutPrefix(n, "!")
		o := hide(opt(name, "VALUE", "", nil))
		if isSwitch {
			o.arg = ""
		}
		o.set = func(value string) error {
			switch {
			case isSwitch && value == "false":
				return nil
			case isSwitch:
				return fmt.Errorf("--%s: %s", o.name, why)
			}
			return fmt.Errorf("--%s %q: %s", o.name, value, why)
		}
		flags[i] = o
	}
	return flags
}

// ignoredFlags are accepted with a warning: rare, obsolete, for Windows, or for a daemon. Nothing is lost without them.
func (w *wishes) ignoredFlags() []*option {
	flags := []*option{}
	for _, n := range []string{
		"runtime", "!use-api-socket", "isolation", "cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "kernel-memory",
		"!disable-content-trust", "volume-driver",
	} {
		name, isSwitch := strings.CutPrefix(n, "!")
		o := hide(opt(name, "VALUE", "", nil))
		if isSwitch {
			o.arg = ""
		}
		o.set = func(value string) error {
			if value != "false" && value != "default" && value != "local" {
				w.warnings = append(w.warnings, fmt.Sprintf("--%s: ignored: it has no meaning here", name))
			}
			return nil
		}
		flags = append(flags, o)
	}
	return flags
}

func parseSwap(s string) (int64, error) {
	n, err := run.ParseSwap(s)
	if err != nil {
		return 0, errValue{s, err.Error()}
	}
	return n, nil
}

func parseBool(s string) (b bool, err error) {
	err = boolTo(&b)(s)
	return b, err
}

// config joins what the flags said with the image and its command, and checks the whole.
func (w *wishes) config(args []string) (*run.Config, error) {
	c := &w.Config
	c.Image, c.Args = args[0], args[1:]
	for _, step := range []func() error{w.joinEnv, w.joinLabels, w.joinNetwork, w.joinPlatform, w.joinLimits, w.joinHealth, w.joinPaths} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if w.entrypoint != nil {
		words := []string{}
		if *w.entrypoint != "" {
			words = []string{*w.entrypoint}
		}
		c.Process.Entrypoint = &words
	}
	w.joinSandbox()
	if err := c.Complete(); err != nil {
		return nil, err
	}
	if w.detach {
		if len(c.Process.Attach) > 0 {
			return nil, errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		c.Process.Attach = []string{}
	}
	return c, nil
}

// joinSandbox notes what was asked for beside --sandbox, for what means no limit leaves no other trace.
func (w *wishes) joinSandbox() {
	for _, o := range w.flags {
		if w.Isolation.Sandbox && o.seen && slices.Contains(run.SandboxFlags(), o.name) {
			w.Isolation.SandboxExcept = append(w.Isolation.SandboxExcept, o.name)
		}
	}
}

// joinPaths makes paths absolute that a monitor, or another start, opens: neither is where the caller is now.
func (w *wishes) joinPaths() error {
	paths := []*string{&w.Lifetime.PIDFile}
	if s := &w.Isolation.Security.Seccomp; *s != "builtin" && *s != "unconfined" {
		paths = append(paths, s)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(w.cwd, *p)
		}
	}
	return nil
}

// joinEnv puts the variables in order: the caller's, those of files, those of -e; a later one wins.
func (w *wishes) joinEnv() error {
	var env []string
	if w.envHost {
		env = os.Environ()
	}
	for _, name := range w.envFiles {
		data, err := given.ReadFile(name, given.Limit)
		if err != nil {
			return fmt.Errorf("env-file %w", err)
		}
		lines, err := run.ParseEnvFile(string(data), os.LookupEnv)
		if err != nil {
			return fmt.Errorf("env-file %q: %w", name, err)
		}
		env = append(env, lines...)
	}
	for _, s := range w.env {
		entry, err := run.ParseEnv(s, os.LookupEnv)
		if err != nil {
			return err
		}
		env = append(env, entry)
	}
	w.Process.Env = env
	return nil
}

func (w *wishes) joinLabels() (err error) {
	var labels []string
	for _, name := range w.labelFiles {
		data, err := given.ReadFile(name, given.Limit)
		if err != nil {
			return fmt.Errorf("label-file %w", err)
		}
		lines, err := run.ParseLabelFile(string(data))
		if err != nil {
			return fmt.Errorf("label-file %q: %w", name, err)
		}
		labels = append(labels, lines...)
	}
	w.Labels, err = run.ParseLabels(append(labels, w.labels...))
	return err
}

func (w *wishes) joinPlatform() error {
	if w.arch+w.os+w.variant == "" {
		if w.Platform == "" {
			w.Platform = os.Getenv("DOCKER_DEFAULT_PLATFORM")
		}
		return nil
	}
	if w.Platform != "" {
		return fmt.Errorf("--platform %q: conflicting options: --arch, --os and --variant say the same", w.Platform)
	}
	if w.arch == "" {
		return fmt.Errorf("--arch: needed where --os or --variant is given")
	}
	w.Platform = w.arch
	if w.os != "" {
		w.Platform = w.os + "/" + w.arch
	} else {
		w.Platform = "linux/" + w.arch
	}
	if w.variant != "" {
		w.Platform += "/" + w.variant
	}
	return nil
}

// joinLimits fills the groups of limits that something was asked of, so that package run makes a cgroup only for those.
// Zero means no limit everywhere, and so does -1 except for memory and swap together.
func (w *wishes) joinLimits() error {
	if w.Limits.NanoCPUs != 0 && (w.cpu.Quota != nil || w.cpu.Period != nil) {
		return fmt.Errorf("--cpus: conflicting options: it cannot be combined with --cpu-period or --cpu-quota")
	}
	if w.swappiness >= 0 {
		n := uint64(w.swappiness)
		w.memory.Swappiness = &n
	}
	r := &w.Limits.Resources
	drop(&w.memory.Limit, 0)
	drop(&w.memory.Swap, 0)
	drop(&w.memory.Reservation, 0)
	if w.memory != (specs.LinuxMemory{}) {
		r.Memory = &w.memory
	}
	drop(&w.cpu.Shares, 0)
	drop(&w.cpu.Period, 0)
	drop(&w.cpu.Quota, 0, -1)
	drop(&w.cpu.RealtimePeriod, 0)
	drop(&w.cpu.RealtimeRuntime, 0)
	if w.cpu != (specs.LinuxCPU{}) {
		r.CPU = &w.cpu
	}
	if w.pids != nil && *w.pids > 0 {
		r.Pids = pidsLimit(*w.pids)
	}
	if w.weight != nil && *w.weight != 0 {
		weight := uint16(min(*w.weight, 1<<16-1))
		r.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
	}
	w.Limits.Ulimits = lastOfEach(w.Limits.Ulimits, func(u specs.POSIXRlimit) string { return u.Type })
	return nil
}

// pidsLimit is a limit on processes; one that is not positive is none.
func pidsLimit(n int64) *specs.LinuxPids {
	if n <= 0 {
		n = -1
	}
	return &specs.LinuxPids{Limit: &n}
}

// drop forgets a value that means the same as none.
func drop[T comparable](p **T, none ...T) {
	for _, n := range none {
		if *p != nil && **p == n {
			*p = nil
		}
	}
}

// lastOfEach keeps the last of several entries with the same key, in the place of the first.
func lastOfEach[T any](list []T, key func(T) string) []T {
	at := map[string]int{}
	out := list[:0:0]
	for _, v := range list {
		if i, ok := at[key(v)]; ok {
			out[i] = v
			continue
		}
		at[key(v)] = len(out)
		out = append(out, v)
	}
	return out
}
