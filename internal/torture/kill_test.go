package torture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deed is a command that is killed, in the setting in which it has something to do.
type deed struct {
	verb  string
	needs string // state of the container called victim: "none", "created", "running", "paused", "exited"
	words func(r *rig, options []string, program string) []string
}

func deeds() []deed {
	victim := func(words ...string) func(*rig, []string, string) []string {
		return func(*rig, []string, string) []string { return words }
	}
	fresh := func(words ...string) func(*rig, []string, string) []string {
		return func(r *rig, options []string, program string) []string {
			return r.program(words[0], append(append(words[1:], "--name", "victim"), options...), program)
		}
	}
	return []deed{
		{"create", "none", fresh("create")},
		{"run", "none", fresh("run", "-d")},
		{"run", "none", fresh("run")},
		{"start", "created", victim("start", "victim")},
		{"start", "exited", victim("start", "victim")},
		{"stop", "running", victim("stop", "victim")},
		{"restart", "running", victim("restart", "victim")},
		{"kill", "running", victim("kill", "victim")},
		{"rm", "running", victim("rm", "-fv", "victim")},
		{"rm", "exited", victim("rm", "-v", "victim")},
		{"rename", "running", victim("rename", "victim", "other")},
		{"pause", "running", victim("pause", "victim")},
		{"unpause", "paused", victim("unpause", "victim")},
		{"stop", "paused", victim("stop", "victim")},
		{"update", "running", victim("update", "--restart", "always", "victim")},
		{"logs", "running", victim("logs", "-f", "victim")},
		{"attach", "running", victim("attach", "--no-stdin", "victim")},
		{"wait", "running", victim("wait", "victim")},
		{"ps", "running", victim("ps", "-a")},
		{"container", "exited", victim("container", "prune", "-f")},
		{"exec", "running", func(r *rig, _ []string, program string) []string {
			return []string{"exec", "victim", "/program", r.root}
		}},
		{"exec", "running", func(r *rig, _ []string, program string) []string {
			return []string{"exec", "-d", "victim", "/program", r.root}
		}},
		{"cp", "running", victim("cp", "victim:/hull", "$TMP/copy")},
		{"cp", "running", victim("cp", "$HULL", "victim:/copy")},
		{"commit", "running", victim("commit", "victim", "torture:image")},
		{"export", "exited", victim("export", "-o", "$TMP/export", "victim")},
	}
}

// TestKill kills hulls at random moments of whatever they do: those that somebody has called, the monitors, or all. After
// each time every command works, and at the end nothing is left.
func TestKill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chance := random(t)
	var list []deed
	known := map[string]bool{}
	for _, d := range deeds() {
		if _, asked := known[d.verb]; !asked {
			known[d.verb] = r.knows(d.verb)
		}
		if known[d.verb] {
			list = append(list, d)
		}
	}
	k := &killer{rig: r, chance: chance, usual: make(map[string]time.Duration), tmp: t.TempDir()}
	for n := range rounds(t, 64) {
		// Each deed in its turn, so that none is left out.
		k.round(n, list[n%len(list)])
	}
	k.nothingLeft()
}

type killer struct {
	*rig
	chance *rand.Rand
	usual  map[string]time.Duration // how long a deed takes that nobody interrupts
	tmp    string
	said   string // what happened in this round, for failures
}

func (k *killer) fail(format string, args ...any) {
	k.t.Helper()
	k.t.Fatalf("%s\n%s", k.said, fmt.Sprintf(format, args...))
}

// round kills once and looks around.
func (k *killer) round(n int, d deed) {
	k.t.Helper()
	options, program := k.wishes(d)
	k.said = fmt.Sprintf("round %d: %s of a container that is %s (%q, %s)", n, d.verb, d.needs, options, program)
	k.prepare(d.needs, options, program)
	words := d.words(k.rig, options, program)
	for i := range words {
		words[i] = strings.NewReplacer("$TMP", k.tmp, "$HULL", k.hull).Replace(words[i])
	}
	whom := [...]string{"the caller", "the monitor", "all of hull"}[k.chance.IntN(3)]
	k.strike(d.verb+d.needs, words, whom)
	k.lookAround()
}

// wishes chooses what the container is like.
func (k *killer) wishes(d deed) (options []string, program string) {
	pick := func(list ...string) string { return list[k.chance.IntN(len(list))] }
	program = pick("sleep", "su", "chatter")
	options = append(options, strings.Fields(pick("", "", "--rm", "--restart=always"))...)
	options = append(options, strings.Fields(pick("", "-v /data", "--pids-limit=100", "--init"))...)
	if d.verb == "container" { // a prune of containers leaves volumes
		options = slices.DeleteFunc(options, func(s string) bool { return s == "-v" || s == "/data" })
	}
	if d.needs == "exited" || d.needs == "created" {
		options = slices.DeleteFunc(options, func(s string) bool { return s == "--rm" })
	}
	return options, program
}

// prepare brings about the state that a deed needs.
func (k *killer) prepare(needs string, options []string, program string) {
	k.t.Helper()
	options = append([]string{"--name", "victim"}, options...)
	switch needs {
	case "none":
	case "created":
		k.must(k.program("create", options, program)...)
	default:
		k.detached(options, program)
	}
	switch needs {
	case "exited":
		k.must("stop", "victim")
	case "paused":
		k.must("pause", "victim")
	}
}

// strike starts a hull and kills, after a while, it or others or all.
func (k *killer) strike(key string, words []string, whom string) {
	k.t.Helper()
	usual, ok := k.usual[key]
	if !ok {
		usual = 50 * time.Millisecond
	}
	after := time.Duration(k.chance.Int64N(int64(usual)))
	k.said += fmt.Sprintf("\nhull %s; %s killed after %v", strings.Join(words, " "), whom, after.Round(100*time.Microsecond))
	cmd := k.command(words...)
	var out bytes.Buffer
	f, err := os.CreateTemp(k.tmp, "")
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended: // it was faster
		k.usual[key] = time.Since(begin)
	case <-time.After(after):
		k.usual[key] = min(usual*11/10, 300*time.Millisecond)
	}
	if whom != "the caller" {
		hulls, _ := k.processes()
		for _, p := range hulls {
			if p.pid != cmd.Process.Pid {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
	}
	if whom == "the monitor" { // what depends on it goes on
		select {
		case <-ended:
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	text, _ := os.ReadFile(f.Name())
	out.Write(text)
	k.said += fmt.Sprintf("; status %d; said %q", cmd.ProcessState.ExitCode(), short(out.String()))
}

// lookAround sees that every command works, and removes what there is.
func (k *killer) lookAround() {
	k.t.Helper()
	works := func(args ...string) result {
		k.t.Helper()
		res := k.do(args...)
		if res.code != 0 {
			k.fail("%v", res)
		}
		return res
	}
	for line := range strings.Lines(works("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}").out) {
		f := strings.Fields(line)
		if len(f) != 3 {
			k.fail("ps has a line %q", line)
		}
		id, name, status := f[0], f[1], f[2]
		if name != "victim" && name != "other" {
			k.fail("somebody is called %s", name)
		}
		res := k.do("inspect", "-f", "{{.Id}} {{.State.Status}} {{.State.Pid}}", name)
		if strings.Contains(res.err, "No such object") && !strings.Contains(works("ps", "-aq", "--no-trunc").out, id) {
			continue // it was about to remove itself
		}
		if res.code != 0 || !strings.HasPrefix(res.out, id+" ") {
			k.fail("name %s does not lead to %s: %v", name, id, res)
		}
		// Between two commands a container that was stopped may remove itself: then it is gone for good.
		worksOrGone := func(args ...string) {
			k.t.Helper()
			res := k.do(args...)
			if res.code != 0 && (!strings.Contains(res.err, "No such container") || strings.Contains(works("ps", "-aq", "--no-trunc").out, id)) {
				k.fail("%v", res)
			}
		}
		switch status {
		case "created", "exited":
			worksOrGone("start", name) // no matter what it was like before
		case "paused":
			if res := k.do("unpause", name); res.code != 0 && !strings.Contains(res.err, "is not paused") && !strings.Contains(res.err, "No such container") { // it may have ended
				k.fail("%v", res)
			}
		case "running", "restarting":
		default:
			k.fail("it is %s", status)
		}
		if res := k.do("logs", id); res.code != 0 && !strings.Contains(res.err, "ran in the foreground") && !strings.Contains(res.err, "No such container") {
			k.fail("%v", res)
		}
		if k.chance.IntN(2) == 0 {
			worksOrGone("stop", id)
		}
		works("rm", "-fv", name)
	}
	if left := works("ps", "-aq").out; left != "" {
		k.fail("still there: %s", left)
	}
	// Nothing is in the way of the next one.
	works(k.program("run", []string{"-d", "--name", "victim"}, "sleep")...)
	if err := k.command("rename", "victim", "other").Run(); err != nil {
		k.fail("rename: %v", err.(*exec.ExitError))
	}
	works("rm", "-f", "other")
}
