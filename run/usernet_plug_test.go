package run

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlugByFiles: the quick way to a container's device leads there, with a tap device or a pair of veth, whichever is to be had.
// Otherwise the slow way would hide that it does not.
func TestPlugByFiles(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	ids := []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids,
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	if err := cmd.Start(); err != nil {
		t.Skip("needs user namespaces:", err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	target := os.NewFile(uintptr(fd), "pidfd")
	defer target.Close()
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
		f.Close()
	} else if exec.Command("unshare", "-rn", "ip", "link", "add", "type", "veth").Run() != nil {
		t.Skip("needs /dev/net/tun or veth in the kernel:", err)
	}
	file, err := plugByFiles(target, watchedDevice())
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
}
