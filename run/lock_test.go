package run

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// id64 is an ID of one letter.
func id64(letter string) string { return strings.Repeat(letter, 64) }

// TestNameLeftBehind has many ask for a name that a container which is gone has left: one of them gets it.
func TestNameLeftBehind(t *testing.T) {
	h := emptyHost(t)
	if err := os.Mkdir(h.names(), 0o700); err != nil {
		t.Fatal(err)
	}
	for round := range 30 {
		name := NewID()[:20]
		if err := os.Symlink(NewID(), h.nameLink(name)); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		won := make(chan string, 20)
		for range 20 {
			c := &Container{host: h, State: State{ID: NewID()}}
			if err := os.MkdirAll(c.dir(), 0o700); err != nil {
				t.Fatal(err)
			}
			// As in Create: who makes a container has it locked.
			if err := c.waitLock(); err != nil {
				t.Fatal(err)
			}
			defer c.unlock()
			all.Go(func() {
				if err := c.takeName(name); err == nil {
					won <- c.ID
				} else if !errors.Is(err, errTaken) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		close(won)
		id, _ := os.Readlink(h.nameLink(name))
		if n := len(won); n != 1 || <-won != id {
			t.Fatalf("round %d: %d of 20 have the name, which leads to %s", round, n, ShortID(id))
		}
	}
}

// TestRenameCutShort: whoever is killed in the midst of a rename leaves two names, one of which counts.
func TestRenameCutShort(t *testing.T) {
	h := emptyHost(t)
	c := fabricate(t, h, id64("a"), "old", Exited)
	cut := func() {
		if err := os.Symlink(c.ID, h.nameLink("new")); err != nil {
			t.Fatal(err)
		}
	}
	cut()
	if found, err := h.Find("new"); err == nil {
		t.Errorf("by the name that it never got: %+v", found.State)
	}
	if found, err := h.Find("old"); err != nil || found.ID != c.ID {
		t.Error(err)
	}
	other := fabricate(t, h, id64("b"), "new", Exited)
	if found, err := h.Find("new"); err != nil || found.ID != other.ID {
		t.Error(err)
	}
	if err := c.Rename("new"); !errors.Is(err, errTaken) {
		t.Error(err)
	}
	if err := other.Remove(RemoveOptions{}); err != nil || exists(h.nameLink("new")) {
		t.Error(err, names(h.names()))
	}
	cut()
	if err := c.Rename("new"); err != nil || exists(h.nameLink("old")) {
		t.Error(err)
	}
	if err := os.Symlink(c.ID, h.nameLink("old")); err != nil { // killed at the very end
		t.Fatal(err)
	}
	if err := c.Rename("old"); err != nil || exists(h.nameLink("new")) { // back again
		t.Error(err)
	}
	cut()
	h.Sweep()
	if left := names(h.names()); len(left) != 1 || left[0] != "old" {
		t.Errorf("after a sweep: %q", left)
	}
}

// TestRemoveCutShort: a container that was being removed is gone, and the next clean-up removes what is left of it.
func TestRemoveCutShort(t *testing.T) {
	h := emptyHost(t)
	for _, withVolume := range []bool{true, false} {
		c := fabricate(t, h, id64("c"), "going", Exited)
		v, err := h.createVolume(VolumeConfig{}, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		c.Volumes = []string{v.Name}
		if err := c.save(); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(c.path("upper/etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		if !withVolume {
			c.Volumes = nil
		}
		c.throwAway()
		if _, err := h.Find("going"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		fabricate(t, h, id64("d"), "going", Exited) // its name is free at once
		h.Sweep()
		if left := names(filepath.Join(h.Root, "tmp")); left != nil {
			t.Errorf("left: %q", left)
		}
		if _, err := h.Volume(v.Name); (err == nil) == withVolume {
			t.Errorf("the volume, to be removed %v: %v", withVolume, err)
		}
		if found, err := h.Find("going"); err != nil || found.Remove(RemoveOptions{}) != nil {
			t.Error(err)
		}
	}
}

// TestOrphan: a program that has outlived its hull is killed by whoever finds it, unless it is another one by now.
func TestOrphan(t *testing.T) {
	h := emptyHost(t)
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	find := func(id, boot string, start uint64, status Status) *Container {
		t.Helper()
		c := fabricate(t, h, id, id[:4], status)
		c.Pid, c.PidStart, c.Boot, c.ExitCode = cmd.Process.Pid, start, boot, 3
		if err := c.save(); err != nil {
			t.Fatal(err)
		}
		found, err := h.Find(id)
		if err != nil || found.Status != Exited || found.Pid != 0 {
			t.Fatalf("%+v, %v", found, err)
		}
		if again, err := h.read(id); err != nil || again.Status != Exited {
			t.Errorf("what is written: %+v, %v", again, err)
		}
		return found
	}
	start := startTime(cmd.Process.Pid)
	find(id64("1"), bootID(), start+1, Running)
	find(id64("2"), "another boot", start, Running)
	if c := find(id64("3"), bootID(), start+1, Restarting); c.ExitCode != 3 {
		t.Errorf("status %d, want that of the last run", c.ExitCode)
	}
	select {
	case <-ended:
		t.Fatal("somebody else's process was killed")
	default:
	}
	if c := find(id64("4"), bootID(), start, Running); c.ExitCode != 137 {
		t.Errorf("status %d", c.ExitCode)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the orphan lives")
	}
}

// TestOvertaken: who waits for the end of a run does not wait for the next one too.
func TestOvertaken(t *testing.T) {
	h := emptyHost(t)
	c := fabricate(t, h, id64("e"), "again", Running)
	held := *c
	if err := held.takeLock(); err != nil {
		t.Fatal(err)
	}
	defer held.unlock()
	c.Started = time.Now()
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	waiting := *c
	settled := make(chan error)
	go func() { settled <- waiting.settle() }()
	select {
	case err := <-settled:
		t.Fatal("before the end:", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := held.change(func(s *State) error {
		s.Started, s.Pid = time.Now(), 1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-settled:
		if err != nil || waiting.Pid != 1 {
			t.Errorf("%+v, %v", waiting.State, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still waits")
	}
}

// TestLockOfRemoved: a lock that was waited for is none if the container has been removed meanwhile.
func TestLockOfRemoved(t *testing.T) {
	h := emptyHost(t)
	c := fabricate(t, h, id64("f"), "gone", Exited)
	held := *c
	if err := held.takeLock(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		late := *c
		waited <- late.waitLock()
	}()
	time.Sleep(50 * time.Millisecond) // so that it waits: else the test shows less, but does not fail
	if err := held.discard(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
