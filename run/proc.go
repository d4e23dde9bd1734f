package run

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
)

// procStat is what the kernel says of a process in one line, proc_pid_stat(5).
type procStat struct {
	pid  int
	comm string // the program's name, cut to 15 bytes
	// state is a letter: R runs, S sleeps, D waits for a disk, T is stopped, Z has ended.
	state                byte
	ppid, pgrp, session  int
	tty, foreground      int    // device number of the terminal, 0 for none; the process group in its foreground
	user, system         uint64 // processor time in ticks
	waitUser, waitSystem uint64 // the same of children that have been waited for, and of theirs
	priority, nice       int
	threads              int
	start                uint64 // ticks since the boot
	virtual, resident    uint64 // bytes
	processor            int
}

// ticks is how many the kernel shows to programs in a second: USER_HZ, which is 100 on all that Linux runs on.
const ticks = 100

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

var errStat = errors.New("not a line of /proc/PID/stat")

func parseStat(text []byte) (procStat, error) {
	// The second field is the program's name in parentheses, and may hold anything.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return procStat{}, errStat
	}
	f := strings.Fields(string(text[end+1:]))
	if len(f) < 37 {
		return procStat{}, errStat
	}
	number := func(field int) uint64 { // numbered as in the manual
		n, _ := strconv.ParseInt(f[field-3], 10, 64)
		return uint64(n)
	}
	pid, err := strconv.Atoi(string(text[:open-1]))
	return procStat{
		pid: pid, comm: string(text[open+1 : end]), state: f[0][0],
		ppid: int(number(4)), pgrp: int(number(5)), session: int(number(6)), tty: int(number(7)), foreground: int(number(8)),
		user: number(14), system: number(15), waitUser: number(16), waitSystem: number(17),
		priority: int(number(18)), nice: int(number(19)), threads: int(number(20)), start: number(22),
		virtual: number(23), resident: number(24) * uint64(os.Getpagesize()), processor: int(number(39)),
	}, err
}

// pids are all processes that /proc shows, in their order there.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var list []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	return list, err
}
