package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// tenPulls has ten processes pull the big image into one store at once. Each layer shall be fetched and unpacked once.
func (b *bench) tenPulls() error {
	if _, err := b.bigImage(); err != nil {
		return err
	}
	if b.hull == "" {
		return nil // said already
	}
	one := b.hullPull(b.people[0], b.registry+"/"+bigName)
	ten := b.hullPull(b.people[0], b.registry+"/"+bigName)
	ten.name, ten.copies = "hull, ten pulls", 10
	cs := []contestant{ten, one}
	table(cs, b.atRest(cs), []goal{{one.name, 1.2, 1.05}})
	return nil
}

// bigTools are the tools with the big image in their stores, and the name that it has there.
func (b *bench) bigTools() (list []*tool, image string, err error) {
	if _, err := b.bigImage(); err != nil {
		return nil, "", err
	}
	image = b.registry + "/" + bigName + ":latest"
	for _, t := range b.tools(b.people[0]) {
		if _, err := b.do(t, "pull", "-q", image); err != nil {
			b.miss("%s: %v", t.name, err)
			continue
		}
		list = append(list, t)
	}
	return list, image, nil
}

// pushBig pushes into a registry that is new for each run, at an address of its own, so that nobody finds there, or
// remembers, what was pushed before.
func (b *bench) pushBig() error {
	tools, image, err := b.bigTools()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.work, "pushed")
	var server *exec.Cmd
	var to string
	var cs []contestant
	for _, t := range tools {
		c := t.contestant()
		c.name += " push"
		c.argv = func(int) []string {
			words := []string{"push", "-q", to}
			if t.name == "podman" {
				words = slices.Insert(words, 1, "--tls-verify=false")
			}
			return t.argv(words...)
		}
		c.before = func(int) {
			var host string
			if server, host, err = b.registryIn("pushed-registry", dir, dir); err != nil {
				fmt.Printf("  %v\n", err) // and the push will say so too
			}
			to = host + "/pushed:latest"
			if _, err := b.do(t, "tag", image, to); err != nil {
				fmt.Printf("  %v\n", err)
			}
		}
		c.after = func(int) {
			_, _ = b.do(t, "rmi", to)
			if server != nil {
				end(server)
			}
			remove(dir)
		}
		cs = append(cs, c)
	}
	got := b.atRest(cs)
	b.transferTable("push", cs, got)
	return nil
}

// transferTable compares with the better of the peers.
func (b *bench) transferTable(word string, cs []contestant, got map[string]figures) {
	if len(cs) == 0 {
		return
	}
	table(cs, got, []goal{{better(got, "docker "+word, "podman "+word), 0.5, 0.3}})
	peakGoal(got["hull "+word])
}

// saveBig writes the image to a file.
func (b *bench) saveBig() error {
	tools, image, err := b.bigTools()
	if err != nil {
		return err
	}
	var cs []contestant
	for _, t := range tools {
		file := filepath.Join(b.work, "saved-"+t.name+".tar")
		c := t.contestant("save", "-o", file, image)
		c.name += " save"
		c.before = func(int) { _ = os.Remove(file) }
		c.after = func(int) { _ = os.Remove(file) }
		cs = append(cs, c)
	}
	b.transferTable("save", cs, b.atRest(cs))
	return nil
}

// loadBig has each tool load the same two archives.
func (b *bench) loadBig() error {
	tools, image, err := b.bigTools()
	if err != nil {
		return err
	}
	for _, t := range tools {
		if t.name == "podman" {
			continue // its archives are docker's
		}
		file := filepath.Join(b.work, "loaded.tar")
		if _, err := b.do(t, "save", "-o", file, image); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o644); err != nil {
			return err
		}
		st, err := os.Stat(file)
		if err != nil {
			return err
		}
		fmt.Printf("  an archive of %s's, %d MB:\n", t.name, st.Size()/1e6)
		b.loadOf(file)
		if err := os.Remove(file); err != nil {
			return err
		}
		syscall.Sync()
	}
	return nil
}

func (b *bench) loadOf(file string) {
	p := b.people[0]
	cs := []contestant{b.hullFresh(p, "load", "-q", "-i", file)}
	for _, more := range []func(person, ...string) (contestant, error){b.podmanFresh, b.dockerFresh} {
		c, err := more(p, "load", "-q", "-i", file)
		if err != nil {
			b.miss("%s: %v", c.name, err)
			c.argv = nil
		}
		cs = append(cs, c)
	}
	cs = able(cs)
	if len(cs) == 0 || !strings.HasPrefix(cs[0].name, "hull") {
		return
	}
	b.transferTable("load", cs, b.atRest(cs))
}
