package ns

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func needLandlock(t *testing.T, version int) {
	t.Helper()
	if v := LandlockVersion(); v < version {
		t.Skipf("needs Landlock of version %d, this kernel has %d", version, v)
	}
}

// confined is a box whose program may write below some places only. It has no user namespace as root, so that everything
// that is refused is refused by Landlock, and not by a mount or by the owner of a file.
func confined(t *testing.T, rules Landlock) *box {
	b := newBox(t, "try")
	b.Landlock, b.Spec.Process.NoNewPrivileges = &rules, true
	b.Spec.Process.User = specs.User{}
	b.put("out/", "", 0)
	b.put("in/dir/", "", 0)
	b.put("in/file", "text", 0o644)
	b.put("one", "text", 0o644)
	return b
}

// TestLandlockFiles writes where it may and where it may not, by every way that there is to change a file system.
func TestLandlockFiles(t *testing.T) {
	needLandlock(t, minLandlock)
	both(t, func(t *testing.T, reexec bool) {
		b := confined(t, Landlock{Writable: []string{"/out", "/one", "/dev", "/proc", "/no/such/place"}})
		b.Reexec = reexec
		const refused = "permission denied"
		want(b,
			"write /out/new text", "ok", "mkdir /out/dir", "ok", "rename /out/new /out/dir/new", "ok", "truncate /out/dir/new", "ok", "remove /out/dir/new", "ok",
			"open /one", "ok", "write /one x", "ok", "write /dev/null x", "ok", "write /dev/shm/x x", "ok", "write /proc/self/comm x", "ok",
			"read /in/file", "text", "list /in", "2",
			"write /in/new x", refused, "mkdir /in/new", refused, "open /in/file", refused, "remove /in/file", refused, "remove /in/dir", refused,
			"rename /in/file /in/file2", refused, "rename /in/file /out/file", refused, "rename /out/dir /in/dir2", refused, "write /one2 x", refused,
			"open /proc/self/fd/1", "ok") // a file of the host's, given as standard output
		if LandlockVersion() >= 3 {
			b = confined(t, Landlock{Writable: []string{"/out"}})
			want(b, "truncate /in/file", refused, "truncate /one", refused)
		}
	})
	b := confined(t, Landlock{Writable: []string{"/"}})
	want(b, "write /in/new x", "ok", "rename /in/file /out/file", "ok")
	b = confined(t, Landlock{})
	b.Spec.Process.NoNewPrivileges = false
	if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), "needs no_new_privs") {
		t.Error(o.failure)
	}
}

// TestLandlockNetwork is about TCP within the container's own loopback, and about what a shared network holds.
func TestLandlockNetwork(t *testing.T) {
	needLandlock(t, 4)
	want(confined(t, Landlock{}), "listen 4711", "ok", "dial 4711", "connection refused")
	want(confined(t, Landlock{NoTCP: true}), "listen 4711", "permission denied", "dial 4711", "permission denied")

	needLandlock(t, 6)
	name := fmt.Sprintf("hull-test-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for rules, outcome := range map[*Landlock]string{nil: "ok", {}: "operation not permitted"} {
		b := confined(t, Landlock{})
		b.Landlock = rules
		b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		b.Spec.Mounts = slices.DeleteFunc(b.Spec.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" })
		want(b, "abstract "+name, outcome)
	}
}

// TestLandlockSignals has a program in the pid namespace of the host try to signal its parent, which is this process.
func TestLandlockSignals(t *testing.T) {
	needLandlock(t, 6)
	needRoot(t, "to have the same user on both sides")
	for rules, outcome := range map[*Landlock]string{nil: "ok", {}: "operation not permitted"} {
		b := confined(t, Landlock{})
		b.Landlock = rules
		b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		want(b, "kill", outcome)
	}
}

// TestLandlockJoin confines who joins a container, with and without rules for the container itself.
func TestLandlockJoin(t *testing.T) {
	needLandlock(t, minLandlock)
	b := newBox(t, "signals")
	b.put("out/", "", 0)
	p := b.host()
	g := b.guest(p, "try", "write /out/x x", "write /y x")
	g.Landlock, g.Spec.Process.NoNewPrivileges = &Landlock{Writable: []string{"/out"}}, true
	if got := strings.Join(g.tries(), ", "); got != "ok, permission denied" {
		t.Error(got)
	}
	g = b.guest(p, "try", "write /y x")
	if got := strings.Join(g.tries(), ", "); got != "ok" {
		t.Error(got)
	}
}

// TestRuleset checks what each version of the kernel's interface is asked for.
func TestRuleset(t *testing.T) {
	const v1 = landlockDir | landlockNodes
	const v3 = v1 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	for _, row := range []struct {
		version       int
		noTCP, scoped bool
		want          []uint64
	}{
		{2, true, true, []uint64{v1}}, {3, true, true, []uint64{v3}}, {4, true, true, []uint64{v3, 3}}, {4, false, true, []uint64{v3, 0}},
		{5, true, true, []uint64{v3, 3}}, {6, true, true, []uint64{v3, 3, 3}}, {7, false, false, []uint64{v3, 0, 0}}, {99, false, true, []uint64{v3, 0, 3}},
	} {
		var want []byte
		for _, w := range row.want {
			want = binary.NativeEndian.AppendUint64(want, w)
		}
		if got := (&Landlock{NoTCP: row.noTCP}).ruleset(row.version, row.scoped); !slices.Equal(got, want) {
			t.Errorf("version %d: %x, want %x", row.version, got, want)
		}
	}
}

// TestOwnWorkdir has a working directory that can be written in a root that cannot.
func TestOwnWorkdir(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		const refused = "read-only file system"
		b := newBox(t, "try")
		b.Reexec, b.OwnWorkdir, b.Spec.Root.Readonly, b.Spec.Process.Cwd = reexec, true, true, "/job/here"
		want(b, "write new x", "ok", "write /job/here/no/new2 x", "no such file or directory", "mkdir dir", "ok", "write /job/new x", refused, "write /new x", refused)
		b = newBox(t, "try")
		b.Reexec, b.OwnWorkdir, b.Spec.Root.Readonly = reexec, true, true
		want(b, "write new x", refused)
		b = newBox(t, "try") // by way of a link of the image's, which stays within
		b.put("real/", "", 0)
		b.link("/real", "link")
		b.Reexec, b.OwnWorkdir, b.Spec.Root.Readonly, b.Spec.Process.Cwd = reexec, true, true, "/link"
		want(b, "write new x", "ok", "write /real/new2 x", "ok", "write /new x", refused)
	})
}
