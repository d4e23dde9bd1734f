package hostile

import (
	"fmt"
	"strings"
)

// kinds are entries of other types than files, and with other rights.
func kinds(target string) []Case {
	one := func(name, pull string, write func(*Tar)) Case {
		return Case{Name: "kind-" + name, Pull: pull, Make: func(m *Image) { m.Add(write) }}
	}
	xattr := func(key, value string) Case {
		return one("xattr-"+key, "", func(t *Tar) {
			t.Pax("SCHILY.xattr."+key, value)
			t.Dir("d")
			t.Pax("SCHILY.xattr."+key, value)
			t.File("d/f", "")
		})
	}
	return []Case{
		one("devices", "", func(t *Tar) {
			t.Add(Head{Name: "dev/mem", Type: '3', Mode: 0o666, Major: 1, Minor: 1}, "")
			t.Add(Head{Name: "disk", Type: '4', Mode: 0o666, Major: 8}, "")
			t.Add(Head{Name: "etc/passwd", Type: '3', Mode: 0o666, Major: 5}, "")
			t.Add(Head{Name: "etc/group", Type: '4', Mode: 0o666, Major: 8}, "")
		}),
		one("device-numbers", "not a device number", func(t *Tar) {
			t.Add(Head{Name: "d", Type: '3', Major: 0o777777, Minor: 0o7777777}, "")
		}),
		one("forged-whiteout", "", func(t *Tar) { t.Add(Head{Name: "program2", Type: '3'}, "") }),
		one("setuid", "", func(t *Tar) {
			t.Add(Head{Name: "su", Mode: 0o6777}, string(program()))
			t.Add(Head{Name: "dir", Type: '5', Mode: 0o7777}, "")
		}),
		one("setuid-program", "", func(t *Tar) { t.Add(Head{Name: "program", Mode: 0o6777, UID: 0}, string(program())) }),
		one("owner", "", func(t *Tar) { t.Add(Head{Name: "f", UID: 60000, GID: 60001}, "") }),
		one("huge-owner", "not an id", func(t *Tar) { t.Pax("uid", "4294967295"); t.File("f", "") }),
		one("negative-owner", "not an id", func(t *Tar) { t.Pax("uid", "-1"); t.File("f", "") }),
		one("unknown-type", "not supported", func(t *Tar) { t.Add(Head{Name: "f", Type: 'Z'}, "") }),
		one("multi-volume", "not supported", func(t *Tar) { t.Add(Head{Name: "f", Type: 'M'}, "") }),
		one("times", "", func(t *Tar) {
			t.Pax("mtime", "-99999999999", "atime", "99999999999999")
			t.File("f", "")
			t.Pax("mtime", "9223372036854775807.999999999")
			t.Dir("d")
		}),
		xattr("security.capability", "\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"),
		xattr("trusted.overlay.redirect", target),
		xattr("user.overlay.redirect", target),
		xattr("trusted.overlay.opaque", "y"),
		xattr("user.overlay.whiteout", "y"),
		xattr("user.overlay.metacopy", ""),
		xattr("system.posix_acl_default", "\x02\x00\x00\x00rubbish"),
		xattr("security.selinux", "system_u:object_r:evil_t:s0\x00"),
		one("xattrs-many", "", func(t *Tar) { // a megabyte each, which the kernel has no place for
			for i := range 100 {
				t.Pax("SCHILY.xattr.user.x", strings.Repeat("x", 900_000))
				t.Dir(fmt.Sprintf("d%d", i))
			}
		}),
		{Name: "kind-xattr-redirect-works-not", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Dir("hidden"); t.File("hidden/f", "evil"); t.Dir("d"); t.File("d/f", "innocent") })
			m.Add(func(t *Tar) {
				for _, prefix := range []string{"trusted", "user"} {
					t.Pax("SCHILY.xattr."+prefix+".overlay.redirect", "/hidden")
					t.Dir("d")
				}
			})
		}, Inside: map[string]string{"/d/f": "innocent"}},
		one("duplicates", "", func(t *Tar) {
			for _, kind := range "0526035201" {
				h := Head{Name: "x", Type: byte(kind)}
				if kind == '2' || kind == '1' {
					h.Link = "program"
				}
				if kind == '1' {
					t.File("program", string(program()))
				}
				t.Add(h, "")
			}
			t.Add(Head{Name: "program", Mode: 0o755}, string(program()))
		}),
		one("folder-becomes-file", "not a directory", func(t *Tar) {
			t.File("a/b/c/d", "")
			t.File("a", "")
			t.Dir("a/b")
			t.File("a/b", "")
			t.File("a/b/c", "")
		}),
		{Name: "kind-program-becomes-fifo", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Add(Head{Name: "program", Type: '6', Mode: 0o777}, "") })
		}, Run: "permission denied", Code: 126},
		{Name: "kind-program-becomes-folder", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Add(Head{Name: "program", Type: '5', Mode: 0o777}, "") })
		}, Run: "permission denied", Code: 126},
		{Name: "kind-program-of-the-host", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Pax("linkpath", target+"/program"); t.Symlink("program", "x") })
		}, Run: "no such file", Code: 127},
		{Name: "kind-program-is-proc-self-exe", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Symlink("program", "/proc/self/exe") })
		}, Code: 126},
	}
}

// marks are whiteouts where there should be none.
func marks() []Case {
	one := func(name, pull string, write func(*Tar)) Case {
		return Case{Name: "mark-" + name, Pull: pull, Make: func(m *Image) { m.Add(write) }}
	}
	return []Case{
		one("dotdot", `whiteout of ".."`, func(t *Tar) { t.File("a/.wh...", "") }),
		one("dot", `whiteout of "."`, func(t *Tar) { t.File(".wh..", "") }),
		one("nothing", `whiteout of ""`, func(t *Tar) { t.File(".wh.", "") }),
		one("through", "path passes through a whiteout", func(t *Tar) { t.File(".wh.a/.wh.b", "") }),
		one("folder", "", func(t *Tar) { t.File(".wh.a/b", "") }),
		one("path", leaves, func(t *Tar) { t.File("../../.wh.canary", "") }),
		one("slash", "", func(t *Tar) { t.Pax("path", ".wh./canary"); t.File("x", "") }),
		one("opaque-folder", "", func(t *Tar) { t.Dir("e/.wh..wh..opq"); t.File("e/.wh..wh.orph/x", "") }),
		one("twice", "", func(t *Tar) {
			for range 3 {
				t.File("a/.wh.b", "")
				t.File("a/b/c", "")
				t.File("a/.wh..wh..opq", "")
				t.File(".wh.a", "")
			}
		}),
		one("of-mount-points", "", func(t *Tar) {
			for _, name := range []string{"proc", "dev", "sys", "etc"} {
				t.File(".wh."+name, "")
			}
		}),
		{Name: "mark-opaque-root", Run: "no such file", Code: 127, Make: func(m *Image) {
			m.Add(func(t *Tar) { t.File(".wh..wh..opq", "") })
		}},
		{Name: "mark-program", Run: "no such file", Code: 127, Make: func(m *Image) {
			m.Add(func(t *Tar) { t.File(".wh.program", "") })
		}},
	}
}
