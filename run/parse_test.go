package run

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func lookup(name string) (string, bool) {
	switch name {
	case "SET":
		return "here", true
	case "EMPTY":
		return "", true
	}
	return "", false
}

// table runs parse over inputs; a want that begins with "! " is a part of the error.
func table[T any](t *testing.T, parse func(string) (T, error), show func(T) string, rows map[string]string) {
	t.Helper()
	for in, want := range rows {
		got, err := parse(in)
		if text, bad := strings.CutPrefix(want, "! "); bad {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: got %q, %v, want an error with %q", in, show(got), err, text)
			}
			continue
		}
		if err != nil || show(got) != want {
			t.Errorf("%q: got %q, %v, want %q", in, show(got), err, want)
		}
	}
}

func TestParseEnv(t *testing.T) {
	table(t, func(s string) (string, error) { return ParseEnv(s, lookup) }, func(s string) string { return s }, map[string]string{
		"A=1":    "A=1",
		"A=":     "A=",
		"A=1,2":  "A=1,2",
		"A= x ":  "A= x ",
		"A=b=c":  "A=b=c",
		"SET":    "SET=here",
		"EMPTY":  "EMPTY=",
		"NOWAY":  "NOWAY",
		"":       "! invalid environment variable",
		"=x":     "! invalid environment variable",
		"A=\x00": "! zero byte",
	})
}

func TestParseEnvFile(t *testing.T) {
	tests := []struct{ name, in, want, err string }{
		{"plain", "A=1\nB=2", "A=1|B=2", ""},
		{"verbatim", "A=\"q\" $X  \t\n", "A=\"q\" $X  \t", ""},
		{"leading blanks", "  \tA=1\n", "A=1", ""},
		{"comments and empty lines", "# c\n\n  # d\nA=#no\n \n", "A=#no", ""},
		{"BOM", "\ufeffA=1\n", "A=1", ""},
		{"DOS line ends", "A=1\r\nB=2\r\n", "A=1|B=2", ""},
		{"from the caller", "SET\nEMPTY\nNOWAY\n", "SET=here|EMPTY=", ""},
		{"empty value", "A=\n", "A=", ""},
		{"equals in value", "A=b=c\n", "A=b=c", ""},
		{"blank in key", "A B=1\n", "", `line 1: variable "A B" contains whitespaces`},
		{"blank after key", "X=1\nA =1\n", "", "line 2: variable"},
		{"trailing blank of a bare key", "SET \n", "", "contains whitespaces"},
		{"no key", "=1\n", "", "no variable name on line"},
		{"not UTF-8", "A=\xff\n", "", "invalid utf8 bytes"},
		{"zero byte", "A=\x00\n", "", "zero byte"},
		{"long line", "A=" + strings.Repeat("x", 100_000), "A=" + strings.Repeat("x", 100_000), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseEnvFile(test.in, lookup)
			if wantErr(t, err, test.err) && strings.Join(got, "|") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels([]string{"a=1", "b", "c=x=y", "a=2", "d= z "})
	want := map[string]string{"a": "2", "b": "", "c": "x=y", "d": " z "}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := ParseLabels([]string{"=x"}); err == nil {
		t.Error("no key was accepted")
	}
	lines, err := ParseLabelFile("a=1\nSET\n")
	if diff := cmp.Diff([]string{"a=1", "SET="}, lines); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestMergeEnv(t *testing.T) {
	base := []string{"PATH=/bin", "A=1", "B=2"}
	got := MergeEnv(base, "B=3", "C=4", "A", "C=5", "GONE")
	if diff := cmp.Diff([]string{"PATH=/bin", "B=3", "C=5"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"PATH=/bin", "A=1", "B=2"}, base); diff != "" {
		t.Error("base was changed:", diff)
	}
	if diff := cmp.Diff([]string{"A=2"}, MergeEnv([]string{"A=1"}, "A", "A=2")); diff != "" {
		t.Error(diff)
	}
}

func TestParseBytes(t *testing.T) {
	good := map[string]int64{
		"0": 0, "1": 1, "512b": 512, "64m": 64 << 20, "64M": 64 << 20, "1g": 1 << 30, "1.5g": 3 << 29, "10kb": 10 << 10,
		"2KiB": 2048, "3t": 3 << 40, " 7m ": 7 << 20, "5 m": 5 << 20,
	}
	for in, want := range good {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "m", "-1", "1x", "1mm", "1kib2", "nan", "1e30", "99999999999t", "--5"} {
		if got, err := ParseBytes(in); err == nil || !strings.Contains(err.Error(), "invalid size") {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
	if n, err := ParseSwap("-1"); n != -1 || err != nil {
		t.Error("swap -1:", n, err)
	}
}

func TestParseCPUs(t *testing.T) {
	good := map[string]int64{"0": 0, "1": 1e9, "0.5": 5e8, ".5": 5e8, "2.": 2e9, "1.25": 125e7, "0.01": 1e7, "0.123456789": 123456789, "0.5000000000000": 5e8}
	for in, want := range good {
		if got, err := ParseCPUs(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", ".", "-1", "x", "1e3", "0.0000000001", "0.001", "99999999999999999999", "1/2", "nan"} {
		if got, err := ParseCPUs(in); err == nil {
			t.Errorf("%q: got %d", in, got)
		}
	}
}

func TestCheckCPUSet(t *testing.T) {
	for _, in := range []string{"", "0", "0-3", "0-3,5", "1,1", "8191"} {
		if err := CheckCPUSet(in); err != nil {
			t.Error(err)
		}
	}
	for _, in := range []string{",", "0,", "3-1", "-1", "1-", "a", "0-8192", "0 ,1"} {
		if CheckCPUSet(in) == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}

func TestParseUlimit(t *testing.T) {
	good := map[string]specs.POSIXRlimit{
		"nofile=1024":      {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1024},
		"nofile=1024:4096": {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096},
		"core=-1":          {Type: "RLIMIT_CORE", Soft: math.MaxUint64, Hard: math.MaxUint64},
		"nproc=5:-1":       {Type: "RLIMIT_NPROC", Soft: 5, Hard: math.MaxUint64},
	}
	for in, want := range good {
		got, err := ParseUlimit(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
	for _, in := range []string{"", "nofile", "bogus=1", "nofile=x", "nofile=5:3", "nofile=-1:5", "nofile=1:2:3", "nofile=-5", "as=1"} {
		if got, err := ParseUlimit(in); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

func TestParseDeviceRates(t *testing.T) {
	if r, err := ParseDeviceBps("/dev/sda:1mb"); err != nil || r != (DeviceRate{"/dev/sda", 1 << 20}) {
		t.Error(r, err)
	}
	if r, err := ParseDeviceIOPS("/dev/disk/by-path/pci-0000:00:1:100"); err != nil || r != (DeviceRate{"/dev/disk/by-path/pci-0000:00:1", 100}) {
		t.Error(r, err)
	}
	if r, err := ParseDeviceWeight("/dev/sda:500"); err != nil || r != (DeviceRate{"/dev/sda", 500}) {
		t.Error(r, err)
	}
	for _, in := range []string{"", "/dev/sda", "sda:1", ":1", "/dev/sda:x", "/dev/sda:-1"} {
		_, err1 := ParseDeviceBps(in)
		_, err2 := ParseDeviceIOPS(in)
		if err1 == nil || err2 == nil {
			t.Errorf("%q: %v, %v", in, err1, err2)
		}
	}
	if _, err := ParseDeviceWeight("/dev/sda:5"); err == nil {
		t.Error("weight 5 was accepted")
	}
}

func TestParseDevice(t *testing.T) {
	show := func(d Device) string { return d.Source + "|" + d.Target + "|" + d.Permissions }
	table(t, ParseDevice, show, map[string]string{
		"/dev/fuse":            "/dev/fuse|/dev/fuse|rwm",
		"/dev/fuse:r":          "/dev/fuse|/dev/fuse|r",
		"/dev/fuse:/dev/x":     "/dev/fuse|/dev/x|rwm",
		"/dev/fuse:/dev/x:rw":  "/dev/fuse|/dev/x|rw",
		"/dev/snd/":            "/dev/snd|/dev/snd|rwm",
		"fuse":                 "! not an absolute path",
		"/dev/fuse:x":          "! not an absolute path",
		"/dev/fuse:/dev/x:rr":  "! bad mode specified",
		"/dev/fuse:/dev/x:":    "! bad mode specified",
		"/dev/a:/dev/b:r:w":    "! invalid device specification",
		"vendor.com/class=one": "! CDI",
		"":                     "! not an absolute path",
	})
}

func TestParseDeviceRule(t *testing.T) {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	show := func(r specs.LinuxDeviceCgroup) string {
		return fmt.Sprint(r.Allow, " ", r.Type, " ", number(r.Major), ":", number(r.Minor), " ", r.Access)
	}
	const bad = "! invalid device cgroup format"
	table(t, ParseDeviceRule, show, map[string]string{
		"c 1:11 rwm": "true c 1:11 rwm", "b 8:* r": "true b 8:* r", "a *:* rwm": "true a *:* rwm", "c *:3 mr": "true c *:3 mr",
		"": bad, "c": bad, "c 1:11": bad, "c 1:11 x": bad, "d 1:11 r": bad, "c 1 r": bad, "c 1:x r": bad, "c -1:3 r": bad, "c +1:3 r": bad,
		"c  1:3 r": bad, "c 1:3 rwmr": bad, "c :3 r": bad, "c 1:3:4 r": bad, "c 4294967296:1 r": bad, " c 1:3 r": bad, "c 1:3 r\n": bad,
	})
}

func TestSecurityOpts(t *testing.T) {
	var o SecurityOpts
	for _, s := range []string{
		"no-new-privileges", "seccomp=/p.json", "apparmor:unconfined", "label=disable", "label=user:me", "systempaths=unconfined", "writable-cgroups=true",
	} {
		if err := o.Set(s); err != nil {
			t.Error(err)
		}
	}
	want := SecurityOpts{NoNewPrivileges: true, Seccomp: "/p.json", AppArmor: "unconfined", Labels: []string{"disable", "user:me"},
		UnmaskPaths: true, WritableCgroups: true}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	if err := o.Set("no-new-privileges:false"); err != nil || o.NoNewPrivileges {
		t.Error("no-new-privileges:false did not take it back:", err)
	}
	for _, s := range []string{"", "bogus", "bogus=1", "seccomp", "seccomp=", "no-new-privileges=maybe", "systempaths=all", "writable-cgroups=x"} {
		if err := o.Set(s); err == nil || !strings.Contains(err.Error(), "security-opt ") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	table(t, ParseCap, func(s string) string { return s }, map[string]string{
		"NET_ADMIN": "CAP_NET_ADMIN", "cap_net_admin": "CAP_NET_ADMIN", "all": "ALL", "Cap_All": "! invalid capability",
		"bogus": "! invalid capability", "": "! invalid capability",
	})
	if got := Capabilities(nil, nil); !slices.Equal(got, DefaultCapabilities()) {
		t.Error("default:", got)
	}
	if got := Capabilities([]string{"CAP_CHOWN"}, []string{"ALL"}); !slices.Equal(got, []string{"CAP_CHOWN"}) {
		t.Error("drop ALL, add one:", got)
	}
	if got := Capabilities([]string{"ALL"}, []string{"CAP_CHOWN"}); len(got) != len(AllCapabilities())-1 || slices.Contains(got, "CAP_CHOWN") {
		t.Error("add ALL, drop one:", got)
	}
	got := Capabilities([]string{"CAP_SYS_PTRACE", "CAP_KILL"}, []string{"CAP_MKNOD"})
	if len(got) != len(DefaultCapabilities()) || slices.Contains(got, "CAP_MKNOD") || !slices.Contains(got, "CAP_SYS_PTRACE") {
		t.Error("add one, drop one:", got)
	}
	for _, name := range DefaultCapabilities() {
		if !slices.Contains(AllCapabilities(), name) {
			t.Errorf("%s is not a capability", name)
		}
	}
}

func TestParseSysctl(t *testing.T) {
	parse := func(s string) (string, error) {
		k, v, err := ParseSysctl(s)
		return k + "|" + v, err
	}
	table(t, parse, func(s string) string { return s }, map[string]string{
		"net.ipv4.ip_forward=1":       "net.ipv4.ip_forward|1",
		"kernel.shmmax=1":             "kernel.shmmax|1",
		"kernel.sem=1 2 3 4":          "kernel.sem|1 2 3 4",
		"fs.mqueue.msg_max=5":         "fs.mqueue.msg_max|5",
		"kernel.panic=1":              "! is not allowed",
		"vm.swappiness=1":             "! is not allowed",
		"net..kernel.panic=1":         "! is not allowed",
		"net.=1":                      "! is not allowed",
		"net.ipv4.ip_forward":         "! want KEY=VALUE",
		"=1":                          "! want KEY=VALUE",
		"kernel.shm_rmid_forced=1":    "kernel.shm_rmid_forced|1",
		"kernel.shm_next_id=1":        "! is not allowed",
		"fs.mqueuex=1":                "! is not allowed",
		"network.ipv4.conf.all.foo=1": "! is not allowed",
	})
}

func TestParseUserns(t *testing.T) {
	table(t, ParseUserns, func(s string) string { return s }, map[string]string{
		"": "", "host": "host", "keep-id": "keep-id", "keep-id:uid=5,gid=6": "keep-id:uid=5,gid=6", "one-id": "one-id",
		"keep-id:x=1": "! userns", "keep-id:uid=x": "! userns", "bogus": "! userns", "host:1": "! userns",
	})
}

func TestParseSignal(t *testing.T) {
	good := map[string]int{"KILL": 9, "SIGKILL": 9, "sigterm": 15, "9": 9, "SIGRTMIN+3": 37, "RTMAX": 64, "64": 64}
	for in, want := range good {
		if got, err := ParseSignal(in); err != nil || int(got) != want {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "-1", "65", "BOGUS", "SIGSIGKILL"} {
		if got, err := ParseSignal(in); err == nil || !strings.Contains(err.Error(), "Invalid signal") {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
}

func TestParseUser(t *testing.T) {
	parse := func(s string) (string, error) {
		u, g, err := ParseUser(s)
		return u + "|" + g, err
	}
	table(t, parse, func(s string) string { return s }, map[string]string{
		"": "|", "me": "me|", "1000": "1000|", "1000:50": "1000|50", "me:staff": "me|staff", ":50": "|50", "me:": "me|",
		"a:b:c": "! want USER", ":": "! want USER", "-1": "! in range", "2147483648": "! in range", "1:99999999999": "! in range",
		"a b": "! blank", "a\n": "! blank",
	})
}

func TestParseAddHost(t *testing.T) {
	table(t, ParseAddHost, func(h HostEntry) string { return h.Name + "|" + h.IP }, map[string]string{
		"db:10.0.0.1": "db|10.0.0.1", "db=10.0.0.1": "db|10.0.0.1", "db:::1": "db|::1", "db=[::1]": "db|::1",
		"db:0:0:0:0:0:0:0:1": "db|::1", "db:host-gateway": "db|host-gateway",
		"db": "! bad format for add-host", ":1.2.3.4": "! bad format", "db:": "! invalid IP address", "db:x": "! invalid IP address",
		"a b:1.2.3.4": "! bad format", "a:b=1.2.3.4": "! bad format",
	})
	table(t, ParseIP, func(s string) string { return s }, map[string]string{"1.1.1.1": "1.1.1.1", "fe80:0::1": "fe80::1", "x": "! not an ip address"})
}

func TestParseRestart(t *testing.T) {
	good := map[string]RestartPolicy{
		"": {}, "no": {}, "always": {"always", 0}, "unless-stopped": {"unless-stopped", 0}, "on-failure": {"on-failure", 0}, "on-failure:5": {"on-failure", 5},
	}
	for in, want := range good {
		if got, err := ParseRestart(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"bogus", "always:3", "no:1", "on-failure:x", "on-failure:-1"} {
		if _, err := ParseRestart(in); err == nil || !strings.Contains(err.Error(), "invalid restart policy") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestParseDetachKeys(t *testing.T) {
	good := map[string]string{
		"": "\x10\x11", "ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-a,a,ctrl-c": "\x01a\x03", "ctrl-@": "\x00", "ctrl-[,ctrl-_": "\x1b\x1f",
		"ctrl-\\,ctrl-],ctrl-^": "\x1c\x1d\x1e", "Q,^": "Q^", "DEL": "\x7f",
	}
	for in, want := range good {
		if got, err := ParseDetachKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{",", "a,", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-ab", "ctrl-p ctrl-q", "shift-a", "é"} {
		if got, err := ParseDetachKeys(in); err == nil || !strings.Contains(err.Error(), "detach-keys") {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, zone)
	good := map[string]string{
		"10m":                       "2026-05-01T11:50:00+02:00",
		"1h30m":                     "2026-05-01T10:30:00+02:00",
		"2026-04-01":                "2026-04-01T00:00:00+02:00",
		"2026-04-01T10:00:00":       "2026-04-01T10:00:00+02:00",
		"2026-04-01T10:00":          "2026-04-01T10:00:00+02:00",
		"2026-04-01T10:00:00Z":      "2026-04-01T12:00:00+02:00",
		"2026-04-01T10:00:00.25Z":   "2026-04-01T12:00:00.25+02:00",
		"2026-04-01T10:00:00-01:00": "2026-04-01T13:00:00+02:00",
		"1136073845":                "2006-01-01T02:04:05+02:00",
		"1136073845.000000001":      "2006-01-01T02:04:05.000000001+02:00",
		"0":                         "1970-01-01T02:00:00+02:00",
	}
	for in, want := range good {
		if got, err := ParseTime(in, now); err != nil || got.In(zone).Format(time.RFC3339Nano) != want {
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "yesterday", "1.x", "2026-13-01"} {
		if got, err := ParseTime(in, now); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

func TestNames(t *testing.T) {
	for range 200 {
		if name := RandomName(nil); CheckName(name) != nil || strings.Count(name, "_") != 1 {
			t.Fatalf("name %q", name)
		}
	}
	tries := 0
	name := RandomName(func(string) bool { tries++; return tries < 8 })
	if !strings.HasSuffix(name, "3") {
		t.Errorf("after seven collisions: %q", name)
	}
	for _, list := range [][]string{adjectives[:], surnames[:]} {
		if sorted := slices.Sorted(slices.Values(list)); len(slices.Compact(sorted)) != len(list) {
			t.Error("a word stands twice in a list")
		}
	}
	if id := NewID(); len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || id == NewID() || ShortID(id) != id[:12] {
		t.Errorf("id %q", id)
	}
	for _, name := range []string{"", "a", "_a", "a b", "a/b", "ä1", "-x"} {
		if CheckName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if err := CheckName("/web-1.x_y"); err != nil {
		t.Error(err)
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\nB\n", "\ufeffA=1\r\n", "# c\n =x", "A B=1", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseEnvFile(s, lookup)
		if err != nil {
			return
		}
		for _, entry := range list {
			if name, _, ok := strings.Cut(entry, "="); !ok || name == "" || strings.ContainsAny(entry, "\n\x00") || !strings.Contains(s, name) {
				t.Errorf("entry %q", entry)
			}
		}
	})
}

// FuzzWords feeds every small grammar: none may panic, and what is accepted keeps its promises.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"1.5g", "0.25", "0-3,5", "nofile=1:2", "/dev/sda:1mb", "/dev/fuse:/x:rw", "seccomp=x", "net.a=1", "RTMIN+1", "me:1", "db=[::1]", "on-failure:3", "1h", "2026-01-02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBytes(s); err == nil && n < 0 {
			t.Errorf("bytes %q: %d", s, n)
		}
		if n, err := ParseCPUs(s); err == nil && n < 0 {
			t.Errorf("cpus %q: %d", s, n)
		}
		if sig, err := ParseSignal(s); err == nil && (sig < 1 || sig > 64) {
			t.Errorf("signal %q: %d", s, sig)
		}
		if d, err := ParseDevice(s); err == nil && (d.Source[0] != '/' || d.Target[0] != '/') {
			t.Errorf("device %q: %v", s, d)
		}
		if h, err := ParseAddHost(s); err == nil && strings.ContainsAny(h.Name+h.IP, " \n\t") {
			t.Errorf("host %q: %v", s, h)
		}
		_ = CheckCPUSet(s)
		_, _ = ParseUlimit(s)
		_, _ = ParseDeviceBps(s)
		_, _ = ParseDeviceIOPS(s)
		_, _ = ParseCap(s)
		_, _ = ParseRestart(s)
		_, _ = ParseUserns(s)
		_, _ = ParseTime(s, time.Unix(0, 0))
		_, _, _ = ParseUser(s)
		_, _, _ = ParseSysctl(s)
		_ = new(SecurityOpts).Set(s)
	})
}
