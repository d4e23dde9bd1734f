package torture

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// together does something so many times at once.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// TestCrowd starts and removes containers of one image in many processes at once.
func TestCrowd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	together(20, func(i int) {
		for n := range 3 {
			name := fmt.Sprintf("crowd-%d-%d", i, n)
			for _, words := range [][]string{
				r.program("run", []string{"-d", "--name", name, "-v", "/data"}, "sleep"),
				r.program("run", []string{"--rm"}, "exit", "0"),
				{"ps", "-a"},
				{"rm", "-fv", name},
			} {
				if res := r.do(words...); res.code != 0 || words[0] == "run" && words[1] == "-d" && len(res.out) != 65 {
					t.Error(res)
					return
				}
			}
		}
	})
	r.nothingLeft()
}

// TestOneName has many ask for one name at once: one gets it, and the others hear that it is taken.
func TestOneName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range rounds(t, 3) {
		var mu sync.Mutex
		var won []string
		together(20, func(int) {
			res := r.do(r.program("run", []string{"-d", "--name", "only"}, "sleep")...)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case res.code == 0:
				won = append(won, strings.TrimSpace(res.out))
			case res.code != 125 || !strings.Contains(res.err, "is already in use by container"):
				t.Error(res)
			}
		})
		if list := r.states(); len(won) != 1 || len(list) != 1 || list[0].ID != won[0] {
			t.Fatalf("%d of 20 have won, and there are %d containers: %v", len(won), len(list), list)
		}
		r.must("rm", "-f", "only")
	}
}

// TestTug has many do different things to one container at once. Whatever comes of it, none of them hangs, and the container
// is none or a whole one at the end.
func TestTug(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, policy := range []string{"no", "always"} {
		for range rounds(t, 2) {
			r.detached([]string{"--name", "tug", "--restart", policy}, "sleep")
			verbs := []string{"stop", "restart", "start", "kill", "pause", "unpause", "rename", "ps", "rm"}
			together(3*len(verbs), func(i int) {
				words := []string{verbs[i%len(verbs)], "tug"}
				switch words[0] {
				case "ps":
					words = []string{"ps", "-a"}
				case "rename":
					words = append(words, fmt.Sprintf("tug%d", i))
				case "rm":
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					words = []string{"rm", "-f", "tug"}
				}
				res := r.do(words...)
				killed := res.code == 125 && strings.HasSuffix(words[0], "start") && strings.Contains(res.err, "was it killed")
				if (res.code > 1 || res.code < 0) && !killed {
					t.Error(res)
				}
			})
			for _, s := range r.states() { // it may have another name, or have been restarted after its removal failed
				r.must("rm", "-f", s.ID)
			}
			if out := r.must("ps", "-aq"); out != "" {
				t.Errorf("left: %s", out)
			}
		}
	}
	r.nothingLeft()
}

// TestTwoHundred lists two hundred containers.
func TestTwoHundred(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const many = 200
	together(8, func(i int) {
		for n := i; n < many; n += 8 {
			if res := r.do("create", "--name", fmt.Sprintf("c%03d", n), "hello"); res.code != 0 {
				t.Error(res)
			}
		}
	})
	for i := range 5 {
		r.must("start", fmt.Sprintf("c%03d", i))
	}
	r.eventually("the started ones have ended", func() bool { return r.must("ps", "-q") == "" })
	lines := strings.Split(r.must("ps", "-a", "--format", "{{.Names}} {{.State}}"), "\n")
	seen := map[string]string{}
	for _, l := range lines {
		name, status, _ := strings.Cut(l, " ")
		seen[name] = status
	}
	if len(lines) != many || len(seen) != many || seen["c000"] != "exited" || seen["c199"] != "created" {
		t.Errorf("%d lines, %d names", len(lines), len(seen))
	}
	if n := strings.Count(r.must("ps", "-aq", "-f", "status=exited"), "\n") + 1; n != 5 {
		t.Errorf("%d have ended, want 5", n)
	}
	if out := r.must("container", "prune", "-f"); strings.Count(out, "\n") < many {
		t.Errorf("prune: %s", short(out))
	}
}

// TestMonitorMemory measures monitors of which many run: each has its share of what they have in common.
func TestMonitorMemory(t *testing.T) {
	t.Parallel()
	if os.Getenv("HULL_BIN") == "" {
		t.Skip("needs the hull that is delivered: $HULL_BIN")
	}
	r := newRig(t)
	const many, limit = 30, 1200
	together(4, func(i int) {
		for n := i; n < many; n += 4 {
			r.detached([]string{"--name", fmt.Sprintf("m%d", n)}, "sleep")
		}
	})
	sum := 0
	list := r.states()
	for _, s := range list {
		sum += pss(t, s.Monitor)
	}
	if len(list) != many {
		t.Fatalf("%d containers", len(list))
	}
	t.Logf("%d kB a monitor, want at most %d", sum/many, limit)
	if sum/many > limit {
		t.Errorf("a monitor takes %d kB, want at most %d", sum/many, limit)
	}
}

// pss is a process's memory in kB, with its share of what it has in common with others.
func pss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "Pss:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no Pss in %s", text)
	return 0
}
