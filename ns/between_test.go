package ns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// shares makes b a container that lives in these namespaces of p's container.
func (b *box) shares(p *Process, kinds ...specs.LinuxNamespaceType) {
	for i, n := range b.Spec.Linux.Namespaces {
		if slices.Contains(kinds, n.Type) {
			file := map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.NetworkNamespace: "net", specs.PIDNamespace: "pid"}[n.Type]
			b.Spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", p.Pid, file)
		}
	}
}

// differ wants v to be in the same namespaces as p's program of these kinds, and of no others.
func (v *view) differ(t *testing.T, p *Process, same ...string) {
	t.Helper()
	theirs := namespacesOf(fmt.Sprintf("/proc/%d/ns", p.Pid))
	for _, kind := range []string{"mnt", "pid", "ipc", "uts", "net", "cgroup", "user"} {
		if (v.Namespaces[kind] == theirs[kind]) != slices.Contains(same, kind) {
			t.Errorf("%s: %s, the other's is %s", kind, v.Namespaces[kind], theirs[kind])
		}
	}
}

// TestShareUsers: a container in the user and network namespaces of another is one of its own in all else.
func TestShareUsers(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		for _, id := range []uint32{0, 1000} {
			host := newBox(t, "signals")
			b := newBox(t, "look")
			for _, each := range []*box{host, b} {
				each.Spec.Linux.Namespaces = slices.DeleteFunc(each.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
				each.oneID(id)
				each.Spec.Process.User = specs.User{UID: id, GID: id}
			}
			p := host.host()
			b.Reexec = reexec
			b.shares(p, specs.UserNamespace, specs.NetworkNamespace)
			v := b.look()
			v.differ(t, p, "user", "net")
			if ids := strings.Repeat(itoa(int(id))+" ", 4); v.Status["Uid"]+" " != ids {
				t.Errorf("ids %s", v.Status["Uid"])
			}
			if v.Pid != 1 || v.Ppid != 0 || v.Host != "box" || v.Fds != nil || !slices.Equal(v.Links, []string{"lo"}) {
				t.Errorf("%+v", v)
			}
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != nil || pid != 0 { // but for the other container there is nobody
				t.Errorf("child %d is left: %v", pid, err)
			}
		}
	})
}

// TestSharePIDs: with the user namespace, anybody may enter a pid namespace.
func TestSharePIDs(t *testing.T) {
	host := newBox(t, "signals")
	b := newBox(t, "look")
	if os.Geteuid() == 0 {
		host.oneID(0)
		b.oneID(0)
	}
	p := host.host()
	b.shares(p, specs.UserNamespace, specs.PIDNamespace)
	v := b.look()
	v.differ(t, p, "user", "pid")
	if v.Pid == 1 {
		t.Error("it is pid 1 of its own")
	}
}

// TestShareNetwork: what sysfs shows is of the network that the container shares.
func TestShareNetwork(t *testing.T) {
	needRoot(t, "to enter a network namespace alone")
	p := newBox(t, "signals").host()
	b := newBox(t, "look")
	b.shares(p, specs.NetworkNamespace)
	v := b.look()
	v.differ(t, p, "net", "user")
	if !slices.Equal(v.Links, []string{"lo"}) {
		t.Errorf("devices %v", v.Links)
	}
}

// TestShareUsersErrors: what cannot be entered is told, and leaves no process behind.
func TestShareUsersErrors(t *testing.T) {
	b := newBox(t, "exit", "0")
	if os.Geteuid() == 0 {
		b.oneID(0)
	}
	for i, n := range b.Spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			b.Spec.Linux.Namespaces[i].Path = "/proc/self/ns/user" // nobody enters his own
		}
	}
	if o := b.run(); o.failure == nil || o.failure.Error() != "join user namespace /proc/self/ns/user: invalid argument" {
		t.Error(o.failure)
	}
	for i, n := range b.Spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			b.Spec.Linux.Namespaces[i].Path = filepath.Join(b.dir, "nothing")
		}
	}
	if o := b.run(); !os.IsNotExist(o.failure) {
		t.Error(o.failure)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
		t.Errorf("child %d is left: %v", pid, err)
	}
}
