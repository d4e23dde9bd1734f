package run

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
)

// found runs a check and gives a line for each finding, with what became of it. A cgroup may be any other test's.
func found(t *testing.T, h *Host, opt CheckOptions) (lines []string) {
	t.Helper()
	err := h.Check(opt, func(f Finding) {
		line := f.What
		switch {
		case f.Mended:
			line += "; mended"
		case f.Err != nil:
			line += "; " + f.Err.Error()
		}
		if !strings.HasPrefix(line, "cgroup ") {
			lines = append(lines, line)
		}
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(lines)
	return lines
}

// idle makes a container that has not been started, and lets go of it.
func idle(t *testing.T, h *Host, name string) *Container {
	t.Helper()
	config := verbConfig(t, "exit", "CODE=0")
	config.Name, config.Lifetime.Remove = name, false
	c := create(t, h, config)
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	return c
}

// TestCheckLeft makes each kind of leftover there is, sees it found and mended, and nothing else touched.
func TestCheckLeft(t *testing.T) {
	h := testHost(t)
	if lines := found(t, h, CheckOptions{Deep: true}); lines != nil {
		t.Fatalf("at the beginning: %q", lines)
	}
	old := time.Now().Add(-time.Hour)
	long := strings.Repeat("0123abcd", 8)
	mkdir := func(t *testing.T, path string) {
		t.Helper()
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name string
		make func(t *testing.T) (want []string)
	}{
		{"container without state", func(t *testing.T) []string {
			mkdir(t, filepath.Join(h.containers(), long, "upper"))
			mkdir(t, filepath.Join(h.containers(), long))
			return []string{"container 0123abcd0123: was never finished; mended"}
		}},
		{"state alive", func(t *testing.T) []string {
			c := idle(t, h, "alive")
			if err := c.change(func(s *State) error { s.Status, s.Pid, s.PidStart = Running, 1, 5; return nil }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if c, err := h.Find("alive"); err != nil || c.Status != Exited || c.ExitCode != 137 {
					t.Errorf("%+v, %v", c, err)
				}
			})
			return []string{"container " + ShortID(c.ID) + " (alive): is said to be running, but nobody runs it; mended"}
		}},
		{"was to go", func(t *testing.T) []string {
			c := idle(t, h, "going")
			if err := c.change(func(s *State) error { s.Status, s.Config.Lifetime.Remove = Exited, true; return nil }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if exists(c.dir()) || exists(h.nameLink("going")) {
					t.Error("is still there")
				}
			})
			return []string{"container " + ShortID(c.ID) + " (going): was to be removed at its end; mended"}
		}},
		{"name without container", func(t *testing.T) []string {
			if err := os.Symlink(long, h.nameLink("nobody")); err != nil {
				t.Fatal(err)
			}
			return []string{"name nobody: leads to no container; mended"}
		}},
		{"second name", func(t *testing.T) []string {
			c := idle(t, h, "first")
			if err := os.Symlink(c.ID, h.nameLink("second")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if !exists(h.nameLink("first")) {
					t.Error("the right name is gone")
				}
			})
			return []string{"name second: leads to container " + ShortID(c.ID) + ", which is called first; mended"}
		}},
		{"container without name", func(t *testing.T) []string {
			c := idle(t, h, "lost")
			if err := os.Remove(h.nameLink("lost")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if again, err := h.Find("lost"); err != nil || again.ID != c.ID {
					t.Errorf("%+v, %v", again, err)
				}
			})
			return []string{"container " + ShortID(c.ID) + ": its name lost does not lead to it; mended"}
		}},
		{"name that somebody took", func(t *testing.T) []string {
			c := idle(t, h, "taken")
			if err := os.Remove(h.nameLink("taken")); err != nil {
				t.Fatal(err)
			}
			idle(t, h, "taken")
			t.Cleanup(func() {
				if again, err := h.Find(c.ID); err != nil || again.Name == "taken" || !exists(h.nameLink(again.Name)) {
					t.Errorf("%+v, %v", again, err)
				}
			})
			return []string{"container " + ShortID(c.ID) + ": its name taken does not lead to it; mended"}
		}},
		{"temporary things", func(t *testing.T) []string {
			mkdir(t, filepath.Join(h.Root, "tmp/container-x/closed"))
			if err := os.WriteFile(filepath.Join(h.Root, "tmp/file-x"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(h.Root, "tmp/container-x/closed"), 0); err != nil {
				t.Fatal(err)
			}
			return []string{"tmp/container-x: was left by a process that is gone; mended", "tmp/file-x: was left by a process that is gone; mended"}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := row.make(t)
			before := found(t, h, CheckOptions{})
			for i, line := range want {
				if len(before) != len(want) || before[i]+"; mended" != line {
					t.Errorf("found %q, want %q", before, want)
				}
			}
			if got := found(t, h, CheckOptions{Repair: true}); !slices.Equal(got, want) {
				t.Errorf("mended %q, want %q", got, want)
			}
			if again := found(t, h, CheckOptions{}); again != nil {
				t.Errorf("after that: %q", again)
			}
		})
	}
}

// TestCheckLostState keeps the files of a container whose state cannot be read, of which a sweep takes no notice either.
func TestCheckLostState(t *testing.T) {
	h := emptyHost(t)
	c := &Container{host: h, State: State{ID: NewID()}}
	if err := os.MkdirAll(c.path("upper"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.takeName("precious"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"upper/file", stateFile} {
		if err := os.WriteFile(c.path(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(c.dir(), old, old); err != nil {
		t.Fatal(err)
	}
	h.Sweep()
	if h.halfMade(c.ID) {
		t.Error("its name is free")
	}
	for _, repair := range []bool{false, true} {
		lines := found(t, h, CheckOptions{Repair: repair})
		if len(lines) != 1 || !strings.Contains(lines[0], "its state cannot be read") || !strings.Contains(lines[0], c.path("upper")) ||
			repair != strings.Contains(lines[0], "cannot be set right here") {
			t.Errorf("%q", lines)
		}
	}
	if !exists(c.path("upper/file")) {
		t.Error("the file is gone")
	}
	if err := os.Remove(c.path("upper/file")); err != nil {
		t.Fatal(err)
	}
	if lines := found(t, h, CheckOptions{Repair: true}); len(lines) != 2 || exists(c.dir()) || exists(h.nameLink("precious")) {
		t.Errorf("without files: %q", lines)
	}
}

// TestCheckInUse finds nothing wrong with what others are doing: a container that runs, one that is being made, one that is
// being removed, another root directory's cgroup.
func TestCheckInUse(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "sleep")
	config.Name, config.Limits.Resources.Pids = "busy", &specs.LinuxPids{Limit: new(int64(100))}
	otherHull(t, config)
	create(t, h, verbConfig(t, "exit", "CODE=0"))
	_, lock, err := h.scratch("volume-")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if lines := found(t, h, CheckOptions{Repair: true}); lines != nil {
		t.Errorf("%q", lines)
	}
	if lines := found(t, emptyHost(t), CheckOptions{Repair: true}); lines != nil {
		t.Errorf("from another root directory: %q", lines)
	}
	c, err := h.Find("busy")
	if err != nil || c.Status != Running || gone(c.Pid) {
		t.Errorf("%+v, %v", c, err)
	} else if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	lock.Close()
	h.sweepVolumes()
}

// TestCheckKilled kills the hull that runs a container with a cgroup.
func TestCheckKilled(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "sleep")
	config.Name, config.Limits.Resources.Pids, config.Lifetime.Remove = "killed", &specs.LinuxPids{Limit: new(int64(100))}, false
	other := otherHull(t, config)
	c, err := h.Find("killed")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	eventually(t, "the container ends", func() bool { return gone(c.Pid) })
	there := func() bool { return slices.ContainsFunc(c.Cgroups, groupExists) }
	if len(c.Cgroups) > 0 && !there() {
		t.Errorf("no cgroup was left: %q", c.Cgroups)
	}
	lines := found(t, h, CheckOptions{})
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "container "+ShortID(c.ID)+" (killed): ") {
		t.Errorf("%q", lines)
	}
	if s, err := h.read(c.ID); err != nil || s.Status != Running {
		t.Errorf("a check without repair has changed it: %+v, %v", s, err)
	}
	if lines := found(t, h, CheckOptions{Repair: true}); len(lines) != 1 || !strings.HasSuffix(lines[0], "; mended") {
		t.Errorf("%q", lines)
	}
	if there() {
		t.Errorf("the cgroup is still there: %q", c.Cgroups)
	}
	if c, err := h.Find("killed"); err != nil || c.Status != Exited {
		t.Errorf("%+v, %v", c, err)
	} else if err := c.Remove(RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// TestCheckHalfPulled kills a hull that is storing an image.
func TestCheckHalfPulled(t *testing.T) {
	h := emptyHost(t)
	t.Cleanup(func() { _ = h.removeTree(h.Root) })
	needStatic(t)
	other := otherProcess(t, verbEnv+"=pull", "ROOT="+h.Root)
	// In its hands nothing is wrong.
	if lines := found(t, h, CheckOptions{Repair: true}); lines != nil {
		t.Errorf("while it lives: %q", lines)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	lines := found(t, h, CheckOptions{})
	if len(lines) != 2 || lines[0] != "layer 1: was never finished" || !strings.HasPrefix(lines[1], "tmp/add-") {
		t.Errorf("%q", lines)
	}
	if lines := found(t, h, CheckOptions{Repair: true}); len(lines) != 2 || !strings.HasSuffix(lines[0], "; mended") || !strings.HasSuffix(lines[1], "; mended") {
		t.Errorf("%q", lines)
	}
	left := append(names(filepath.Join(h.Root, "tmp")), names(filepath.Join(h.Root, "layers/1"))...)
	if left = slices.DeleteFunc(left, layers.IsPartial); len(left) > 0 { // with what it fetched the next pull goes on
		t.Errorf("left: %q", left)
	}
}

// TestCheckGroup finds a group that no container has, once it is old enough.
func TestCheckGroup(t *testing.T) {
	h := emptyHost(t)
	id := NewID()
	g, _, err := cgroups.New(id, nil, cgroups.Options{Rootless: h.rootless, Always: true})
	if err != nil || g == nil {
		t.Skipf("needs a cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		g.Close()
	})
	mine := func() bool {
		list, err := h.leftGroups()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(p problem) bool { return strings.Contains(p.what, ShortID(id)) })
	}
	if mine() {
		t.Error("a young one is somebody's")
	}
	there := slices.IndexFunc(cgroups.All(h.rootless), func(g cgroups.There) bool { return g.Name == id })
	if there < 0 {
		t.Fatal("is not among all")
	}
	old := time.Now().Add(-time.Hour)
	for _, path := range g.Paths() {
		if err := os.Chtimes(path[strings.IndexByte(path, '/'):], old, old); err != nil {
			t.Fatal(err)
		}
	}
	if !mine() {
		t.Error("is not found")
	}
	found(t, h, CheckOptions{Repair: true})
	if slices.ContainsFunc(g.Paths(), groupExists) {
		t.Error("is still there")
	}
}

// TestCheckMount unmounts what was left on a container's directory, and nothing else.
func TestCheckMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h := testHost(t)
	c := idle(t, h, "mounted")
	for _, path := range []string{c.path("upper"), h.containers()} {
		if h.ownMountPoint(path) == (path == h.containers()) {
			t.Errorf("%s: %v", path, h.ownMountPoint(path))
		}
	}
	if err := unix.Mount("tmpfs", c.path("upper"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(c.path("upper"), unix.MNT_DETACH) })
	want := []string{"mount " + c.path("upper") + ": is nobody's; mended"}
	if lines := found(t, h, CheckOptions{Repair: true}); !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
	if lines := found(t, h, CheckOptions{}); lines != nil {
		t.Errorf("%q", lines)
	}
	if got := unescapeMount(`/a\040b\134c`); got != `/a b\c` {
		t.Error(got)
	}
}

// TestCheckImages passes on what the store finds. A damaged blob comes anew with the next pull.
func TestCheckImages(t *testing.T) {
	h := emptyHost(t)
	t.Cleanup(func() { _ = h.removeTree(h.Root) })
	img, err := h.Image(context.Background(), "hello", Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	if !h.Images.Complete(img) {
		t.Error("is not complete")
	}
	blobs := filepath.Join(h.Root, "images/blobs/sha256")
	for _, name := range names(blobs) {
		if st, err := os.Stat(filepath.Join(blobs, name)); err != nil {
			t.Fatal(err)
		} else if st.Size() > 1<<20 {
			if err := os.Truncate(filepath.Join(blobs, name), st.Size()-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines := found(t, h, CheckOptions{Repair: true})
	if len(lines) != 2 || !strings.Contains(lines[0], "blob sha256:") || !strings.HasSuffix(lines[0], "; mended") || !strings.Contains(lines[1], "a pull brings it") {
		t.Errorf("%q", lines)
	}
	if _, err := h.Pull(context.Background(), "hello", Fetch{}); err != nil {
		t.Fatal(err)
	}
	if lines := found(t, h, CheckOptions{}); lines != nil {
		t.Errorf("after a pull: %q", lines)
	}
}
