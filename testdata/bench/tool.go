package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// tool is hull or one that understands the same words, set up for a person, with busybox in its store.
type tool struct {
	name  string
	cli   []string // the program and the settings it needs
	env   []string
	image string
	p     person
	rm    []string // words that remove a container at once, even if it runs
}

func (t *tool) argv(words ...string) []string { return append(t.cli[:len(t.cli):len(t.cli)], words...) }

// remove are the words that remove containers.
func (t *tool) remove(names ...string) []string { return append(t.rm[:len(t.rm):len(t.rm)], names...) }

// contestant lets the tool take part in a row.
func (t *tool) contestant(words ...string) contestant {
	c := contestant{name: t.p.title(t.name), env: t.env, cred: t.p.cred, dir: t.p.home}
	if words != nil {
		c.argv = fixed(t.argv(words...)...)
	}
	return c
}

// do runs the tool untimed and gives what it prints.
func (b *bench) do(t *tool, words ...string) (string, error) {
	return b.output(t.p, t.env, t.argv(words...)...)
}

func (b *bench) hullTool(p person) (*tool, error) {
	t := &tool{name: "hull", cli: []string{b.hull}, env: p.env(), image: b.registry + "/busybox", p: p, rm: []string{"rm", "-f"}}
	if b.hull == "" {
		return t, errors.New("not built")
	}
	_, err := b.do(t, "pull", "-q", t.image)
	return t, err
}

func (b *bench) podmanTool(p person) (*tool, error) {
	podman := b.podman(p.home + "/podman")
	// The environment goes with the contestant, so that no env is executed on the way.
	t := &tool{
		name: "podman", cli: podman[3:], env: append(p.env(), podman[1:3]...), image: b.registry + "/busybox", p: p,
		rm: []string{"rm", "-f", "-t", "0"}, // else it asks each politely for ten seconds
	}
	for _, name := range []string{"podman", "crun"} {
		if _, err := exec.LookPath(name); err != nil {
			return t, fmt.Errorf("%s is not installed", name)
		}
	}
	if err := b.podmanSettings(); err != nil {
		return t, err
	}
	_, err := b.do(t, "pull", "-q", t.image)
	return t, err
}

func (b *bench) dockerTool(p person) (*tool, error) {
	t := &tool{name: "docker", env: p.env(), image: b.registry + "/busybox", p: p, rm: []string{"rm", "-f"}}
	if err := b.dockerd(); err != nil {
		return t, err
	}
	t.cli = []string{dockerCLI(), "-H", b.docker}
	_, err := b.do(t, "pull", "-q", t.image)
	return t, err
}

// tools are those that can be had, hull first. What is missing is noted.
func (b *bench) tools(p person) (list []*tool) {
	kinds := []func(person) (*tool, error){b.hullTool, b.podmanTool, b.dockerTool}
	if p.name != "root" {
		kinds = kinds[:2] // docker's client would only ask the same daemon
	}
	for _, get := range kinds {
		t, err := get(p)
		if err != nil {
			b.miss("%s: %v", p.title(t.name), err)
			continue
		}
		list = append(list, t)
	}
	return list
}

// parent is the process that started pid, and pss its proportional share of memory in bytes (proc_pid_smaps(5)).
func parent(pid string) (string, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return "", err
	}
	return field(string(text), "PPid:")
}

func pss(pid string) (float64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	kb, err := field(string(text), "Pss:")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(kb, 64)
	return n * 1024, err
}

// field is the word after name at the beginning of a line.
func field(text, name string) (string, error) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			return words[1], nil
		}
	}
	return "", fmt.Errorf("no line %q", name)
}

// processes are those of this pid namespace whose program has the given name.
func processes(name string) (pids []string) {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range comms {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == name {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
