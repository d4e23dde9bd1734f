package ns

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestOpenNetwork: the files are of the container's namespace, or of a new one, and nothing else stays open.
func TestOpenNetwork(t *testing.T) {
	b := newBox(t, "cat")
	if !fresh(b.Spec, specs.UserNamespace) {
		b.mapOne()
	}
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	b.Stdin = in
	p := b.host()
	pidfd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	target := os.NewFile(uintptr(pidfd), "pidfd")
	defer target.Close()
	before := len(openFds())
	f, err := OpenNetwork(target)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := inode(t, "/proc/"+itoa(p.Pid)+"/ns/net"), inode(t, "/proc/self/ns/net")
	const siocgskns = 0x894c // linux/sockios.h
	of := func(file *os.File) uint64 {
		t.Helper()
		fd, err := unix.IoctlRetInt(int(file.Fd()), siocgskns)
		if err != nil {
			t.Fatal(err)
		}
		n := os.NewFile(uintptr(fd), "namespace")
		defer n.Close()
		return inode(t, "/proc/self/fd/"+itoa(int(n.Fd())))
	}
	if got := of(f.Route); got != theirs {
		t.Errorf("the socket is of %d, the container's is %d", got, theirs)
	}
	files := 2
	if f.Tun != nil {
		req, _ := unix.NewIfreq("given0")
		req.SetUint16(unix.IFF_TAP)
		if err := unix.IoctlIfreq(int(f.Tun.Fd()), unix.TUNSETIFF, req); err != nil {
			t.Errorf("make a device: %v", err)
		} else if err := unix.IoctlIfreq(int(f.Route.Fd()), unix.SIOCGIFINDEX, req); err != nil {
			t.Errorf("the device is not in the container: %v", err)
		}
	} else {
		files = 4
		far := of(f.FarRoute)
		if far == theirs || far == ours || of(f.Packet) != far {
			t.Errorf("the other end is in %d and %d, the container in %d, we in %d", far, of(f.Packet), theirs, ours)
		}
		if got := inode(t, "/proc/self/fd/"+itoa(int(f.Namespace.Fd()))); got != theirs {
			t.Errorf("the namespace is %d, the container's is %d", got, theirs)
		}
	}
	if got := len(openFds()) - before; got != files {
		t.Errorf("%d files are open, want %d", got, files)
	}
	f.Close()
	if got := inode(t, "/proc/thread-self/ns/net"); got != ours {
		t.Errorf("we are in %d, were in %d", got, ours)
	}
	if _, err := OpenNetwork(in); err == nil || len(openFds()) != before {
		t.Errorf("of no process: %v, %d files more are open", err, len(openFds())-before)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
