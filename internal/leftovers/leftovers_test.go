package leftovers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wait is Wait with so little patience that the test stays short.
func wait(t *testing.T, before Snapshot, dir string) string {
	t.Helper()
	left, err := Wait(before, 300*time.Millisecond, dir)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(left, "\n")
}

func take(t *testing.T, dir string) Snapshot {
	t.Helper()
	before, err := Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	return before
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	before := take(t, dir)
	file := filepath.Join(dir, "forgotten")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if left := wait(t, before, dir); !strings.Contains(left, "file "+file) {
		t.Errorf("a forgotten file was not found, only %q", left)
	}
}

func TestProcess(t *testing.T) {
	dir := t.TempDir()
	before := take(t, dir)
	cmd := exec.Command("sleep", "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := wait(t, before, dir)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !strings.Contains(left, ": sleep 30") {
		t.Errorf("a forgotten process was not found, only %q", left)
	}
}

func TestMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a tmpfs")
	}
	dir := t.TempDir()
	before := take(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	left := wait(t, before, dir)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	if !strings.Contains(left, "mount "+dir+" (tmpfs)") {
		t.Errorf("a forgotten mount was not found, only %q", left)
	}
}

func TestCgroup(t *testing.T) {
	parent := "/sys/fs/cgroup"
	for _, sub := range []string{"unified", "pids"} {
		if _, err := os.Stat(filepath.Join(parent, sub, "cgroup.procs")); err == nil {
			parent = filepath.Join(parent, sub)
			break
		}
	}
	dir := filepath.Join(parent, "hull-leftovers-test")
	before := take(t, "/nonexistent")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs the right to make a cgroup: %v", err)
	}
	left := wait(t, before, "/nonexistent")
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
	if !strings.Contains(left, "cgroup "+dir) {
		t.Errorf("a forgotten cgroup was not found, only %q", left)
	}
}

func TestSince(t *testing.T) {
	before := Snapshot{"a": true, "gone": true}
	if got := (Snapshot{"a": true, "c": true, "b": true}).Since(before); strings.Join(got, " ") != "b c" {
		t.Errorf("got %q", got)
	}
}
