package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// crowd is how many containers run where a row wants many.
const crowd = 50

// sleeper are the words that start a detached container of that name, which does nothing.
func (t *tool) sleeper(name string) []string {
	return []string{"run", "-d", "--network", "none", "--name", name, t.image, "sleep", "100000"}
}

func nth(kind string, i int) string { return kind + "-" + strconv.Itoa(i) }

// many starts containers and gives their names; the result ends them.
func (b *bench) many(t *tool, kind string, n int) (names []string, end func(), err error) {
	for i := range n {
		names = append(names, nth(kind, i))
		if _, err = b.do(t, t.sleeper(names[i])...); err != nil {
			break
		}
	}
	return names, func() { _, _ = b.do(t, t.remove(names...)...) }, err
}

// detached measures a start in the background until the command returns.
func (b *bench) detached() error {
	var cs []contestant
	for _, t := range b.tools(b.people[0]) {
		c := t.contestant()
		c.argv = func(i int) []string { return t.argv(t.sleeper(nth("detached", i))...) }
		c.after = func(i int) { _, _ = b.do(t, t.remove(nth("detached", i))...) }
		cs = append(cs, c)
	}
	table(cs, b.measure(cs, min(b.n, 30), warmups, 10*time.Millisecond), []goal{{"podman", 0.1, 0.1}, {"docker", 0.1, 0.1}})
	return nil
}

// listing measures ps with many running.
func (b *bench) listing() error {
	var cs []contestant
	for _, t := range b.tools(b.people[0]) {
		_, end, err := b.many(t, "listed", crowd)
		defer end()
		if err != nil {
			b.miss("%s: %v", t.name, err)
			continue
		}
		cs = append(cs, t.contestant("ps"))
	}
	got := b.measure(cs, min(b.n, 30), warmups, 10*time.Millisecond)
	table(cs, got, []goal{{"docker", 0.5, 0.5}})
	if f := got["hull"]; len(f) > 0 {
		ms := 1e3 * f.by(cpu, 0.5)
		fmt.Printf("  hull's processor time %.1f ms, aim ≤ 10: %s\n", ms, goal{"", 10, 10}.verdict(ms))
	}
	return nil
}

// removal measures rm -f of many that run.
func (b *bench) removal() error {
	var cs []contestant
	for _, t := range b.tools(b.people[0]) {
		c := t.contestant()
		end := func() {}
		c.before = func(i int) {
			var err error
			if _, end, err = b.many(t, nth("removed", i), crowd); err != nil {
				b.miss("%s: %v", t.name, err)
			}
		}
		c.argv = func(i int) []string {
			var names []string
			for k := range crowd {
				names = append(names, nth(nth("removed", i), k))
			}
			return t.argv(t.remove(names...)...)
		}
		c.after = func(int) { end() } // nothing is left to do unless it failed
		cs = append(cs, c)
	}
	table(cs, b.measure(cs, max(3, b.n/10), 0, 300*time.Millisecond), []goal{{"docker", 0.5, 0.5}})
	return nil
}

// memory measures what stays with a running container: the parent of its first process, which is hull's monitor, podman's
// conmon, docker's shim (whose daemons come on top).
func (b *bench) memory() error {
	share := map[string]float64{}
	for _, t := range b.tools(b.people[0]) {
		names, end, err := b.many(t, "kept", crowd)
		defer end()
		if err == nil {
			share[t.name], err = b.parents(t, names)
		}
		if err != nil {
			b.miss("%s: %v", t.name, err)
			continue
		}
		fmt.Printf("  %-22s %9.2f MB each of %d\n", t.name, share[t.name]/1e6, crowd)
	}
	if _, ok := share["docker"]; ok {
		var sum float64
		for _, name := range []string{"dockerd", "containerd"} {
			for _, pid := range processes(name) {
				n, _ := pss(pid)
				sum += n
			}
		}
		fmt.Printf("  %-22s %9.2f MB\n", "docker's daemons", sum/1e6)
	}
	mb := share["hull"] / 1e6
	if mb > 0 {
		fmt.Printf("  hull's monitor, must ≤ 1.2 MB, aim ≤ 0.4: %s\n", goal{"", 1.2, 0.4}.verdict(mb))
		fmt.Printf("  hull / conmon          %6.3f  aim ≤ 1\n", mb*1e6/cmp.Or(share["podman"], 1))
	}
	return nil
}

// parents is the mean share of memory of the processes that the containers' first ones are children of.
func (b *bench) parents(t *tool, names []string) (float64, error) {
	out, err := b.do(t, append([]string{"inspect", "-f", "{{.State.Pid}}"}, names...)...)
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, pid := range strings.Fields(out) {
		keeper, err := parent(pid)
		if err != nil {
			return 0, err
		}
		bytes, err := pss(keeper)
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum / float64(len(names)), nil
}

// series starts many containers one after the other, which all stay: the last shall not take longer than the first. Of
// both ends the median of ten is taken.
func (b *bench) series() error {
	t, err := b.hullTool(b.people[0])
	if err != nil {
		b.miss("%s: %v", t.name, err)
		return nil
	}
	const n, sample = 200, 10
	var names []string
	defer func() { _, _ = b.do(t, t.remove(names...)...) }()
	var took []float64
	for i := range n {
		names = append(names, nth("series", i))
		c := t.contestant(t.sleeper(names[i])...)
		s, err := b.once(c, i)
		if err != nil {
			return err
		}
		took = append(took, 1e3*s.wall.Seconds())
	}
	middle := func(ms []float64) float64 { return slices.Sorted(slices.Values(ms))[len(ms)/2] }
	first, last := middle(took[:sample]), middle(took[n-sample:])
	fmt.Printf("  the first %d: %.2f ms, the last %d of %d: %.2f ms\n", sample, first, sample, n, last)
	fmt.Printf("  last / first           %6.3f  must ≤ 1.2: %s\n", last/first, goal{"", 1.2, 1.2}.verdict(last/first))
	return nil
}
