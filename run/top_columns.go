package run

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// psColumn is a column of ps: all its names, with "|" between them, and what procps prints at its head and in it.
type psColumn struct {
	names, head string
	value       func(*psProcess) string
}

// psColumns are those that people ask for, of ps(1), STANDARD FORMAT SPECIFIERS. It is a function, so that no other start pays.
func psColumns() []psColumn {
	number := func(get func(*psProcess) int) func(*psProcess) string {
		return func(p *psProcess) string { return strconv.Itoa(get(p)) }
	}
	kib := func(get func(*psProcess) uint64) func(*psProcess) string {
		return func(p *psProcess) string { return strconv.FormatUint(get(p)>>10, 10) }
	}
	id := func(list func(*psProcess) [4]int, at int) func(*psProcess) string {
		return func(p *psProcess) string { return strconv.Itoa(list(p)[at]) }
	}
	uids, gids := func(p *psProcess) [4]int { return p.uids }, func(p *psProcess) [4]int { return p.gids }
	userName := func(at int) func(*psProcess) string {
		return func(p *psProcess) string { return p.look.user(p.uids[at]) }
	}
	groupName := func(at int) func(*psProcess) string {
		return func(p *psProcess) string { return p.look.group(p.gids[at]) }
	}
	pid := number(func(p *psProcess) int { return p.pid })
	state := func(p *psProcess) string { return string(p.state) }
	pgrp, session := number(func(p *psProcess) int { return p.pgrp }), number(func(p *psProcess) int { return p.session })
	threads, nice := number(func(p *psProcess) int { return p.threads }), number(func(p *psProcess) int { return p.nice })
	return []psColumn{
		{"pid", "PID", pid}, {"tgid", "TGID", pid},
		{"ppid", "PPID", number(func(p *psProcess) int { return p.ppid })},
		{"pgid", "PGID", pgrp}, {"pgrp", "PGRP", pgrp}, {"sid", "SID", session}, {"sess|session", "SESS", session},
		{"uid", "UID", id(uids, 1)}, {"euid", "EUID", id(uids, 1)}, {"ruid", "RUID", id(uids, 0)},
		{"gid", "GID", id(gids, 1)}, {"egid", "EGID", id(gids, 1)}, {"rgid", "RGID", id(gids, 0)},
		{"user|uname", "USER", userName(1)}, {"euser", "EUSER", userName(1)}, {"ruser", "RUSER", userName(0)}, {"uid_hack", "UID", userName(1)},
		{"group", "GROUP", groupName(1)}, {"egroup", "EGROUP", groupName(1)}, {"rgroup", "RGROUP", groupName(0)},
		{"comm|ucomm", "COMMAND", (*psProcess).program}, {"ucmd", "CMD", (*psProcess).program},
		{"args|command", "COMMAND", (*psProcess).line}, {"cmd", "CMD", (*psProcess).line},
		{"pcpu|%cpu", "%CPU", func(p *psProcess) string { return tenths(p.share()) }},
		{"c", "C", func(p *psProcess) string { return strconv.FormatUint(min(p.share()/10, 99), 10) }},
		{"pmem|%mem", "%MEM", func(p *psProcess) string { return tenths(min(p.resident*1000/p.look.memory, 999)) }},
		{"rss|rssize", "RSS", kib(func(p *psProcess) uint64 { return p.resident })},
		{"rsz", "RSZ", kib(func(p *psProcess) uint64 { return p.resident })},
		{"vsz|vsize", "VSZ", kib(func(p *psProcess) uint64 { return p.virtual })},
		{"stat", "STAT", (*psProcess).stat}, {"s", "S", state}, {"state", "S", state},
		{"time|cputime", "TIME", func(p *psProcess) string { return clockTime(p.used()) }},
		{"bsdtime", "TIME", func(p *psProcess) string { return fmt.Sprintf("%d:%02d", p.used()/60, p.used()%60) }},
		{"etime", "ELAPSED", func(p *psProcess) string { return elapsedTime(p.age()) }},
		{"etimes", "ELAPSED", func(p *psProcess) string { return strconv.FormatUint(p.age(), 10) }},
		{"tty|tt", "TT", (*psProcess).terminal}, {"tname", "TTY", (*psProcess).terminal},
		{"nice|ni", "NI", nice}, {"pri", "PRI", number(func(p *psProcess) int { return 39 - p.priority })},
		{"nlwp", "NLWP", threads}, {"thcount", "THCNT", threads}, {"psr", "PSR", number(func(p *psProcess) int { return p.processor })},
		{"start", "STARTED", func(p *psProcess) string { return p.began("15:04:05") }},
		{"bsdstart", "START", func(p *psProcess) string { return p.began("15:04") }},
		{"lstart", "STARTED", func(p *psProcess) string { return p.start().Format(time.ANSIC) }},
		{"stime", "STIME", (*psProcess).stime}, {"start_time", "START", (*psProcess).stime},
	}
}

func findPsColumn(name string) (psColumn, bool) {
	for _, col := range psColumns() {
		for n := range strings.SplitSeq(col.names, "|") {
			if n == name {
				return col, true
			}
		}
	}
	return psColumn{}, false
}

func psColumnNames() (names []string) {
	for _, col := range psColumns() {
		name, _, _ := strings.Cut(col.names, "|")
		names = append(names, name)
	}
	return names
}

// psLook is one look at processes: what is the same for all of them.
type psLook struct {
	now    time.Time
	boot   int64  // seconds since 1970
	uptime uint64 // ticks since the boot
	memory uint64 // bytes
	names  map[string]string
}

func newPsLook() (*psLook, error) {
	var system unix.Sysinfo_t
	if err := unix.Sysinfo(&system); err != nil {
		return nil, os.NewSyscallError("sysinfo", err)
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return nil, os.NewSyscallError("clock_gettime", err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	return &psLook{
		now: time.Now(), boot: int64(keyedNumber(stat, "btime")), uptime: uint64(boot.Nano()) / uint64(time.Second/ticks),
		memory: max(uint64(system.Totalram)*uint64(system.Unit), 1), names: map[string]string{},
	}, nil
}

// psProcess is what ps knows of a process.
type psProcess struct {
	procStat
	look       *psLook
	args       string
	uids, gids [4]int // real, effective, saved, of the file system
	locked     bool   // some of its memory is kept from being swapped out
}

func (l *psLook) at(pid int) (*psProcess, error) {
	stat, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return nil, err
	}
	args, _ := os.ReadFile(procFile(pid, "cmdline"))
	p := &psProcess{procStat: stat, look: l, locked: keyedNumber(status, "VmLck:") > 0}
	p.resident = keyedNumber(status, "VmRSS:") << 10 // exact, where the line of numbers lags behind
	p.args = strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")
	for line := range bytes.Lines(status) {
		f := strings.Fields(string(line))
		if len(f) != 5 || f[0] != "Uid:" && f[0] != "Gid:" {
			continue
		}
		for i := range 4 {
			n, _ := strconv.Atoi(f[1+i])
			if f[0] == "Uid:" {
				p.uids[i] = n
			} else {
				p.gids[i] = n
			}
		}
	}
	return p, nil
}

// user is the name that an id has on the host, as ps shows it, or the number.
func (l *psLook) user(id int) string {
	return l.name("user", id, func(id string) (string, error) {
		u, err := user.LookupId(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (l *psLook) group(id int) string {
	return l.name("group", id, func(id string) (string, error) {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

func (l *psLook) name(kind string, id int, find func(string) (string, error)) string {
	number := strconv.Itoa(id)
	name, ok := l.names[kind+number]
	if !ok {
		var err error
		if name, err = find(number); err != nil || name == "" {
			name = number
		} else if len(name) > 8 { // ps(1) cuts names to its column, and marks it
			name = name[:7] + "+"
		}
		l.names[kind+number] = name
	}
	return name
}

// program is the name of the program, and that it has ended where that is so.
func (p *psProcess) program() string {
	if p.state == 'Z' {
		return p.comm + " <defunct>"
	}
	return p.comm
}

// line is the command line, or the program's name in brackets where there is none.
func (p *psProcess) line() string {
	switch {
	case p.args != "":
		return p.args
	case p.state == 'Z':
		return "[" + p.comm + "] <defunct>"
	}
	return "[" + p.comm + "]"
}

// used is the processor time in seconds, age the time since the start.
func (p *psProcess) used() uint64 { return (p.user + p.system) / ticks }
func (p *psProcess) age() uint64 {
	return (max(p.look.uptime, p.procStat.start) - p.procStat.start) / ticks
}

// share is what of its life a process has spent on a processor, in thousandths.
func (p *psProcess) share() uint64 {
	age := p.look.uptime - min(p.procStat.start, p.look.uptime)
	if age == 0 {
		return 0
	}
	return (p.user + p.system) * 1000 / age
}

func (p *psProcess) start() time.Time {
	return time.Unix(p.look.boot+int64(p.procStat.start/ticks), 0)
}

// began is the time of the start, or its day once that is 24 hours past.
func (p *psProcess) began(layout string) string {
	if p.age() > 24*60*60 {
		layout = "Jan 02"
	}
	return p.start().Format(layout)
}

// stime is the time of the start, its day if that is not today, or its year if not this one.
func (p *psProcess) stime() string {
	start, now := p.start(), p.look.now
	switch {
	case start.Year() != now.Year():
		return start.Format("2006")
	case start.YearDay() != now.YearDay():
		return start.Format("Jan02")
	}
	return start.Format("15:04")
}

// stat is the state, and: N or < if nice, L with locked memory, s leads a session, l has threads, + in the foreground.
func (p *psProcess) stat() string {
	flags := []byte{p.state}
	for _, f := range []struct {
		set  bool
		flag byte
	}{
		{p.nice < 0, '<'}, {p.nice > 0, 'N'}, {p.locked, 'L'}, {p.session == p.pid, 's'}, {p.threads > 1, 'l'}, {p.foreground == p.pgrp, '+'},
	} {
		if f.set {
			flags = append(flags, f.flag)
		}
	}
	return string(flags)
}

// terminal names the controlling terminal by its device number (the kernel's admin-guide/devices.txt).
func (p *psProcess) terminal() string {
	major, minor := int(unix.Major(uint64(p.tty))), int(unix.Minor(uint64(p.tty)))
	switch {
	case p.tty == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// tenths shows thousandths as percent.
func tenths(n uint64) string {
	if n > 999 {
		return strconv.FormatUint(n/10, 10)
	}
	return fmt.Sprintf("%d.%d", n/10, n%10)
}

// clockTime is [DAYS-]HH:MM:SS, elapsedTime the same without hours where there are none.
func clockTime(s uint64) string {
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / (24 * 3600); days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

func elapsedTime(s uint64) string {
	if s < 3600 {
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return clockTime(s)
}
