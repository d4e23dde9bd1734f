package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A conditional rule is one of a profile in Docker's form: it applies depending on the machine and on the container's
// capabilities. The form is the one of github.com/moby/profiles/seccomp.
type conditional struct {
	specs.LinuxSyscall
	Name     string      `json:"name"` // one name instead of Names, in old profiles
	Includes *conditions `json:"includes"`
	Excludes *conditions `json:"excludes"`
}

// conditions that must all hold for Includes, and of which one suffices for Excludes.
type conditions struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"` // Go's names, but x86 for 386
	MinKernel release  `json:"minKernel"`
}

// A release is the part of a kernel's release that profiles look at.
type release struct{ version, major int }

// A host is what rules depend on.
type host struct {
	arch   string
	caps   []string
	kernel release
}

// Default gives Docker's default profile, as of the version of github.com/moby/profiles/seccomp that go.mod names, for
// this machine's architecture and a program whose bounding set is caps ("CAP_CHOWN", …). kernel is a release as in
// uname(2), "" for this machine's own.
//
// The caller may change the profile that is returned, but neither the names nor the tests of its rules: they are
// shared. Default fails if kernel is no release.
func Default(caps []string, kernel string) (*specs.LinuxSeccomp, error) {
	h, err := newHost(caps, kernel)
	if err != nil {
		return nil, err
	}
	return defaultFor(h), nil
}

func defaultFor(h host) *specs.LinuxSeccomp {
	errno := uint(defaultErrno)
	p := &specs.LinuxSeccomp{DefaultAction: defaultAction, DefaultErrnoRet: &errno}
	p.Syscalls = make([]specs.LinuxSyscall, 0, len(defaultRules))
	for i := range defaultRules {
		if r := &defaultRules[i]; h.applies(r) {
			p.Syscalls = append(p.Syscalls, r.LinuxSyscall)
		}
	}
	for _, list := range defaultArches {
		if list[0] == archOf(h.arch) {
			p.Architectures = list
		}
	}
	return p
}

func newHost(caps []string, kernel string) (host, error) {
	if kernel == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return host{}, fmt.Errorf("uname: %w", err)
		}
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	k, err := parseRelease(kernel)
	arch := runtime.GOARCH
	if arch == "386" {
		arch = "x86"
	}
	return host{arch: arch, caps: caps, kernel: k}, err
}

// archOf gives the native architecture for a name that stands in conditions.
func archOf(name string) specs.Arch {
	switch name {
	case "amd64":
		return specs.ArchX86_64
	case "arm64":
		return specs.ArchAARCH64
	}
	return ""
}

// parseRelease reads the first two numbers of a release such as 6.1.0-18-amd64.
func parseRelease(s string) (release, error) {
	first, rest, _ := strings.Cut(s, ".")
	version, err := strconv.Atoi(first)
	if err == nil {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(rest)
		}
		var major int
		if major, err = strconv.Atoi(rest[:end]); err == nil {
			return release{version, major}, nil
		}
	}
	return release{}, fmt.Errorf("kernel release %q: want VERSION.MAJOR and anything", s)
}

// UnmarshalJSON reads a profile's minKernel: exactly VERSION.MAJOR.
func (r *release) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("minKernel %s: want \"VERSION.MAJOR\"", b)
	}
	if s == "" {
		return nil
	}
	v, err := parseRelease(s)
	if err != nil || s != fmt.Sprintf("%d.%d", v.version, v.major) || v == (release{}) {
		return fmt.Errorf("minKernel %q: want VERSION.MAJOR", s)
	}
	*r = v
	return nil
}

// reached says whether the host's kernel is at least r.
func (h *host) reached(r release) bool {
	return h.kernel.version > r.version || h.kernel.version == r.version && h.kernel.major >= r.major
}

func (h *host) applies(r *conditional) bool {
	return !h.excluded(r.Excludes) && h.included(r.Includes)
}

func (h *host) excluded(e *conditions) bool {
	return e != nil && (slices.Contains(e.Arches, h.arch) || e.MinKernel != release{} && h.reached(e.MinKernel) ||
		slices.ContainsFunc(e.Caps, func(c string) bool { return slices.Contains(h.caps, c) }))
}

func (h *host) included(i *conditions) bool {
	return i == nil || (len(i.Arches) == 0 || slices.Contains(i.Arches, h.arch)) && h.reached(i.MinKernel) &&
		!slices.ContainsFunc(i.Caps, func(c string) bool { return !slices.Contains(h.caps, c) })
}

// maxProfile bounds the size of a profile file in bytes; Docker's default has 18,000.
const maxProfile = 4 << 20

// Load reads a profile in the form of Docker's --security-opt seccomp=FILE, which is the OCI specification's with
// archMap, and with includes, excludes and comment at each rule. The rules that do not apply to the machine and to a
// program whose bounding set is caps are left out; kernel is as for Default. A profile with neither a default action
// nor rules means no seccomp: the result is nil.
//
// Errors say where the file is wrong: line and column, or the rule's number in the list, counted from 0.
func Load(r io.Reader, caps []string, kernel string) (*specs.LinuxSeccomp, error) {
	h, err := newHost(caps, kernel)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxProfile+1))
	if err != nil {
		return nil, fmt.Errorf("read seccomp profile: %w", err)
	}
	if len(text) > maxProfile {
		return nil, fmt.Errorf("read seccomp profile: it has more than %d bytes", maxProfile)
	}
	p, err := load(text, h)
	if err != nil {
		return nil, fmt.Errorf("read seccomp profile: %w", err)
	}
	return p, nil
}

// A file is a profile in Docker's form.
type file struct {
	specs.LinuxSeccomp
	ArchMap []struct {
		Arch      specs.Arch   `json:"architecture"`
		SubArches []specs.Arch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls []*conditional `json:"syscalls"` // takes the place of the embedded list
}

func load(text []byte, h host) (*specs.LinuxSeccomp, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, position(text, err)
	}
	if f.DefaultAction == "" && len(f.Syscalls) == 0 {
		return nil, nil
	}
	if len(f.Architectures) != 0 && len(f.ArchMap) != 0 {
		return nil, errors.New("both architectures and archMap are given: only one of them may be")
	}
	p := &f.LinuxSeccomp
	for _, a := range f.ArchMap {
		if a.Arch == archOf(h.arch) {
			p.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
			break
		}
	}
	for i, r := range f.Syscalls {
		if r == nil || r.Name == "" && len(r.Names) == 0 {
			return nil, fmt.Errorf("rule %d: it has no names", i)
		}
		if r.Name != "" && len(r.Names) != 0 {
			return nil, fmt.Errorf("rule %d: both name and names are given: only one of them may be", i)
		}
		if r.Name != "" {
			r.Names = []string{r.Name}
		}
		if h.applies(r) {
			p.Syscalls = append(p.Syscalls, r.LinuxSyscall)
		}
	}
	return p, nil
}

// position says where in the text the JSON is wrong.
func position(text []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	} else if errors.As(err, &kind) {
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(text)) {
		return err
	}
	before := text[:offset]
	line := 1 + bytes.Count(before, []byte("\n"))
	return fmt.Errorf("line %d, column %d: %w", line, len(before)-1-bytes.LastIndexByte(before, '\n'), err)
}
