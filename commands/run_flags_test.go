package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hullrun/hull/run"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// runWords reads the words of a run as Main would, up to the Config.
func runWords(t *testing.T, args ...string) (*run.Config, []string, error) {
	t.Helper()
	w := &wishes{cwd: "/cwd", home: "/home/me"}
	words, err := splitArgs(args, w.runFlags(), true)
	if err != nil {
		return nil, nil, err
	}
	for _, flag := range words.flags {
		name, value, _ := strings.Cut(flag[2:], "=")
		o := findLong(words.used, name)
		if o.Set(value) != nil {
			return nil, nil, o.failure()
		}
	}
	c, err := w.config(words.args)
	return c, w.warnings, err
}

func ptr[T any](v T) *T { return &v }

func TestRunFlags(t *testing.T) {
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "")
	t.Setenv("HULL_TEST_SET", "here")
	dir := t.TempDir()
	envFile, labelFile := filepath.Join(dir, "env"), filepath.Join(dir, "labels")
	for name, text := range map[string]string{envFile: "A=file\nB=file\nHULL_TEST_SET\n", labelFile: "l=file\nm\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args string
		set  func(*run.Config)
	}{
		{"img", func(c *run.Config) {}},
		{"--pidfile p --security-opt seccomp=s.json img", func(c *run.Config) {
			c.Lifetime.PIDFile, c.Isolation.Security.Seccomp = "/cwd/p", "/cwd/s.json"
		}},
		{"--security-opt seccomp=builtin img", func(c *run.Config) { c.Isolation.Security.Seccomp = "builtin" }},
		{"img sh -c x --rm -e", func(c *run.Config) { c.Args = []string{"sh", "-c", "x", "--rm", "-e"} }},
		{"-it --rm --name web --init img", func(c *run.Config) {
			c.Process.Interactive, c.Process.TTY, c.Process.Init, c.Lifetime.Remove, c.Name = true, true, true, true, "web"
		}},
		{"--env-file " + envFile + " -e A=1,2 -e NOTSET_HERE -eHULL_TEST_SET img", func(c *run.Config) {
			c.Process.Env = []string{"A=file", "B=file", "HULL_TEST_SET=here", "A=1,2", "NOTSET_HERE", "HULL_TEST_SET=here"}
		}},
		{"--label-file " + labelFile + " -l l=flag -l k=a=b img", func(c *run.Config) {
			c.Labels = map[string]string{"l": "flag", "m": "", "k": "a=b"}
		}},
		{"--entrypoint sh img x", func(c *run.Config) { c.Process.Entrypoint, c.Args = &[]string{"sh"}, []string{"x"} }},
		{"--entrypoint= img", func(c *run.Config) { c.Process.Entrypoint = &[]string{} }},
		{"-w /w -u 1:2 --group-add wheel --umask 077 img", func(c *run.Config) {
			c.Process.Workdir, c.Process.User, c.Process.GroupAdd, c.Process.Umask = "/w", "1:2", []string{"wheel"}, "077"
		}},
		{"-v ./a:/a:ro --tmpfs /t --mount type=bind,src=/b,dst=/b img", func(c *run.Config) {
			c.Files.Mounts = []run.MountSpec{
				{Type: "bind", Source: "/cwd/a", Target: "/a", ReadOnly: true, CreateSource: true},
				{Type: "tmpfs", Target: "/t", Options: []string{"nosuid", "nodev", "noexec"}},
				{Type: "bind", Source: "/b", Target: "/b", Long: true},
			}
		}},
		{"-m 64m --pids-limit 10 --cpus 0.5 --cpu-shares 5 --cpuset-cpus 0-1 --blkio-weight 500 img", func(c *run.Config) {
			c.Limits.NanoCPUs = 5e8
			c.Limits.Resources = specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20))},
				CPU:    &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Shares: ptr(uint64(5)), Cpus: "0-1"},
				Pids:   &specs.LinuxPids{Limit: ptr(int64(10))}, BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(500))},
			}
		}},
		{"-m 0 --pids-limit -1 --cpus 0 --cpu-quota -1 --memory-swap 0 --memory-swappiness -1 img", func(c *run.Config) {}},
		{"-m 1g --memory-swap -1 img", func(c *run.Config) {
			c.Limits.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(1 << 30)), Swap: ptr(int64(-1))}
		}},
		{"--ulimit nofile=1 --ulimit core=0 --ulimit nofile=5:6 --oom-score-adj -5 --require-limits img", func(c *run.Config) {
			c.Limits.Ulimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}, {Type: "RLIMIT_CORE"}}
			c.Limits.OOMScoreAdj, c.Limits.Require = ptr(-5), true
		}},
		{"--cap-drop all --cap-add net_raw --security-opt no-new-privileges --sysctl net.x=1 --pid host --userns keep-id img", func(c *run.Config) {
			c.Isolation.CapDrop, c.Isolation.CapAdd = []string{"ALL"}, []string{"CAP_NET_RAW"}
			c.Isolation.Security.NoNewPrivileges, c.Isolation.PID, c.Isolation.Userns = true, "host", "keep-id"
			c.Limits.Sysctls = map[string]string{"net.x": "1"}
		}},
		{"--ip 172.17.0.9 img", func(c *run.Config) { c.Network.Networks[0].IP, c.Network.Default = "172.17.0.9", false }},
		{"--ip6 fd00::9 --network name=web,ip=10.1.0.9 img", func(c *run.Config) {
			c.Network = run.NetworkConfig{Mode: "web", Networks: []run.NetworkWish{{Name: "web", IP: "10.1.0.9", IP6: "fd00::9"}}}
		}},
		{"--ip 10.1.0.9 --network name=web,ip6=fd00::9 img", func(c *run.Config) {
			c.Network = run.NetworkConfig{Mode: "web", Networks: []run.NetworkWish{{Name: "web", IP: "10.1.0.9", IP6: "fd00::9"}}}
		}},
		{"-p 80:80 img", func(c *run.Config) { c.Network.Publish, c.Network.Default = []string{"80:80"}, false }},
		{"--network default img", func(c *run.Config) {}},
		{"--network bridge img", func(c *run.Config) { c.Network.Default = false }},
		{"--net none --network name=none -h me --add-host a:1.2.3.4 --dns 1.1.1.1 --dns-opt ndots:1 --expose 80 img", func(c *run.Config) {
			c.Network = run.NetworkConfig{Mode: "none", Hostname: "me", AddHost: []run.HostEntry{{Name: "a", IP: "1.2.3.4"}},
				DNS: []string{"1.1.1.1"}, DNSOptions: []string{"ndots:1"}, Expose: []string{"80/tcp"}}
		}},
		{"--network pasta:--mtu=1500,-4 -p 80:80 img", func(c *run.Config) {
			c.Network = run.NetworkConfig{Mode: "pasta", Pasta: []string{"--mtu=1500", "-4"}, Publish: []string{"80:80"}}
		}},
		{"--stop-signal 9 --stop-timeout -1 --timeout 90s,5 --sig-proxy=false --restart no -d=false img", func(c *run.Config) {
			c.Lifetime = run.LifetimeConfig{StopSignal: "9", StopTimeout: ptr(-1), Timeout: 90 * time.Second, TimeoutGrace: 5 * time.Second, NoSigProxy: true}
		}},
		{"--platform linux/arm64 --pull never -q img", func(c *run.Config) { c.Platform, c.Pull, c.Quiet = "linux/arm64", "never", true }},
		{"-d --restart on-failure:3 --detach-keys ctrl-a,x img", func(c *run.Config) {
			c.Process.Attach = []string{}
			c.Lifetime.Restart, c.Lifetime.DetachKeys = run.RestartPolicy{Name: "on-failure", MaxRetries: 3}, "ctrl-a,x"
		}},
		{"-di --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 img", func(c *run.Config) {
			c.Process.Interactive, c.Process.KeepStdin, c.Process.Attach = true, true, []string{}
			c.Log = run.LogConfig{Driver: "json-file", MaxSize: 1e6, MaxFiles: 2, Options: map[string]string{"max-size": "1m", "max-file": "2"}}
		}},
		{"--health-cmd x --health-interval 1s --health-retries 2 --health-on-failure kill img", func(c *run.Config) {
			c.Health = run.HealthConfig{Test: []string{"CMD-SHELL", "x"}, Interval: time.Second, Retries: 2, OnFailure: "kill"}
		}},
		{"--no-healthcheck img", func(c *run.Config) { c.Health.Test = []string{"NONE"} }},
		{"--arch arm --variant v7 img", func(c *run.Config) { c.Platform = "linux/arm/v7" }},
		{"--device /dev/fuse:r --shm-size 1m --read-only --privileged img", func(c *run.Config) {
			c.Files.Devices = []run.Device{{Source: "/dev/fuse", Target: "/dev/fuse", Permissions: "r"}}
			c.Files.ShmSize, c.Files.ReadOnly, c.Isolation.Privileged = 1<<20, true, true
		}},
		{"--device-read-bps /dev/sda:1m --blkio-weight-device /dev/sda:10 img", func(c *run.Config) {
			c.Limits.ReadBps = []run.DeviceRate{{Path: "/dev/sda", Rate: 1 << 20}}
			c.Limits.BlkioWeightDevice = []run.DeviceRate{{Path: "/dev/sda", Rate: 10}}
		}},
		{"--device-read-bps /dev/sda:1 --device-write-bps /dev/sda:2 --device-read-iops /dev/sda:3 --device-write-iops /dev/sda:4 img", func(c *run.Config) {
			rate := func(n uint64) []run.DeviceRate { return []run.DeviceRate{{Path: "/dev/sda", Rate: n}} }
			c.Limits.ReadBps, c.Limits.WriteBps, c.Limits.ReadIOPS, c.Limits.WriteIOPS = rate(1), rate(2), rate(3), rate(4)
		}},
		{"--memory 64m --memory-reservation 32m --memory-swap 96m --memory-swappiness 7 --oom-kill-disable img", func(c *run.Config) {
			c.Limits.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20)), Swap: ptr(int64(96 << 20)),
				Swappiness: ptr(uint64(7)), DisableOOMKiller: ptr(true)}
		}},
		{"--cpu-period 50000 --cpu-quota 20000 --cpu-rt-period 900000 --cpu-rt-runtime 800000 --cpuset-cpus 0 --cpuset-mems 1 img", func(c *run.Config) {
			c.Limits.Resources.CPU = &specs.LinuxCPU{Period: ptr(uint64(50000)), Quota: ptr(int64(20000)),
				RealtimePeriod: ptr(uint64(900000)), RealtimeRuntime: ptr(int64(800000)), Cpus: "0", Mems: "1"}
		}},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			got, warnings, err := runWords(t, strings.Fields(test.args)...)
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			want := run.Config{Image: "img", Args: []string{}}
			want.Network = run.NetworkConfig{Mode: "bridge", Networks: []run.NetworkWish{{Name: "bridge"}}, Default: true}
			test.set(&want)
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunFlagsRefuse(t *testing.T) {
	tests := []struct{ args, err string }{
		{"--bogus img", "unknown flag: --bogus"},
		{"-d -a stdin img", "cannot specify both --attach and --detach"},
		{"--sandbox -p 80:80 img", `--publish "80:80": needs a network: name one too`},
		{"--sandbox -P img", "--publish-all: needs a network"},
		{"--network web --network none img", "already has network web"},
		{"--network none --ip 1.2.3.4 img", "addresses and aliases need a network"},
		{"--network allow=a.example --ip 1.2.3.4 img", "addresses and aliases need a network"},
		{"--network-alias x img", `--network-alias "x": network-scoped aliases are only supported`},
		{"--network name=bridge,alias=x img", `--network-alias "x": network-scoped aliases are only supported`},
		{"--network web --mac-address ff:ff:ff:ff:ff:ff img", "not a valid mac address"},
		{"--dns x img", `dns "x": "x" is not an ip address`},
		{"-p 80: img", "no port specified"},
		{"--network name=web,ip=1.2.3.4 --ip 1.2.3.5 img", "cannot specify both --ip and per-network ip"},
		{"--network name=web,ip6=fd00::1 --ip6 fd00::2 img", "cannot specify both --ip6 and per-network ip6"},
		{"--network web --network web img", "specified multiple times"},
		{"--network alias=x img", "network name is missing"},
		{"--network name=web,colour=red img", "invalid field key colour"},
		{"--network web -p x:80 img", "invalid hostPort"},
		{"--network container:web -p 80:80 img", "conflicting options: port publishing"},
		{"--network none --network host img", "conflicting options"},
		{"--network pasta:-4 --network host img", "a container with pasta has no other network"},
		{"--network pasta --ip 1.2.3.4 img", "pasta has options of its own for addresses"},
		{"--network pasta:--netns,/x img", "where and how pasta runs"},
		{"--network pasta --add-host h:host-gateway img", "the host is out of reach"},
		{"--rm --restart always img", "cannot specify both --restart and --rm"},
		{"--restart sometimes img", "invalid restart policy"},
		{"--health-cmd x --no-healthcheck img", "--no-healthcheck conflicts"},
		{"--health-interval x img", `--health-interval "x": want a duration`},
		{"--health-on-failure x img", "want none, kill, restart or stop"},
		{"--log-driver syslog img", `log-driver "syslog": unknown`},
		{"--log-opt a img", `log-opt "a": invalid logging option`},
		{"--log-opt a=b img", "unknown log opt 'a'"},
		{"--log-opt max-size=0 img", "want a size"},
		{"--detach-keys ctrl-1 img", "unknown key"},
		{"--volumes-from x:y img", "invalid mode"},
		{"--gpus all img", "not known yet"},
		{"-e =x img", "invalid environment variable"},
		{"--env-file /nonexistent/f img", "no such file or directory"},
		{"-l =x img", "empty name"},
		{"-m 5m img", "Minimum memory limit allowed is 6MB"},
		{"-m lots img", `--memory "lots": invalid size`},
		{"--memory-swap x img", `--memory-swap "x": invalid size`},
		{"--shm-size x img", `--shm-size "x": invalid size`},
		{"--cpus 1 --cpu-quota 100000 img", "conflicting options"},
		{"--cpus x img", `cpus "x": want`},
		{"--cpu-shares -1 img", `--cpu-shares "-1": want a whole number`},
		{"--oom-score-adj x img", `--oom-score-adj "x": want a whole number`},
		{"--stop-timeout x img", `--stop-timeout "x": want a whole number`},
		{"--timeout x img", `timeout "x": want seconds`},
		{"--init=x img", `--init "x": want true or false`},
		{"-w w img", "it needs to be an absolute path"},
		{"--pull maybe img", "invalid pull option"},
		{"--cap-add bogus img", "invalid capability"},
		{"--security-opt bogus img", "invalid --security-opt"},
		{"--sysctl kernel.panic=1 img", "is not allowed"},
		{"-v a:b:c:d img", `volume "a:b:c:d": too many colons`},
		{"-v /a:/x --tmpfs /x img", "Duplicate mount point: /x"},
		{"--mount type=bind,dst=/x img", "source is required"},
		{"--pid container:x img", "invalid mode"},
		{"--platform linux/arm64 --arch arm img", "conflicting options"},
		{"--os linux img", "--arch: needed"},
		{"--stop-signal BOGUS img", "Invalid signal"},
		{"--name a img", "invalid container name"},
		{"--ulimit x img", "ulimit"},
		{"--attach log img", "want stdin, stdout or stderr"},
	}
	for _, test := range tests {
		if _, _, err := runWords(t, strings.Fields(test.args)...); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("run %s: %v, want %q", test.args, err, test.err)
		}
	}
}

func TestRunFlagsWarn(t *testing.T) {
	for args, want := range map[string]string{
		"--runtime runc img":                "--runtime: ignored",
		"--isolation default img":           "",
		"--no-healthcheck img":              "",
		"--volume-driver local img":         "",
		"--disable-content-trust=false img": "",
		"-p 80:80 --network host img":       "published ports are discarded",
		"--network name=web,gw-priority=1,driver-opt=a=b,link-local-ip=169.254.1.2 img": `--network "name=web,gw-priority=1,driver-opt=a=b,link-local-ip=169.254.1.2": gw-priority: ignored`,
	} {
		_, warnings, err := runWords(t, strings.Fields(args)...)
		if got := strings.Join(warnings, "\n"); err != nil || want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("run %s: %q, %v, want %q", args, got, err, want)
		}
	}
}
