package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hullrun/hull/internal/leftovers"
	"golang.org/x/sys/unix"
)

const (
	stageEnv = "HULL_BENCH_STAGE"
	workEnv  = "HULL_BENCH_WORK" // folder of this run
)

// outside runs this program again, as root as process 1 of new namespaces, and afterwards removes the run's folder and
// the cgroups that peers leave, and says if anything else stayed. It returns at once in a stage that is further inside.
func outside() error {
	if os.Getenv(stageEnv) != "" {
		return nil
	}
	// Below /tmp, /run, /dev/shm and /var/lib the bench has file systems of its own, see privateWorld.
	places := []string{"/var/lib/hull", "/var/lib/docker", "/var/lib/containers", "/root/.local/share"}
	before, err := leftovers.Take(places...)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("/var/tmp", "hull-bench-")
	if err != nil {
		return err
	}
	cmd := again("2", work)
	if os.Getuid() == 0 {
		cmd = again("1", work)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	}
	err = runToTheEnd(cmd)
	remove(work)
	removeGroups(before)
	left, lerr := leftovers.Wait(before, 5*time.Second, places...)
	for _, l := range left {
		fmt.Println("left behind:", l)
	}
	if err := errors.Join(err, lerr); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// runToTheEnd passes a signal on instead of dying of it, so that what follows is done.
func runToTheEnd(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = cmd.Process.Kill() // process 1: all others of its namespace end with it
	}()
	return cmd.Wait()
}

// removeGroups removes the cgroups that peers keep for their next container.
func removeGroups(before leftovers.Snapshot) {
	now, err := leftovers.Take()
	if err != nil {
		return
	}
	left := now.Since(before)
	for i := len(left) - 1; i >= 0; i-- { // children sort after their parents
		dir, ok := strings.CutPrefix(left[i], "cgroup ")
		if ok && (strings.Contains(dir, "/hull-bench") || strings.HasSuffix(dir, "/docker") || strings.Contains(dir, "/libpod_parent")) {
			_ = os.Remove(dir)
		}
	}
}

func again(stage, work string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"="+stage, workEnv+"="+work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// inside tells whether this is the stage that measures. Process 1 only collects orphans, and ends with the measuring
// process; the kernel then kills whatever a peer has left running.
func inside() bool {
	if os.Getenv(stageEnv) != "1" {
		return true
	}
	cmd := again("2", os.Getenv(workEnv))
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid == cmd.Process.Pid || err != nil {
			os.Exit(status.ExitStatus())
		}
	}
}

// person is an account that rows run as.
type person struct {
	name string // "root" or "user"
	uid  int
	home string
	cred *syscall.Credential
}

func (b *bench) person(name string) (person, bool) {
	for _, p := range b.people {
		if p.name == name {
			return p, true
		}
	}
	return person{}, false
}

func (p person) env() []string {
	return []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + p.home, "XDG_RUNTIME_DIR=" + p.home + "/runtime",
		"LANG=C.UTF-8", "HULL_ROOT=" + p.home + "/hull"}
}

// settle makes the accounts, and as root the private world: mounts and loopback of our own.
func (b *bench) settle() error {
	if os.Getuid() != 0 {
		fmt.Println("Not root: the rows for root are left out.")
		b.miss("root's rows: this is not root")
		return b.add("user", os.Getuid(), nil)
	}
	// Peers raise their own limit up to the hard one, which some machines forbid to touch: stay below it.
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = min(limit.Max, 4096)
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if err := b.privateWorld(); err != nil {
		return err
	}
	if err := b.add("root", 0, nil); err != nil {
		return err
	}
	return b.add("user", benchUID, &syscall.Credential{Uid: benchUID, Gid: benchUID})
}

// An account that exists only in the bench's mount namespace.
const (
	benchName = "hullbench"
	benchUID  = 64322
)

func (b *bench) add(name string, uid int, cred *syscall.Credential) error {
	p := person{name: name, uid: uid, home: filepath.Join(b.work, name), cred: cred}
	for _, dir := range []string{p.home, p.home + "/runtime"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(dir, uid, -1); err != nil {
			return err
		}
	}
	b.people = append(b.people, p)
	return nil
}

// privateWorld arranges this mount namespace, which nobody else sees.
func (b *bench) privateWorld() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ dir, kind, data string }{{"/proc", "proc", ""}, {"/tmp", "tmpfs", "mode=1777"}, {"/run", "tmpfs", "mode=755"},
		{"/dev/shm", "tmpfs", "mode=1777"}, {"/var/lib", "tmpfs", "mode=755"}} {
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	// crun refuses a hybrid cgroup tree whose v2 side has a controller, so it shall see none.
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.controllers"); err == nil {
		fmt.Println("Setting: /sys/fs/cgroup/unified/cgroup.controllers is empty, for crun.")
		if err := b.cover("/sys/fs/cgroup/unified/cgroup.controllers", ""); err != nil {
			return err
		}
	}
	if err := b.openTun(); err != nil {
		return err
	}
	return b.privateAccounts()
}

// openTun puts a node that everybody may open over /dev/net/tun, as udev's rules have it (50-udev-default.rules, mode 0666):
// pasta and slirp4netns open it as the user that they run for.
func (b *bench) openTun() error {
	const path = "/dev/net/tun"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&0o006 == 0o006 {
		return nil // what needs it says so where there is none
	}
	fmt.Println("Setting: " + path + " may be opened by everybody, for pasta and slirp4netns.")
	node := filepath.Join(b.work, "tun")
	if err := unix.Mknod(node, unix.S_IFCHR, int(st.Rdev)); err != nil {
		return fmt.Errorf("make the node %s: %w", node, err)
	}
	if err := os.Chmod(node, 0o666); err != nil { // whatever the umask
		return err
	}
	if err := unix.Mount(node, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over %s: %w", path, err)
	}
	return nil
}

// privateAccounts puts a copy of /etc in its place, with one account more. Not only over the files in question: who makes an
// account on the machine meanwhile replaces them, and what was mounted over them is gone.
func (b *bench) privateAccounts() error {
	etc := filepath.Join(b.work, "etc")
	if _, err := system("cp", "-a", "/etc", etc); err != nil {
		return err
	}
	add := map[string]string{
		"/etc/passwd": fmt.Sprintf(benchName+":x:%d:%d::%s:/bin/sh\n", benchUID, benchUID, filepath.Join(b.work, "user")),
		"/etc/group":  fmt.Sprintf(benchName+":x:%d:\n", benchUID),
		"/etc/subuid": benchName + ":1000000:65536\n",
		"/etc/subgid": benchName + ":1000000:65536\n",
	}
	for path, line := range add {
		f, err := os.OpenFile(filepath.Join(b.work, path), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			continue // no such file: nothing reads it here
		}
		_, err = f.WriteString(line)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over /etc: %w", err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("bring up lo", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}

// cover puts a file with the given content over path.
func (b *bench) cover(path, content string) error {
	file := filepath.Join(b.work, "cover"+strings.ReplaceAll(path, "/", "-"))
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over %s: %w", path, err)
	}
	return nil
}

// close ends the daemons.
func (b *bench) close() {
	for _, d := range slices.Backward(running) {
		end(d)
	}
}

// remove deletes a folder with all that contestants have put there: mounts, read-only folders, files that belong to
// subordinate ids. An ordinary user lacks the right to the last, so podman does it, which can become them.
func remove(dir string) {
	if os.Getuid() != 0 {
		_ = exec.Command("podman", "unshare", "rm", "-rf", dir).Run()
	}
	unmountBelow(dir)
	if out, err := exec.Command("rm", "-rf", dir).CombinedOutput(); err != nil {
		fmt.Printf("remove %s: %v %s\n", dir, err, out)
	}
}

func unmountBelow(dir string) {
	now, err := leftovers.Take()
	if err != nil {
		return
	}
	for item := range now {
		if point, ok := strings.CutPrefix(item, "mount "+dir+"/"); ok {
			point, _, _ = strings.Cut(point, " (")
			_ = unix.Unmount(filepath.Join(dir, point), unix.MNT_DETACH)
		}
	}
}
