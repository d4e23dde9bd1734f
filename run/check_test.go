package run

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestComplete(t *testing.T) {
	memory := func(limit, swap, soft int64) func(*Config) {
		return func(c *Config) {
			c.Limits.Resources = specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap, Reservation: &soft}}
		}
	}
	cpu := func(cpu specs.LinuxCPU) func(*Config) {
		return func(c *Config) { c.Limits.Resources = specs.LinuxResources{CPU: &cpu} }
	}
	tests := []struct {
		name string
		set  func(*Config)
		err  string
	}{
		{"nothing but an image", func(*Config) {}, ""},
		{"no image", func(c *Config) { c.Image = "" }, "empty name"},
		{"pull", func(c *Config) { c.Pull = "sometimes" }, "invalid pull option"},
		{"name", func(c *Config) { c.Name = "a" }, "invalid container name"},
		{"replace nobody", func(c *Config) { c.Replace = true }, "replace"},
		{"workdir", func(c *Config) { c.Process.Workdir = "w" }, `workdir "w": the working directory is invalid, it needs to be an absolute path`},
		{"user", func(c *Config) { c.Process.User = "a:b:c" }, "user"},
		{"stop signal", func(c *Config) { c.Lifetime.StopSignal = "BOGUS" }, `stop-signal "BOGUS": Invalid signal`},
		{"stop timeout", func(c *Config) { c.Lifetime.StopTimeout = ptr(-2) }, "stop-timeout -2"},
		{"wait for ever", func(c *Config) { c.Lifetime.StopTimeout = ptr(-1) }, ""},
		{"no timeout at all", func(c *Config) { c.Lifetime.Timeout = -1 }, ""},
		{"grace", func(c *Config) { c.Lifetime.Timeout, c.Lifetime.TimeoutGrace = 1, 1 }, ""},
		{"grace of nothing", func(c *Config) { c.Lifetime.TimeoutGrace = 1 }, "a grace needs a time"},
		{"negative grace", func(c *Config) { c.Lifetime.Timeout, c.Lifetime.TimeoutGrace = 1, -1 }, "a grace needs a time"},
		{"restart and rm", func(c *Config) { c.Lifetime.Remove, c.Lifetime.Restart.Name = true, "always" }, "cannot specify both --restart and --rm"},
		{"umask", func(c *Config) { c.Process.Umask = "99" }, "umask"},
		{"attach", func(c *Config) { c.Process.Attach = []string{"stdlog"} }, "want stdin, stdout or stderr"},
		{"in /proc", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountTmpfs, Target: "/proc/acpi"}} }, `mount "/proc/acpi": cannot be mounted because it is inside /proc`},
		{"over /proc", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/tmp", Target: "/proc"}} }, "inside /proc"},
		{"a link in /proc", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountVolume, Target: "/proc/self"}} }, "inside /proc"},
		{"the host's /proc", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/proc", Target: "/proc"}} }, ""},
		{"as lxcfs", func(c *Config) {
			c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/x", Target: "/proc/meminfo"}}
		}, ""},
		{"one target twice", func(c *Config) { c.Files.Mounts = []MountSpec{{Target: "/x"}, {Target: "/y"}, {Target: "/x"}} }, "Duplicate mount point: /x"},
		{"apparmor", func(c *Config) { c.Isolation.Security.AppArmor = "mine" }, ""},
		{"apparmor of two lines", func(c *Config) { c.Isolation.Security.AppArmor = "mine\nyours" }, "invalid name of an AppArmor profile"},
		{"no apparmor", func(c *Config) { c.Isolation.Security.AppArmor = "unconfined" }, ""},
		{"selinux", func(c *Config) { c.Isolation.Security.Labels = []string{"disable", "type:x"} }, "SELinux labels are not known yet"},
		{"shm", func(c *Config) { c.Files.ShmSize = -1 }, "SHM size"},
		{"network of another", func(c *Config) { c.Network.Mode, c.Network.Hostname = "container:web", "me" }, "conflicting options: hostname and the network mode"},
		{"network of another, dns", func(c *Config) { c.Network.Mode, c.Network.DNS = "container:web", []string{"10.0.0.1"} }, "conflicting options: dns and the network mode"},
		{"network of another, ports", func(c *Config) { c.Network.Mode, c.Network.Publish = "container:web", []string{"80:80"} }, "conflicting options: port publishing and the container type network mode"},
		{"network of another, exposed", func(c *Config) { c.Network.Mode, c.Network.Expose = "container:web", []string{"80/tcp"} }, "conflicting options: port exposing and the container type network mode"},
		{"network of another, hosts", func(c *Config) { c.Network.Mode, c.Network.AddHost = "container:web", []HostEntry{{"a", "10.0.0.1"}} }, "conflicting options: custom host-to-IP mapping and the network mode"},
		{"network and none", func(c *Config) { c.Network.Mode, c.Network.Networks = "none", []NetworkWish{{Name: "web"}} }, "cannot attach both"},
		{"network twice", func(c *Config) {
			c.Network.Mode, c.Network.Networks = "web", []NetworkWish{{Name: "web"}, {Name: "web"}}
		}, "specified multiple times"},
		{"network's address", func(c *Config) { c.Network.Mode, c.Network.Networks = "web", []NetworkWish{{Name: "web", IP: "x"}} }, "invalid IP address"},
		{"port", func(c *Config) { c.Network.Publish = []string{"x:80"} }, "invalid hostPort"},
		{"long hostname", func(c *Config) { c.Network.Hostname = string(make([]byte, 65)) }, "hostname"},
		{"pid", func(c *Config) { c.Isolation.PID = "odd" }, "invalid mode: want one of host, private"},
		{"ipc", func(c *Config) { c.Isolation.IPC = "odd" }, "want one of host, private, none, shareable"},
		{"ipc none", func(c *Config) { c.Isolation.IPC = "none" }, ""},
		{"userns", func(c *Config) { c.Isolation.Userns = "odd" }, "userns"},
		{"hostname of the host", func(c *Config) { c.Isolation.UTS, c.Network.Hostname = "host", "me" }, "conflicting options"},
		{"sysctl of the host's network", func(c *Config) { c.Network.Mode, c.Limits.Sysctls = "host", map[string]string{"net.x": "1"} }, "host network namespace"},
		{"sysctl of the host's ipc", func(c *Config) { c.Isolation.IPC, c.Limits.Sysctls = "host", map[string]string{"kernel.sem": "1"} }, "host IPC namespace"},
		{"oom score", func(c *Config) { c.Limits.OOMScoreAdj = ptr(1001) }, "range for oom score adj"},
		{"memory", memory(5<<20, 0, 0), "Minimum memory limit allowed is 6MB"},
		{"swap alone", memory(0, 1<<30, 0), "always set the Memory limit"},
		{"unlimited swap alone", memory(0, -1, 0), ""},
		{"swap below memory", memory(64<<20, 32<<20, 0), "larger than memory limit"},
		{"reservation", memory(0, 0, 1<<20), "Minimum memory reservation allowed is 6MB"},
		{"reservation above memory", memory(64<<20, 0, 128<<20), "less than memory reservation"},
		{"period", cpu(specs.LinuxCPU{Period: ptr(uint64(10))}), "cfs period"},
		{"quota", cpu(specs.LinuxCPU{Quota: ptr(int64(10))}), "cfs quota"},
		{"no quota", cpu(specs.LinuxCPU{Quota: ptr(int64(-1))}), ""},
		{"cpuset", cpu(specs.LinuxCPU{Cpus: "3-1"}), "cpuset"},
		{"mems", cpu(specs.LinuxCPU{Mems: "x"}), "cpuset"},
		{"weight", func(c *Config) {
			c.Limits.Resources = specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(5))}}
		}, "blkio weight"},
		{"cpus and quota", func(c *Config) {
			c.Limits.NanoCPUs = 1e9
			c.Limits.Resources = specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(5000))}}
		}, "conflicting options"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := Config{Image: "busybox"}
			test.set(&c)
			wantErr(t, c.Complete(), test.err)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestCompleteDerives(t *testing.T) {
	c := Config{Image: "busybox", Limits: LimitsConfig{
		NanoCPUs:  5e8,
		Resources: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}},
	}}
	for range 2 {
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
		r := c.Limits.Resources
		if *r.Memory.Swap != 128<<20 || *r.CPU.Quota != 50_000 || *r.CPU.Period != 100_000 {
			t.Errorf("swap %d, quota %d of %d", *r.Memory.Swap, *r.CPU.Quota, *r.CPU.Period)
		}
	}
	none := Config{Image: "busybox"}
	if err := none.Complete(); err != nil || none.Limits.Resources.CPU != nil || none.Limits.Resources.Memory != nil {
		t.Error("a container without limits got resources:", err)
	}
}
