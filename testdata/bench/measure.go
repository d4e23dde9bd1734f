package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contestant is one way to do a row's work.
type contestant struct {
	name string
	argv func(i int) []string // of the i-th run; warm-ups count too
	env  []string
	cred *syscall.Credential
	dir  string
	// before and after surround each run and are not timed.
	before, after func(i int)
	copies        int // processes to start at once, 0 is 1
}

// sample is one run.
type sample struct {
	wall, cpu time.Duration
	peak      int64 // largest resident set of one process, in bytes
}

// figures are a contestant's runs, in order.
type figures []sample

const warmups = 3

// measure lets the contestants take turns, n times after the warm-ups. One that fails is taken out, with its reason in
// b.missing. The pause lets a daemon finish what it still does for the last run.
func (b *bench) measure(contestants []contestant, n, warm int, pause time.Duration) map[string]figures {
	got := map[string]figures{}
	for i := range warm + n {
		for j := range contestants {
			c := contestants[(i+j)%len(contestants)]
			if b.broken(c.name) {
				continue
			}
			s, err := b.once(c, i)
			if err != nil {
				b.miss("%s: %v", c.name, err)
				delete(got, c.name)
				continue
			}
			if i >= warm {
				got[c.name] = append(got[c.name], s)
			}
			time.Sleep(pause)
		}
	}
	return got
}

func (b *bench) broken(name string) bool {
	return slices.ContainsFunc(b.missing, func(m string) bool { return strings.HasPrefix(m, name+": ") })
}

// once runs a contestant's processes and waits for all of them.
func (b *bench) once(c contestant, i int) (sample, error) {
	if c.before != nil {
		c.before(i)
	}
	if c.after != nil {
		defer c.after(i)
	}
	errs, err := os.Create(filepath.Join(b.work, "stderr"))
	if err != nil {
		return sample{}, err
	}
	defer errs.Close()
	copies := max(1, c.copies)
	cmds := make([]*exec.Cmd, copies)
	for k := range cmds {
		argv := c.argv(i*copies + k)
		cmds[k] = exec.Command(argv[0], argv[1:]...)
		cmds[k].Env, cmds[k].Dir, cmds[k].Stderr = c.env, c.dir, errs
		cmds[k].SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	}
	forgetPeak()
	begin := time.Now()
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			return sample{}, err
		}
	}
	var s sample
	for _, cmd := range cmds {
		if werr := cmd.Wait(); werr != nil {
			err = werr
		}
		s.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		s.peak = max(s.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss*1024)
	}
	s.wall = time.Since(begin)
	if err != nil {
		text, _ := os.ReadFile(errs.Name())
		return s, fmt.Errorf("%s: %w: %s", strings.Join(cmds[0].Args, " "), err, lastLines(string(text)))
	}
	return s, nil
}

// forgetPeak lets the bench look as small as it is now: until it executes its program, a child shares our memory, and the
// largest resident set of ours counts as the child's (setmax_mm_hiwater_rss in fs/exec.c).
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // proc_pid_clear_refs(5)
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}

func (f figures) by(key func(sample) float64, quantile float64) float64 {
	if len(f) == 0 {
		return 0
	}
	values := make([]float64, len(f))
	for i, s := range f {
		values[i] = key(s)
	}
	slices.Sort(values)
	return values[int(quantile*float64(len(values)-1)+0.5)]
}

func wall(s sample) float64 { return s.wall.Seconds() }
func cpu(s sample) float64  { return s.cpu.Seconds() }
func peak(s sample) float64 { return float64(s.peak) }

// goal is what a ratio or an amount should be at most.
type goal struct {
	peer      string
	must, aim float64
}

// verdict says where a figure stands between its goals.
func (g goal) verdict(x float64) string {
	switch {
	case x <= g.aim:
		return "reaches the aim"
	case x <= g.must:
		return "good enough"
	}
	return "MISSES"
}

// table prints the contestants' figures and hull's ratios to its peers.
func table(contestants []contestant, got map[string]figures, goals []goal) {
	fmt.Printf("  %-22s %9s %9s %9s %4s\n", "", "median ms", "p10 ms", "cpu ms", "n")
	for _, c := range contestants {
		f := got[c.name]
		if len(f) == 0 {
			fmt.Printf("  %-22s not measured\n", c.name)
			continue
		}
		fmt.Printf("  %-22s %9.2f %9.2f %9.2f %4d\n", c.name, 1e3*f.by(wall, 0.5), 1e3*f.by(wall, 0.1), 1e3*f.by(cpu, 0.5), len(f))
	}
	for _, g := range goals {
		compare(got, contestants[0].name, g)
	}
}

// compare prints how often hull's median goes into a peer's, and how that stands to the goal.
func compare(got map[string]figures, hull string, g goal) {
	mine, theirs := got[hull].by(wall, 0.5), got[g.peer].by(wall, 0.5)
	if mine == 0 || theirs == 0 {
		fmt.Printf("  hull / %-15s not measured (must ≤ %g, aim ≤ %g)\n", g.peer, g.must, g.aim)
		return
	}
	fmt.Printf("  hull / %-15s %6.3f  must ≤ %g, aim ≤ %g: %s\n", g.peer, mine/theirs, g.must, g.aim, g.verdict(mine/theirs))
}
