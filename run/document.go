package run

import "github.com/hullrun/hull/network/usernet"

// Document is a container as inspect shows it: Docker's keys in Docker's order, so that scripts and templates written for
// docker inspect find what they look for. Fields that hull has nothing for yet keep Docker's empty value. Times are text, as
// Docker's: a template may cut them, and prints them as JSON does.
type Document struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           DocState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      DocHostConfig
	GraphDriver     DocGraphDriver
	SizeRw          *int64 `json:",omitempty"` // bytes that were written, only where that was asked for
	SizeRootFs      *int64 `json:",omitempty"` // with the image's
	Mounts          []DocMount
	Config          DocConfig
	NetworkSettings DocNetworkSettings
}

// DocState is where the container is in its life. A time that has not come is 0001-01-01T00:00:00Z.
type DocState struct {
	Status     Status
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	TimedOut   bool  `json:",omitempty"` // hull's own: --timeout has ended it
	Used       *Used `json:",omitempty"` // hull's own: what a sandbox took
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *Health `json:",omitempty"`
}

// DocHostConfig is what was asked of the host. Sizes are bytes, times of processors microseconds.
type DocHostConfig struct {
	Binds                []string
	Mounts               []DocLongMount `json:",omitempty"`
	ContainerIDFile      string
	LogConfig            DocLogConfig
	NetworkMode          string
	PortBindings         map[string][]DocPort
	RestartPolicy        DocRestartPolicy
	AutoRemove           bool
	VolumeDriver         string
	VolumesFrom          []string
	ConsoleSize          [2]uint
	Annotations          map[string]string `json:",omitempty"`
	CapAdd               []string
	CapDrop              []string
	CgroupnsMode         string
	DNS                  []string `json:"Dns"`
	DNSOptions           []string `json:"DnsOptions"`
	DNSSearch            []string `json:"DnsSearch"`
	ExtraHosts           []string
	GroupAdd             []string
	IpcMode              string
	Cgroup               string
	Links                []string
	OomScoreAdj          int
	PidMode              string
	Privileged           bool
	PublishAllPorts      bool
	ReadonlyRootfs       bool
	SecurityOpt          []string
	Tmpfs                map[string]string `json:",omitempty"`
	UTSMode              string
	UsernsMode           string
	ShmSize              int64
	Sysctls              map[string]string `json:",omitempty"`
	Runtime              string
	Isolation            string
	CPUShares            uint64 `json:"CpuShares"`
	Memory               int64
	NanoCPUs             int64 `json:"NanoCpus"`
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []DocWeight
	BlkioDeviceReadBps   []DocRate
	BlkioDeviceWriteBps  []DocRate
	BlkioDeviceReadIOps  []DocRate
	BlkioDeviceWriteIOps []DocRate
	CPUPeriod            uint64 `json:"CpuPeriod"`
	CPUQuota             int64  `json:"CpuQuota"`
	CPURealtimePeriod    uint64 `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64  `json:"CpuRealtimeRuntime"`
	CpusetCpus           string
	CpusetMems           string
	Devices              []DocDevice
	DeviceCgroupRules    []string
	DeviceRequests       []string
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     *uint64
	OomKillDisable       *bool
	PidsLimit            *int64
	Ulimits              []DocUlimit
	MaskedPaths          []string
	ReadonlyPaths        []string
	Init                 *bool `json:",omitempty"`
}

// DocLogConfig says where the output of a detached container goes.
type DocLogConfig struct {
	Type   string
	Config map[string]string
}

// DocRestartPolicy is when the container is started again.
type DocRestartPolicy struct {
	Name              string
	MaximumRetryCount int
}

// DocPort is an address on the host that leads to a port.
type DocPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// DocWeight and DocRate are limits on one block device.
type (
	DocWeight struct {
		Path   string
		Weight uint16
	}
	DocRate struct {
		Path string
		Rate uint64
	}
)

// DocDevice is a device of the host shown inside.
type DocDevice struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

// DocUlimit is a limit of setrlimit; -1 is no limit.
type DocUlimit struct {
	Name string
	Hard int64
	Soft int64
}

// DocGraphDriver says where the root file system lies.
type DocGraphDriver struct {
	Data map[string]string
	Name string
}

// DocMount is something that is mounted in the container.
type DocMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// DocLongMount is what --mount asked for.
type DocLongMount struct {
	Type     string
	Source   string `json:",omitempty"`
	Target   string
	ReadOnly bool `json:",omitempty"`
}

// DocConfig is what the container was made from: the image's configuration with the user's wishes over it.
type DocConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	StopTimeout  *int     `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// DocNetworkSettings is how the container is reached.
type DocNetworkSettings struct {
	Bridge              string
	SandboxID           string
	SandboxKey          string
	Ports               map[string][]DocPort
	EndpointID          string
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	MacAddress          string
	Networks            map[string]DocNetwork
	// Report is hull's own: what a network with an allow-list has refused, or --network log seen.
	Report *usernet.Report `json:",omitempty"`
}

// DocNetwork is the container's end of one network.
type DocNetwork struct {
	IPAMConfig          *DocIPAM
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// DocIPAM are the addresses that were asked for.
type DocIPAM struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}
