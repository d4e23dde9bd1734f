package run

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is what a host can do and what it holds, with the names of docker info's fields.
type Info struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	Plugins           InfoPlugins
	MemoryLimit       bool
	SwapLimit         bool
	CPUCfsPeriod      bool `json:"CpuCfsPeriod"`
	CPUCfsQuota       bool `json:"CpuCfsQuota"`
	PidsLimit         bool
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	KernelVersion     string
	OperatingSystem   string
	OSVersion         string
	OSType            string
	Architecture      string
	IndexServerAddr   string `json:"IndexServerAddress"`
	RegistryConfig    InfoRegistry
	NCPU              int
	MemTotal          int64 // bytes
	DockerRootDir     string
	Name              string
	ServerVersion     string
	Rootless          bool
	DefaultRuntime    string
	Swarm             InfoSwarm
	SecurityOptions   []string
	Warnings          []string
}

// InfoPlugins lists what Docker has plugins for.
type InfoPlugins struct {
	Volume  []string
	Network []string
}

// InfoRegistry is how registries are reached.
type InfoRegistry struct {
	InsecureRegistryCIDRs []string
	Mirrors               []string
}

// InfoSwarm says that there is none.
type InfoSwarm struct{ LocalNodeState string }

// Info looks at the machine and counts what there is below the root directory. version is hull's own.
func (h *Host) Info(version string) (*Info, error) {
	containers, err := h.List()
	if err != nil {
		return nil, err
	}
	images, err := h.Images.List()
	if err != nil {
		return nil, err
	}
	settings, err := h.Settings()
	if err != nil {
		return nil, err
	}
	i := machine()
	i.ServerVersion, i.DockerRootDir, i.Rootless = version, h.Root, h.rootless
	i.RegistryConfig.Mirrors = append([]string{}, settings.Registries["docker.io"].Mirrors...)
	i.Containers = len(containers)
	for _, c := range containers {
		if c.Status == Running {
			i.ContainersRunning++
		} else {
			i.ContainersStopped++
		}
	}
	distinct := map[string]bool{}
	for _, img := range images {
		distinct[img.ID] = true
	}
	i.Images = len(distinct)
	if h.rootless {
		i.SecurityOptions = append(i.SecurityOptions, "name=rootless")
	}
	return i, nil
}

// machine is what does not depend on the root directory.
func machine() *Info {
	i := &Info{
		Driver: "overlay2", DriverStatus: [][2]string{}, LoggingDriver: "none", CgroupDriver: "cgroupfs", OSType: "linux", DefaultRuntime: "hull",
		Plugins: InfoPlugins{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}},
		// Where Docker looks names up; hull pulls from it by the same name.
		IndexServerAddr: "https://index.docker.io/v1/",
		RegistryConfig:  InfoRegistry{InsecureRegistryCIDRs: []string{"::1/128", "127.0.0.0/8"}},
		NCPU:            runtime.NumCPU(), Swarm: InfoSwarm{"inactive"},
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, Warnings: []string{},
	}
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) == nil {
		i.MemTotal = int64(system.Totalram) * int64(system.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		i.KernelVersion = unix.ByteSliceToString(name.Release[:])
		i.Architecture = unix.ByteSliceToString(name.Machine[:])
		i.Name = unix.ByteSliceToString(name.Nodename[:])
	}
	i.OperatingSystem, i.OSVersion = osRelease()
	i.CgroupVersion, i.MemoryLimit, i.PidsLimit, i.CPUCfsQuota = cgroupFacts()
	i.CPUCfsPeriod, i.SwapLimit = i.CPUCfsQuota, i.MemoryLimit
	if i.CgroupVersion == "2" {
		i.SecurityOptions = append(i.SecurityOptions, "name=cgroupns")
	}
	return i
}

// osRelease reads the distribution's own name and version, as os-release(5) describes.
func osRelease() (name, version string) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux", ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		switch key {
		case "PRETTY_NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, version
}

// cgroupFacts tells the version of the cgroups there are and which limits the kernel has a controller for.
func cgroupFacts() (version string, memory, pids, cpu bool) {
	version = "1"
	if text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		list := " " + strings.TrimSpace(string(text)) + " "
		has := func(name string) bool { return strings.Contains(list, " "+name+" ") }
		return "2", has("memory"), has("pids"), has("cpu")
	}
	has := func(name string) bool {
		_, err := os.Stat("/sys/fs/cgroup/" + name)
		return err == nil
	}
	return version, has("memory"), has("pids"), has("cpu")
}
