// Package run turns an image and a handful of wishes into a running program and its exit status.
//
// A Config holds the wishes. It knows nothing of command lines: the words people type are read by the Parse functions here,
// which touch nothing, and joined into a Config by whoever speaks with the user.
package run

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what one container is wished to be. Only Image is needed; every zero value means what Docker does by default.
// Config.Complete checks it and fills in what follows from it; package run expects a completed one.
type Config struct {
	// Image names the image as the user wrote it: a reference, an ID, or oci:DIR and the like.
	Image string
	// Platform is os[/arch[/variant]]; "" is this machine's, or DOCKER_DEFAULT_PLATFORM where the caller honours it.
	Platform string
	// Pull is PullMissing, PullAlways, PullNever or PullNewer; "" means PullMissing.
	Pull string

	// Name is the container's name; "" has one made up. Replace first removes a container of that name.
	Name    string
	Replace bool
	// Remove takes the container and its anonymous volumes away when the program ends.
	Remove bool
	// RemoveImage removes the image too, unless another container uses it.
	RemoveImage bool
	// CIDFile and PIDFile are files to write the ID (64 digits, no newline) and the first process's host pid to.
	CIDFile, PIDFile string
	// Labels are Docker's, Annotations go into the OCI spec as they are.
	Labels, Annotations map[string]string

	Process   Process
	Files     Files
	Network   Network
	Limits    Limits
	Isolation Isolation
}

// The answers to whether an image is asked for at its registry before a container is made from it.
const (
	PullMissing = "missing" // only when it is not here
	PullAlways  = "always"
	PullNever   = "never"
	PullNewer   = "newer" // when the registry has another one under that name; no answer is no error
)

// Process is the program and what it starts with.
type Process struct {
	// Entrypoint replaces the image's and drops the image's command: nil keeps both, an empty list clears the entrypoint.
	Entrypoint []string
	// Args are the words after the image: the command, or arguments to the entrypoint. Empty takes the image's command,
	// unless Entrypoint is set.
	Args []string
	// WorkDir is absolute, "" for the image's; it is made if missing.
	WorkDir string
	// User is NAME|UID[:GROUP|GID], looked up in the image; "" is the image's. Groups are further groups, names or numbers.
	User   string
	Groups []string
	// Umask of the program; nil is 022.
	Umask *uint32

	// Env is laid over the image's variables by MergeEnv: NAME=VALUE sets, a bare NAME removes.
	Env []string
	// UnsetEnv names variables of the image to leave out; ClearEnv leaves out all of them.
	UnsetEnv []string
	ClearEnv bool

	// Stdin connects the caller's standard input, which otherwise is /dev/null. TTY gives the program a terminal.
	Stdin, TTY bool
	// Attach lists the streams to connect, of stdin, stdout and stderr; empty connects stdout and stderr, and stdin with Stdin.
	Attach []string
	// NoSigProxy keeps the caller's signals from the program.
	NoSigProxy bool
	// Init puts a small first process in front of the program, which forwards signals and reaps orphans.
	Init bool

	// StopSignal is a signal's name or number, "" for the image's or TERM.
	StopSignal string
	// StopTimeout is the grace in seconds between StopSignal and KILL: nil is 10, -1 for ever.
	StopTimeout *int
	// Timeout is the longest the program may run, 0 for ever.
	Timeout time.Duration
}

// Files is what the program sees below "/".
type Files struct {
	// ReadOnly makes the root read-only; mounts, /dev, /dev/shm and /proc stay as they are.
	ReadOnly bool
	// Mounts are binds, volumes and tmpfs in the order they were asked for; no two share a target.
	Mounts []MountSpec
	// ShmSize is the size of /dev/shm in bytes, 0 for 64 MiB.
	ShmSize int64
	// Devices of the host to show inside.
	Devices []Device
}

// The networks a container can have.
const (
	NetworkNone = "none" // loopback only
	NetworkHost = "host" // the host's
)

// Network is how the program is reached and what it calls others.
type Network struct {
	// Mode is NetworkNone or NetworkHost; "" is hull's default.
	Mode string
	// Hostname is "" for the first twelve digits of the ID. Domainname is the NIS domain.
	Hostname, Domainname string
	// Hosts are added to /etc/hosts; NoHosts leaves the image's file alone.
	Hosts   []HostEntry
	NoHosts bool
	// DNS, DNSSearch and DNSOptions replace the host's in resolv.conf; the search list "." alone means none.
	DNS, DNSSearch, DNSOptions []string
	// Expose adds to the image's exposed ports, each as PORT/PROTOCOL. It opens nothing.
	Expose []string
}

// Limits is how much of the machine the container may use.
type Limits struct {
	// Resources holds the limits a cgroup keeps; nil when none was asked for, which saves making a cgroup.
	// Devices in it are left empty: package run knows which ones a container may open.
	Resources *specs.LinuxResources
	// NanoCPUs is --cpus in billionths of a processor, which Complete turns into Resources.CPU.Quota.
	NanoCPUs int64
	// Rates of block devices, whose numbers package run looks up. Weights are 10 to 1000.
	ReadBps, WriteBps, ReadIOPS, WriteIOPS, Weights []DeviceRate
	// Ulimits are setrlimit's, each name once; what the caller may not raise is clamped.
	Ulimits []specs.POSIXRlimit
	// OOMScoreAdj is -1000 to 1000; nil leaves the caller's.
	OOMScoreAdj *int
	// CgroupParent is the group below which the container's is made, "" for hull's own.
	CgroupParent string
	// Require makes a limit that cannot be kept here an error instead of a warning.
	Require bool
}

// The words for namespaces that several fields of Isolation know. "" is a namespace of the container's own.
const (
	NamespaceHost    = "host"
	NamespacePrivate = "private"
)

// Isolation is what stands between the program and the host.
type Isolation struct {
	// Privileged gives all capabilities and devices and takes seccomp, masks and read-only paths away.
	Privileged bool
	// CapAdd and CapDrop are names as ParseCap gives them, applied by Capabilities.
	CapAdd, CapDrop []string
	// Security is the sum of --security-opt.
	Security SecurityOpts
	// Sysctls belong to the container's namespaces, as ParseSysctl makes sure.
	Sysctls map[string]string
	// PID, UTS and Cgroup are "", "private" or "host". IPC also knows "none" (no /dev/shm) and "shareable".
	PID, UTS, Cgroup, IPC string
	// Userns is "" (hull chooses) or what ParseUserns returns.
	Userns string
}
