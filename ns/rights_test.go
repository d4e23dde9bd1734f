package ns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/seccomp"
)

// caps are the five sets of a view.
func caps(v view) (sets [5]string) {
	for i, s := range []string{"CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"} {
		sets[i] = strings.TrimLeft(v.Status[s], "0")
	}
	return sets
}

func TestCapabilities(t *testing.T) {
	few := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"} // bits 0, 5, 18
	one := []string{"CAP_KILL"}
	for _, row := range []struct {
		name string
		caps specs.LinuxCapabilities
		uid  uint32
		want [5]string
	}{
		{"none", specs.LinuxCapabilities{}, 0, [5]string{}},
		// An exec by root fills permitted and effective from the bounding set.
		{"root", specs.LinuxCapabilities{Bounding: few, Permitted: few, Effective: few}, 0, [5]string{"40021", "40021", "40021"}},
		{"inheritable", specs.LinuxCapabilities{Bounding: few, Permitted: few, Effective: few, Inheritable: one}, 0, [5]string{"40021", "40021", "40021", "20"}},
		{"user", specs.LinuxCapabilities{Bounding: few}, 7, [5]string{"40021"}},
		{"ambient", specs.LinuxCapabilities{Bounding: few, Permitted: one, Effective: one, Inheritable: one, Ambient: one}, 7, [5]string{"40021", "20", "20", "20", "20"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			both(t, func(t *testing.T, reexec bool) {
				if row.uid != 0 {
					needRoot(t, "for a second id")
				}
				b := newBox(t, "look")
				b.Reexec = reexec
				b.Spec.Process.Capabilities = &row.caps
				b.Spec.Process.User.UID = row.uid
				if got := caps(b.look()); got != row.want {
					t.Errorf("bounding, permitted, effective, inheritable, ambient: %q, want %q", got, row.want)
				}
			})
		})
	}
	b := newBox(t, "look")
	b.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_FLY"}}
	if o := b.run(); o.failure == nil || o.failure.Error() != `capability "CAP_FLY": unknown` {
		t.Error(o.failure)
	}
	if all := AllCapabilities(); len(all) != unix.CAP_LAST_CAP+1 || all[0] != "CAP_CHOWN" || all[unix.CAP_SYS_ADMIN] != "CAP_SYS_ADMIN" {
		t.Errorf("%d capabilities: %q", len(all), all)
	}
}

// TestFilter installs Docker's filter, as root and under no_new_privs, and the one that answers kindly where one id is mapped.
func TestFilter(t *testing.T) {
	profile, err := seccomp.Default(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, reexec bool) {
		for _, noNew := range []bool{false, true} {
			b := newBox(t, "look")
			b.Reexec, b.Spec.Process.NoNewPrivileges, b.Spec.Linux.Seccomp = reexec, noNew, profile
			v := b.look()
			if v.Status["Seccomp"] != "2" || v.Status["Seccomp_filters"] != "1" || (v.Status["NoNewPrivs"] == "1") != noNew {
				t.Errorf("seccomp %s, filters %s, no_new_privs %s, want %v", v.Status["Seccomp"], v.Status["Seccomp_filters"], v.Status["NoNewPrivs"], noNew)
			}
		}
		b := newBox(t, "try")
		b.Reexec, b.Spec.Linux.Seccomp = reexec, profile
		want(b, "mount /tmp", "operation not permitted", "unshare x", "operation not permitted", "keyctl x", "operation not permitted")
	})
}

func TestFakeIDs(t *testing.T) {
	b := newBox(t, "try")
	if os.Geteuid() == 0 {
		b.oneID(0)
	}
	b.put("file", "x", 0o644)
	want(b, "chown /file", "invalid argument", "mknod /tmp/x", "operation not permitted")
	b = newBox(t, "try")
	if os.Geteuid() == 0 {
		b.oneID(0)
	}
	b.FakeIDs = true
	b.put("file", "x", 0o644)
	want(b, "chown /file", "ok", "mode /file", "-rw-r--r-- 0", "mknod /tmp/x", "ok")
}

// TestUser runs as somebody else: ids, groups, and what belongs to root stays out of reach.
func TestUser(t *testing.T) {
	needRoot(t, "for a second id")
	both(t, func(t *testing.T, reexec bool) {
		user := specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9, 10}}
		b := newBox(t, "look")
		b.Reexec, b.Spec.Process.User = reexec, user
		v := b.look()
		if v.Status["Uid"] != "7 7 7 7" || v.Status["Gid"] != "8 8 8 8" || v.Status["Groups"] != "9 10" || v.Status["CapEff"] != "0000000000000000" {
			t.Errorf("ids %s, %s, groups %s, capabilities %s", v.Status["Uid"], v.Status["Gid"], v.Status["Groups"], v.Status["CapEff"])
		}
		b = newBox(t, "try")
		b.Reexec, b.Spec.Process.User = reexec, user
		b.put("root-only", "x", 0o600)
		want(b, "read /root-only", "permission denied", "write /x x", "permission denied", "write /tmp/x x", "permission denied", "write /dev/shm/x x", "ok")

		// A working directory that the user may not enter.
		b = newBox(t, "look")
		b.Reexec, b.Spec.Process.User, b.Spec.Process.Cwd = reexec, user, "/closed"
		b.put("closed/", "", 0)
		if err := os.Chmod(filepath.Join(b.upper(), "closed"), 0o700); err != nil {
			t.Fatal(err)
		}
		if o := b.run(); o.failure == nil || o.failure.Error() != "enter working directory /closed: permission denied" {
			t.Error(o.failure)
		}
	})
}

// TestOneID is the world of somebody who has no other id, under two numbers.
func TestOneID(t *testing.T) {
	both(t, func(t *testing.T, reexec bool) {
		for _, id := range []uint32{0, 33} {
			b := newBox(t, "look")
			b.Reexec = reexec
			l := b.Spec.Linux
			if len(l.UIDMappings) == 0 {
				b.oneID(id)
			}
			l.UIDMappings[0].ContainerID, l.GIDMappings[0].ContainerID = id, id
			b.Spec.Process.User.UID, b.Spec.Process.User.GID = id, id
			v := b.look()
			ids := strings.TrimSpace(strings.Repeat(map[uint32]string{0: "0 ", 33: "33 "}[id], 4))
			if v.Status["Uid"] != ids || v.Status["Gid"] != ids || !strings.HasSuffix(v.UIDMap, " 1") {
				t.Errorf("ids %s, %s, map %s", v.Status["Uid"], v.Status["Gid"], v.UIDMap)
			}
			if v.Namespaces["user"] == namespacesOf("/proc/self/ns")["user"] {
				t.Error("no user namespace")
			}
		}
	})
}

func TestIDMaps(t *testing.T) {
	one := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	two := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}
	if got, want := mapText(two, "\n"), "0 1000 1\n1 100000 65536\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, row := range []struct {
		maps []specs.LinuxIDMapping
		id   int
		own  bool
	}{{one, 1000, true}, {one, 1001, false}, {two, 1000, false}, {nil, 0, false}} {
		if got := ownID(row.maps, row.id); got != row.own {
			t.Errorf("ownID(%v, %d) = %v", row.maps, row.id, got)
		}
	}
	if !zeroMapped(one) || zeroMapped([]specs.LinuxIDMapping{{ContainerID: 5, HostID: 0, Size: 9}}) || zeroMapped(nil) {
		t.Error("zeroMapped")
	}
}

// TestRangeOfIDs gives a user namespace many ids, as only root may without a helper.
func TestRangeOfIDs(t *testing.T) {
	needRoot(t, "to map a range of ids without newuidmap")
	both(t, func(t *testing.T, reexec bool) {
		b := newBox(t, "try")
		b.Reexec = reexec
		l := b.Spec.Linux
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		l.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 300000, Size: 1000}}
		l.GIDMappings = l.UIDMappings
		b.put("file", "x", 0o644)
		want(b, "chown /file", "ok", "mode /file", "-rw-r--r-- 4", "mknod /tmp/x", "operation not permitted", "write /dev/null x", "ok")
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(b.upper(), "file"), &st); err != nil || st.Uid != 300003 || st.Gid != 300023 {
			t.Errorf("on the host %d:%d, %v", st.Uid, st.Gid, err)
		}
	})
}
