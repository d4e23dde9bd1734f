package run

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestParsePs(t *testing.T) {
	full, aux := "UID PID PPID C STIME TTY TIME CMD", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"
	for args, want := range map[string]string{
		"": full, "-ef": full, "-f": full, "-e -f": full, "-Af": full, "-efww": full, "aux": aux, "axu": aux, "-aux": aux, "auxww": aux, "a u": aux,
		"-e": "PID TTY TIME CMD", "-A": "PID TTY TIME CMD", "ax": "PID TTY STAT TIME COMMAND",
		"-o pid,comm": "PID COMMAND", "-eo pid,comm": "PID COMMAND", "axo pid,comm": "PID COMMAND", "-opid -o ppid": "PID PPID",
		"--format user,%cpu": "USER %CPU", "--format=user,%cpu": "USER %CPU", "o args": "COMMAND", "-ef -o pid": "PID", "-o pid=,": ",", "-o pid,comm=NAME,x": "PID NAME,x",
		"-l": "!", "-eF": "!", "-o": "!", "-o colour": "!", "-o ,": "!", "--forest": "!", "-C": "!", "-": "!", "1": "!", "--": "!",
	} {
		columns, err := parsePs(strings.Fields(args))
		var heads []string
		for _, c := range columns {
			heads = append(heads, c.head)
		}
		got := strings.Join(heads, " ")
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %s, %v, want %s", args, got, err, want)
		}
	}
}

func TestPsTexts(t *testing.T) {
	for s, want := range map[uint64][2]string{
		59: {"00:00:59", "00:59"}, 3599: {"00:59:59", "59:59"}, 3600: {"01:00:00", "01:00:00"}, 200000: {"2-07:33:20", "2-07:33:20"},
	} {
		if got := [2]string{clockTime(s), elapsedTime(s)}; got != want {
			t.Errorf("%d: %q", s, got)
		}
	}
	for n, want := range map[uint64]string{0: "0.0", 57: "5.7", 999: "99.9", 1000: "100"} {
		if got := tenths(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for tty, want := range map[int]string{0: "?", 136<<8 | 3: "pts/3", 4<<8 | 1: "tty1", 4<<8 | 65: "ttyS1", 5<<8 | 1: "console", 9<<8 | 1: "9:1"} {
		p := &psProcess{procStat: procStat{tty: tty}}
		if got := p.terminal(); got != want {
			t.Errorf("%d: %s", tty, got)
		}
	}
	p := &psProcess{procStat: procStat{pid: 5, session: 5, pgrp: 5, foreground: 5, state: 'S', nice: 4, threads: 2}, locked: true}
	if got := p.stat(); got != "SNLsl+" {
		t.Error(got)
	}
	p = &psProcess{procStat: procStat{comm: "x", state: 'Z', pid: 5, pgrp: 5}}
	if p.stat() != "Z" || p.line() != "[x] <defunct>" || p.program() != "x <defunct>" {
		t.Error(p.stat(), p.line(), p.program())
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct{ start, uptime, want uint64 }{{100, 100, 0}, {100, 140, 600}, {100, 340, 100}, {100, 90, 0}} {
		p := &psProcess{procStat: procStat{start: c.start, user: 20, system: 4}, look: &psLook{uptime: c.uptime}}
		if got := p.share(); got != c.want {
			t.Errorf("24 ticks from %d to %d: %d, want %d thousandths", c.start, c.uptime, got, c.want)
		}
	}
}

func TestPickPs(t *testing.T) {
	titles, rows, err := pickPs("  PID TTY  CMD\n    1 ?   init\n   23 ?   sh  -c x\n   45 ?\n", []string{"23", "45"})
	if err != nil || strings.Join(titles, "|") != "PID|TTY|CMD" || len(rows) != 2 || strings.Join(rows[0], "|") != "23|?|sh -c x" {
		t.Errorf("%q %q %v", titles, rows, err)
	}
	if _, _, err := pickPs("NAME\nx\n", []string{"1"}); err == nil || !strings.Contains(err.Error(), "PID field") {
		t.Error(err)
	}
}

// TestTop compares what we make of /proc with what the host's ps makes of it.
func TestTop(t *testing.T) {
	h := testHost(t)
	config := verbConfig(t, "family")
	config.Name, config.Isolation.Privileged = "top", true
	otherHull(t, config)
	c, err := h.Find("top")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, err := c.Top([]string{"-o", "pid,ppid,comm,args"})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%q, %v", rows, err)
	}
	if rows[0][2] != "hull" || rows[0][3] != "/hull" || !slices.ContainsFunc(rows, func(r []string) bool { return r[1] == rows[0][0] }) {
		t.Errorf("%q", rows)
	}
	if version, err := exec.Command("ps", "--version").Output(); err == nil && strings.Contains(string(version), "procps-ng 4") {
		list, err := c.processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range []string{"", "-ef", "-e", "ax", "-o pid,ppid,pgid,sid,uid,gid,ruid,user,group,comm,args,cmd,nice,pri,nlwp,stat,tty,stime,start,lstart"} {
			got, gotRows, err := c.Top(strings.Fields(args))
			if err != nil {
				t.Fatal(err)
			}
			if args == "" {
				args = "-ef"
			}
			want, wantRows, err := hostPs(strings.Fields(args), list)
			if err != nil {
				t.Fatal(err)
			}
			text := func(titles []string, rows [][]string) string {
				lines := []string{strings.Join(titles, " ")}
				share := slices.Index(titles, "C")
				for _, r := range rows {
					if share >= 0 {
						r[share] = "C" // of a process so young it changes between two looks
					}
					lines = append(lines, strings.Join(r, " "))
				}
				return strings.Join(lines, "\n")
			}
			if a, b := text(got, gotRows), text(want, wantRows); a != b {
				t.Errorf("%s:\n%s\nps:\n%s", args, a, b)
			}
		}
		if titles, rows, err := c.Top([]string{"-eF"}); err != nil || len(rows) != 3 || !slices.Contains(titles, "PSR") {
			t.Errorf("by the host's ps: %q %q %v", titles, rows, err)
		}
	}
	t.Setenv("PATH", "")
	if _, _, err := c.Top([]string{"--forest"}); err == nil || !strings.Contains(err.Error(), `ps option "--forest": not known`) || !strings.Contains(err.Error(), "no ps") {
		t.Error(err)
	}
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Top(nil); err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Error(err)
	}
}
