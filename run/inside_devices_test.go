package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
)

// A nodeTrial is a device node that a program makes and opens: "c 1:11 /dir/name access", access being r or w.
type nodeTrial struct{ what, want string }

// nodesVerb makes the nodes of $NODES and opens them, and prints for each whether that went well, or what did not.
func nodesVerb() error {
	if os.Getenv("MOUNT") != "" { // where nothing but a cgroup keeps nodes shut
		if err := unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	var list []string
	for what := range strings.SplitSeq(os.Getenv("NODES"), ",") {
		var kind, path, access string
		var major, minor uint32
		if _, err := fmt.Sscanf(what, "%1s %d:%d %s %s", &kind, &major, &minor, &path, &access); err != nil {
			return fmt.Errorf("%q: %w", what, err)
		}
		list = append(list, tryNode(kind, unix.Mkdev(major, minor), path, access))
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

func tryNode(kind string, number uint64, path, access string) string {
	mode := map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK}[kind]
	flags := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY}[access]
	if err := unix.Mknod(path, mode|0o666, int(number)); err != nil && !errors.Is(err, unix.EEXIST) {
		return "mknod: " + unix.ErrnoName(err.(unix.Errno))
	}
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "open: " + unix.ErrnoName(err.(unix.Errno))
	}
	unix.Close(fd)
	return "ok"
}

// tryNodes has a container make and open nodes. A want may leave several answers, "a|b".
func tryNodes(t *testing.T, trials []nodeTrial, change func(*Config), env ...string) {
	t.Helper()
	var words []string
	for _, n := range trials {
		words = append(words, n.what)
	}
	config := verbConfig(t, "nodes", append(env, "NODES="+strings.Join(words, ","))...)
	if change != nil {
		change(&config)
	}
	out, errs, res := printed(t, config, nil)
	var got []string
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != len(trials) {
		t.Fatalf("status %d, %v, %s%s", res.Code, err, out, errs)
	}
	for i, n := range trials {
		if !strings.Contains("|"+n.want+"|", "|"+got[i]+"|") {
			t.Errorf("%s: %s, want %s", n.what, got[i], n.want)
		}
	}
}

// TestInsideNodes: root of a container may make device nodes, but none opens, wherever it is. An ordinary user may not make
// any. Those of /dev open.
func TestInsideNodes(t *testing.T) {
	refused := "open: EACCES|open: EPERM"
	if os.Geteuid() != 0 {
		refused = "mknod: EPERM|open: ENOENT" // where one id is mapped, mknod is answered as if it had made one
	}
	var trials []nodeTrial
	for i, dir := range []string{"/", "/tmp", "/dev", "/dev/shm", "/volume", "/tmpfs", "/host"} {
		for j, device := range []string{"c 1:1", "c 1:11", "c 10:229", "b 7:0", "b 8:0", "b 254:0"} {
			trials = append(trials, nodeTrial{fmt.Sprintf("%s %s/node%d.%d r", device, dir, i, j), refused})
		}
	}
	for _, path := range []string{"/dev/pts/node", "/dev/mqueue/node", "/proc/node", "/sys/node"} {
		trials = append(trials, nodeTrial{"c 1:1 " + path + " r", "mknod: EPERM|mknod: EACCES|mknod: ENOENT|mknod: EROFS|open: ENOENT"})
	}
	for _, path := range []string{"c 1:3 /dev/null w", "c 1:5 /dev/zero r", "c 1:7 /dev/full w", "c 1:8 /dev/random r", "c 1:9 /dev/urandom r"} {
		trials = append(trials, nodeTrial{path, "ok"})
	}
	tryNodes(t, trials, func(c *Config) {
		c.Files.Mounts = []MountSpec{
			{Type: MountVolume, Target: "/volume"}, {Type: MountTmpfs, Target: "/tmpfs"},
			{Type: MountBind, Source: t.TempDir(), Target: "/host"},
		}
	})
}

// needDeviceRules skips a test where no cgroup can keep devices from a container.
func needDeviceRules(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: in a user namespace nobody makes device nodes")
	}
	group, warnings, err := cgroups.New("hull-test-"+NewID()[:12], &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}},
		cgroups.Options{Always: true})
	if err != nil {
		t.Fatal(err)
	}
	if group != nil {
		defer group.Close()
		defer func() {
			if err := group.Remove(); err != nil {
				t.Error(err)
			}
		}()
	}
	if group == nil || len(warnings) > 0 {
		t.Skip("needs a cgroup that says which devices may be opened:", warnings)
	}
}

// TestInsideDeviceCgroup: whoever may mount file systems makes nodes where no mount flag keeps them shut. The cgroup does,
// of version 1 or 2, but for the devices that were given, with the access that was given.
func TestInsideDeviceCgroup(t *testing.T) {
	needDeviceRules(t)
	admin := func(c *Config) { c.Isolation.CapAdd = []string{"CAP_SYS_ADMIN"} }
	tryNodes(t, []nodeTrial{
		{"c 1:1 /tmp/mem r", "open: EPERM"}, {"c 1:11 /tmp/kmsg w", "open: EPERM"}, {"b 7:0 /tmp/loop r", "open: EPERM"},
		{"b 8:0 /tmp/disk r", "open: EPERM"}, {"c 1:3 /tmp/null w", "ok"}, {"c 5:2 /tmp/ptmx r", "ok|open: ENOENT"},
	}, admin, "MOUNT=1")
	tryNodes(t, []nodeTrial{
		{"c 1:11 /tmp/kmsg w", "ok"}, {"c 1:11 /dev/kmsg w", "ok"}, {"c 1:1 /tmp/mem r", "open: EPERM"},
	}, func(c *Config) {
		admin(c)
		c.Files.Devices = []Device{{Source: "/dev/kmsg", Target: "/dev/kmsg", Permissions: "rwm"}}
	}, "MOUNT=1")
	tryNodes(t, []nodeTrial{
		{"c 1:11 /dev/kmsg r", "open: EPERM"}, {"c 1:11 /dev/kmsg w", "ok"}, {"c 1:11 /tmp/kmsg w", "open: EACCES"},
	}, func(c *Config) {
		c.Files.Devices = []Device{{Source: "/dev/kmsg", Target: "/dev/kmsg", Permissions: "w"}}
	})
	tryNodes(t, []nodeTrial{ // rw without m: no further node of it
		{"c 1:11 /dev/other w", "ok"}, {"c 1:11 /dev/kmsg w", "ok"}, {"b 8:0 /dev/disk r", "open: EPERM|open: EACCES"},
	}, func(c *Config) {
		c.Files.Devices = []Device{{Source: "/dev/kmsg", Target: "/dev/other", Permissions: "rw"}, {Source: "/dev/kmsg", Target: "/dev/kmsg", Permissions: "rw"}}
	})
}

// TestInsideDeviceRule: --device-cgroup-rule lets a container make nodes for more devices, and open those alone.
func TestInsideDeviceRule(t *testing.T) {
	needDeviceRules(t)
	rules := func(list ...string) func(*Config) { return func(c *Config) { c.Files.DeviceRules = list } }
	tryNodes(t, []nodeTrial{
		{"c 1:11 /kmsg w", "ok"}, {"c 1:11 /dev/kmsg w", "ok"}, {"c 1:11 /kmsg r", "open: EPERM"}, {"c 1:3 /null w", "ok"},
		{"c 1:1 /mem r", "open: EPERM"}, {"b 8:0 /disk r", "open: EPERM"}, {"b 8:0 /dev/disk r", "open: EPERM"}, {"c 1:3 /dev/null w", "ok"},
	}, rules("c 1:11 wm"))
	tryNodes(t, []nodeTrial{
		{"c 1:11 /kmsg w", "ok"}, {"c 1:4 /port w", "open: EPERM"}, {"b 250:99 /none r", "open: ENXIO"}, {"b 251:99 /none2 r", "open: EPERM"},
	}, rules("c 1:11 w", "b 250:* rw"))
	tryNodes(t, []nodeTrial{{"b 250:99 /none r", "open: ENXIO"}, {"c 250:99 /none2 r", "open: ENXIO"}}, rules("a *:* rwm"))

	config := verbConfig(t, "nodes", "NODES=c 1:1 /mem r")
	config.Files.DeviceRules, config.Isolation.Userns, config.Limits.Require = []string{"c 1:11 rwm"}, "one-id", true
	_, err := create(t, testHost(t), config).Run(t.Context(), IO{})
	if err == nil || !strings.Contains(err.Error(), "--device-cgroup-rule: in a user namespace nobody makes device nodes") {
		t.Error(err)
	}
}
