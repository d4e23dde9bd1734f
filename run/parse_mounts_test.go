package run

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantErr fails t unless err holds every part of text; "" wants no error.
func wantErr(t *testing.T, err error, text string) bool {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return err == nil
	}
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one with %q", err, text)
	}
	return false
}

func TestParseVolume(t *testing.T) {
	bind := func(source, target string) MountSpec {
		return MountSpec{Type: MountBind, Source: source, Target: target, CreateSource: true}
	}
	with := func(m MountSpec, f func(*MountSpec)) MountSpec { f(&m); return m }
	named := MountSpec{Type: MountVolume, Source: "data", Target: "/data"}
	tests := []struct {
		in   string
		want MountSpec
		err  string
	}{
		{in: "/data", want: MountSpec{Type: MountVolume, Target: "/data"}},
		{in: "data:/data", want: named},
		{in: "data:/data:ro", want: with(named, func(m *MountSpec) { m.ReadOnly = true })},
		{in: "data:/data:O", want: with(named, func(m *MountSpec) { m.Overlay = true })},
		{in: "data:/data:nocopy,rw", want: with(named, func(m *MountSpec) { m.NoCopy = true })},
		{in: "/srv:/srv", want: bind("/srv", "/srv")},
		{in: "/:/host", want: bind("/", "/host")},
		{in: "/a/../b/:/c//d/", want: bind("/b", "/c/d")},
		{in: ".:/w", want: bind("/cwd", "/w")},
		{in: "./x:/w", want: bind("/cwd/x", "/w")},
		{in: "../x:/w", want: bind("/x", "/w")},
		{in: ".hidden:/w", want: bind("/cwd/.hidden", "/w")},
		{in: "~:/h", want: bind("/home/me", "/h")},
		{in: "~/x:/h", want: bind("/home/me/x", "/h")},
		{in: "/a b:/c d", want: bind("/a b", "/c d")},
		{in: "/a:/b:z,rslave,noexec", want: with(bind("/a", "/b"), func(m *MountSpec) {
			m.Relabel, m.Propagation, m.Options = "z", "rslave", []string{"noexec"}
		})},
		{in: "/a:/b:O", want: with(bind("/a", "/b"), func(m *MountSpec) { m.Overlay = true })},
		{in: "/a:/b:U", want: with(bind("/a", "/b"), func(m *MountSpec) { m.Chown = true })},
		{in: "/a:/b:O,U", err: "contradict"},
		{in: "/a:/b:cached,r0", want: with(bind("/a", "/b"), func(m *MountSpec) { m.Unknown = []string{"r0"} })},

		{in: "", err: `volume "": empty section`},
		{in: ":", err: "empty section"},
		{in: "/a:", err: "empty section"},
		{in: ":/b", err: "empty section"},
		{in: "/a:/b:", err: "empty section"},
		{in: "/a:/b:ro:rw", err: "too many colons"},
		{in: "/a:b", err: `mount path "b" must be absolute`},
		{in: "data", err: "must be absolute"},
		{in: "/foo:ro", err: "must be absolute"},
		{in: "/a:/", err: "destination can't be '/'"},
		{in: "/a:/../", err: "destination can't be '/'"},
		{in: "a/b:/c", err: "includes invalid characters for a local volume name"},
		{in: "x:/c", err: "too short"},
		{in: "-x:/c", err: "invalid characters"},
		{in: "~you/x:/c", err: "only ~ and ~/"},
		{in: "/a:/b:ro,rw", err: "contradict"},
		{in: "/a:/b:z,Z", err: "contradict"},
		{in: "/a:/b:shared,private", err: "contradict"},
		{in: "/a:/b:O,ro", err: "contradict"},
		{in: "data:/b:shared", err: "is for a bind mount"},
		{in: "/a:/b:nocopy", err: "is for a volume"},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			got, err := ParseVolume(test.in, "/cwd", "/home/me")
			if wantErr(t, err, test.err) {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if _, err := ParseVolume("~/x:/y", "/cwd", ""); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("no home: %v", err)
	}
}

func TestParseMount(t *testing.T) {
	tests := []struct {
		in   string
		want MountSpec
		err  string
	}{
		{in: "target=/t", want: MountSpec{Type: MountVolume, Target: "/t"}},
		{in: "source=vol,dst=/t,ro", want: MountSpec{Type: MountVolume, Source: "vol", Target: "/t", ReadOnly: true}},
		{in: "type=bind,src=/s,dst=/t", want: MountSpec{Type: MountBind, Source: "/s", Target: "/t"}},
		{in: "TYPE=bind,Source=./s,DESTINATION=/t,ReadOnly=false", want: MountSpec{Type: MountBind, Source: "/cwd/s", Target: "/t"}},
		{in: `type=bind,"src=/a,b",dst=/t`, want: MountSpec{Type: MountBind, Source: "/a,b", Target: "/t"}},
		{in: "type=bind,src=/s,dst=/t,bind-propagation=rshared,bind-create-src,bind-recursive=disabled,consistency=cached",
			want: MountSpec{Type: MountBind, Source: "/s", Target: "/t", Propagation: "rshared", CreateSource: true, NonRecursive: true}},
		{in: "type=bind,src=/s,dst=/t,ro,bind-recursive=writable",
			want: MountSpec{Type: MountBind, Source: "/s", Target: "/t", ReadOnly: true, ReadOnlyNonRecursive: true}},
		{in: "type=bind,src=/s,dst=/t,ro,bind-recursive=readonly,bind-propagation=rprivate",
			want: MountSpec{Type: MountBind, Source: "/s", Target: "/t", ReadOnly: true, ReadOnlyForceRecursive: true, Propagation: "rprivate"}},
		{in: "src=vol,dst=/t,volume-nocopy,volume-label=a=b,volume-label=c,volume-driver=local,volume-opt=o=x=y,volume-subpath=./p/q",
			want: MountSpec{Type: MountVolume, Source: "vol", Target: "/t", NoCopy: true, Labels: map[string]string{"a": "b", "c": ""},
				Driver: "local", DriverOpts: map[string]string{"o": "x=y"}, Subpath: "p/q"}},
		{in: "type=image,src=busybox:1,dst=/t,image-subpath=a//b", want: MountSpec{Type: MountImage, Source: "busybox:1", Target: "/t", ReadOnly: true, Subpath: "a/b"}},
		{in: "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=700",
			want: MountSpec{Type: MountTmpfs, Target: "/t", TmpfsSize: 64 << 20, TmpfsMode: 0o700, Options: tmpfsDefaults()}},

		{in: "", err: `mount "": value is empty`},
		{in: "type=bind,src=/s", err: "target is required"},
		{in: "type=bind,dst=/t", err: "source is required"},
		{in: "type=bind,src=s,dst=/t", err: "must be absolute"},
		{in: "type=bind,src=/s,dst=t", err: "must be absolute"},
		{in: "type=bind,src=/s,dst=/", err: "destination can't be '/'"},
		{in: "type=bind,src=/s,dst=/t,bogus=1", err: `unknown option "bogus"`},
		{in: "type=bind,src=/s,dst=/t,bind-bogus=1", err: `unknown option "bind-bogus"`},
		{in: "type=bind,src=/s,dst=/t,bogus", err: "must be a key=value pair"},
		{in: "type=bind,src= /s,dst=/t", err: "whitespace"},
		{in: "type=bind, src=/s,dst=/t", err: "whitespace"},
		{in: "type=bind,src=,dst=/t", err: `value of "src" is empty`},
		{in: "type=bind,src=/s,dst=/t,ro=perhaps", err: "want true or false"},
		{in: "type=bind,src=/s,dst=/t,volume-nocopy", err: "cannot mix 'volume-*' options with mount type \"bind\""},
		{in: "dst=/t,bind-propagation=shared", err: "cannot mix 'bind-*'"},
		{in: "dst=/t,tmpfs-size=1m", err: "cannot mix 'tmpfs-*'"},
		{in: "type=bind,src=/s,dst=/t,bind-propagation=odd", err: "invalid value"},
		{in: "type=bind,src=/s,dst=/t,bind-recursive=odd", err: "invalid value"},
		{in: "type=bind,src=/s,dst=/t,bind-recursive=writable", err: "requires 'readonly'"},
		{in: "type=bind,src=/s,dst=/t,ro,bind-recursive=readonly", err: "bind-propagation=rprivate"},
		{in: "type=tmpfs,src=/s,dst=/t", err: "no source"},
		{in: "type=tmpfs,dst=/t,tmpfs-size=big", err: "invalid size"},
		{in: "type=tmpfs,dst=/t,tmpfs-mode=999", err: "octal"},
		{in: "type=image,dst=/t", err: "source is required"},
		{in: "type=image,src=x,dst=/t,image-subpath=/abs", err: "must be a relative path within the image"},
		{in: "type=image,src=x,dst=/t,image-colour=red", err: "unknown option"},
		{in: "type=bind,src=/x,dst=/t,image-subpath=a", err: "cannot mix 'image-*' options"},
		{in: "type=npipe,src=x,dst=/t", err: "invalid mount type"},
		{in: "src=a/b,dst=/t", err: "invalid characters"},
		{in: "src=vol,dst=/t,volume-subpath=../x", err: "relative path within the volume"},
		{in: "dst=/t,volume-subpath=x", err: "needs the name"},
		{in: "type=bind,src=/s\ndst=/t", err: "more than one line"},
		{in: `type=bind,src="/s",dst=/t`, err: `bare "`},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			got, err := ParseMount(test.in, "/cwd")
			if test.want.Long = true; wantErr(t, err, test.err) {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestParseVolumesFrom(t *testing.T) {
	for _, row := range []struct {
		in, container string
		readOnly      bool
		err           string
	}{
		{in: "c", container: "c"}, {in: "c:ro", container: "c", readOnly: true}, {in: "c:rw", container: "c"}, {in: "c:z,ro", container: "c", readOnly: true},
		{in: "", err: "want CONTAINER"}, {in: ":ro", err: "want CONTAINER"}, {in: "c:", err: `invalid mode ""`}, {in: "c:nocopy", err: "invalid mode"},
		{in: "c:ro:rw", err: "invalid mode"},
	} {
		container, readOnly, err := ParseVolumesFrom(row.in)
		if wantErr(t, err, row.err) && (container != row.container || readOnly != row.readOnly) {
			t.Errorf("%q: %q %v", row.in, container, readOnly)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	options := func(more ...string) []string { return append(tmpfsDefaults(), more...) }
	tests := []struct {
		in   string
		want MountSpec
		err  string
	}{
		{in: "/run", want: MountSpec{Target: "/run", Options: options()}},
		{in: "/run:", want: MountSpec{Target: "/run", Options: options()}},
		{in: "/run:size=64m,mode=1770,exec", want: MountSpec{Target: "/run", TmpfsSize: 64 << 20, TmpfsMode: 0o1770, Options: options("exec")}},
		{in: "/run:ro,uid=5,gid=6,nr_inodes=10k", want: MountSpec{Target: "/run", ReadOnly: true, Options: options("uid=5", "gid=6", "nr_inodes=10k")}},
		{in: "/run:size=10%", want: MountSpec{Target: "/run", Options: options("size=10%")}},
		{in: "run", err: "must be absolute"},
		{in: "/", err: "can't be '/'"},
		{in: "", err: `tmpfs "": mount path`},
		{in: "/run:bogus", err: `invalid tmpfs option "bogus"`},
		{in: "/run:bogus=1", err: `invalid tmpfs option "bogus"`},
		{in: "/run:size=", err: "has no value"},
		{in: "/run:size=x%", err: "percentage"},
		{in: "/run:uid=me", err: "want a number"},
		{in: "/run:nr_inodes=me", err: "want a number"},
		{in: "/run:mode=8", err: "octal"},
		{in: "/run:ro,", err: `invalid tmpfs option ""`},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			test.want.Type = MountTmpfs
			got, err := ParseTmpfs(test.in)
			if wantErr(t, err, test.err) {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// checkSpec holds what every accepted mount promises to the code that makes it.
func checkSpec(t *testing.T, in string, m MountSpec) {
	t.Helper()
	if !strings.HasPrefix(m.Target, "/") || m.Target == "/" || slices.Contains(strings.Split(m.Target, "/"), "..") {
		t.Errorf("%q: target %q", in, m.Target)
	}
	if m.Type == MountBind && (!strings.HasPrefix(m.Source, "/") || slices.Contains(strings.Split(m.Source, "/"), "..")) {
		t.Errorf("%q: source %q", in, m.Source)
	}
	if m.Type == MountVolume && m.Source != "" && !validName(m.Source) {
		t.Errorf("%q: volume %q", in, m.Source)
	}
	if m.TmpfsSize < 0 || m.TmpfsMode > 0o7777 {
		t.Errorf("%q: size %d, mode %o", in, m.TmpfsSize, m.TmpfsMode)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"data:/data:ro,z", "./x:/w:rshared", "/a:/b:O,U,noexec", "~/:/h", "a/b:/c", "::", "/a:/../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseVolume(s, "/cwd", "/home/me"); err == nil {
			checkSpec(t, s, m)
		}
	})
}

func FuzzParseMount(f *testing.F) {
	for _, s := range []string{`type=bind,"src=/a,b",dst=/t,ro`, "dst=/t,volume-opt=a=b", "type=tmpfs,dst=/t,tmpfs-size=1g", "\"", "=,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMount(s, "/cwd"); err == nil {
			checkSpec(t, s, m)
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	for _, s := range []string{"/run:size=64m,mode=1777,exec", "/run:size=10%", ":", "/a:uid=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseTmpfs(s); err == nil {
			checkSpec(t, s, m)
		}
	})
}
