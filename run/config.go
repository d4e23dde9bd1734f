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
	Limits    LimitsConfig
	Isolation IsolationConfig
	Lifetime  LifetimeConfig
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
	TTY         bool
	Init        bool // a tiny pid 1 that reaps and forwards
	// Attach lists the streams to connect: stdin, stdout, stderr. Nil means stdout and stderr, and stdin if Interactive.
	Attach []string
}

// FilesConfig is about what the program finds in its file system.
type FilesConfig struct {
	Mounts   []MountSpec
	ReadOnly bool
	// ShmSize is the size of /dev/shm in bytes; 0 means 64 MiB.
	ShmSize int64
	Devices []Device
}

// NetworkConfig is about names and addresses.
type NetworkConfig struct {
	// Mode is "", "none" or "host".
	Mode       string
	Hostname   string
	Domainname string
	AddHost    []HostEntry
	DNS        []string
	DNSSearch  []string
	DNSOptions []string
	NoHosts    bool // leave the image's /etc/hosts alone
	// Expose adds to the image's exposed ports, each "PORT/PROTOCOL". It opens nothing.
	Expose []string
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
}

// LifetimeConfig is about the end.
type LifetimeConfig struct {
	Remove bool // with everything it wrote, once it has ended
	// StopSignal is a name or number, "" for the image's or SIGTERM. StopTimeout in seconds, nil for 10, negative for ever.
	StopSignal  string
	StopTimeout *int
	// Timeout is the longest the program may run, 0 for ever.
	Timeout time.Duration
	// NoSigProxy keeps signals to hull from the program.
	NoSigProxy bool
	// CIDFile is a path that the id is written to; it must not exist. PIDFile gets the program's pid on the host.
	CIDFile, PIDFile string
	// DetachKeys and Restart are kept for detached containers.
	DetachKeys string
	Restart    RestartPolicy
}
