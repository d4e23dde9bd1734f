package main

import (
	"fmt"
	"os"
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

func (b *bench) hullStart(p person) (contestant, error) {
	c := contestant{name: p.title("hull"), env: p.env(), cred: p.cred, dir: p.home}
	if b.hull == "" {
		return c, nil // said already
	}
	if err := b.as(p, b.hull, "pull", "-q", b.registry+"/busybox"); err != nil {
		return c, err
	}
	c.argv = fixed(b.hull, "run", "--rm", "--network", "none", b.registry+"/busybox", "true")
	return c, nil
}

func (b *bench) floorStart(p person) (contestant, error) {
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
		if p.name == "root" {
			return []string{b.floor, lower, scratch(i), "/bin/true"}
		}
		return []string{b.floor, "-u", lower, scratch(i), "/bin/true"}
	}
	return c, nil
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
