package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inside is what a program finds around it.
type inside struct {
	Status  map[string]string // the lines of /proc/self/status
	Fds     []string          // open descriptors above 2, and what they lead to
	Env     []string
	Cwd     string
	Host    string
	Dev     []string          // "TYPE PERMISSIONS PATH [MAJOR:MINOR]" of all below /dev
	Mounts  []string          // lines of mountinfo
	Masked  map[string]string // path: "empty directory", "null", "absent", or what else is there
	Written map[string]string // path: the error of opening it for writing, or "ok"
	Agents  []string          // files called release_agent that can be opened
	Keys    string            // what /proc/keys says
	Key     string            // the error of a search for the caller's key
}

// insideVerb prints it. Descriptors come first, before anything in here opens one.
func insideVerb() error {
	v := inside{Fds: openFds(), Status: map[string]string{}, Masked: map[string]string{}, Written: map[string]string{}}
	for _, l := range linesOf("/proc/self/status") {
		if key, value, ok := strings.Cut(l, ":"); ok {
			v.Status[key] = strings.TrimSpace(value)
		}
	}
	environ, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return err
	}
	v.Env = strings.Split(strings.TrimSuffix(string(environ), "\x00"), "\x00")
	v.Cwd, _ = os.Getwd()
	v.Host, _ = os.Hostname()
	v.Mounts = linesOf("/proc/self/mountinfo")
	if err := filepath.WalkDir("/dev", func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			v.Dev = append(v.Dev, devLine(p))
		}
		return err
	}); err != nil {
		return err
	}
	for path := range strings.SplitSeq(os.Getenv("MASKED"), ",") {
		v.Masked[path] = maskOf(path)
	}
	for path := range strings.SplitSeq(os.Getenv("WRITTEN"), ",") {
		v.Written[path] = "ok"
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			v.Written[path] = unix.ErrnoName(err.(unix.Errno))
		} else {
			unix.Close(fd)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.Name() == "release_agent" || d.Name() == "notify_on_release") {
			if f, err := os.OpenFile(p, os.O_WRONLY, 0); err == nil {
				f.Close()
				v.Agents = append(v.Agents, p)
			}
		}
		return nil
	})
	keys, _ := os.ReadFile("/proc/keys")
	v.Keys = string(keys)
	v.Key = "found"
	if _, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", secretKey, 0); err != nil {
		v.Key = unix.ErrnoName(err.(unix.Errno))
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}

func linesOf(path string) []string {
	data, _ := os.ReadFile(path)
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func openFds() (list []string) {
	fd, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return []string{err.Error()}
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	n, _ := unix.Getdents(fd, buf)
	_, _, entries := unix.ParseDirent(buf[:n], -1, nil)
	for _, name := range entries {
		to, _ := os.Readlink("/proc/self/fd/" + name)
		if name == "0" || name == "1" || name == "2" || name == fmt.Sprint(fd) || strings.HasPrefix(to, "/sys/fs/cgroup/") ||
			strings.HasPrefix(to, "anon_inode:[event") {
			continue // the Go runtime's own
		}
		list = append(list, name+" "+to)
	}
	return list
}

func devLine(path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return path + " " + err.Error()
	}
	kind := map[uint32]string{unix.S_IFDIR: "d", unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFLNK: "l", unix.S_IFREG: "-"}[st.Mode&unix.S_IFMT]
	line := fmt.Sprintf("%s %04o %s", kind, st.Mode&0o7777, path)
	switch kind {
	case "l":
		to, _ := os.Readlink(path)
		return "l " + path + " " + to
	case "c", "b":
		return fmt.Sprintf("%s %d:%d", line, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return line
}

// maskOf says what covers a path.
func maskOf(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); errors.Is(err, unix.ENOENT) {
		return "absent"
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) == 0 && errors.Is(os.Mkdir(path+"/x", 0o755), unix.EROFS) {
			return "empty directory"
		}
		return fmt.Sprint(len(entries), " entries, ", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return "null"
	}
	return fmt.Sprintf("mode %o", st.Mode)
}

// lookInside runs a container that looks around.
func lookInside(t *testing.T, change func(*Config), env ...string) (v inside) {
	t.Helper()
	config := verbConfig(t, "inside", env...)
	if change != nil {
		change(&config)
	}
	out, errs, res := printed(t, config, nil)
	if err := json.Unmarshal([]byte(out), &v); err != nil || res.Code != 0 {
		t.Fatalf("status %d, %v, %s%s", res.Code, err, out, errs)
	}
	return v
}

// TestInsideCapabilities: Docker's 14 for root, none for anybody else, and what was asked for.
func TestInsideCapabilities(t *testing.T) {
	const docker, none = "00000000a80425fb", "0000000000000000"
	own, err := ownCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	all := uint64(1)<<(unix.CAP_LAST_CAP+1) - 1
	if os.Geteuid() == 0 { // what this root lacks it cannot give
		for n, name := range AllCapabilities() {
			if !slices.Contains(own, name) {
				all &^= 1 << n
			}
		}
	}
	rows := []struct {
		name                 string
		change               func(*Config)
		bounding, effective  string
		noNewPrivs, seccomps string
	}{
		{"default", nil, docker, docker, "0", "2"},
		{"fewer", func(c *Config) { c.Isolation.CapDrop = []string{"CAP_MKNOD", "CAP_NET_RAW"} }, "00000000a00405fb", "00000000a00405fb", "0", "2"},
		{"none", func(c *Config) { c.Isolation.CapDrop = []string{"ALL"} }, none, none, "0", "2"},
		{"one", func(c *Config) { c.Isolation.CapDrop, c.Isolation.CapAdd = []string{"ALL"}, []string{"CAP_KILL"} }, "0000000000000020", "0000000000000020", "0", "2"},
		{"all", func(c *Config) { c.Isolation.CapAdd = []string{"ALL"} }, fmt.Sprintf("%016x", all), fmt.Sprintf("%016x", all), "0", "2"},
		{"all but one", func(c *Config) { c.Isolation.CapAdd, c.Isolation.CapDrop = []string{"ALL"}, []string{"CAP_CHOWN"} },
			fmt.Sprintf("%016x", all&^1), fmt.Sprintf("%016x", all&^1), "0", "2"},
		{"no new privileges", func(c *Config) { c.Isolation.Security.NoNewPrivileges = true }, docker, docker, "1", "2"},
		{"unconfined", func(c *Config) { c.Isolation.Security.Seccomp = "unconfined" }, docker, docker, "0", map[bool]string{true: "0", false: "2"}[os.Geteuid() == 0]},
	}
	user := func(c *Config) { c.Process.User = "1234:56" }
	if os.Geteuid() != 0 {
		user = func(c *Config) { c.Isolation.Userns, c.Process.User = "keep-id:uid=1234,gid=56", "1234:56" }
	}
	rows = append(rows, rows[0])
	rows[len(rows)-1].name, rows[len(rows)-1].change, rows[len(rows)-1].effective = "user", user, none
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			v := lookInside(t, row.change)
			for key, want := range map[string]string{"CapBnd": row.bounding, "CapEff": row.effective, "CapPrm": row.effective, "CapInh": none,
				"CapAmb": none, "NoNewPrivs": row.noNewPrivs, "Seccomp": row.seccomps} {
				if v.Status[key] != want {
					t.Errorf("%s: %s, want %s", key, v.Status[key], want)
				}
			}
		})
	}
}

// TestInsideGroups: --group-add, by number and by name.
func TestInsideGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: where one id is mapped there are no other groups")
	}
	v := lookInside(t, func(c *Config) { c.Process.GroupAdd = []string{"7", "8"} })
	if v.Status["Groups"] != "7 8" && v.Status["Groups"] != "0 7 8" {
		t.Errorf("groups %q", v.Status["Groups"])
	}
	if v := lookInside(t, nil); v.Status["Groups"] != "" && v.Status["Groups"] != "0" {
		t.Errorf("groups %q without being asked for", v.Status["Groups"])
	}
}

// TestInsideNothingElse: no descriptor, no variable, no name and no path of hull's or of the host's.
func TestInsideNothingElse(t *testing.T) {
	t.Setenv("HOST_SECRET", "x")
	f, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil { // as its caller may have left it one
		t.Fatal(err)
	}
	over := t.TempDir() // a path of the host's that only the caller's own words could give away
	v := lookInside(t, func(c *Config) {
		c.Process.Workdir, c.Network.Hostname = "/made/here", "box"
		c.Files.Mounts = []MountSpec{{Type: MountBind, Source: over, Target: "/over", Overlay: true}}
	})
	if v.Fds != nil {
		t.Errorf("descriptors %q", v.Fds)
	}
	if v.Cwd != "/made/here" || v.Host != "box" {
		t.Errorf("in %q of %q", v.Cwd, v.Host)
	}
	env := []string{defaultPath, "HOSTNAME=box", verbEnv + "=inside", "HOME=/"}
	if diff := cmp.Diff(sorted(env), sorted(v.Env)); diff != "" {
		t.Errorf("environment: %s", diff)
	}
	root := testHost(t).Root
	home, _ := os.UserHomeDir()
	for _, line := range v.Mounts {
		if strings.Contains(line, root) || strings.Contains(line, os.TempDir()) || home != "/" && strings.Contains(line, home) {
			t.Errorf("mountinfo tells where hull keeps its things: %s", line)
		}
		if fields := strings.Fields(line); strings.Contains(line, "shared:") || strings.Contains(line, "master:") {
			t.Errorf("%s is tied to a mount of the host's", fields[4])
		}
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// TestInsideDev has the exact list of /dev.
func TestInsideDev(t *testing.T) {
	v := lookInside(t, nil)
	want := []string{"d 0755 /dev", "l /dev/core /proc/kcore", "l /dev/fd /proc/self/fd", "c 0666 /dev/full 1:7", "d 1777 /dev/mqueue",
		"c 0666 /dev/null 1:3", "l /dev/ptmx pts/ptmx", "d 0755 /dev/pts", "c 0666 /dev/pts/ptmx 5:2", "c 0666 /dev/random 1:8",
		"d 1777 /dev/shm", "l /dev/stderr /proc/self/fd/2", "l /dev/stdin /proc/self/fd/0", "l /dev/stdout /proc/self/fd/1",
		"c 0666 /dev/tty 5:0", "c 0666 /dev/urandom 1:9", "c 0666 /dev/zero 1:5"}
	if diff := cmp.Diff(want, slices.DeleteFunc(v.Dev, func(l string) bool { return strings.Contains(l, "/dev/.apt.conf") })); diff != "" {
		t.Error(diff)
	}
	options := map[string]string{"/dev": "rw,nosuid,nodev", "/dev/shm": "rw,nosuid,nodev,noexec", "/dev/mqueue": "rw,nosuid,nodev,noexec",
		"/dev/pts": "rw,nosuid,noexec", "/proc": "rw,nosuid,nodev,noexec", "/sys": "ro,nosuid,nodev,noexec", "/": "rw,nodev"}
	for _, line := range v.Mounts {
		f := strings.Fields(line)
		got, _, _ := strings.Cut(f[5], ",relatime")
		if want, ok := options[f[4]]; ok && got != want {
			t.Errorf("%s is %s, want %s", f[4], got, want)
		}
		delete(options, f[4])
	}
	if len(options) > 0 {
		t.Errorf("not mounted: %v", options)
	}
}

// TestInsidePaths: what Docker masks is masked, what it protects is protected, and nothing of either with
// systempaths=unconfined.
func TestInsidePaths(t *testing.T) {
	masked := []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	written := []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness",
		"/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/ksm/run", "/sys/kernel/uevent_helper", "/sys/power/state"}
	env := []string{"MASKED=" + strings.Join(masked, ","), "WRITTEN=" + strings.Join(written, ",")}
	v := lookInside(t, nil, env...)
	for _, path := range masked {
		var st unix.Stat_t
		want := "absent"
		if unix.Stat(path, &st) == nil {
			want = map[bool]string{true: "empty directory", false: "null"}[st.Mode&unix.S_IFMT == unix.S_IFDIR]
		}
		if v.Masked[path] != want {
			t.Errorf("%s: %s, want %s", path, v.Masked[path], want)
		}
	}
	protected := 0
	for _, path := range written {
		switch v.Written[path] {
		case "EROFS":
			protected++
		case "EACCES", "ENOENT", "EPERM": // somebody who is not root, or a kernel without it
		default:
			t.Errorf("%s is opened for writing: %s", path, v.Written[path])
		}
	}
	if protected == 0 {
		t.Errorf("nothing is read-only: %v", v.Written)
	}
	if os.Geteuid() != 0 {
		return
	}
	v = lookInside(t, func(c *Config) { c.Isolation.Security.UnmaskPaths = true }, env...)
	if v.Masked["/proc/timer_list"] == "null" || v.Written["/proc/sys/net/ipv4/ip_forward"] != "ok" {
		t.Errorf("systempaths=unconfined: %v, %v", v.Masked, v.Written)
	}
}

// TestInsideReleaseAgent: a group of version 1 lets nobody in a container name a program that the host's kernel would run.
func TestInsideReleaseAgent(t *testing.T) {
	limit := int64(100)
	v := lookInside(t, func(c *Config) { c.Limits.Resources.Pids = &specs.LinuxPids{Limit: &limit} })
	if len(v.Agents) > 0 {
		t.Errorf("can be written: %q", v.Agents)
	}
}

// secretKey is the name of a key that a caller of hull's has.
const secretKey = "hull-test-secret"

// TestInsideKeyring: the keys of hull's caller stay with it, even if nothing keeps the container from asking.
func TestInsideKeyring(t *testing.T) {
	runtime.LockOSThread() // a keyring is a thread's; it ends with the test's
	if _, err := unix.KeyctlJoinSessionKeyring("hull-test"); err != nil {
		t.Skip("needs keyrings:", err)
	}
	if _, err := unix.AddKey("user", secretKey, []byte("x"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		t.Skip("needs keys:", err)
	}
	if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", secretKey, 0); err != nil {
		t.Fatal("the caller does not find its own key:", err)
	}
	v := lookInside(t, func(c *Config) { c.Isolation.Security = SecurityOpts{Seccomp: "unconfined", UnmaskPaths: true} })
	if v.Key != "ENOKEY" && v.Key != "EACCES" { // /proc/keys names those of the same user, which is why it is masked
		t.Errorf("a search for the caller's key: %s", v.Key)
	}
	if v := lookInside(t, nil); v.Key != "EPERM" || v.Keys != "" {
		t.Errorf("by default: %s; /proc/keys: %q", v.Key, v.Keys)
	}
}

// pushVerb pushes input into every terminal it can get hold of, TIOCSTI.
func pushVerb() error {
	fds := []int{0, 1, 2}
	for _, path := range []string{"/dev/tty", "/dev/console", "/proc/1/fd/0", "/proc/1/fd/1", "/proc/1/fd/2"} {
		if fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0); err == nil {
			fds = append(fds, fd)
		}
	}
	for _, fd := range fds {
		x := byte('x')
		_, _ = ioctl(fd, unix.TIOCSTI, unsafe.Pointer(&x))
		var line byte = 2 // TIOCL_SETSEL's kin: paste into a virtual console
		_, _ = ioctl(fd, unix.TIOCLINUX, unsafe.Pointer(&line))
	}
	fmt.Println("pushed", len(fds) > 0)
	return nil
}

// TestInsideTerminal: whatever a program does to the terminals it finds, nothing is typed at the caller's, with -t or without.
func TestInsideTerminal(t *testing.T) {
	for i := range 4 { // with the right to type at any terminal that is open, too
		tty := i%2 == 1
		master, slave := openTerminal(t, 20, 40)
		config := verbConfig(t, "push")
		if config.Process.Interactive, config.Process.TTY = true, tty; i >= 2 {
			config.Isolation.CapAdd = []string{"CAP_SYS_ADMIN"}
		}
		res, err := create(t, testHost(t), config).Run(t.Context(), IO{slave, slave, slave})
		if err != nil || res.Code != 0 {
			t.Fatal(res, err)
		}
		readUntil(t, master, "pushed true\r\n")
		mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		mode.Lflag &^= unix.ICANON // else what has come without a newline is not counted
		if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ); err != nil || n != 0 {
			t.Errorf("with -t %v: %d bytes are typed at the caller's terminal, %v", tty, n, err)
		}
	}
}
