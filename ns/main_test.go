package ns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// verbEnv makes the test's binary be a program inside a container, or a helper outside, instead of running tests. Its
// value is one of the names in verbs. This package's own early init has acted before.
const verbEnv = "HULL_NS_TEST"

// verbs are the programs that tests run.
var verbs = map[string]func(args []string) error{
	"look":      func([]string) error { return look() },
	"try":       func(args []string) error { return try(args) },
	"exit":      func(args []string) error { os.Exit(int(args[0][0] - '0')); return nil },
	"cat":       func([]string) error { return cat() },
	"signals":   func([]string) error { return awaitSignals() },
	"orphans":   func([]string) error { return orphans() },
	"sleep":     func([]string) error { time.Sleep(time.Minute); return nil },
	"kill":      func(args []string) error { return syscall.Kill(syscall.Getpid(), syscall.SIGKILL) },
	"parent":    func([]string) error { return parentOfOne() },
	"spy":       spy,
	"born":      func(args []string) error { return born(args, 1) },
	"guest":     guestVerb,
	"heir":      heir,
	"usermaps":  userMaps,
	"forbidden": func([]string) error { return forbidden() },
}

func TestMain(m *testing.M) {
	if verb := os.Getenv(verbEnv); verb != "" {
		if err := verbs[verb](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, verb+":", err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	code := m.Run()
	if shared != "" {
		os.RemoveAll(shared)
	}
	os.Exit(code)
}

// view is what a program sees of its world.
type view struct {
	Pid, Ppid, Sid  int
	Args, Env       []string
	Cwd, Exe, Host  string
	Domain          string
	Status          map[string]string // the lines of /proc/self/status
	Namespaces      map[string]string
	Fds             []string // what descriptors above 2 lead to
	Dev, Root       []string
	Mounts          map[string]string // mount point: options, type and options of the file system
	Links           []string          // network interfaces
	Limits          map[string]string // /proc/self/limits
	OOM             string
	TTY             [3]bool
	Rows, Cols      uint16
	Foreground      bool // the terminal's foreground process group is ours
	UIDMap, Console string
}

// look prints a view. Descriptors come first, before anything in here opens one.
func look() error {
	v := view{Pid: os.Getpid(), Ppid: os.Getppid(), Args: os.Args, Fds: openFds()}
	environ, _ := os.ReadFile("/proc/self/environ") // os.Environ leaves duplicates out
	v.Env = strings.Split(strings.TrimSuffix(string(environ), "\x00"), "\x00")
	v.Sid, _ = unix.Getsid(0)
	v.Cwd, _ = os.Getwd()
	v.Exe, _ = os.Readlink("/proc/self/exe")
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	v.Host, v.Domain = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Domainname[:])
	v.Status = table("/proc/self/status", ":")
	v.Limits = map[string]string{}
	for _, l := range lines("/proc/self/limits") {
		if len(l) > 26 {
			v.Limits[strings.TrimSpace(l[:26])] = strings.Join(strings.Fields(l[26:])[:2], " ")
		}
	}
	v.Namespaces = namespacesOf("/proc/self/ns")
	v.Dev, v.Root, v.Links = names("/dev"), names("/"), names("/sys/class/net")
	v.Mounts = map[string]string{}
	for _, l := range lines("/proc/self/mountinfo") {
		if f := strings.Fields(l); len(f) > 6 {
			before, after, _ := strings.Cut(l, " - ")
			v.Mounts[f[4]] = strings.Join(strings.Fields(before)[5:], " ") + " - " + after
		}
	}
	oom, _ := os.ReadFile("/proc/self/oom_score_adj")
	v.OOM = strings.TrimSpace(string(oom))
	uids, _ := os.ReadFile("/proc/self/uid_map")
	v.UIDMap = strings.Join(strings.Fields(string(uids)), " ")
	for i := range v.TTY {
		_, err := unix.IoctlGetTermios(i, unix.TCGETS)
		v.TTY[i] = err == nil
	}
	if ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		v.Rows, v.Cols = ws.Row, ws.Col
	}
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	v.Foreground = err == nil && group == unix.Getpgrp()
	v.Console, _ = os.Readlink("/proc/self/fd/0")
	return json.NewEncoder(os.Stdout).Encode(v)
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
		if name == "0" || name == "1" || name == "2" || name == fmt.Sprint(fd) || strings.HasPrefix(to, "/sys/fs/cgroup/") {
			continue // the Go runtime reads its own cpu limit
		}
		list = append(list, name+" "+to)
	}
	return list
}

func lines(path string) []string {
	data, _ := os.ReadFile(path)
	return strings.Split(string(data), "\n")
}

func table(path, sep string) map[string]string {
	m := map[string]string{}
	for _, l := range lines(path) {
		if k, v, ok := strings.Cut(l, sep); ok {
			m[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return m
}

func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func namespacesOf(dir string) map[string]string {
	m := map[string]string{}
	for _, n := range names(dir) {
		m[n], _ = os.Readlink(filepath.Join(dir, n))
	}
	return m
}

// try makes attempts, each "WORD PATH [TEXT]", and prints a line of outcome for each: "ok", what was read, or the error.
func try(attempts []string) error {
	for _, a := range attempts {
		f := append(strings.SplitN(a, " ", 3), "", "")
		fmt.Println(attempt(f[0], f[1], f[2]))
	}
	return nil
}

func attempt(word, path, text string) string {
	var err error
	switch word {
	case "read":
		data, e := os.ReadFile(path)
		if e == nil {
			return strings.TrimSpace(string(data))
		}
		err = e
	case "write":
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
	case "open": // for writing, without making it
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			f.Close()
		}
	case "list":
		var e []os.DirEntry
		if e, err = os.ReadDir(path); err == nil {
			return fmt.Sprint(len(e))
		}
	case "mode":
		st, e := os.Lstat(path)
		if e == nil {
			return fmt.Sprintf("%v %d", st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
		err = e
	case "protected": // by a mount that is read-only, whatever the file itself allows
		var st unix.Statfs_t
		if err = unix.Statfs(path, &st); err == nil && st.Flags&unix.ST_RDONLY == 0 {
			return "no"
		}
	case "mkdir":
		err = os.Mkdir(path, 0o755)
	case "mknod":
		err = unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	case "chown":
		err = unix.Chown(path, 4, 24)
	case "mount":
		err = unix.Mount("tmpfs", path, "tmpfs", 0, "")
	case "unshare":
		err = unix.Unshare(unix.CLONE_NEWNS)
	case "rename":
		err = os.Rename(path, text)
	case "truncate":
		err = os.Truncate(path, 0)
	case "remove":
		err = os.Remove(path)
	case "listen", "dial", "abstract":
		err = attemptSocket(word, path)
	case "kill":
		err = unix.Kill(os.Getppid(), 0)
	case "keyctl":
		_, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	}
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// attemptSocket listens on a TCP port, or connects to one, or to a socket of an abstract name.
func attemptSocket(word, name string) (err error) {
	family, address := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: "@" + name})
	if word != "abstract" {
		port, err := strconv.Atoi(name)
		if err != nil {
			return err
		}
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if word == "listen" {
		return errors.Join(unix.Bind(fd, address), unix.Listen(fd, 1))
	}
	return unix.Connect(fd, address)
}

func cat() error {
	fmt.Println("ready")
	buf := make([]byte, 100)
	n, err := os.Stdin.Read(buf)
	fmt.Printf("<%s>\n", strings.TrimSpace(string(buf[:n])))
	return err
}

// awaitSignals prints the name of each signal it gets, and ends by SIGTERM.
func awaitSignals() error {
	c := make(chan os.Signal, 10)
	signal.Notify(c, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGHUP)
	fmt.Println("ready")
	for s := range c {
		fmt.Println(unix.SignalName(s.(syscall.Signal)))
		if s == unix.SIGTERM {
			os.Exit(7)
		}
	}
	return nil
}

// orphans leaves grandchildren behind and waits until pid 1 has taken them all in and collected them.
func orphans() error {
	if len(os.Args) > 1 { // a child: leaves one of its own, which outlives it a little
		grandchild := exec.Command("/t")
		grandchild.Env = []string{verbEnv + "=exit"}
		grandchild.Args = []string{"/t", "0"}
		return grandchild.Start()
	}
	for range 5 {
		child := exec.Command("/t", "child")
		if err := child.Run(); err != nil {
			return err
		}
	}
	var left []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		left = slices.DeleteFunc(names("/proc"), func(n string) bool { return n[0] < '0' || n[0] > '9' })
		if len(left) == 2 { // pid 1 and us
			fmt.Println("pid", os.Getpid() != 1, "alone")
			os.Exit(3)
		}
	}
	return fmt.Errorf("processes %v are left", left)
}
