package ns

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// everything has a container put something of each kind below dir: a mount of the host's, one of its own, a file, a device, a
// mask, and the working directory.
func (b *box) everything(dir string) {
	b.t.Helper()
	b.mount(specs.Mount{Destination: dir + "/mount/here", Type: "bind", Source: b.dir + "/work", Options: []string{"rbind"}})
	b.mount(specs.Mount{Destination: dir + "/tmp/here", Type: "tmpfs", Source: "tmpfs"})
	b.Files = append(b.Files, File{Path: dir + "/files/file", Data: []byte("x")})
	nodes, err := HostDevice("/dev/null", dir+"/devices/null")
	if err != nil {
		b.t.Fatal(err)
	}
	owner := uint32(3)
	nodes[0].UID = &owner
	for i := range nodes {
		if b.Spec.Linux.UIDMappings != nil { // there run makes it a mount
			b.mount(specs.Mount{Destination: nodes[i].Path, Type: "bind", Source: "/dev/null", Options: []string{"bind"}})
		}
	}
	if b.Spec.Linux.UIDMappings == nil {
		b.Spec.Linux.Devices = nodes
	}
	b.Spec.Linux.MaskedPaths = append(b.Spec.Linux.MaskedPaths, "/proc/keys", "/proc/timer_list", dir+"/masked")
	b.Spec.Linux.ReadonlyPaths = append(b.Spec.Linux.ReadonlyPaths, "/proc/sys", dir+"/protected")
	b.Spec.Process.Cwd = dir + "/cwd"
}

// TestEverything: with no link in the way all of that is where it belongs.
func TestEverything(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		b.everything("/below")
		b.put("below/masked/file", "x", 0o644)
		b.put("below/protected/file", "x", 0o644)
		want(b, "list /below/mount/here", "1", "write /below/tmp/here/x x", "ok", "read /below/files/file", "x",
			"write /below/devices/null x", "ok", "list /below/masked", "0", "open /below/protected/file", "read-only file system",
			"write made x", "ok", "read /below/cwd/made", "x")
	})
}

// TestMagicLinks has an image whose links lead to the root of a process of the host's, by way of its own /proc.
func TestMagicLinks(t *testing.T) {
	needRoot(t, "to mount the host's /proc anew")
	both(t, func(t *testing.T, reexec bool) {
		for i, without := range []func(*box){
			func(*box) {},
			func(b *box) { b.Spec.Process.Cwd = "/" },
			func(b *box) { b.Spec.Mounts = b.Spec.Mounts[:7] },
			func(b *box) { b.Spec.Mounts = b.Spec.Mounts[:7]; b.Spec.Linux.Devices = nil },
			func(b *box) { b.Spec.Mounts = b.Spec.Mounts[:7]; b.Spec.Linux.Devices, b.Files = nil, nil },
			func(b *box) { // no /dev: files are written where they are
				b.Spec.Mounts = append(b.Spec.Mounts[:2:2], b.Spec.Mounts[4])
				b.Spec.Linux.Devices = nil
			},
		} {
			b := newBox(t, "try")
			b.Reexec = reexec
			b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
			dir, _ := openHost(t, b)
			if err := os.WriteFile(filepath.Join(dir, "files"), []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
			b.link("/proc/"+itoa(os.Getpid())+"/root"+dir, "away")
			b.everything("/away")
			b.Files[0].Path = "/away/files"
			without(b)
			b.Spec.Process.Args = []string{"/t", "read secret"}
			o := b.run()
			theirs, err := os.ReadFile(filepath.Join(dir, "files"))
			if list := names(dir); err != nil || !slices.Equal(list, []string{"files", "secret"}) || string(theirs) != "theirs" {
				t.Errorf("%d: on the host there are %q, %q, %v", i, list, theirs, err)
			}
			if strings.Contains(o.out, "the host's") {
				t.Errorf("%d: the working directory is the host's", i)
			}
		}
	})
}

// swap exchanges a directory for links, over and over, until the test ends: what a container does that shares a volume with
// another which is being started.
func swap(t *testing.T, dir, name string, links []string) {
	t.Helper()
	var places []string
	for i, to := range links {
		place := filepath.Join(dir, ".link"+itoa(i))
		if err := os.Symlink(to, place); err != nil {
			t.Fatal(err)
		}
		places = append(places, place)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			for range 2 { // a link, and the directory again, each for a moment
				_ = unix.Renameat2(unix.AT_FDCWD, places[i%len(places)], unix.AT_FDCWD, filepath.Join(dir, name), unix.RENAME_EXCHANGE)
				time.Sleep(time.Duration(i%7) * 30 * time.Microsecond)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
}

// TestSwappedLinks starts containers whose volume somebody else changes meanwhile (CVE-2021-30465): whatever is put there, the
// host stays as it is, and the container's masks hold, or it does not start.
func TestSwappedLinks(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		first := newBox(t, "try")
		host, fd := openHost(t, first)
		volume := filepath.Join(first.dir, "volume")
		for _, dir := range []string{"sub/masked", "sub/protected"} {
			if err := os.MkdirAll(filepath.Join(volume, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		before := lines("/proc/self/mountinfo")
		swap(t, volume, "sub", []string{"/proc", "/proc/self/fd/" + itoa(fd), "/proc/1/root", "/proc/self/root" + host, "../../../../../../.." + host,
			host, "/sys", "/dev", "/etc", "/proc/sys"})
		started := 0
		for i := range 60 {
			b := newBox(t, "try", "read /proc/keys", "read /proc/timer_list", "open /proc/sys/net/ipv4/ip_forward", "read secret")
			b.Reexec = reexec
			b.Spec.Mounts = slices.Insert(b.Spec.Mounts, 1, specs.Mount{Destination: "/v", Type: "bind", Source: volume, Options: []string{"rbind"}})
			late := len(b.Spec.Mounts)
			b.everything("/v/sub")
			if i%2 == 0 { // fewer to go wrong
				b.Spec.Mounts, b.Files, b.Spec.Linux.Devices = b.Spec.Mounts[:late+1], nil, nil
			}
			if i%4 < 2 { // as run orders them; else over /proc, as in anybody's specification
				asked := slices.Clone(b.Spec.Mounts[late:])
				b.Spec.Mounts = slices.Insert(b.Spec.Mounts[:late], 2, asked...)
			}
			o := b.run()
			if o.failure != nil {
				continue
			}
			if started++; o.out != "\n\nread-only file system\nno such file or directory\n" {
				t.Errorf("inside: %q, %s", o.out, o.err)
			}
		}
		t.Logf("%d of 60 started", started) // on a busy machine it may be none
		if list := names(host); !slices.Equal(list, []string{"secret"}) {
			t.Errorf("on the host there are %q", list)
		}
		if after := lines("/proc/self/mountinfo"); len(after) != len(before) {
			t.Errorf("the host has %d mounts, had %d", len(after), len(before))
		}
	})
}
