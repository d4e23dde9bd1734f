package cgroups

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tests in this file use version 2 wherever it is mounted, even where the controllers are version 1's.

func newGroupV2(t testing.TB, r *specs.LinuxResources, o Options) (*groupV2, []Warning) {
	t.Helper()
	mount := mountV2(t)
	o.Parent = parent()
	if r == nil {
		r = &specs.LinuxResources{}
	}
	g, w, err := newV2(mount, name(t), r, o)
	kept(t, g, w, err)
	return g.(*groupV2), w
}

// born starts a helper inside the group.
func born(t *testing.T, g Group) *helper {
	t.Helper()
	return startHelper(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir().Fd())})
}

func TestBornV2(t *testing.T) {
	g, _ := newGroupV2(t, nil, Options{})
	h := born(t, g)
	h.ask("fork 3")
	pids, err := processes(g.dir)
	if err != nil || len(pids) != 4 {
		t.Errorf("processes: %v, %v, want 4", pids, err)
	}
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := h.ask("hello"); got != "ready" {
		t.Errorf("after the thaw: %q", got)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	h.ends(t)
	if s, err := g.Stats(); err != nil || s.CPU.Total == 0 {
		t.Errorf("statistics: %+v, %v", s, err)
	}
}

func TestDeepV2(t *testing.T) {
	g, _ := newGroupV2(t, nil, Options{})
	sub := filepath.Join(g.dir, "a", "b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(sub)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := startHelper(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())})
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	h.ends(t)
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// TestMissingV2: controllers that version 2 does not have here give one warning for each limit, and the group is there.
func TestMissingV2(t *testing.T) {
	mount := mountV2(t)
	have, err := os.ReadFile(mount + "/cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(have), "memory") {
		t.Skip("needs a machine whose controllers are version 1")
	}
	r := memory(mib, 2*mib)
	r.Pids = &specs.LinuxPids{Limit: ptr(int64(5))}
	g, w := newGroupV2(t, r, Options{Measure: true})
	same(t, flags(w), []string{flagMemory, flagSwap, flagPids})
	if want := "--memory has no effect: cgroup v2 has no controller memory here"; w[0].String() != want {
		t.Errorf("%s, want %s", w[0], want)
	}
	s, err := g.Stats()
	if err != nil || fmt.Sprint(s.Missing) != "[memory pids disk]" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := g.Update(r); err == nil || !strings.Contains(err.Error(), "--pids-limit has no effect: ") {
		t.Errorf("update: %v", err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("kills: %d, %v", n, err)
	}
}

func TestHugePagesV2(t *testing.T) {
	g, w := newGroupV2(t, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mib}}},
		Options{})
	controller(t, w)
	if n, err := readNumber(unix.AT_FDCWD, g.file("hugetlb.2MB.max")); n != 4*mib || err != nil {
		t.Errorf("limit %d, %v", n, err)
	}
}

// TestDevicesV2 has the kernel verify and run the program that stands in for the list of version 1.
func TestDevicesV2(t *testing.T) {
	g, w := newGroupV2(t, &specs.LinuxResources{Devices: rules(t, "-a, +c 1:3 rwm, +c 1:9 r, +c *:* m")}, Options{})
	controller(t, w)
	h := born(t, g)
	node := filepath.Join(t.TempDir(), "node")
	for _, c := range []struct{ order, want string }{
		{"open /dev/null", "<nil>"}, {"open /dev/urandom", "<nil>"}, {"open /dev/zero", "operation not permitted"},
		{"mknod " + node, "<nil>"}, {"open " + node, "operation not permitted"},
	} {
		if got := h.ask(c.order); got != c.want {
			t.Errorf("%s: %s, want %s", c.order, got, c.want)
		}
	}
	for range 3 {
		if err := g.Update(&specs.LinuxResources{Devices: rules(t, "+a, -c 1:3 rw")}); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := attached(int(g.f.Fd())); len(ids) != 1 || err != nil {
		t.Errorf("programs after three updates: %v, %v", ids, err)
	}
	if got := h.ask("open /dev/null"); got != "operation not permitted" {
		t.Errorf("open /dev/null after the update: %s", got)
	}
	if got := h.ask("open /dev/zero"); got != "<nil>" {
		t.Errorf("open /dev/zero after the update: %s", got)
	}
}

// TestInternalProcessesV2: a parent that has processes of its own cannot give controllers away.
func TestInternalProcessesV2(t *testing.T) {
	mount := mountV2(t)
	above := filepath.Join(mount, parent())
	if err := os.Mkdir(above, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Rmdir(above) })
	f, err := os.Open(above)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := startHelper(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())})
	defer h.Wait()
	defer h.Process.Kill()
	r := &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mib}}}
	g, w, err := newV2(mount, name(t), r, Options{Parent: parent()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	if len(w) != 1 || !strings.HasPrefix(w[0].Cause, "processes live in "+above+", so") {
		t.Errorf("warnings %v", w)
	}
}

// TestRootlessV2 hands a subtree to an ordinary user, as systemd's user manager is given one, and has a process of his
// that lives somewhere below make groups.
func TestRootlessV2(t *testing.T) {
	mount := mountV2(t)
	top := filepath.Join(mount, parent())
	his := filepath.Join(top, "user")
	leaf := filepath.Join(his, "app", "shell")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeDir(top) })
	const uid = 65534
	for dir := leaf; dir != top; dir = filepath.Dir(dir) {
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			if err := os.Chown(filepath.Join(dir, file), uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.Open(leaf)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd()), Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	h := startHelper(t, attr)
	if got, want := h.ask("rootless "+mount), "done in "+his+"/hull/x"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.Process.Kill()
	h.Wait()

	outside := startHelper(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}})
	if got := outside.ask("rootless " + mount); !strings.HasPrefix(got, "none: [--pids-limit has no effect: no subtree") {
		t.Errorf("outside of the subtree: %s", got)
	}
}

// rootless is what the user does.
func rootless(mount string) string {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	g, w, err := newV2(mount, "x", r, Options{Rootless: true})
	if err != nil {
		return err.Error()
	}
	if g == nil {
		_, w, _ = newV2(mount, "x", pids(5), Options{Rootless: true})
		return fmt.Sprint("none: ", w)
	}
	if len(w) > 0 {
		return fmt.Sprint(w)
	}
	c := exec.Command("/proc/self/exe")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir().Fd())}
	if _, err := c.StdinPipe(); err != nil {
		return err.Error()
	}
	if err := c.Start(); err != nil {
		return "start: " + err.Error()
	}
	if err := errors.Join(g.Freeze(), g.Thaw(), g.Kill()); err != nil {
		return err.Error()
	}
	c.Wait()
	if err := errors.Join(g.Remove(), g.Close()); err != nil {
		return err.Error()
	}
	return "done in " + g.Paths()[0]
}

// TestRootless is the ordinary user's own: he limits memory and processes in the subtree that is his.
func TestRootless(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	r := memory(32*mib, 32*mib)
	r.Pids = &specs.LinuxPids{Limit: ptr(int64(50))}
	r.Devices = []specs.LinuxDeviceCgroup{{Access: "rwm"}} // the user namespace sees to that
	g, w, err := New(name(t)+parent(), r, Options{Rootless: true})
	if err == nil && g == nil {
		same(t, flags(w), []string{flagMemory, flagSwap, flagPids})
		t.Skipf("needs a delegated subtree of control groups: %v", w)
	}
	kept(t, g, w, err)
	if len(w) > 0 {
		t.Errorf("warnings %v", w)
	}
	if g.Dir() == nil {
		t.Skip("needs cgroup v2")
	}
	h := born(t, g)
	if got := h.ask("eat 64"); got != "" {
		t.Errorf("over the limit: %q", got)
	}
	h.ends(t)
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("kills: %d, %v, want 1", n, err)
	}
	h = born(t, g)
	if err := g.Freeze(); err != nil {
		t.Error(err)
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	h.ends(t)
}
