package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tests in this file are the same for both versions.

const mib = 1 << 20

func memory(limit, swap int64) *specs.LinuxResources {
	return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap}}
}

func pids(n int64) *specs.LinuxResources {
	return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
}

// join starts a helper and puts it into the group.
func join(t *testing.T, g Group) *helper {
	t.Helper()
	h := startHelper(t, nil)
	if err := g.Add(h.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestMemoryLimit(t *testing.T) {
	g, w := newGroup(t, memory(32*mib, 32*mib), Options{})
	if len(w) > 0 && w[0].Flag == flagMemory {
		controller(t, w)
	}
	h := join(t, g)
	if got := h.ask("eat 8"); got != "eaten 8" {
		t.Errorf("within the limit: %q", got)
	}
	s, err := g.Stats()
	if err != nil || s.Memory.Usage < 8*mib || s.Memory.Usage > 32*mib || s.Memory.Limit != 32*mib {
		t.Errorf("statistics: %+v, %v", s.Memory, err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("kills before: %d, %v", n, err)
	}
	if got := h.ask("eat 64"); got != "" {
		t.Errorf("over the limit: %q", got)
	}
	h.ends(t)
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("kills: %d, %v, want 1", n, err)
	}
}

func TestPidsLimit(t *testing.T) {
	g, w := newGroup(t, pids(12), Options{})
	controller(t, w)
	h := join(t, g)
	// A Go process has several threads, and each counts.
	if got := h.ask("fork 20"); !strings.Contains(got, "resource temporarily unavailable") {
		t.Errorf("forking beyond the limit: %q", got)
	}
	s, err := g.Stats()
	if err != nil || s.Pids.Current == 0 || s.Pids.Current > 12 || s.Pids.Limit != 12 {
		t.Errorf("statistics: %+v, %v", s.Pids, err)
	}
}

func TestQuota(t *testing.T) {
	quota, period := int64(10000), uint64(100000)
	g, w := newGroup(t, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}, Options{Measure: true})
	controller(t, w)
	h := join(t, g)
	before, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	h.ask("burn 500")
	after, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	used, passed := time.Duration(after.CPU.Total-before.CPU.Total), time.Since(begin)
	if used == 0 || used > passed/4 {
		t.Errorf("a tenth of a processor: %v used in %v", used, passed)
	}
	if after.CPU.Throttled == 0 || after.CPU.Periods == 0 || after.CPU.ThrottledTime == 0 {
		t.Errorf("throttling is not counted: %+v", after.CPU)
	}
}

func TestCpuset(t *testing.T) {
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}
	g, w := newGroup(t, r, Options{})
	controller(t, w)
	h := join(t, g)
	h.ask("")
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(h.Process.Pid, &set); err != nil || set.Count() != 1 || !set.IsSet(0) {
		t.Errorf("processors: %d of them, %v", set.Count(), err)
	}
}

// TestRefused gives values that the kernel does not take: the error names file and value, and nothing stays.
func TestRefused(t *testing.T) {
	needRoot(t)
	for _, r := range []*specs.LinuxResources{
		{CPU: &specs.LinuxCPU{Cpus: "0,4000"}},
		{CPU: &specs.LinuxCPU{Mems: "99"}},
		{CPU: &specs.LinuxCPU{Quota: ptr(int64(1)), Period: ptr(uint64(1))}},
		{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: rate(250, 77, 1000)}},
	} {
		g, w, err := New(name(t), r, Options{Parent: parent()})
		if g != nil {
			dispose(t, g)
		}
		if err == nil {
			if len(w) == 0 {
				t.Errorf("%v is taken", r)
			}
			continue // no such controller here
		}
		var taken *refused
		if !errors.As(err, &taken) || !strings.Contains(err.Error(), fmt.Sprintf("write %q to /", taken.value)) {
			t.Errorf("error %v", err)
			continue
		}
		if dir := filepath.Dir(taken.file); unix.Access(dir, unix.F_OK) == nil {
			t.Errorf("%s has been left behind", dir)
		}
	}
	removeParents(t)
}

// removeParents removes the tests' own parent wherever it is.
func removeParents(t testing.TB) {
	list, err := hierarchies()
	if err != nil {
		t.Error(err)
	}
	for _, h := range append(list, hierarchy{dir: standard}) {
		unix.Rmdir(filepath.Join(h.dir, parent()))
	}
}

func TestFreeze(t *testing.T) {
	g, _ := newGroup(t, nil, Options{Always: true})
	h := join(t, g)
	if got := h.ask("hello"); got != "ready" {
		t.Fatalf("answer before: %q", got)
	}
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() { answer <- h.ask("hello") }()
	select {
	case got := <-answer:
		t.Errorf("a frozen process answers %q", got)
	case <-time.After(100 * time.Millisecond):
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-answer:
		if got != "ready" {
			t.Errorf("answer after: %q", got)
		}
	case <-time.After(time.Minute):
		t.Error("no answer after the thaw")
	}
}

// TestKill kills a tree of processes, some in groups that were made below, frozen and not.
func TestKill(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprint(frozen), func(t *testing.T) {
			g, _ := newGroup(t, nil, Options{Always: true})
			h, deep := join(t, g), startHelper(t, nil)
			h.ask("fork 5")
			for _, dir := range dirs(g) {
				sub := filepath.Join(dir, "below", "deep")
				if err := os.MkdirAll(sub, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := writeFile(unix.AT_FDCWD, filepath.Join(sub, "cgroup.procs"), fmt.Sprint(deep.Process.Pid)); err != nil {
					t.Fatal(err)
				}
			}
			if frozen {
				if err := g.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			h.ends(t)
			deep.ends(t)
			for _, dir := range dirs(g) {
				if pids, err := processes(dir); len(pids) > 0 || err != nil {
					t.Errorf("left in %s: %v, %v", dir, pids, err)
				}
			}
			if err := g.Kill(); err != nil {
				t.Errorf("kill of an empty group: %v", err)
			}
		})
	}
}

func TestRemoveTwice(t *testing.T) {
	g, _ := newGroup(t, nil, Options{Always: true})
	for range 2 {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	}
	if err := g.Kill(); err != nil {
		t.Errorf("kill of a group that is gone: %v", err)
	}
	if _, err := g.Stats(); err == nil {
		t.Error("a group that is gone is measured")
	}
}

// TestRemoveBusy: a group with a living process stays, and the error says so.
func TestRemoveBusy(t *testing.T) {
	g, _ := newGroup(t, nil, Options{Always: true})
	join(t, g)
	if err := g.Remove(); !errors.Is(err, unix.EBUSY) || !strings.HasPrefix(err.Error(), "remove cgroup /") {
		t.Errorf("remove with a process in it: %v", err)
	}
}

func TestOpen(t *testing.T) {
	g, w := newGroup(t, pids(100), Options{})
	controller(t, w)
	h := join(t, g)
	o, err := Open(g.Paths())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if !slices.Equal(o.Paths(), g.Paths()) {
		t.Errorf("paths %v, want %v", o.Paths(), g.Paths())
	}
	s, err := o.Stats()
	if err != nil || s.Pids.Limit != 100 || s.Pids.Current == 0 {
		t.Errorf("statistics: %+v, %v", s, err)
	}
	if err := o.Kill(); err != nil {
		t.Fatal(err)
	}
	h.ends(t)
	if err := o.Remove(); err != nil {
		t.Error(err)
	}
	if o, err = Open(g.Paths()); err != nil {
		t.Fatalf("open a group that is gone: %v", err)
	}
	if err := errors.Join(o.Remove(), o.Close()); err != nil {
		t.Errorf("remove a group that is gone: %v", err)
	}
}

// TestUpdate changes limits of a living group, up and down, and adds one that it had not.
func TestUpdate(t *testing.T) {
	g, w := newGroup(t, memory(64*mib, 64*mib), Options{})
	if len(w) > 0 && w[0].Flag == flagMemory {
		controller(t, w)
	}
	h := join(t, g)
	h.ask("hello")
	for _, n := range []int64{256 * mib, 32 * mib, 128 * mib} {
		r := memory(n, n)
		if len(w) > 0 {
			r.Memory.Swap = nil // the kernel does not count swap
		}
		if err := g.Update(r); err != nil {
			t.Errorf("update to %d MiB: %v", n/mib, err)
		}
		if s, err := g.Stats(); err != nil || s.Memory.Limit != uint64(n) {
			t.Errorf("limit after the update to %d MiB: %d, %v", n/mib, s.Memory.Limit, err)
		}
	}
	if err := g.Update(pids(77)); err != nil {
		t.Fatal(err)
	}
	if s, err := g.Stats(); err != nil || s.Pids.Limit != 77 || s.Pids.Current == 0 {
		t.Errorf("after a limit that is new: %+v, %v", s.Pids, err)
	}
}

// TestMeasure has everything counted without any limit.
func TestMeasure(t *testing.T) {
	g, _ := newGroup(t, nil, Options{Measure: true})
	h := join(t, g)
	h.ask("eat 4")
	h.ask("burn 30")
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	missing := func(part string) bool { return slices.Contains(s.Missing, part) }
	if !missing("cpu") && (s.CPU.Total == 0 || s.CPU.Total > 10e9) {
		t.Errorf("processor: %+v", s.CPU)
	}
	if !missing("memory") && (s.Memory.Usage < 4*mib || s.Memory.Limit != unlimited) {
		t.Errorf("memory: %+v", s.Memory)
	}
	if !missing("pids") && (s.Pids.Current < 1 || s.Pids.Limit != unlimited) {
		t.Errorf("processes: %+v", s.Pids)
	}
	t.Logf("%+v", s)
}

// TestDevices lets a process open one device and not another.
func TestDevices(t *testing.T) {
	g, w := newGroup(t, &specs.LinuxResources{Devices: rules(t, "-a, +c 1:3 rwm, +c 1:9 r")}, Options{})
	controller(t, w)
	h := join(t, g)
	node := filepath.Join(t.TempDir(), "zero")
	for _, c := range []struct{ order, want string }{
		{"open /dev/null", "<nil>"}, {"open /dev/urandom", "<nil>"}, {"open /dev/zero", "operation not permitted"},
		{"mknod " + node, "operation not permitted"},
	} {
		if got := h.ask(c.order); got != c.want {
			t.Errorf("%s: %s, want %s", c.order, got, c.want)
		}
	}
	if err := g.Update(&specs.LinuxResources{Devices: rules(t, "+a, -c 1:3")}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ order, want string }{
		{"open /dev/null", "operation not permitted"}, {"open /dev/zero", "<nil>"}, {"mknod " + node, "<nil>"},
	} {
		if got := h.ask(c.order); got != c.want {
			t.Errorf("after the update, %s: %s, want %s", c.order, got, c.want)
		}
	}
}

// TestNothingAsked: on version 1 there is no group that nothing needs.
func TestNothingAsked(t *testing.T) {
	if Version() != 1 {
		t.Skip("needs cgroup v1, which alone goes without a group")
	}
	g, w, err := New(name(t), nil, Options{Parent: parent()})
	if g != nil || w != nil || err != nil {
		t.Errorf("%v, %v, %v", g, w, err)
	}
}

// TestDefaultParent: the parent that New makes goes with the last group in it.
func TestDefaultParent(t *testing.T) {
	needRoot(t)
	g, w, err := New(name(t)+parent(), nil, Options{Always: true})
	kept(t, g, w, err)
	above := filepath.Dir(dirs(g)[0])
	if filepath.Base(above) != "hull" {
		t.Errorf("the group lies in %s", above)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if rest, err := os.ReadDir(above); err == nil && !slices.ContainsFunc(rest, os.DirEntry.IsDir) {
		t.Errorf("%s is left behind", above)
	}
}
