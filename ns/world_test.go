package ns

import (
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestNamespaces(t *testing.T) {
	host := namespacesOf("/proc/self/ns")
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		v := b.look()
		if v.Pid != 1 || v.Ppid != 0 || v.Sid != 1 {
			t.Errorf("pid %d, parent %d, session %d", v.Pid, v.Ppid, v.Sid)
		}
		own := []string{"mnt", "pid", "ipc", "uts", "net", "cgroup"}
		if os.Geteuid() != 0 {
			own = append(own, "user")
		}
		for _, kind := range slices.Sorted(maps.Keys(host)) {
			if kind == "pid_for_children" || kind == "time_for_children" {
				continue
			}
			if fresh := v.Namespaces[kind] != host[kind]; fresh != slices.Contains(own, kind) {
				t.Errorf("namespace %s of its own: %v", kind, fresh)
			}
		}
		if v.Host != "box" || v.Domain != "example.org" {
			t.Errorf("names %q %q", v.Host, v.Domain)
		}
		if !slices.Equal(v.Links, []string{"lo"}) {
			t.Errorf("interfaces %q", v.Links)
		}
		for _, m := range slices.Sorted(maps.Keys(v.Mounts)) {
			if !slices.Contains([]string{"/", "/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm", "/dev/null", "/dev/zero",
				"/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, m) {
				t.Errorf("mount %s", m)
			}
		}
		if root := v.Mounts["/"]; !strings.Contains(root, "- overlay") || strings.Contains(root, "shared:") || strings.Contains(root, "master:") {
			t.Errorf("root is %q", root)
		}
	})
}

// TestSharedNamespaces leaves namespaces out of the specification, and names those of another process.
func TestSharedNamespaces(t *testing.T) {
	host := namespacesOf("/proc/self/ns")
	b := newBox(t, "look")
	b.Spec.Hostname, b.Spec.Domainname = "", ""
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.UTSNamespace || n.Type == specs.CgroupNamespace
	})
	v := b.look()
	for _, kind := range []string{"uts", "cgroup"} {
		if v.Namespaces[kind] != host[kind] {
			t.Errorf("%s is not the host's", kind)
		}
	}
	needRoot(t, "to join namespaces of the host's")
	b = newBox(t, "look")
	b.Spec.Hostname, b.Spec.Domainname = "", ""
	for i, n := range b.Spec.Linux.Namespaces {
		if file := map[specs.LinuxNamespaceType]string{specs.UTSNamespace: "uts", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc"}[n.Type]; file != "" {
			b.Spec.Linux.Namespaces[i].Path = "/proc/self/ns/" + file
		}
	}
	v = b.look()
	for _, kind := range []string{"uts", "net", "ipc"} {
		if v.Namespaces[kind] != host[kind] {
			t.Errorf("%s is not the one that was named", kind)
		}
	}
	if v.Namespaces["pid"] == host["pid"] {
		t.Error("pid is the host's")
	}
}

// TestProcess is about what the program itself gets: nothing that the specification does not say.
func TestProcess(t *testing.T) {
	t.Setenv("HOST_SECRET", "x")
	signal.Ignore(unix.SIGHUP, unix.SIGINT)
	t.Cleanup(func() { signal.Reset(unix.SIGHUP, unix.SIGINT) })
	for range 50 { // descriptors that an exec leaves open
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		b.Spec.Process.Args = []string{"t", "", "two words", "ö"}
		b.Spec.Process.Cwd = "/made/here"
		umask := uint32(0o027)
		b.Spec.Process.User.Umask = &umask
		b.env("EMPTY=")
		b.env("SPACES= a  b ")
		b.env("SPACES=twice")
		v := b.look()
		for _, row := range []struct {
			name      string
			got, want any
		}{
			{"arguments", v.Args, b.Spec.Process.Args}, {"environment", v.Env, b.Spec.Process.Env}, {"descriptors", v.Fds, []string(nil)},
			{"working directory", v.Cwd, "/made/here"}, {"umask", v.Status["Umask"], "0027"}, {"executable", v.Exe, "/t"},
			{"blocked signals", v.Status["SigBlk"], "0000000000000000"}, {"ignored signals", v.Status["SigIgn"], "0000000000000000"},
			{"user", v.Status["Uid"], "0 0 0 0"}, {"group", v.Status["Gid"], "0 0 0 0"},
			{"no_new_privs", v.Status["NoNewPrivs"], "0"}, {"seccomp", v.Status["Seccomp"], "0"},
		} {
			if diff := cmp.Diff(row.want, row.got); diff != "" {
				t.Errorf("%s: %s", row.name, diff)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		b.Spec.Process.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}, {Type: "RLIMIT_FSIZE", Soft: 1 << 20, Hard: 1 << 21},
			{Type: "RLIMIT_NOFILE", Soft: 1 << 40, Hard: 1 << 40}, // more than anybody has
		}
		score := 321
		b.Spec.Process.OOMScoreAdj = &score
		v := b.look()
		full := strconv.FormatUint(own.Max, 10)
		for name, want := range map[string]string{"Max core file size": "0 0", "Max file size": "1048576 2097152", "Max open files": full + " " + full} {
			if v.Limits[name] != want {
				t.Errorf("%s: %s, want %s", name, v.Limits[name], want)
			}
		}
		if v.OOM != "321" {
			t.Errorf("oom_score_adj %s", v.OOM)
		}
	})
	b := newBox(t, "look")
	b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}}
	if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), `resource limit "RLIMIT_FUN": unknown`) {
		t.Error(o.failure)
	}
}

// TestDev looks at /dev: the nodes a runtime must supply, links, and nothing of the host's.
func TestDev(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		v := b.look()
		want := []string{"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
		if diff := cmp.Diff(want, v.Dev); diff != "" {
			t.Error(diff)
		}
	})
	b := newBox(t, "try")
	readers := []string{"write /dev/null x", "ok", "write /dev/full x", "no space left on device", "read /dev/null", "", "write /dev/zero x", "ok",
		"write /dev/shm/x x", "ok", "open /dev/tty", "no such device or address", "read /dev/fd/0", ""}
	if os.Geteuid() == 0 { // has the right to make nodes, but none opens in a /dev mounted nodev
		readers = append(readers, "mknod /dev/own", "ok", "open /dev/own", "permission denied")
	} else {
		readers = append(readers, "mknod /dev/own", "operation not permitted")
	}
	want(b, readers...)
}

// TestDeviceNodes makes nodes where /dev lets them open.
func TestDeviceNodes(t *testing.T) {
	needRoot(t, "to make device nodes")
	nodes, err := HostDevice("/dev/null", "/dev/deep/nil")
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, "try")
	b.Spec.Mounts[2].Options = []string{"nosuid", "mode=755"}
	b.Spec.Linux.Devices = nodes
	owner := uint32(3)
	nodes[0].UID = &owner
	want(b, "mode /dev/deep/nil", "Dcrw-rw-rw- 3", "write /dev/deep/nil x", "ok", "mode /dev/null", "Dcrw-rw-rw- 0", "write /dev/full x", "no space left on device")

	if _, err := HostDevice("/etc/passwd", "/dev/x"); err == nil || !strings.Contains(err.Error(), `"/etc/passwd": not a device node`) {
		t.Error(err)
	}
	if _, err := HostDevice("/dev/nosuch", "/dev/x"); !os.IsNotExist(err) {
		t.Error(err)
	}
	if list, err := HostDevice("/dev", "/host"); err != nil || !slices.ContainsFunc(list, func(d specs.LinuxDevice) bool { return d.Path == "/host/null" }) {
		t.Error(list, err)
	}
	b = newBox(t, "look")
	b.Spec.Mounts[2].Options = nil
	b.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "y"}}
	if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), `device "/dev/x": want type c`) {
		t.Error(o.failure)
	}
}

func TestSysctl(t *testing.T) {
	b := newBox(t, "try")
	b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}
	if os.Geteuid() != 0 {
		delete(b.Spec.Linux.Sysctl, "kernel.shm_rmid_forced")
	}
	b.Spec.Linux.ReadonlyPaths = []string{"/proc/sys"}
	want(b, "read /proc/sys/net/ipv4/ip_unprivileged_port_start", "77", "open /proc/sys/net/ipv4/ip_forward", "read-only file system")

	b = newBox(t, "try")
	b.Spec.Linux.Sysctl = map[string]string{"net.no.such": "1"}
	if o := b.run(); o.failure == nil || o.failure.Error() != "set sysctl net.no.such: no such file or directory" {
		t.Error(o.failure)
	}
}
