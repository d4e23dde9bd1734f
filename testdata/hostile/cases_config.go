package hostile

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// configs are configurations that are absurd, or mean harm to who prints or obeys them.
func configs() []Case {
	set := func(name, run string, code int, pairs ...any) Case {
		return Case{Name: "config-" + name, Run: run, Code: code, Make: func(m *Image) { m.set(pairs...) }}
	}
	raw := func(name, pull, config string) Case {
		return Case{Name: "config-" + name, Pull: pull, Make: func(m *Image) { m.RawConfig = []byte(config) }}
	}
	shown := func(c Case, commands ...string) Case {
		c.After = commands
		return c
	}
	const ansi = "\x1b[31m\x1b]0;owned\x07\nhull: all is well\r\b\u009b2J"
	many := func(n int, f func(int) string) []any {
		list := make([]any, n)
		for i := range list {
			list[i] = f(i)
		}
		return list
	}
	everywhere := []string{"images", "images --no-trunc", "history IMAGE", "history --no-trunc IMAGE", "inspect IMAGE",
		"create --name look IMAGE", "ps -a", "ps -a --no-trunc", "inspect look", "diff look", "rm look"}
	return []Case{
		raw("not-object", "wrong content", `"a string"`),
		raw("array", "wrong content", `[]`),
		raw("null", "0 diff IDs", `null`),
		raw("not-json", "wrong content", "\x1b[2J{"),
		raw("deep", "wrong content", `{"config":`+strings.Repeat("[", 3_000_000)),
		raw("deep-label", "wrong content", `{"config":{"Labels":`+strings.Repeat(`{"a":`, 100_000)+strings.Repeat("}", 100_000)+`}}`),
		raw("too-large", "the limit is", `{"x":"`+strings.Repeat("x", 9<<20)+`"}`),
		raw("types", "wrong content", `{"config":{"Env":{"a":1},"Cmd":7}}`),
		set("env-1mb", "argument list too long", 0, "Env", []any{"A=" + strings.Repeat("x", 1<<20)}),
		set("env-many", "", 0, "Env", many(20_000, func(i int) string { return fmt.Sprintf("A%d=x", i) })),
		set("env-nul", "zero byte", 0, "Env", []any{"A=\x00B"}),
		set("env-odd", "", 0, "Env", []any{"", "=", "=x", "NOEQUALS", "LD_PRELOAD=/evil.so", "GODEBUG=inittrace=1", "_HULL_HELPER=1",
			"HULL_ROOT=/", "PATH=", "A=\n\x1b[2J"}),
		{Name: "config-entrypoint-many", Pull: "the limit is", Make: func(m *Image) {
			m.set("Entrypoint", many(1_000_000, func(int) string { return "x" }))
		}},
		set("entrypoint-long", "argument list too long", 0, "Cmd", append([]any{"/program"}, many(90_000, func(int) string { return "an argument of some length" })...)),
		set("entrypoint-nul", "zero byte", 0, "Entrypoint", []any{"/program\x00"}),
		set("entrypoint-empty", "not found", 127, "Entrypoint", []any{""}),
		set("entrypoint-relative", "hull", 127, "Entrypoint", []any{"../../../../../../bin/sh"}),
		set("entrypoint-proc", "", 126, "Entrypoint", []any{"/proc/self/exe"}, "Cmd", []any{"version"}),
		set("cmd-none", "no command", 0, "Cmd", []any{}),
		set("workdir-up", "", 0, "WorkingDir", "../../../../../../../etc"),
		set("workdir-fd", "hull", 0, "WorkingDir", "/proc/self/fd/7"),
		set("workdir-nul", "zero byte", 0, "WorkingDir", "/a\x00b"),
		set("workdir-long", "name too long", 0, "WorkingDir", "/"+strings.Repeat("w", 10_000)),
		set("workdir-escapes", "", 0, "WorkingDir", "/"+ansi),
		set("user-escapes", "user", 0, "User", ansi),
		set("user-negative", "user", 0, "User", "-1"),
		set("user-huge", "user", 0, "User", "99999999999999999999:0"),
		set("user-path", "user", 0, "User", "../../etc/shadow:/x"),
		set("user-many-colons", "user", 0, "User", "0:0:0:0"),
		set("volume-root", "", 0, "Volumes", Doc{"/": Doc{}}),
		set("volume-up", "", 0, "Volumes", Doc{"../../../../../../../../hull-canary": Doc{}}),
		set("volume-proc", "", 0, "Volumes", Doc{"/proc": Doc{}}),
		set("volume-proc-self", "", 0, "Volumes", Doc{"/proc/self/fd": Doc{}}),
		set("volume-colon", "", 0, "Volumes", Doc{"/etc:/x:rw": Doc{}, "/a,src=/,b": Doc{}}),
		set("volume-escapes", "", 0, "Volumes", Doc{"/" + ansi: Doc{}}),
		set("volume-nul", "", 0, "Volumes", Doc{"/a\x00b": Doc{}}),
		set("volumes-many", "", 0, "Volumes", func() Doc {
			d := Doc{}
			for i := range 200 {
				d[fmt.Sprintf("/v%d", i)] = Doc{}
			}
			return d
		}()),
		set("stop-signal", "", 0, "StopSignal", "SIG"+ansi),
		set("stop-signal-number", "", 0, "StopSignal", "99999999999"),
		set("health", "", 0, "Healthcheck", Doc{"Test": []any{"CMD-SHELL", ansi}, "Interval": -5, "Timeout": 1, "Retries": -1}),
		set("ports", "", 0, "ExposedPorts", Doc{"99999999/" + ansi: Doc{}, "80-10/tcp": Doc{}}),
		shown(set("labels-escapes", "", 0, "Labels", Doc{ansi: ansi}, "Cmd", []any{"/program", ansi}), everywhere...),
		shown(Case{Name: "config-history-escapes", Make: func(m *Image) {
			m.Lie(func() {
				m.Config["author"], m.Config["variant"] = ansi, ansi
				m.Config["created"] = "0001-01-01T00:00:00Z"
				m.Config["history"] = []any{Doc{"created_by": ansi, "comment": ansi, "author": ansi}, Doc{"empty_layer": true}, Doc{}, Doc{}}
			})
		}}, everywhere...),
		{Name: "config-platform-escapes", Make: func(m *Image) {
			m.Lie(func() { m.Config["os"], m.Config["architecture"] = ansi, ansi })
		}},
	}
}

// files are images whose everyday files are not what they seem.
func files(target string) []Case {
	at := func(name, pull, run string, write func(*Tar)) Case {
		return Case{Name: "file-" + name, Pull: pull, Run: run, Make: func(m *Image) {
			m.Add(write)
			m.set("User", "somebody")
		}}
	}
	as := func(c Case, user string) Case {
		inner := c.Make
		c.Make = func(m *Image) { inner(m); m.set("User", user) }
		return c
	}
	link := func(to string) func(*Tar) {
		return func(t *Tar) { t.Pax("linkpath", to); t.Symlink("etc/passwd", "x") }
	}
	groups := "set groups"
	if os.Geteuid() != 0 {
		groups = "" // nobody else may have any, so none are set
	}
	const none = "no matching entries in passwd file"
	world := []string{"proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
	each := func(f func(t *Tar, name string)) func(*Image) {
		return func(m *Image) {
			m.Add(func(t *Tar) {
				for _, name := range world {
					f(t, name)
				}
			})
		}
	}
	return []Case{
		at("passwd-fifo", "", none, func(t *Tar) { t.Add(Head{Name: "etc/passwd", Type: '6'}, "") }),
		at("passwd-folder", "", "is a directory", func(t *Tar) { t.Dir("etc/passwd") }),
		at("passwd-link-outside", "", none, link(target+"/secret")),
		at("passwd-link-proc", "", none, link("/proc/1/root/etc/passwd")),
		at("passwd-link-environ", "", none, link("/proc/self/environ")),
		at("passwd-link-loop", "", none, link("passwd")),
		at("passwd-link-zero", "", none, link("/dev/zero")),
		as(at("passwd-numbers", "", "user", func(t *Tar) {
			t.File("etc/passwd", "root:x:0:0::/\x1b[2J:/\nx:x:99999999999999:-1:::\n:::::::::::\nroot:x:-1:-1::"+strings.Repeat("x", 100_000)+":\n")
		}), "root"),
		as(at("group-many", "", groups, func(t *Tar) {
			t.File("etc/passwd", "root:x:0:0::/:/\n")
			t.w.Flush()
			var b strings.Builder
			for i := range 100_000 {
				fmt.Fprintf(&b, "g%d:x:%d:root\n", i, i+1)
			}
			t.File("etc/group", b.String())
		}), "root"),
		{Name: "file-world-links-outside", Make: each(func(t *Tar, name string) { t.Pax("linkpath", target); t.Symlink(name, "x") }), Run: "hull"},
		{Name: "file-world-links-to-secret", Make: each(func(t *Tar, name string) { t.Pax("linkpath", target+"/secret"); t.Symlink(name, "x") }), Run: "hull"},
		{Name: "file-etc-links-outside", Run: "no such file", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Pax("linkpath", target); t.Symlink("etc", "x") })
		}},
		{Name: "file-etc-files-link-outside", Run: "no such file", Make: func(m *Image) {
			m.Add(func(t *Tar) {
				for _, name := range world[3:] {
					t.Pax("linkpath", target+"/secret")
					t.Symlink(name, "x")
				}
			})
		}},
		{Name: "file-world-fifos", Make: each(func(t *Tar, name string) { t.Add(Head{Name: name, Type: '6'}, "") }), Run: "hull"},
		{Name: "file-world-files", Make: each(func(t *Tar, name string) { t.File(name, "") }), Run: "hull"},
		{Name: "file-world-folders", Make: each(func(t *Tar, name string) { t.Dir(name) }), Run: "hull"},
		{Name: "file-workdir-links-outside", Run: "no such file", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Pax("linkpath", target); t.Symlink("w", "x") })
			m.set("WorkingDir", "/w/new/folder")
		}},
		{Name: "file-volume-links-outside", Run: "no such file", Make: func(m *Image) {
			m.Add(func(t *Tar) { t.Pax("linkpath", target); t.Symlink("v", "x") })
			m.set("Volumes", Doc{"/v": Doc{}, "/v/new/folder": Doc{}})
		}},
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }
