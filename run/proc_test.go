package run

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	// From a kernel 6.18, but for the name.
	const line = "1234 (a) b (c) S 1 1200 1100 34817 1234 4194304 165 7 0 0 12 34 56 78 20 -5 3 0 987654 8192000 256 18446744073709551615 " +
		"1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	got, err := parseStat([]byte(line))
	want := procStat{
		pid: 1234, comm: "a) b (c", state: 'S', ppid: 1, pgrp: 1200, session: 1100, tty: 34817, foreground: 1234, user: 12, system: 34,
		waitUser: 56, waitSystem: 78, priority: 20, nice: -5, threads: 3, start: 987654, virtual: 8192000,
		resident: 256 * uint64(os.Getpagesize()), processor: 1,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "1234", "1234 (a)", "(a) S", "1234 (a) S 1 2 3", ") ("} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if s, err := readStat(os.Getpid()); err != nil || s.ppid != os.Getppid() || s.start == 0 {
		t.Errorf("of this process: %+v, %v", s, err)
	}
}
