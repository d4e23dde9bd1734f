package ns

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestOverlay stacks many layers: each has a file of its own and its version of a common one.
func TestOverlay(t *testing.T) {
	const most = 499 // and the base: overlay takes 500
	dir := t.TempDir()
	names := make([]string, most)
	for i := range names {
		names[i] = strconv.FormatInt(int64(i), 36)
		for file, text := range map[string]string{"f" + names[i]: "own", "common": names[i]} {
			if err := os.MkdirAll(filepath.Join(dir, names[i]), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, names[i], file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(filepath.Join(layersDir(t), "base"), filepath.Join(dir, "base")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 60, 500} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			b := newBox(t, "try")
			root := &b.Spec.Mounts[0]
			root.Source, root.Options[0] = dir, "lowerdir="+strings.Join(append(names[:n-1:n-1], "base"), ":")
			pairs := []string{"write /new x", "ok", "write /t x", "text file busy"}
			if n > 1 {
				pairs = append(pairs, "read /common", "0", "read /f"+names[n-2], "own")
			}
			want(b, pairs...)
			if _, err := os.Stat(filepath.Join(b.upper(), "new")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPlainRoot has a directory as it is for its root file system, read-only.
func TestPlainRoot(t *testing.T) {
	b := newBox(t, "try")
	b.Spec.Mounts = b.Spec.Mounts[1:]
	b.Spec.Root = &specs.Root{Path: filepath.Join(layersDir(t), "base"), Readonly: true}
	want(b, "write /x x", "read-only file system", "write /tmp/x x", "read-only file system", "write /dev/shm/x x", "ok")
}

func TestBinds(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		src := filepath.Join(b.dir, "src")
		for _, d := range []string{src, src + "/sub", b.dir + "/outside"} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{src + "/file", src + "/sub/deep", b.dir + "/outside/secret"} {
			if err := os.WriteFile(f, []byte("from the host"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b.put("here/", "", 0)
		b.put("away/", "", 0)
		b.link("/away", "link")                // absolute: of the container's root
		b.link(b.dir+"/outside", "escape")     // leads nowhere in the container
		b.link("../../../../../../up", "high") // as does this
		bind := func(source, target string, options ...string) {
			b.mount(specs.Mount{Destination: target, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)})
		}
		bind(src, "/here")
		bind(src, "/ro", "ro")
		bind(src, "/rro", "rro", "nosuid", "noexec")
		bind(src, "/made/for/it")
		bind(src+"/file", "/made/file")
		bind(src+"/file", "/etc/one", "ro")
		bind(src, "/link/below")
		bind(src, "/link/below/sub")
		bind(src, "/escape/x")
		o := b.run()
		if o.failure == nil || !strings.Contains(o.failure.Error(), "/escape") {
			t.Errorf("a link that leads nowhere: %v", o.failure)
		}
		b.Spec.Mounts = b.Spec.Mounts[:len(b.Spec.Mounts)-1]
		want(b, "read /here/file", "from the host", "write /here/new x", "ok",
			"read /ro/sub/deep", "from the host", "write /ro/new x", "read-only file system", "write /rro/sub/x x", "read-only file system",
			"list /made/for/it", "3", "read /made/file", "from the host", "write /made/file changed text.", "ok",
			"read /etc/one", "changed text.", "write /etc/one x", "read-only file system",
			"read /away/below/file", "changed text.", "read /away/below/sub/file", "changed text.", "list /escape", "no such file or directory")
		for _, gone := range []string{b.dir + "/outside/x", b.dir + "/up"} {
			if _, err := os.Stat(gone); err == nil {
				t.Errorf("%s was made on the host", gone)
			}
		}
	})
}

// TestSubmounts has a source with another mount in it: rbind brings it along, bind does not, rro reaches it, ro does not.
func TestSubmounts(t *testing.T) {
	needRoot(t, "to mount on the host")
	b := newBox(t, "try")
	src := filepath.Join(b.dir, "src")
	if err := os.MkdirAll(src+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", src+"/sub", "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(src+"/sub", unix.MNT_DETACH) })
	if err := os.WriteFile(src+"/sub/deep", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for target, options := range map[string][]string{"/all": {"rbind"}, "/top": {"bind"}, "/ro": {"rbind", "ro"}, "/rro": {"rbind", "rro"}} {
		b.mount(specs.Mount{Destination: target, Type: "bind", Source: src, Options: options})
	}
	want(b, "list /all/sub", "1", "list /top/sub", "0", "write /ro/x x", "read-only file system", "write /ro/sub/deep x", "ok",
		"write /rro/x x", "read-only file system", "write /rro/sub/deep x", "read-only file system")
	if entries := names(src); len(entries) != 1 {
		t.Errorf("the source has %q", entries)
	}
}

// TestSubdir mounts what is at a path below a directory that others may have put links into.
func TestSubdir(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		src := filepath.Join(b.dir, "src")
		if err := os.MkdirAll(src+"/a/deep", 0o755); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{src + "/a/file": "inside", b.dir + "/secret": "outside"} {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for name, to := range map[string]string{"rel": "a", "abs": "/a", "out": b.dir, "up": "../../../../../../../../..", "secret": "../secret"} {
			if err := os.Symlink(to, filepath.Join(src, name)); err != nil {
				t.Fatal(err)
			}
		}
		sub := func(target, dir string, options ...string) specs.Mount {
			return specs.Mount{Destination: target, Type: "bind", Source: src, Options: append(options, "rbind", "X-mount.subdir="+dir)}
		}
		for target, dir := range map[string]string{"/1": "a", "/2": "rel/deep/..", "/3": "abs", "/4": "a/file", "/5": "up", "/6": "../../a"} {
			b.mount(sub(target, dir))
		}
		b.mount(sub("/7", "a", "ro"))
		want(b, "read /1/file", "inside", "read /2/file", "inside", "read /3/file", "inside", "read /4", "inside", "read /5/a/file", "inside",
			"read /6/file", "inside", "write /1/new x", "ok", "write /7/new x", "read-only file system")
		for _, dir := range []string{"none", "out", "secret", "a/file/x"} {
			b.Spec.Mounts = append(b.Spec.Mounts[:len(b.Spec.Mounts)-1], sub("/7", dir))
			if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), src+"/"+dir) {
				t.Errorf("%s: %v", dir, o.failure)
			}
		}
	})
}

// TestOtherFileSystem mounts a file system of a kind that the child leaves to its parent.
func TestOtherFileSystem(t *testing.T) {
	needRoot(t, "to mount other file systems")
	const kind = "hugetlbfs"
	if known, _ := os.ReadFile("/proc/filesystems"); !bytes.Contains(known, []byte(kind)) {
		t.Skip("needs", kind)
	}
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "look")
		b.Reexec = reexec
		before := mountCount(t)
		b.mount(specs.Mount{Destination: "/made/huge", Type: kind, Source: "none", Options: []string{"mode=711", "noexec", "nodev", "ro"}})
		if got := b.look().Mounts["/made/huge"]; !strings.HasPrefix(got, "ro,nodev,noexec,relatime - "+kind) || !strings.Contains(got, "mode=711") {
			t.Errorf("%q", got)
		}
		if n := mountCount(t); n != before {
			t.Errorf("%d mounts on the host, before %d", n, before)
		}
		b.Spec.Mounts[len(b.Spec.Mounts)-1].Options = []string{"no_such_option=1"}
		if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), "no_such_option") || !strings.Contains(o.failure.Error(), "/made/huge") {
			t.Error(o.failure)
		}
	})
}

// TestMasks hides and protects paths, after all mounts.
func TestMasks(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		b.put("secret/file", "x", 0o644)
		b.put("data/sub/file", "x", 0o644)
		b.Spec.Linux.MaskedPaths = []string{"/proc/keys", "/proc/nosuch", "/secret", "/proc/timer_list"}
		b.Spec.Linux.ReadonlyPaths = []string{"/proc/sys", "/no/such", "/data"}
		want(b, "read /proc/keys", "", "list /secret", "0", "mkdir /secret/x", "read-only file system",
			"open /proc/sys/net/ipv4/ip_forward", "read-only file system", "read /data/sub/file", "x", "write /data/sub/file y", "read-only file system",
			"write /tmp/x y", "ok")
	})
}

// TestFiles gives a container small files: over the image's, over a link in it, where nothing is, and without a /dev.
func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		b.put("etc/hosts", "the image's", 0o600)
		b.link("../tmp/resolv", "etc/resolv.conf")
		b.Files = []File{{"/etc/hosts", []byte("own\n")}, {"/etc/new/name", []byte("box\n")}, {"/dev/.conf", []byte("c")},
			{"/etc/big", bytes.Repeat([]byte("x"), 40<<10)}, {"/etc/empty", nil}}
		want(b, "read /etc/hosts", "own", "mode /etc/hosts", "-rw-r--r-- 0", "write /etc/hosts new", "ok", "read /etc/hosts", "new",
			"read /etc/new/name", "box", "read /dev/.conf", "c", "read /etc/empty", "", "list /dev", "16")
		if data, err := os.ReadFile(filepath.Join(b.upper(), "etc/hosts")); err != nil || string(data) != "the image's" {
			t.Errorf("the image's file: %q, %v", data, err)
		}
	})
	b := newBox(t, "try")
	b.Spec.Mounts = append(b.Spec.Mounts[:2:2], b.Spec.Mounts[4]) // no /dev
	b.Files = []File{{"/etc/hosts", []byte("own\n")}}
	want(b, "read /etc/hosts", "own")
}

func TestMountOptions(t *testing.T) {
	for _, row := range []struct {
		options string
		flags   flagSet
		data    string
	}{
		{"", flagSet{}, ""},
		{"defaults,rw,dev,suid,exec", flagSet{}, ""},
		{"ro,nosuid,nodev,noexec", flagSet{set: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}, ""},
		{"noatime,nodiratime,relatime,strictatime,sync", flagSet{set: unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_STRICTATIME | unix.MS_SYNCHRONOUS}, ""},
		{"bind", flagSet{bind: true}, ""}, {"rbind,rro", flagSet{bind: true, recursive: true, rro: true, set: unix.MS_RDONLY}, ""},
		{"rslave", flagSet{propagation: unix.MS_SLAVE | unix.MS_REC}, ""}, {"shared", flagSet{propagation: unix.MS_SHARED}, ""},
		{"private", flagSet{propagation: unix.MS_PRIVATE}, ""}, {"runbindable", flagSet{propagation: unix.MS_UNBINDABLE | unix.MS_REC}, ""},
		{"mode=755,ro,size=5k", flagSet{set: unix.MS_RDONLY}, "mode=755,size=5k"}, {"z,nocopy", flagSet{}, ""},
		{"bind,X-mount.subdir=a b/c", flagSet{bind: true, subdir: "a b/c"}, ""},
	} {
		flags, data, err := mountOptions(strings.Split(row.options, ","))
		if row.options == "" {
			flags, data, err = mountOptions(nil)
		}
		if flags != row.flags || data != row.data || err != nil {
			t.Errorf("%q: %+v %q %v, want %+v %q", row.options, flags, data, err, row.flags, row.data)
		}
	}
	if _, _, err := mountOptions([]string{strings.Repeat("x", 5000)}); err == nil || !strings.Contains(err.Error(), "5000 bytes are more than the kernel takes") {
		t.Error(err)
	}
}

// TestPropagation: what is mounted in the container never reaches the host, and with rslave what the host mounts arrives.
func TestPropagation(t *testing.T) {
	needRoot(t, "to mount on the host")
	b := newBox(t, "try")
	src := filepath.Join(b.dir, "src")
	for _, d := range []string{src, src + "/inside"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(src, src, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(src, unix.MNT_DETACH) })
	if err := unix.Mount("", src, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	b.mount(specs.Mount{Destination: "/data", Type: "bind", Source: src, Options: []string{"rbind"}})
	b.mount(specs.Mount{Destination: "/slave", Type: "bind", Source: src, Options: []string{"rbind", "rslave"}})
	before := mountCount(t)
	want(b, "mount /data/inside", "ok", "mount /slave/inside", "ok", "write /slave/inside/x x", "ok")
	if n := mountCount(t); n != before {
		t.Errorf("%d mounts on the host, before %d", n, before)
	}
	if entries := names(src + "/inside"); entries != nil {
		t.Errorf("on the host: %q", entries)
	}
}

func mountCount(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

// TestClimbingLinks has an image whose links climb above its root. They lead nowhere but into the container: while the
// host's root is still in reach, no path of the image is looked up.
func TestClimbingLinks(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		host := filepath.Join(b.dir, "host")
		if err := os.MkdirAll(host, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, "hosts"), []byte("the host's"), 0o644); err != nil {
			t.Fatal(err)
		}
		up := strings.Repeat("../", 20)
		b.link(up+host, "away")
		b.put(host[1:]+"/", "", 0) // where the links lead inside
		b.Files = []File{{Path: "/away/hosts", Data: []byte("the container's")}}
		b.mount(specs.Mount{Destination: "/away/a/b", Type: "bind", Source: b.dir + "/work", Options: []string{"rbind"}})
		b.Spec.Process.Cwd = "/away/cwd"
		want(b, "read /away/hosts", "the container's")
		entries, err := os.ReadDir(host)
		if err != nil || len(entries) != 1 {
			t.Errorf("on the host: %v, %v", entries, err)
		}
		if text, _ := os.ReadFile(filepath.Join(host, "hosts")); string(text) != "the host's" {
			t.Errorf("the host's file now says %q", text)
		}
	})
}

// TestLinkForProc refuses an image in which /proc is a link: what is masked below it would be elsewhere.
func TestLinkForProc(t *testing.T) {
	b := newBox(t, "try")
	b.Spec.Mounts[0].Options[0] = "lowerdir=" + filepath.Join(b.dir, "lower")
	for _, d := range []string{"lower/sys", "lower/dev", "lower/other"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.link("other", "proc")
	if o := b.run(); o.failure == nil || !strings.Contains(o.failure.Error(), "mount proc on /proc: ") {
		t.Errorf("failure %v", o.failure)
	}
}
