package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// start measures the whole life of a container that runs `true`.
func (b *bench) start(name string) error {
	p, ok := b.person(name)
	if !ok {
		fmt.Println("  not measured: this is not root")
		return nil
	}
	var cs []contestant
	for _, make := range []func(person) (contestant, error){b.hullStart, b.floorStart, b.crunStart, b.podmanStart, b.dockerStart} {
		c, err := make(p)
		if err != nil {
			b.miss("%s: %v", c.name, err)
		}
		if c.name != "" {
			cs = append(cs, c)
		}
	}
	got := b.measure(able(cs), b.n, warmups, 10*time.Millisecond)
	suffix := strings.TrimPrefix(cs[0].name, "hull")
	table(cs, got, []goal{{"floor" + suffix, 2.0, 1.5}, {"crun" + suffix, 1.0, 0.7}, {"podman" + suffix, 0.09, 0.06}})
	if name == "root" {
		compare(got, cs[0].name, goal{"docker", 0.06, 0.04})
	}
	return nil
}

// able leaves out those that could not be set up.
func able(cs []contestant) []contestant {
	return slices.DeleteFunc(slices.Clone(cs), func(c contestant) bool { return c.argv == nil })
}

// title is a contestant's name in the tables: the tool's, and the account if it is not root.
func (p person) title(tool string) string {
	if p.name == "root" {
		return tool
	}
	return tool + " (user)"
}

func fixed(argv ...string) func(int) []string { return func(int) []string { return argv } }

// started is the row's own command.
func started(t *tool, err error) (contestant, error) {
	c := t.contestant()
	if err == nil {
		c.argv = fixed(t.argv("run", "--rm", "--network", "none", t.image, "true")...)
	}
	return c, err
}

func (b *bench) hullStart(p person) (contestant, error) {
	if b.hull == "" {
		return contestant{name: p.title("hull")}, nil // said already
	}
	return started(b.hullTool(p))
}

func (b *bench) podmanStart(p person) (contestant, error) { return started(b.podmanTool(p)) }

func (b *bench) dockerStart(p person) (contestant, error) {
	if p.name != "root" {
		return contestant{}, nil // its client would only ask the same daemon
	}
	return started(b.dockerTool(p))
}

func (b *bench) floorStart(p person) (contestant, error) { return b.floorWith(p, b.floorFlags(p)...) }

func (b *bench) floorWith(p person, flags ...string) (contestant, error) {
	c := contestant{name: p.title("floor"), env: p.env(), cred: p.cred, dir: p.home}
	if b.floor == "" {
		return c, nil // said already
	}
	lower, err := b.rootfs(p)
	if err != nil {
		return c, err
	}
	scratch := func(i int) string { return filepath.Join(p.home, fmt.Sprintf("scratch-%d", i%(50*2))) }
	for i := range 50 * 2 {
		if err := os.MkdirAll(scratch(i), 0o755); err != nil {
			return c, err
		}
		if err := os.Chown(scratch(i), p.uid, -1); err != nil {
			return c, err
		}
	}
	c.argv = func(i int) []string {
		return append(append([]string{b.floor}, flags...), lower, scratch(i), "/bin/true")
	}
	return c, nil
}

// floorFlags have floor map the ids that hull maps for this account by default.
func (b *bench) floorFlags(p person) []string {
	if p.name == "root" {
		return nil
	}
	name := benchName
	if p.cred == nil {
		me, err := user.Current()
		if err != nil {
			return []string{"-u"}
		}
		name = me.Username
	}
	given, err := os.ReadFile("/etc/subuid")
	if err != nil || !strings.Contains("\n"+string(given), "\n"+name+":") {
		return []string{"-u"}
	}
	return []string{"-m", name}
}

// oneID is the row of an account that has no subordinate ids, or wants none.
func (b *bench) oneID() error {
	p, ok := b.person("user")
	if !ok {
		fmt.Println("  not measured: there is no ordinary user")
		return nil
	}
	var hull contestant
	if b.hull != "" {
		t, err := b.hullTool(p)
		hull = t.contestant()
		if err != nil {
			return err
		}
		hull.argv = fixed(t.argv("run", "--rm", "--network", "none", "--userns", "one-id", t.image, "true")...)
	}
	floor, err := b.floorWith(p, "-u")
	if err != nil {
		return err
	}
	cs := []contestant{hull, floor}
	table(cs, b.measure(able(cs), b.n, warmups, 10*time.Millisecond), []goal{{floor.name, 2.0, 1.5}})
	return nil
}

// fifty measures 50 starts at once.
func (b *bench) fifty() error {
	for _, p := range b.people {
		hull, err := b.hullStart(p)
		if err != nil {
			b.miss("%s: %v", hull.name, err)
		}
		floor, err := b.floorStart(p)
		if err != nil {
			b.miss("%s: %v", floor.name, err)
		}
		cs := []contestant{hull, floor}
		for i := range cs {
			cs[i].copies = 50
		}
		got := b.measure(able(cs), max(3, b.n/5), 1, 200*time.Millisecond)
		table(cs, got, []goal{{floor.name, 3, 2}})
	}
	return nil
}
