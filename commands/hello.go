package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// helloCommand is what the built-in image hello runs: it prints what a program sees of the world it is in. "exit N"
// makes N the exit status.
func helloCommand(s *session) ([]*option, action) {
	return nil, func(_ context.Context, args []string) error {
		if len(args) == 2 && args[0] == "exit" {
			code, err := strconv.ParseUint(args[1], 10, 8)
			if err != nil {
				return fmt.Errorf("exit %q: want a number from 0 to 255", args[1])
			}
			return &ExitError{Code: int(code)}
		}
		if len(args) != 0 {
			return errors.New("hello: want no arguments, or exit N")
		}
		fmt.Fprintln(s.out, "Hello from inside a container. This is what a program sees here:")
		fmt.Fprintln(s.out)
		for _, row := range helloRows() {
			fmt.Fprintf(s.out, "  %-14s %s\n", row[0], row[1])
		}
		return nil
	}
}

func helloRows() [][2]string {
	status := procStatus()
	host, _ := os.Hostname()
	return [][2]string{
		{"process", fmt.Sprintf("pid %d, parent %d, user %d:%d", os.Getpid(), os.Getppid(), os.Getuid(), os.Getgid())},
		{"host name", host},
		{"namespaces", helloNamespaces()},
		{"user mapping", helloMap()},
		{"root", helloRoot()},
		{"files in /", helloFiles("/")},
		{"devices", helloFiles("/dev")},
		{"network", helloFiles("/sys/class/net")},
		{"memory limit", helloLimit("memory.max", "memory/memory.limit_in_bytes")},
		{"cpu limit", helloCPU()},
		{"pids limit", helloLimit("pids.max", "pids/pids.max")},
		{"capabilities", helloCaps(status["CapEff"])},
		{"seccomp", map[string]string{"0": "off", "1": "strict", "2": "on: a filter decides about each system call"}[status["Seccomp"]]},
		{"no new privs", map[string]string{"0": "no", "1": "yes"}[status["NoNewPrivs"]]},
		{"tries", helloTries()},
	}
}

func procStatus() map[string]string {
	data, _ := os.ReadFile("/proc/self/status")
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

func helloNamespaces() string {
	var list []string
	for _, kind := range []string{"user", "pid", "mnt", "uts", "ipc", "net", "cgroup"} {
		if link, err := os.Readlink("/proc/self/ns/" + kind); err == nil {
			list = append(list, link)
		}
	}
	return strings.Join(list, " ")
}

func helloMap() string {
	data, _ := os.ReadFile("/proc/self/uid_map")
	var list []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if f[2] == "4294967295" {
			return "none: ids are those of the host"
		}
		list = append(list, fmt.Sprintf("%s here is %s on the host (%s)", f[0], f[1], f[2]))
	}
	return strings.Join(list, ", ")
}

func helloRoot() string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if i := slices.Index(f, "-"); i > 5 && f[4] == "/" && i+1 < len(f) {
			return f[i+1] + ", " + f[5]
		}
	}
	return "unknown"
}

func helloFiles(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "none"
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// helloLimit reads a limit of cgroup v2, or else v1.
func helloLimit(v2, v1 string) string {
	for _, file := range []string{v2, v1} {
		data, err := os.ReadFile("/sys/fs/cgroup/" + file)
		if err != nil {
			continue
		}
		text := strings.TrimSpace(string(data))
		if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 1<<50 {
			return "none"
		} else if err == nil {
			return text
		}
		return strings.Replace(text, "max", "none", 1)
	}
	return "none"
}

func helloCPU() string {
	if data, err := os.ReadFile("/sys/fs/cgroup/cpu.max"); err == nil {
		return strings.TrimSpace(string(data)) + " microseconds of processor in each period"
	}
	if quota := helloLimit("", "cpu/cpu.cfs_quota_us"); quota != "none" && quota != "-1" {
		return quota + " of " + helloLimit("", "cpu/cpu.cfs_period_us") + " microseconds"
	}
	return "none"
}

func helloCaps(mask string) string {
	bits, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return mask
	}
	var n int
	for b := bits; b != 0; b &= b - 1 {
		n++
	}
	return fmt.Sprintf("%d of 41 (%#x)", n, bits)
}

// helloTries does what a container should not be able to.
func helloTries() string {
	var list []string
	for _, try := range []struct {
		what string
		do   func() error
	}{
		{"write a sysctl", func() error { return os.WriteFile("/proc/sys/kernel/core_pattern", []byte("core"), 0) }},
		{"mount", func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }},
		{"load a module", func() error { return unix.InitModule(nil, "") }},
		{"rename the host", func() error { return unix.Sethostname([]byte("mine")) }},
	} {
		result := "ALLOWED"
		if err := try.do(); err != nil {
			result = "refused"
		}
		list = append(list, try.what+": "+result)
	}
	return strings.Join(list, ", ")
}
