package hostile

import (
	"fmt"
	"strings"
)

const leaves = "path leaves the layer"

// paths aim at the host with an entry's name.
func paths(target string) []Case {
	up := strings.Repeat("../", 24) + target[1:]
	one := func(name, pull string, write func(*Tar)) Case {
		return Case{Name: "path-" + name, Pull: pull, Make: func(m *Image) { m.Add(write) }}
	}
	file := func(name, pull, path string) Case {
		return one(name, pull, func(t *Tar) { t.Pax("path", path); t.File("x", "evil") })
	}
	inside := func(c Case, path string) Case {
		c.Inside = map[string]string{path: "evil"}
		return c
	}
	return []Case{
		file("dotdot", leaves, up+"/secret"),
		file("dot-dotdot", leaves, "./"+up+"/secret"),
		file("down-and-up", leaves, "a/b/../../../"+up+"/secret"),
		file("slash-dotdot", leaves, "/"+up+"/secret"),
		file("double-slash", leaves, "a//..//..//"+strings.ReplaceAll(up, "/", "//")+"//secret"),
		file("dot-between", leaves, "a/./.././../"+strings.ReplaceAll(up, "/", "/./")+"/./secret"),
		file("dotdot-alone", leaves, ".."),
		one("dotdot-folder", leaves, func(t *Tar) { t.Add(Head{Name: "../", Type: '5', Mode: 0o777}, "") }),
		one("dotdot-trailing", leaves, func(t *Tar) { t.Add(Head{Name: "a/../../", Type: '5', Mode: 0o777}, "") }),
		one("gnu-long", leaves, func(t *Tar) { t.Long(up+"/"+strings.Repeat("../canary/", 20)+"secret", ""); t.File("x", "evil") }),
		one("ustar", leaves, func(t *Tar) { t.File("../../../../canary/secret", "evil") }),
		inside(file("absolute", "", target+"/secret"), target+"/secret"),
		inside(file("many-slashes", "", "///"+target+"/secret"), target+"/secret"),
		inside(file("backslashes", "", `..\..\..\canary\secret`), `/..\..\..\canary\secret`),
		inside(file("lookalikes", "", "\uff0e\uff0e/\u2025/..\u2215secret"), "/\uff0e\uff0e/\u2025/..\u2215secret"),
		inside(file("three-dots", "", ".../.. /secret"), "/.../.. /secret"),
		inside(file("not-utf8", "", "\xff\xfe/\xc0\xae\xc0\xae/secret"), "/\xff\xfe/\xc0\xae\xc0\xae/secret"),
		inside(file("trailing-slash", "", "etc/secret/"), "/etc/secret"),
		file("nul", "invalid tar header", "etc/\x00/secret"),
		inside(file("escapes", "", "etc/\x1b]0;owned\x07\x1b[2J"), "/etc/\x1b]0;owned\x07\x1b[2J"),
		one("empty", "the layer itself cannot be a file", func(t *Tar) { t.Add(Head{Name: ""}, "evil") }),
		file("slash-alone", "the layer itself cannot be a file", "/"),
		file("too-long-name", "file name too long", strings.Repeat("n", 300)),
		file("too-long-path", "more than 4096 bytes in a path", strings.Repeat("abcdefg/", 600)),
		file("deep", "more than 512 components in a path", strings.Repeat("d/", 1000)+"f"),
		one("10000-deep", "more than 4096 bytes in a path", func(t *Tar) { t.Long(strings.Repeat("d/", 10_000), ""); t.Dir("x") }),
		one("10000-deep-through-links", "", deepThroughLinks),
	}
}

// deepThroughLinks makes folders 10,000 deep with names that are all short: each link leads to the end of the one before.
func deepThroughLinks(t *Tar) {
	const step = 400
	below := ""
	for i := range 10_000 / step {
		name := below + strings.Repeat("d/", step)
		t.Pax("path", name)
		t.Dir("x")
		link := fmt.Sprintf("l%d", i)
		t.Pax("linkpath", name)
		t.Symlink(link, "x")
		below = link + "/"
	}
	t.File(below+"f", "the deepest")
}

// links aim at the host by way of a link of the image's own.
func links(target string) []Case {
	up := strings.Repeat("../", 24) + target[1:]
	one := func(name, pull string, write func(*Tar)) Case {
		return Case{Name: "link-" + name, Pull: pull, Make: func(m *Image) { m.Add(write) }}
	}
	symlink := func(t *Tar, name, to string) { t.Pax("linkpath", to); t.Symlink(name, "x") }
	hardlink := func(t *Tar, name, to string) { t.Pax("linkpath", to); t.Hardlink(name, "x") }
	return []Case{
		one("then-write", "", func(t *Tar) { symlink(t, "d", target); t.File("d/secret", "evil") }),
		one("up-then-write", "", func(t *Tar) { symlink(t, "d", up); t.File("d/secret", "evil") }),
		one("chain", "", func(t *Tar) {
			symlink(t, "a", "b")
			symlink(t, "b", "c/..")
			symlink(t, "c", up+"/x")
			t.File("a/secret", "evil")
		}),
		one("to-file-then-write", "", func(t *Tar) { symlink(t, "s", target+"/secret"); t.File("s", "evil") }),
		one("to-file-then-chmod", "", func(t *Tar) {
			symlink(t, "s", target)
			t.Add(Head{Name: "s", Type: '5', Mode: 0o777, UID: 0}, "")
			t.Add(Head{Name: "s/.", Type: '5', Mode: 0o777}, "")
		}),
		one("loop", "too many levels of symbolic links", func(t *Tar) {
			symlink(t, "a", "b")
			symlink(t, "b", "a")
			t.File("a/x", "evil")
		}),
		one("self", "too many levels of symbolic links", func(t *Tar) { symlink(t, "a", "a"); t.File("a/x", "evil") }),
		one("long-chain", "too many levels of symbolic links", func(t *Tar) {
			for i := range 100 {
				symlink(t, fmt.Sprintf("a%d", i), fmt.Sprintf("a%d", i+1))
			}
			symlink(t, "a100", target)
			t.File("a0/secret", "evil")
		}),
		one("explosion", "too many levels of symbolic links", func(t *Tar) { // each doubles the way: 2^30 steps for who does not count
			symlink(t, "a0", ".")
			for i := range 30 {
				symlink(t, fmt.Sprintf("a%d", i+1), fmt.Sprintf("a%d/a%d", i, i))
			}
			t.File("a30/x", "evil")
		}),
		one("hard-outside", leaves, func(t *Tar) { hardlink(t, "h", up+"/secret") }),
		one("hard-absolute", "hard link to", func(t *Tar) { hardlink(t, "h", target+"/secret"); t.File("h", "evil") }),
		one("hard-gnu-long", leaves, func(t *Tar) { t.Long("h", up+strings.Repeat("/.", 60)+"/secret"); t.Hardlink("x", "x") }),
		one("hard-through-symlink", "hard link to", func(t *Tar) { symlink(t, "d", target); hardlink(t, "h", "d/secret") }),
		one("hard-to-symlink", "", func(t *Tar) {
			symlink(t, "s", target+"/secret")
			t.Add(Head{Name: "h", Type: '1', Link: "s", Mode: 0o777, UID: 0}, "")
			t.File("h", "evil")
		}),
		one("hard-to-folder", "hard link to", func(t *Tar) { t.Dir("d"); hardlink(t, "h", "d") }),
		one("hard-to-root", "hard link to", func(t *Tar) { hardlink(t, "h", "/") }),
		one("to-proc", "", func(t *Tar) { symlink(t, "d", "/proc/self/root"+target); t.File("d/secret", "evil") }),
		{Name: "link-of-another-layer", Make: func(m *Image) {
			m.Add(func(t *Tar) { symlink(t, "d", target) })
			m.Add(func(t *Tar) { t.File("d/secret", "evil") })
		}},
		{Name: "link-replaces-folder", Make: func(m *Image) {
			m.Add(func(t *Tar) {
				t.Dir("d")
				t.File("d/secret", "evil")
				symlink(t, "d", target)
				t.File("d/secret", "evil")
				t.Add(Head{Name: "d/", Type: '5', Mode: 0o777}, "")
			})
		}},
		{Name: "link-whiteout-through", Make: func(m *Image) {
			m.Add(func(t *Tar) {
				symlink(t, "d", target)
				t.File("d/.wh.secret", "")
				t.File("d/.wh..wh..opq", "")
			})
		}},
	}
}
