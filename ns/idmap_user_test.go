package ns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// userMaps tries, as root of a user namespace and in a mount namespace of its own, to show what lies in a folder under the
// ids of a user namespace within, which is what an ordinary user with subordinate ids could do at most. It prints the errors.
func userMaps(args []string) error {
	inner := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1000}}
	userns, err := UserNamespace(inner, inner)
	if err != nil {
		return err
	}
	defer userns.Close()
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	for _, dir := range []string{"lower", "upper", "work", "overlay", "memory"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "overlay", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr"); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := unix.Mount("memory", "memory", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	said := map[string]unix.Errno{}
	for _, dir := range []string{"lower", "overlay", "memory"} {
		fd, err := cloneMapped(userns, dir)
		var errno unix.Errno
		if errors.As(err, &errno); err == nil {
			unix.Close(fd)
		}
		said[dir] = errno
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

// TestNoRangesForUsers is why an ordinary user's containers have no ids of their own (docs/sandbox.md): the kernel lets root of
// a user namespace map the ids of no file system of the host's, and of no overlay, but only of such as it has mounted itself
// and that know how. Where this fails because one of them works, a later kernel has made it possible.
func TestNoRangesForUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give subordinate ids to a child")
	}
	const first, count = 1 << 20, 1 << 16
	dir := t.TempDir()
	if err := os.Chown(dir, first, first); err != nil {
		t.Fatal(err)
	}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err == nil && st.Mode()&0o005 != 0o005 {
			if err := os.Chmod(at, st.Mode()|0o005); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: count}}
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), verbEnv+"=usermaps")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]unix.Errno
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	if said["lower"] != unix.EPERM || said["overlay"] != unix.EINVAL {
		t.Errorf("a file system of the host's: %v, an overlay: %v; want that they are refused", said["lower"], said["overlay"])
	}
	if release(6, 3) && said["memory"] != 0 {
		t.Errorf("a tmpfs of its own: %v", said["memory"])
	}
}
