package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// exec measures true in a container that runs already.
func (b *bench) exec() error {
	for _, p := range b.people {
		if err := b.execAs(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) execAs(p person) error {
	var cs []contestant
	for _, t := range b.tools(p) {
		if _, err := b.do(t, t.sleeper("execs")...); err != nil {
			b.miss("%s: %v", p.title(t.name), err)
			continue
		}
		defer func() { _, _ = b.do(t, t.remove("execs")...) }()
		cs = append(cs, t.contestant("exec", "execs", "true"))
		if t.name != "hull" {
			continue
		}
		if c, err := b.nsenter(t, "execs"); err == nil {
			cs = append(cs, c)
		} else {
			b.miss("%s: %v", c.name, err)
		}
	}
	c, end, err := b.crunExec(p)
	defer end()
	if err == nil {
		cs = append(cs, c)
	} else {
		b.miss("%s: %v", c.name, err)
	}
	got := b.measure(cs, b.n, warmups, 10*time.Millisecond)
	table(cs, got, []goal{{p.title("nsenter"), 1.5, 1.5}, {p.title("crun"), 1.0, 1.0}})
	return nil
}

// nsenter enters the namespaces of a tool's container and nothing else: no cgroup, no rights given up.
func (b *bench) nsenter(t *tool, name string) (contestant, error) {
	c := t.contestant()
	c.name = t.p.title("nsenter")
	if _, err := exec.LookPath("nsenter"); err != nil {
		return c, fmt.Errorf("not installed")
	}
	pid, err := b.do(t, "inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		return c, err
	}
	argv := []string{"nsenter", "-t", strings.TrimSpace(pid), "-m", "-u", "-i", "-n", "-p", "-C"}
	if t.p.name != "root" {
		argv = append(argv, "-U", "--preserve-credentials")
	}
	c.argv = fixed(append(argv, "true")...)
	return c, nil
}

// crunExec starts a container of crun's; end removes it.
func (b *bench) crunExec(p person) (c contestant, end func(), err error) {
	c = contestant{name: p.title("crun"), env: p.env(), cred: p.cred}
	bundle, crun, err := b.crunBundle(p, "execs", "sleep", "100000")
	if err != nil {
		return c, func() {}, err
	}
	end = func() { _ = b.as(p, append(crun, "delete", "-f", "execs")...) }
	words := append(crun[:len(crun):len(crun)], "run", "-d", "execs")
	// Without the pipes on which the command's end is waited for.
	start := append([]string{"sh", "-c", `cd "$0" && exec "$@" </dev/null >/dev/null 2>errors`, bundle}, words...)
	if err := b.as(p, start...); err != nil {
		return c, end, fmt.Errorf("%w: see %s", err, filepath.Join(bundle, "errors"))
	}
	c.dir = bundle
	c.argv = fixed(append(crun[:len(crun):len(crun)], "exec", "execs", "true")...)
	return c, end, nil
}
