package run

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/hullrun/hull/ns"
)

// sandboxed is what a sandbox is made of where nobody has asked for anything else.
func sandboxed() Config {
	return Config{
		Image:   "x",
		Network: NetworkConfig{Mode: "none"},
		Files: FilesConfig{ReadOnly: true, OwnWorkdir: true,
			Mounts: []MountSpec{{Type: MountTmpfs, Target: "/tmp", TmpfsSize: 512 << 20, Options: []string{"exec"}}}},
		Limits: LimitsConfig{
			NanoCPUs: 2e9,
			Resources: specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: ptr(int64(2 << 30)), Swap: ptr(int64(2 << 30))},
				CPU:    &specs.LinuxCPU{Quota: ptr(int64(200_000)), Period: ptr(uint64(100_000))},
				Pids:   &specs.LinuxPids{Limit: ptr(int64(512))},
			},
			Ulimits: []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 512, Hard: 512}, {Type: "RLIMIT_CORE"}},
		},
		Isolation: IsolationConfig{Sandbox: true, CapDrop: []string{"ALL"}, Userns: "auto",
			Security: SecurityOpts{NoNewPrivileges: true}, Landlock: LandlockConfig{On: true, NoTCP: true}},
		Lifetime: LifetimeConfig{Timeout: time.Hour, TimeoutGrace: 10 * time.Second},
	}
}

// TestSandboxSettings changes one wish at a time, and says what of the sandbox it changes.
func TestSandboxSettings(t *testing.T) {
	except := func(flags ...string) func(c *Config) {
		return func(c *Config) { c.Isolation.SandboxExcept = flags }
	}
	for _, row := range []struct {
		name   string
		wish   func(c *Config)
		differ func(c *Config) // from sandboxed, beside the wish
	}{
		{"nothing", func(*Config) {}, func(*Config) {}},
		{"the host's network", func(c *Config) { c.Network.Mode = "host" }, func(c *Config) { c.Isolation.Landlock.NoTCP = false }},
		{"no network, as asked", func(c *Config) { c.Network.Mode = "none"; except("network")(c) }, func(c *Config) { c.Isolation.Landlock.NoTCP = false }},
		{"a writable root", except("read-only"), func(c *Config) { c.Files.ReadOnly = false }},
		{"a /tmp of its own", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/a", Target: "/tmp"}} }, func(*Config) {}},
		{"a mount", func(c *Config) { c.Files.Mounts = []MountSpec{{Type: MountBind, Source: "/a", Target: "/b"}} }, func(c *Config) {
			c.Files.Mounts = append(c.Files.Mounts, sandboxed().Files.Mounts...)
		}},
		{"a capability", func(c *Config) { c.Isolation.CapAdd = []string{"CAP_CHOWN"} }, func(*Config) {}},
		{"fewer capabilities", func(c *Config) { c.Isolation.CapDrop = []string{"CAP_CHOWN"} }, func(c *Config) { c.Isolation.CapDrop = []string{"CAP_CHOWN", "ALL"} }},
		{"other ids", func(c *Config) { c.Isolation.Userns = "one-id" }, func(*Config) {}},
		{"memory", func(c *Config) { c.Limits.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20))} }, func(c *Config) {
			c.Limits.Resources.Memory.Swap = ptr(int64(128 << 20))
		}},
		{"all memory", except("memory"), func(c *Config) { c.Limits.Resources.Memory = nil }},
		{"processors", func(c *Config) { c.Limits.NanoCPUs = 5e8 }, func(c *Config) { c.Limits.Resources.CPU.Quota = ptr(int64(50_000)) }},
		{"all processors", except("cpus"), func(c *Config) { c.Limits.NanoCPUs, c.Limits.Resources.CPU = 0, nil }},
		{"shares", func(c *Config) { c.Limits.Resources.CPU = &specs.LinuxCPU{Shares: ptr(uint64(5))} }, func(*Config) {}},
		{"processes", func(c *Config) { c.Limits.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(7))} }, func(c *Config) {
			c.Limits.Ulimits[0].Soft, c.Limits.Ulimits[0].Hard = 7, 7
		}},
		{"all processes", except("pids-limit"), func(c *Config) {
			c.Limits.Resources.Pids, c.Limits.Ulimits = nil, c.Limits.Ulimits[1:]
		}},
		{"a limit of its own", func(c *Config) { c.Limits.Ulimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}} }, func(c *Config) {
			c.Limits.Ulimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}, {Type: "RLIMIT_NPROC", Soft: 512, Hard: 512}}
		}},
		{"time", func(c *Config) { c.Lifetime.Timeout = time.Second }, func(c *Config) { c.Lifetime.TimeoutGrace = 0 }},
		{"all time", func(c *Config) { c.Lifetime.Timeout = -1 }, func(c *Config) { c.Lifetime.TimeoutGrace = 0 }},
	} {
		got := Config{Image: "x", Isolation: IsolationConfig{Sandbox: true}}
		row.wish(&got)
		for _, times := range []string{"", ", twice"} { // what has been completed may be so again
			if err := got.Complete(); err != nil {
				t.Fatalf("%s%s: %v", row.name, times, err)
			}
			want := sandboxed()
			row.wish(&want)
			if row.name == "shares" {
				want.Limits.Resources.CPU.Quota, want.Limits.Resources.CPU.Period = ptr(int64(200_000)), ptr(uint64(100_000))
			}
			row.differ(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s%s: %s", row.name, times, diff)
			}
		}
	}
	plain := Config{Image: "x"}
	if err := plain.Complete(); err != nil || !cmp.Equal(plain, Config{Image: "x"}) {
		t.Errorf("without a sandbox: %+v, %v", plain, err)
	}
}

func TestSandboxContradictions(t *testing.T) {
	for flag, wish := range map[string]func(c *Config){
		"--privileged":                            func(c *Config) { c.Isolation.Privileged = true },
		"--cap-add ALL":                           func(c *Config) { c.Isolation.CapAdd = []string{"ALL"} },
		"--userns host":                           func(c *Config) { c.Isolation.Userns = "host" },
		"--pid host":                              func(c *Config) { c.Isolation.PID = "host" },
		"--ipc host":                              func(c *Config) { c.Isolation.IPC = "host" },
		"--uts host":                              func(c *Config) { c.Isolation.UTS = "host" },
		"--cgroupns host":                         func(c *Config) { c.Isolation.Cgroupns = "host" },
		"--security-opt seccomp=unconfined":       func(c *Config) { c.Isolation.Security.Seccomp = "unconfined" },
		"--security-opt systempaths=unconfined":   func(c *Config) { c.Isolation.Security.UnmaskPaths = true },
		"--security-opt writable-cgroups takes a": func(c *Config) { c.Isolation.Security.WritableCgroups = true },
	} {
		c := Config{Image: "x", Isolation: IsolationConfig{Sandbox: true}}
		wish(&c)
		if err := c.Complete(); err == nil || !strings.Contains(err.Error(), "sandbox: conflicting options: "+flag) {
			t.Errorf("%s: %v", flag, err)
		}
		c.Isolation.Sandbox = false
		if err := c.Complete(); err != nil {
			t.Errorf("%s alone: %v", flag, err)
		}
	}
}

// TestOwnWorkdir says which mount gets a layer, and what is left to package ns.
func TestOwnWorkdir(t *testing.T) {
	mounts := []MountSpec{
		{Type: MountBind, Source: "/a", Target: "/w"}, {Type: MountVolume, Source: "v", Target: "/w/deep"}, {Type: MountTmpfs, Target: "/tmp"},
		{Type: MountBind, Source: "/a", Target: "/ro", ReadOnly: true}, {Type: MountImage, Source: "i", Target: "/image"}, {Type: MountBind, Source: "/a", Target: "/www"},
	}
	for _, row := range []struct {
		asked, image, overlaid string
		inRoot                 bool
	}{
		{"/w", "", "/w", false}, {"/w/", "", "/w", false}, {"/w/x", "", "/w", false}, {"/w/deep", "", "/w/deep", false}, {"/w/deeper", "", "/w", false},
		{"", "w", "/w", false}, {"/x", "/w", "", true}, {"", "", "", true}, {"/ww", "", "", true}, {"/tmp", "", "", false}, {"/ro/x", "", "", false},
		{"/image", "", "", false}, {"/w/../x", "", "", true},
	} {
		c := Config{Process: ProcessConfig{Workdir: row.asked}, Files: FilesConfig{OwnWorkdir: true}}
		image := v1.Config{WorkingDir: row.image}
		before := slices.Clone(mounts)
		overlaid, list := "", []specs.Mount{{Destination: "/"}, {Destination: "/proc"}}
		for _, m := range ownWorkdir(&c, &image, mounts) {
			if m.Overlay {
				overlaid += m.Target
			}
			list = append(list, specs.Mount{Destination: m.Target})
		}
		if overlaid != row.overlaid || !cmp.Equal(before, mounts) {
			t.Errorf("%q, image %q: %q has a layer", row.asked, row.image, overlaid)
		}
		if got := inRootItself(workdir(&c, &image), list); got != row.inRoot {
			t.Errorf("%q, image %q: in the root itself: %v", row.asked, row.image, got)
		}
		c.Files.OwnWorkdir = false
		if slices.ContainsFunc(ownWorkdir(&c, &image, mounts), func(m MountSpec) bool { return m.Overlay }) {
			t.Error("a layer that nobody asked for")
		}
	}
}

func TestLandlockPlaces(t *testing.T) {
	c := sandboxed()
	c.Files.Devices = []Device{{Source: "/dev/x", Target: "/opt/x"}}
	mounts := []MountSpec{{Type: MountTmpfs, Target: "/tmp"}, {Type: MountBind, Target: "/ro", ReadOnly: true}, {Type: MountImage, Target: "/image"}, {Type: MountVolume, Target: "/data"}}
	want := &ns.Landlock{Writable: []string{"/dev", "/proc", "/w", "/tmp", "/data", "/opt/x"}, NoTCP: true}
	if diff := cmp.Diff(want, landlock(&c, "/w", mounts)); diff != "" {
		t.Error(diff)
	}
	want.Writable = slices.DeleteFunc(want.Writable, func(p string) bool { return p == "/w" })
	if diff := cmp.Diff(want, landlock(&c, "/", mounts)); diff != "" {
		t.Error(diff)
	}
	c.Files.ReadOnly, c.Isolation.Landlock.NoTCP = false, false
	if diff := cmp.Diff(&ns.Landlock{Writable: []string{"/"}}, landlock(&c, "/w", mounts)); diff != "" {
		t.Error(diff)
	}
	if l := landlock(&Config{}, "/", mounts); l != nil {
		t.Errorf("%+v for somebody who did not ask", l)
	}
}

func TestUsedLine(t *testing.T) {
	for _, row := range []struct {
		used Used
		res  Result
		want string
	}{
		{Used{Wall: 1234567 * time.Microsecond}, Result{}, "1.235s"},
		{Used{Wall: 95120 * time.Millisecond, CPU: 300 * time.Millisecond, Memory: 64 << 20, PIDs: 5}, Result{OOMKilled: true},
			"1m35.1s, 300ms of processor time, at most 64MiB of memory, at most 5 processes, out of memory"},
		{Used{Wall: time.Second, CPU: 1, Memory: 1 << 20, Largest: true}, Result{TimedOut: true}, "1s, 0s of processor time, at most 1MiB of memory in its largest process, out of time"},
	} {
		if got := row.used.Line(row.res); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
		row.res.Used = &row.used
		if got := readExit(exitMessage(row.res)[1:]); !cmp.Equal(got, row.res) {
			t.Errorf("%+v, want %+v", got, row.res)
		}
	}
}
