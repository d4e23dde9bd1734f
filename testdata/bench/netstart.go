package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// networkStart measures what the default network adds to a start.
func (b *bench) networkStart() error {
	if _, err := b.neighbour(); err != nil {
		fmt.Printf("  not measured: %v\n", err)
		return nil
	}
	for _, p := range b.people {
		var cs []contestant
		var names []string
		for _, t := range b.networkTools(p) {
			with, without := t.contestant("run", "--rm", t.image, "true"), t.contestant("run", "--rm", "--network", "none", t.image, "true")
			names = append(names, with.name)
			with.name, without.name = with.name+" default", without.name+" none"
			cs = append(cs, with, without)
		}
		if len(cs) == 0 {
			continue
		}
		got := b.measure(cs, min(b.n, 30), warmups, 100*time.Millisecond)
		table(cs, got, nil)
		limit := 10.0
		if p.name != "root" {
			limit = 25
		}
		for _, name := range names {
			ms := 1e3 * (got[name+" default"].by(wall, 0.5) - got[name+" none"].by(wall, 0.5))
			if !strings.HasPrefix(name, "hull") {
				fmt.Printf("  %s: the network adds %.1f ms\n", name, ms)
				continue
			}
			fmt.Printf("  %s: the network adds %.1f ms, must ≤ %g: %s\n", name, ms, limit, goal{"", limit, limit}.verdict(ms))
		}
	}
	return nil
}

// helper measures the processes that stay beside containers: an ordinary user's network, after traffic too, and what root has
// where the kernel's own means do not do, for names and for a list of hosts.
func (b *bench) helper() error {
	p, ok := b.person("user")
	if _, err := b.neighbour(); err != nil || !ok || b.hull == "" {
		fmt.Println("  not measured: this is not root, or hull is not built")
		return nil
	}
	program, err := b.talkProgram()
	if err != nil {
		return err
	}
	t, err := b.hullTool(p)
	if err != nil {
		return err
	}
	port := 5021
	err = b.startTalker(t, "helped", program, port)
	end := sync.OnceFunc(func() { _, _ = b.do(t, t.remove("helped")...) })
	defer end()
	if err != nil {
		return err
	}
	resident("hull-network", "idle")
	tl := &talker{name: p.title("hull"), port: port, got: map[string][]float64{}}
	b.listen([]*talker{tl})
	resident("hull-network", "after traffic")
	end() // what root has next is called the same
	return b.rootHelpers()
}

// rootHelpers measures the process that answers for names, of two containers on a network, and a container's that has a list.
func (b *bench) rootHelpers() error {
	p, ok := b.person("root")
	if !ok {
		return nil
	}
	t, err := b.hullTool(p)
	if err != nil {
		return err
	}
	names := []string{"named1", "named2", "listed"}
	defer func() {
		_, _ = b.do(t, t.remove(names...)...)
		_, _ = b.do(t, "network", "rm", "named")
	}()
	if _, err := b.do(t, "network", "create", "named"); err != nil {
		return err
	}
	for i, network := range []string{"named", "named", "allow=" + peerAddress} {
		// Each asks for a name once, for which the process is there.
		if _, err := b.do(t, "run", "-d", "--name", names[i], "--network", network, t.image, "sh", "-c", "nslookup named1; exec sleep 100000"); err != nil {
			return err
		}
	}
	resident("hull-names", "root's names")
	resident("hull-network", "root's list")
	return nil
}

// resident says how much memory the processes of a name hold once they are at rest.
func resident(name, when string) {
	time.Sleep(2 * time.Second)
	pids := called(name)
	if len(pids) == 0 {
		fmt.Printf("  %s: there is no %s\n", when, name)
	}
	for _, pid := range pids {
		text, _ := os.ReadFile("/proc/" + pid + "/status")
		all, err := megabytes(string(text), "VmRSS:")
		own, err2 := megabytes(string(text), "RssAnon:")
		if err == nil && err2 == nil {
			fmt.Printf("  %s: %.1f MB resident, of which %.1f are no file's, must ≤ 15: %s\n", when, all, own, goal{"", 15, 15}.verdict(all))
		}
	}
}

// megabytes is a line of /proc/PID/status.
func megabytes(text, name string) (float64, error) {
	kb, err := field(text, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(kb, 64)
	return n * 1024 / 1e6, err
}

// called are the processes whose first word is name.
func called(name string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), name+"\x00") {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
