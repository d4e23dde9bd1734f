package run

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what somebody wishes of a container. It is saved with the container, and nothing in it has been looked up:
// [Spec] joins it with the image's own configuration. The zero value of each group is Docker's default.
type Config struct {
	// Image is the name of the image as it was typed; Args replaces the image's command.
	Image string
	Args  []string
	// Name of the container, or "" for a random one. Replace removes a container that has it.
	Name    string
	Replace bool
	Labels  map[string]string
	// Annotations go into the OCI specification as they are.
	Annotations map[string]string

	Pull     PullPolicy
	Platform string // "os[/arch[/variant]]", "" for this machine's
	Quiet    bool   // no progress of an implicit pull

	Process   ProcessConfig
	Files     FilesConfig
	Network   NetworkConfig
	Host      HostConfig
	Limits    LimitsConfig
	Isolation IsolationConfig
	Lifetime  LifetimeConfig
	Log       LogConfig
	Health    HealthConfig
}

// PullPolicy says when an image is fetched although it may be here.
type PullPolicy string

// The policies of --pull. The zero value means PullMissing.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
	PullNewer   PullPolicy = "newer"
)

// ProcessConfig is about the program itself.
type ProcessConfig struct {
	// Entrypoint replaces the image's, and drops its command, unless nil; an empty one clears it.
	Entrypoint *[]string
	// Env holds "KEY=VALUE", which beat the image's. UnsetEnv names variables to leave out, UnsetAllEnv all of the image's.
	Env         []string
	UnsetEnv    []string
	UnsetAllEnv bool
	Workdir     string
	// User is "NAME|UID[:GROUP|GID]", looked up in the image; GroupAdd are further groups, names or numbers.
	User     string
	GroupAdd []string
	// Umask in octal, or "" for 0022.
	Umask       string
	Interactive bool // keep stdin open and connected
	KeepStdin   bool // even when whoever has attached to it is at its end
	TTY         bool
	Init        bool // a tiny pid 1 that reaps and forwards
	// Attach lists the streams to connect: stdin, stdout, stderr; none for one that starts detached. Nil means stdout and
	// stderr, and stdin if Interactive.
	Attach []string
}

// FilesConfig is about what the program finds in its file system.
type FilesConfig struct {
	Mounts   []MountSpec
	ReadOnly bool
	// OwnWorkdir lets the working directory be written although the root is read-only, and without a change to what it shows
	// of the host: a bind or volume in which it lies gets a layer as with MountSpec.Overlay.
	OwnWorkdir bool
	// ShmSize is the size of /dev/shm in bytes; 0 means 64 MiB.
	ShmSize int64
	Devices []Device
	// DeviceRules allow devices beside the usual and the given ones, as ParseDeviceRule reads them: the container may then make
	// nodes for them, and open those.
	DeviceRules []string
	// VolumesFrom takes over all mounts of other containers: "CONTAINER[:ro|rw]".
	VolumesFrom []string
}

// NetworkConfig is about names and addresses.
type NetworkConfig struct {
	// Mode is "", "none", "host", "allow", "log", "pasta", "container:NAME|ID" or the name of a network, which is the first of
	// Networks then.
	Mode       string
	Networks   []NetworkWish `json:",omitempty"`
	Hostname   string
	Domainname string
	AddHost    []HostEntry
	DNS        []string
	DNSSearch  []string
	DNSOptions []string
	NoHosts    bool // leave the image's /etc/hosts alone
	// Expose adds to the image's exposed ports, each "PORT/PROTOCOL". It opens nothing.
	Expose []string
	// Publish leads ports of the host to the container's, each as network.ParsePort reads it; PublishAll those that are
	// exposed, from any that are free.
	Publish    []string `json:",omitempty"`
	PublishAll bool     `json:",omitempty"`
	// Default says that nobody has asked for the network: where none can be made, the container starts without.
	Default bool `json:",omitempty"`
	// Allow is what may be reached in mode "allow", as usernet.ParseAllow reads it.
	Allow string `json:",omitempty"`
	// Pasta are options for pasta(1) in mode "pasta", beside those that it gets from hull.
	Pasta []string `json:",omitempty"`
}

// HostConfig is what the container has from the host, and no image that is made of it.
type HostConfig struct {
	// Certs makes it trust the certificates that the host trusts.
	Certs bool `json:",omitempty"`
	// Timezone is a zone of the host's zoneinfo, "host" for the host's own, "" for the image's.
	Timezone string `json:",omitempty"`
	// Proxies puts the proxies that Docker's configuration names into Env when the container is made.
	Proxies bool `json:",omitempty"`
	// Env are variables that Process.Env beats.
	Env []string `json:",omitempty"`
}

// LimitsConfig is about what the container may use up.
type LimitsConfig struct {
	// Resources are the limits of its cgroup. Memory.Swap is memory and swap together, as Docker counts.
	Resources specs.LinuxResources
	// NanoCPUs is --cpus in billionths of a processor; Complete turns it into Resources.CPU.Quota.
	NanoCPUs int64
	// Block device limits name a path: its numbers are looked up at the start.
	BlkioWeightDevice                      []DeviceRate
	ReadBps, WriteBps, ReadIOPS, WriteIOPS []DeviceRate
	// Require makes it an error that a limit cannot be kept here, instead of a warning.
	Require      bool
	OOMScoreAdj  *int
	Ulimits      []specs.POSIXRlimit
	Sysctls      map[string]string
	CgroupParent string
}

// IsolationConfig is about what the container is kept from.
type IsolationConfig struct {
	CapAdd, CapDrop []string // "CAP_CHOWN" or "ALL"
	Privileged      bool
	Security        SecurityOpts
	// PID, IPC, UTS and Cgroupns are "" for one of its own, or "host"; IPC also "private", "shareable" and "none".
	PID, IPC, UTS, Cgroupns string
	// Userns is as ParseUserns gives it.
	Userns string
	// Sandbox is for programs that nobody trusts: Complete turns it into other settings, of which SandboxExcept names those
	// (by their flags, such as "memory") that are to stay as they are although they have no value.
	Sandbox       bool
	SandboxExcept []string
	Landlock      LandlockConfig
}

// LifetimeConfig is about the end.
type LifetimeConfig struct {
	Remove bool // with everything it wrote, once it has ended
	// StopSignal is a name or number, "" for the image's or SIGTERM. StopTimeout in seconds, nil for 10, negative for ever.
	StopSignal  string
	StopTimeout *int
	// Timeout is the longest the program may run at a time, 0 for ever (with Isolation.Sandbox: for the sandbox's default)
	// and negative for ever in any case. Its end then counts as 124, timeout(1)'s status, whatever the program itself says,
	// and no restart policy starts it again. TimeoutGrace is how long it has between its stop signal and SIGKILL; 0 for none
	// at all: SIGKILL at once.
	Timeout, TimeoutGrace time.Duration
	// NoSigProxy keeps signals to hull from the program.
	NoSigProxy bool
	// CIDFile is a path that the id is written to; it must not exist. PIDFile gets the program's pid on the host.
	CIDFile, PIDFile string
	// DetachKeys leave a container running behind, "" for ctrl-p,ctrl-q; Restart says when one that ended starts again.
	DetachKeys string
	Restart    RestartPolicy
}

// The drivers of LogConfig.
const (
	LogJSONFile = "json-file"
	LogLocal    = "local"
	LogJournald = "journald"
	LogNone     = "none"
)

// LogConfig says where the output of a detached container goes. What a container in the foreground writes goes to its
// caller alone.
type LogConfig struct {
	// Driver is "" or "json-file" (Docker's format), "local" (the same, within bounds), "none", or "journald".
	Driver string
	// MaxSize in bytes is when a new file is begun, 0 for never; MaxFiles how many are kept, 0 for 1.
	MaxSize  int64
	MaxFiles int
	// Options are --log-opt as they were given.
	Options map[string]string
}

// HealthConfig is how to find out whether a container is well: --health-*, over the image's HEALTHCHECK.
type HealthConfig struct {
	// Test is the probe in the image format's words: {"CMD", ARG...}, {"CMD-SHELL", COMMAND}, {"NONE"}; nil for the image's.
	Test []string
	// Interval passes between the end of a probe and the next, StartInterval during the StartPeriod, in which failures
	// do not count. Timeout ends a probe. 0 stands for the image's, or 30 s, 5 s, 0 s and 30 s.
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	// Retries failures in a row make it unhealthy; 0 for the image's, or 3.
	Retries int
	// OnFailure is "", "none", "kill", "restart" or "stop": what an unhealthy container gets (podman's).
	OnFailure string
}
