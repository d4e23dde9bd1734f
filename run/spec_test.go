package run

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// specOf joins wishes with an image, as root without a user namespace unless the world says otherwise.
func specOf(t *testing.T, c Config, img v1.Config, w World) *specs.Spec {
	t.Helper()
	w.ID, w.Dir = strings.Repeat("a1", 32), "/c"
	w.Root = specs.Mount{Destination: "/", Type: "overlay", Options: []string{"lowerdir=1"}}
	if len(img.Cmd)+len(img.Entrypoint) == 0 {
		img.Cmd = []string{"sh"}
	}
	before, _ := json.Marshal(c)
	s, err := Spec(&c, &v1.ConfigFile{Config: img}, w)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(c); string(after) != string(before) {
		t.Errorf("the wishes have changed:\n%s\n%s", before, after)
	}
	return s
}

func one(id uint32) Identity {
	m := []specs.LinuxIDMapping{{ContainerID: id, HostID: 1000, Size: 1}}
	return Identity{UserNS: true, OneID: true, UIDs: m, GIDs: m}
}

// brief tells the mounts in a line each.
func brief(list []specs.Mount) (lines []string) {
	for _, m := range list {
		lines = append(lines, fmt.Sprintf("%s %s %s", m.Destination, m.Type, strings.Join(m.Options, ",")))
	}
	return lines
}

func kinds(s *specs.Spec) (list []string) {
	for _, n := range s.Linux.Namespaces {
		list = append(list, string(n.Type))
	}
	slices.Sort(list)
	return list
}

func TestSpecDefault(t *testing.T) {
	s := specOf(t, Config{}, v1.Config{}, World{})
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"host name", s.Hostname, "a1a1a1a1a1a1"},
		{"namespaces", kinds(s), []string{"cgroup", "ipc", "mount", "network", "pid", "uts"}},
		{"mounts", brief(s.Mounts), []string{
			"/ overlay nodev,lowerdir=1",
			"/proc proc nosuid,noexec,nodev",
			"/dev tmpfs nosuid,nodev,strictatime,mode=755,size=65536k",
			"/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
			"/sys sysfs nosuid,noexec,nodev,ro",
			"/dev/mqueue mqueue nosuid,noexec,nodev",
			"/dev/shm tmpfs nosuid,noexec,nodev,mode=1777,size=65536k",
		}},
		{"bounding", s.Process.Capabilities.Bounding, DefaultCapabilities()},
		{"effective", s.Process.Capabilities.Effective, DefaultCapabilities()},
		{"inheritable", s.Process.Capabilities.Inheritable, []string(nil)},
		{"environment", s.Process.Env, []string{defaultPath, "HOSTNAME=a1a1a1a1a1a1", "HOME="}},
		{"directory", s.Process.Cwd, "/"},
		{"masked", slices.Contains(s.Linux.MaskedPaths, "/proc/kcore"), true},
		{"read-only", slices.Contains(s.Linux.ReadonlyPaths, "/proc/sys"), true},
		{"read-only root", s.Root, &specs.Root{Path: "/c"}},
	} {
		if diff := cmp.Diff(row.want, row.got); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
}

func TestSpecWishes(t *testing.T) {
	mount := func(target string) specs.Mount {
		return specs.Mount{Destination: target, Type: "bind", Options: []string{"rbind"}}
	}
	has := func(line string) func(*specs.Spec) bool {
		return func(s *specs.Spec) bool { return slices.Contains(brief(s.Mounts), line) }
	}
	for _, row := range []struct {
		name string
		c    Config
		w    World
		ok   func(*specs.Spec) bool
	}{
		{"user namespace", Config{}, World{Identity: one(0)}, func(s *specs.Spec) bool {
			return slices.Contains(kinds(s), "user") && len(s.Linux.UIDMappings) == 1
		}},
		{"no group 5", Config{}, World{Identity: one(0)}, has("/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620")},
		{"host's network", Config{Network: NetworkConfig{Mode: "host"}}, World{}, func(s *specs.Spec) bool { return !slices.Contains(kinds(s), "network") }},
		{"host's network, rootless", Config{Network: NetworkConfig{Mode: "host"}}, World{Identity: one(0)}, has("/sys bind rbind,nosuid,noexec,nodev,ro")},
		{"host's pids, rootless", Config{Isolation: IsolationConfig{PID: "host"}}, World{Identity: one(0)}, has("/proc bind rbind,nosuid,noexec,nodev")},
		{"host's ipc", Config{Isolation: IsolationConfig{IPC: "host"}}, World{}, has("/dev/shm bind rbind,nosuid,noexec,nodev")},
		{"counters of heat", Config{}, World{HotCPUs: []int{1}}, func(s *specs.Spec) bool {
			return slices.Contains(s.Linux.MaskedPaths, "/sys/devices/system/cpu/cpu1/thermal_throttle")
		}},
		{"host's ipc without mqueue", Config{Isolation: IsolationConfig{IPC: "host"}}, World{NoMqueue: true}, func(s *specs.Spec) bool {
			return !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/mqueue" })
		}},
		{"no ipc", Config{Isolation: IsolationConfig{IPC: "none"}}, World{}, func(s *specs.Spec) bool {
			return !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
		}},
		{"host's names", Config{Isolation: IsolationConfig{UTS: "host"}}, World{}, func(s *specs.Spec) bool { return s.Hostname == "" && !slices.Contains(kinds(s), "uts") }},
		{"names", Config{Network: NetworkConfig{Hostname: "h", Domainname: "d"}}, World{}, func(s *specs.Spec) bool { return s.Hostname == "h" && s.Domainname == "d" }},
		{"shm", Config{Files: FilesConfig{ShmSize: 1 << 20}}, World{}, has("/dev/shm tmpfs nosuid,noexec,nodev,mode=1777,size=1024k")},
		{"cgroup v1", Config{}, World{CgroupV1: true}, has("/sys/fs/cgroup cgroup nosuid,noexec,nodev,ro")},
		{"cgroup v2, writable", Config{Isolation: IsolationConfig{Security: SecurityOpts{WritableCgroups: true}}}, World{CgroupV2: true}, has("/sys/fs/cgroup cgroup2 nosuid,noexec,nodev")},
		{"own /dev/shm", Config{}, World{Mounts: []specs.Mount{mount("/dev/shm")}}, func(s *specs.Spec) bool {
			return len(s.Mounts) == 7 && brief(s.Mounts)[6] == "/dev/shm bind rbind"
		}},
		{"deeper later", Config{}, World{Mounts: []specs.Mount{mount("/a/b/c"), mount("/a"), mount("/a/b")}}, func(s *specs.Spec) bool {
			l := brief(s.Mounts)
			return strings.Join(l[1:4], ";") == "/a bind rbind;/a/b bind rbind;/a/b/c bind rbind"
		}},
		{"beside the kernel's, and in them", Config{}, World{Mounts: []specs.Mount{mount("/dev/x"), mount("/proc/stat"), mount("/sys/y"), mount("/device")}}, func(s *specs.Spec) bool {
			l := brief(s.Mounts)
			return l[1] == "/device bind rbind" && strings.Join(l[len(l)-3:], ";") == "/dev/x bind rbind;/proc/stat bind rbind;/sys/y bind rbind"
		}},
		{"read-only", Config{Files: FilesConfig{ReadOnly: true}}, World{}, func(s *specs.Spec) bool { return s.Root.Readonly }},
		{"privileged", Config{Isolation: IsolationConfig{Privileged: true}}, World{}, func(s *specs.Spec) bool {
			return len(s.Process.Capabilities.Bounding) == len(AllCapabilities()) && s.Linux.MaskedPaths == nil && s.Linux.ReadonlyPaths == nil &&
				has("/sys sysfs nosuid,noexec,nodev")(s) && has("/ overlay lowerdir=1")(s)
		}},
		{"privileged by somebody with less", Config{Isolation: IsolationConfig{Privileged: true}}, World{Permitted: []string{"CAP_KILL"}}, func(s *specs.Spec) bool {
			return slices.Equal(s.Process.Capabilities.Bounding, []string{"CAP_KILL"})
		}},
		{"nothing for a user", Config{}, World{User: User{User: specs.User{UID: 7}}}, func(s *specs.Spec) bool {
			c := s.Process.Capabilities
			return c.Effective == nil && c.Permitted == nil && c.Ambient == nil && len(c.Bounding) > 5
		}},
		{"unmasked", Config{Isolation: IsolationConfig{Security: SecurityOpts{UnmaskPaths: true}}}, World{}, func(s *specs.Spec) bool { return s.Linux.MaskedPaths == nil }},
		{"no new privileges", Config{Isolation: IsolationConfig{Security: SecurityOpts{NoNewPrivileges: true}}}, World{}, func(s *specs.Spec) bool { return s.Process.NoNewPrivileges }},
		{"annotations", Config{Annotations: map[string]string{"a": "b"}}, World{}, func(s *specs.Spec) bool { return s.Annotations["a"] == "b" }},
	} {
		if s := specOf(t, row.c, v1.Config{}, row.w); !row.ok(s) {
			text, _ := json.MarshalIndent(s, "", " ")
			t.Errorf("%s: %s", row.name, text)
		}
	}
}

func TestCommandLine(t *testing.T) {
	words := strings.Fields
	own := func(s string) *[]string { w := words(s); return &w }
	for _, row := range []struct {
		entry, cmd string // the image's
		own        *[]string
		args, want string
	}{
		{"", "sh -c x", nil, "", "sh -c x"}, {"", "sh", nil, "ls /", "ls /"}, {"/e -a", "serve", nil, "", "/e -a serve"}, {"/e", "serve", nil, "other", "/e other"},
		{"/e", "serve", own("/mine -x"), "", "/mine -x"}, {"/e", "serve", own("/mine"), "a b", "/mine a b"}, {"/e", "serve", own(""), "a", "a"},
		{"/e", "serve", own(""), "", ""}, {"", "", nil, "", ""},
	} {
		got, err := commandLine(&Config{Args: words(row.args), Process: ProcessConfig{Entrypoint: row.own}}, &v1.Config{Entrypoint: words(row.entry), Cmd: words(row.cmd)})
		if strings.Join(got, " ") != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%+v: %q, %v", row, got, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, row := range []struct {
		image string
		p     ProcessConfig
		want  string
	}{
		{"", ProcessConfig{}, defaultPath + " HOSTNAME=a1a1a1a1a1a1 HOME=/root"},
		{"PATH=/bin A=1", ProcessConfig{}, "PATH=/bin A=1 HOSTNAME=a1a1a1a1a1a1 HOME=/root"},
		{"A=1 HOME=/h", ProcessConfig{Env: []string{"A=2", "B=3"}, TTY: true}, defaultPath + " A=2 HOME=/h HOSTNAME=a1a1a1a1a1a1 TERM=xterm B=3"},
		{"TERM=vt100", ProcessConfig{Env: []string{"TERM=dumb", "HOSTNAME=x", "HOME="}, TTY: true}, defaultPath + " TERM=dumb HOSTNAME=x HOME="},
		{"A=1 B=2", ProcessConfig{UnsetEnv: []string{"A"}}, defaultPath + " B=2 HOSTNAME=a1a1a1a1a1a1 HOME=/root"},
		{"A=1 B=2", ProcessConfig{UnsetAllEnv: true, Env: []string{"C=3"}}, defaultPath + " HOSTNAME=a1a1a1a1a1a1 C=3 HOME=/root"},
	} {
		s := specOf(t, Config{Process: row.p}, v1.Config{Env: strings.Fields(row.image)}, World{User: User{Home: "/root"}})
		if got := strings.Join(s.Process.Env, " "); got != row.want {
			t.Errorf("%+v:\n%s\n%s", row, got, row.want)
		}
	}
}

func TestHosts(t *testing.T) {
	// The names of this computer and of IPv6 as moby's daemon/libnetwork/etchosts writes them, and in its order.
	local := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	asked := NetworkConfig{AddHost: []HostEntry{{"db", "10.1.2.3"}, {"up", HostGateway}}, Domainname: "example.org"}
	// Without a network there is no way to the host, and so no address of it.
	got, want := hosts(&asked, "box", nil), local+"10.1.2.3\tdb\n127.0.0.1\tbox.example.org box\n"
	if got != want {
		t.Errorf("without a network: %q, want %q", got, want)
	}
	end := NetworkEnd{IP: "10.1.2.4/24", IP6: "fd00::4/64", Gateway: "10.1.2.1"}
	want = local + "10.1.2.3\tdb\n10.1.2.1\tup\n10.1.2.4\tbox.example.org box\nfd00::4\tbox.example.org box\n"
	if got := hosts(&asked, "box", []NetworkEnd{end}); got != want {
		t.Errorf("on a network: %q, want %q", got, want)
	}
	up := NetworkConfig{AddHost: []HostEntry{{"up", HostGateway}}}
	if got := hosts(&up, "box.example.org", []NetworkEnd{{IP: "10.1.2.4/24", Gateway: "10.1.2.1"}}); !strings.HasSuffix(got, "\n10.1.2.1\tup\n10.1.2.4\tbox.example.org box\n") {
		t.Errorf("with a gateway: %q", got)
	}
	if up.Mode = "host"; !strings.HasSuffix(hosts(&up, "box", nil), "127.0.0.1\tup\n") {
		t.Error("the host's network does not lead to the host")
	}
	if host, err := os.ReadFile("/etc/hosts"); err == nil && len(host) > 0 {
		if got := hosts(&NetworkConfig{Mode: "host"}, "box", nil); got != string(host) {
			t.Errorf("in the host's network: %q", got)
		}
	}
	got = resolvConf(&NetworkConfig{DNS: []string{"10.9.9.9", "::1"}, DNSSearch: []string{"a", "b"}, DNSOptions: []string{"ndots:2"}}, false)
	if got != "nameserver 10.9.9.9\nnameserver ::1\nsearch a b\noptions ndots:2\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := resolvConf(&NetworkConfig{DNS: []string{"1.1.1.1"}, DNSSearch: []string{"."}, DNSOptions: []string{"x"}}, false); got != "nameserver 1.1.1.1\noptions x\n" {
		t.Errorf("resolv.conf without search: %q", got)
	}
	if got := resolvConf(&NetworkConfig{}, false); strings.Contains(got, "nameserver 127.") || strings.Contains(got, "nameserver ::1") {
		t.Errorf("the host's loopback is out of reach: %q", got)
	}
	state := &State{ID: strings.Repeat("b", 64), Config: Config{Network: NetworkConfig{NoHosts: true}}, Mounts: []MountSpec{{Target: "/etc/resolv.conf"}}}
	files := etcFiles(state, state)
	if len(files) != 1 || files[0].Path != "/etc/hostname" || string(files[0].Data) != "bbbbbbbbbbbb\n" {
		t.Errorf("%q", files)
	}
}

// TestLookupUser reads passwd and group of a stack of layers: the topmost counts, a whiteout hides.
func TestLookupUser(t *testing.T) {
	top, low := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		low + "/etc/passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:\nold:x:44:44::/old:\n",
		low + "/etc/group":  "root:x:0:\nweb:x:33:\naudio:x:29:web,other\nvideo:x:30:web\n",
		top + "/etc/passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct{ user, add, want string }{
		{"", "", "0:0 [0] /root"}, {"root", "", "0:0 [0] /root"}, {"web", "", "33:33 [33 29 30] /srv"}, {"33", "", "33:33 [33 29 30] /srv"}, {"web:audio", "", "33:29 [29] /srv"},
		{"7", "", "7:0 [0] /"}, {"7:8", "", "7:8 [8] /"}, {"7:video", "", "7:30 [30] /"}, {"7", "audio 99", "7:0 [0 29 99] /"},
		{"nosuch", "", `user "nosuch": unable to find user nosuch: no matching entries in passwd file`},
		{"old", "", `user "old": unable to find user old: no matching entries in passwd file`},
		{"0:nosuch", "", `user "0:nosuch": unable to find group nosuch: no matching entries in group file`},
		{"0", "nosuch", "group-add: unable to find group nosuch"}, {"-1", "", `user "-1"`},
	} {
		u, err := lookupUser([]string{top, low}, row.user, strings.Fields(row.add))
		got := fmt.Sprintf("%d:%d %v %s", u.UID, u.GID, u.AdditionalGids, u.Home)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%q +%q: %s, want %s", row.user, row.add, got, row.want)
		}
	}
	if u, err := lookupUser([]string{t.TempDir()}, "5:6", nil); err != nil || u.UID != 5 || u.GID != 6 {
		t.Errorf("an image without passwd: %+v, %v", u, err)
	}
}
