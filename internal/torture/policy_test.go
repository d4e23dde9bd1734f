package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// event is what a test reads of the journal.
type event struct {
	Action, ID string
	Time       time.Time
}

// events are those of a container whose action is one of these.
func (r *rig) events(id string, actions ...string) (list []event) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.root, "events.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e event
		if json.Unmarshal(line, &e) != nil || e.ID != id {
			continue
		}
		for _, a := range actions {
			if e.Action == a {
				list = append(list, e)
			}
		}
	}
	return list
}

// becomes waits until a container is in a state.
func (r *rig) becomes(name string, what string, ok func(state) bool) state {
	r.t.Helper()
	var s state
	r.eventually(name+" "+what, func() bool {
		s = r.state(name)
		return ok(s)
	})
	return s
}

func hasExited(s state) bool { return s.Status == "exited" }

// alone says that no process of hull's or the container's is there any more.
func (r *rig) alone(id string) {
	r.t.Helper()
	r.eventually("nothing runs for "+id, func() bool {
		hulls, programs := r.processes()
		for _, p := range append(hulls, programs...) {
			if strings.Contains(strings.Join(p.words, " "), id) {
				return false
			}
		}
		return true
	})
}

// TestBackoff: the pauses between restarts double from 100 ms on (moby, restartmanager).
func TestBackoff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.must(r.program("run", []string{"-d", "--name", "loop", "--restart", "always"}, "exit", "3")...)
	r.becomes("loop", "has been restarted five times", func(s state) bool { return s.RestartCount >= 5 })
	r.must("stop", "loop")
	list := r.events(id, "start", "die")
	want := 100 * time.Millisecond
	for i := 1; i+1 < len(list) && want <= 1600*time.Millisecond; i += 2 {
		died, began := list[i], list[i+1]
		if died.Action != "die" || began.Action != "start" {
			t.Fatalf("events: %v", list)
		}
		// What is above is the machine's business.
		if pause := began.Time.Sub(died.Time); pause < want || pause > want+5*time.Second {
			t.Errorf("pause %d: %v, want %v", i/2+1, pause, want)
		}
		want *= 2
	}
	if want != 1600*time.Millisecond && want != 3200*time.Millisecond {
		t.Errorf("ended at %v: %v", want, list)
	}
	if s := r.state("loop"); s.Status != "exited" || s.ExitCode != 3 {
		t.Errorf("%+v", s)
	}
}

// TestBackoffBegins anew when the program has run for ten seconds.
func TestBackoffBegins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// Its second run is a long one.
	id := r.must(r.program("run", []string{"-d", "--name", "long", "--restart", "always"}, "fitful", "10300")...)
	var paused []string
	for n := 1; n <= 2; n++ {
		s := r.becomes("long", fmt.Sprintf("has been restarted %d times", n), func(s state) bool { return s.RestartCount == n && s.Status == "running" })
		r.eventually("its monitor is a small one", func() bool {
			hulls, _ := r.processes()
			for _, p := range hulls {
				if p.pid == s.Monitor && strings.HasPrefix(p.words[0], "hull: monitor") {
					paused = append(paused, p.words[len(p.words)-1]) // the pause before this run
					return true
				}
			}
			return false
		})
	}
	if got := strings.Join(paused, " "); !strings.HasPrefix(got, "100ms 100ms") {
		t.Errorf("pauses %s, want 100ms 100ms", got)
	}
	r.must("rm", "-f", "long")
	r.alone(id)
}

// TestOnFailure counts the restarts, and makes none after a success.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.must(r.program("run", []string{"-d", "--name", "fails", "--restart", "on-failure:3"}, "exit", "4")...)
	if code := r.must("wait", "fails"); code != "4" {
		t.Errorf("status %s", code)
	}
	if s := r.state("fails"); s.RestartCount != 3 || len(r.events(id, "start")) != 4 || s.Status != "exited" {
		t.Errorf("%+v, %v", s, r.events(id, "start"))
	}
	// By hand it begins to count anew.
	r.must("start", "fails")
	r.must("wait", "fails")
	if s := r.state("fails"); s.RestartCount != 3 || len(r.events(id, "start")) != 8 {
		t.Errorf("%+v, %v", s, r.events(id, "start"))
	}
	id = r.must(r.program("run", []string{"-d", "--name", "works", "--restart", "on-failure"}, "exit", "0")...)
	r.must("wait", "works")
	if n := len(r.events(id, "start")); n != 1 {
		t.Errorf("started %d times", n)
	}
}

// TestEndedByHand: what the user ends, by stop or kill, no policy starts again; what ends otherwise it does.
func TestEndedByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, policy := range []string{"always", "unless-stopped"} {
		for _, words := range [][]string{{"stop"}, {"kill"}, {"kill", "-s", "TERM"}} {
			id := r.detached([]string{"--restart", policy}, "sleep")
			r.must(append(words, id)...)
			r.becomes(id, "has ended", hasExited)
			r.alone(id)
			if n := len(r.events(id, "start")); n != 1 {
				t.Errorf("%s, %s: started %d times", policy, words, n)
			}
		}
		id := r.detached([]string{"--restart", policy}, "sleep")
		pid := r.state(id).Pid
		if err := syscall.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.becomes(id, "runs again", func(s state) bool { return s.Status == "running" && s.Pid != pid })
		r.must("restart", "-t", "1", id) // it may not listen yet
		if s := r.state(id); s.RestartCount != 0 || s.Status != "running" {
			t.Errorf("restarted by hand: %+v", s)
		}
		r.must("rm", "-f", id)
		r.alone(id)
	}
}

// TestStopBetweenRuns stops and removes containers at any moment between two runs.
func TestStopBetweenRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chance := random(t)
	id := r.must(r.program("run", []string{"-d", "--name", "loop", "--restart", "always"}, "exit", "5")...)
	s := r.becomes("loop", "is about to start again", func(s state) bool { return s.Status == "restarting" && s.RestartCount >= 4 })
	begin := time.Now()
	r.must("stop", "loop")
	if r.alone(id); r.state("loop").Status != "exited" || r.state("loop").RestartCount > s.RestartCount+1 {
		t.Errorf("stopped after %v: %+v", time.Since(begin), r.state("loop"))
	}
	r.must("start", "loop")
	r.becomes("loop", "is about to start again", func(s state) bool { return s.Status == "restarting" && s.RestartCount >= 4 })
	r.must("rm", "-f", "loop")
	r.alone(id)
	for range rounds(t, 10) {
		id := r.must(r.program("run", []string{"-d", "--restart", "always"}, "exit", "5")...)
		time.Sleep(time.Duration(chance.Int64N(int64(500 * time.Millisecond))))
		switch chance.IntN(3) {
		case 0:
			r.must("rm", "-f", id)
			r.alone(id)
			continue
		case 1:
			r.must("kill", id)
		default:
			r.must("stop", id)
		}
		r.becomes(id, "has ended", hasExited)
		r.alone(id)
		r.must("rm", id)
	}
}

// TestStopTimeout measures how long a program that does not listen has.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, row := range []struct {
		run, stop []string
		least     time.Duration
	}{
		{nil, []string{"stop", "-t", "1"}, time.Second},
		{[]string{"--stop-timeout", "2"}, []string{"stop"}, 2 * time.Second},
		{[]string{"--stop-timeout", "60"}, []string{"stop", "-t", "0"}, 0},
		{[]string{"--stop-timeout", "60", "--stop-signal", "KILL"}, []string{"stop"}, 0},
		{nil, []string{"stop"}, 10 * time.Second},
	} {
		id := r.detached(row.run, "deaf")
		res := r.do(append(row.stop, id)...)
		if s := r.state(id); res.code != 0 || res.took < row.least || res.took > row.least+9*time.Second || s.Status != "exited" || s.ExitCode != 137 {
			t.Errorf("%v, want %v\n%+v", res, row.least, s)
		}
	}
}

// TestRemovesItself: a detached container that is to goes at its end, whatever that is, and who waits for it hears of it.
func TestRemovesItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gone := func(id string) {
		t.Helper()
		r.alone(id)
		if s := r.state(id); s.ID != "" {
			t.Errorf("is there: %+v", s)
		}
	}
	id := r.must(r.program("run", []string{"-d", "--rm", "-v", "/data"}, "exit", "6", "1000")...)
	if code := r.must("wait", id); code != "6" {
		t.Errorf("status %s", code)
	}
	gone(id)
	for _, words := range [][]string{{"stop"}, {"kill"}, {"rm", "-f"}} {
		id := r.detached([]string{"--rm", "-v", "/data"}, "sleep")
		r.must(append(words, id)...)
		gone(id)
	}
	id = r.detached([]string{"--rm"}, "sleep")
	r.must("restart", "-t", "5", r.detached(nil, "sleep"))
	if res := r.do("restart", id); res.code != 0 && r.state(id).ID != "" { // Docker's fails too
		t.Errorf("%v", res)
	}
	gone(id)
}

// TestTimeLimit ends programs whose time is up, even one that is paused.
func TestTimeLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	running := r.detached([]string{"--timeout", "1s", "--restart", "always"}, "deaf")
	paused := r.detached([]string{"--timeout", "3s"}, "deaf")
	r.must("pause", paused)
	for _, id := range []string{running, paused} {
		s := r.becomes(id, "has ended", hasExited)
		if ran := s.Finished.Sub(s.Started); s.ExitCode != 124 || ran < time.Second {
			t.Errorf("after %v: %+v", ran, s)
		}
		r.alone(id)
	}
}

// TestMonitorAsked ends monitors as the machine does before it goes down: they stop their containers, and leave them to be
// started the next time.
func TestMonitorAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, row := range []struct {
		program string
		options []string
		pause   bool
		code    int
	}{
		{"sleep", nil, false, 0},
		{"deaf", []string{"--stop-timeout", "1"}, false, 137},
		{"sleep", nil, true, 0},
		{"deaf", []string{"--stop-timeout", "1"}, true, 137},
	} {
		id := r.detached(append(row.options, "--restart", "always"), row.program)
		if row.pause {
			r.must("pause", id)
		}
		if err := syscall.Kill(r.state(id).Monitor, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		s := r.becomes(id, "has ended", hasExited)
		if s.ExitCode != row.code || s.Stopped {
			t.Errorf("%s, paused %v: %+v", row.program, row.pause, s)
		}
		r.alone(id)
	}
	// Between two runs.
	id := r.must(r.program("run", []string{"-d", "--restart", "always"}, "exit", "7")...)
	s := r.becomes(id, "is about to start again", func(s state) bool { return s.Status == "restarting" && s.RestartCount >= 4 })
	if err := syscall.Kill(s.Monitor, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.becomes(id, "has ended", hasExited)
	r.alone(id)
}

// TestMonitorKilled: a container does not outlive its monitor for longer than until the next look at it, even if it has
// changed its user, or is paused.
func TestMonitorKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, row := range []struct {
		program string
		pause   bool
	}{{"sleep", false}, {"su", false}, {"sleep", true}, {"su", true}} {
		id := r.detached([]string{"--pids-limit", "100"}, row.program)
		if row.pause {
			r.must("pause", id)
		}
		before := r.state(id)
		if err := syscall.Kill(before.Monitor, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.eventually("the monitor is gone", func() bool { return ended(before.Monitor) })
		res := r.do("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", id)
		if strings.TrimSpace(res.out) != "exited 137 0" {
			t.Errorf("%s, paused %v: %v", row.program, row.pause, res)
		}
		if res.took > 5*time.Second {
			t.Errorf("%s, paused %v: took %v", row.program, row.pause, res.took)
		}
		r.eventually("the program is gone", func() bool {
			_, programs := r.processes()
			return len(programs) == 0
		})
		r.must("start", id)
		r.must("rm", "-f", id)
		r.alone(id)
	}
}

// ended says whether a process is gone or a zombie. Only then are its locks free for certain: its descriptors leave /proc
// a moment before the kernel closes the files.
func ended(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}
