package ns

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openHost makes a directory of the host with a file in it, and opens it, as hull has its own open and those that its
// caller left it.
func openHost(t *testing.T, b *box) (dir string, fd int) {
	t.Helper()
	dir = filepath.Join(b.dir, "host")
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "secret"), []byte("the host's"), 0o644)
	}
	if err == nil {
		fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0) // also across an exec
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return dir, fd
}

// TestForeignDescriptors has an image whose working directory, and whose links, lead to a descriptor of hull's
// (CVE-2024-21626). Every number is tried: some are hull's by nature.
func TestForeignDescriptors(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		first := newBox(t, "try")
		_, fd := openHost(t, first)
		for n := range fd + 40 {
			b := newBox(t, "try")
			b.Reexec = reexec
			src := filepath.Join(b.dir, "src")
			err := os.MkdirAll(filepath.Join(src, "sub"), 0o755)
			if err == nil {
				err = os.WriteFile(filepath.Join(src, "secret"), []byte("the host's"), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.mount(specs.Mount{Destination: "/sub", Type: "bind", Source: src, Options: []string{"rbind", SubdirOption + "sub"}})
			b.Spec.Process.Cwd = "/proc/self/fd/" + itoa(n)
			b.Spec.Process.Args = []string{"/t", "read secret", "read ../secret"}
			if o := b.run(); strings.Contains(o.out, "the host's") {
				t.Errorf("working directory %s is the host's", b.Spec.Process.Cwd)
			}
		}

		b := newBox(t, "try")
		b.Reexec = reexec
		dir, fd := openHost(t, b)
		b.link("/proc/self/fd/"+itoa(fd), "away")
		b.Spec.Process.Cwd = "/away/cwd"
		b.mount(specs.Mount{Destination: "/away/mount/here", Type: "bind", Source: b.upper(), Options: []string{"rbind"}})
		b.Files = []File{{Path: "/away/file", Data: []byte("x")}}
		o := b.run()
		if names := names(dir); !slices.Equal(names, []string{"secret"}) || o.failure == nil {
			t.Errorf("behind a link to a descriptor: the host has %q, %v", names, o.failure)
		}
	})
}

// TestForeignDescriptorsJoin is the same for what joins a container that sees the host's processes.
func TestForeignDescriptorsJoin(t *testing.T) {
	needRoot(t, "to mount the host's /proc anew")
	b := newBox(t, "signals")
	_, fd := openHost(t, b)
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	p := b.host()
	for n := range fd + 40 {
		g := b.guest(p, "try", "read secret")
		g.Spec.Process.Cwd = "/proc/self/fd/" + itoa(n)
		if o := g.run(); strings.Contains(o.out, "the host's") {
			t.Errorf("working directory %s is the host's", g.Spec.Process.Cwd)
		}
	}
}
