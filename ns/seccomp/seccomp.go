// Package seccomp decides which system calls a container may make: it knows Docker's default profile, reads profiles
// that users write, and turns one into the small program by which the kernel judges each call.
//
// [Default] or [Load] give a profile in the words of the OCI specification; [Compile] turns it into classic BPF, ready
// for seccomp(2). There is neither libseccomp nor cgo in it. What the profile's words mean is what runc and libseccomp
// make of them, see [Compile].
//
// The cost of a filter lies in its length: a list of comparisons takes the kernel 3 µs an entry to install, because it
// translates the program and then runs it once for every system call number. So the numbers are joined to ranges with
// the same verdict, and the program finds the range by halving.
package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Options are wishes beyond the profile. The zero value has none.
type Options struct {
	// FakeIDs is for a user namespace that maps one id only, 0. There nothing can belong to another user, and calls
	// that try (chown, setuid, setgroups …) fail, although whoever made the image takes their success for granted.
	// With FakeIDs they are answered as success and do nothing; calls that can work there are really made. The rules
	// stand at the table fakes. What the profile forbids stays forbidden.
	FakeIDs bool
}

// maxInstructions is the kernel's limit for one filter (BPF_MAXINSNS).
const maxInstructions = 4096

// Compile gives the program for a profile, and the flags for seccomp(2) with SECCOMP_SET_MODE_FILTER. A nil profile
// allows everything; if Options do not ask for anything either, the program is nil: install none. NEW_LISTENER is among
// the flags if the profile has a NOTIFY action: then seccomp(2) returns a descriptor.
//
// An unconditional rule for a call wins over rules with tests on arguments, and the first one wins; with tests, the
// first rule that holds. Rules that say the same as the default action are void. Names that no architecture has are
// passed over, since profiles are written for newer kernels too. An x32 call below 512 is the x86_64 call of that
// number, and is treated so where both are listed. For x86, rules without tests for socket calls and System V IPC also
// hold where these are reached through socketcall and ipc.
//
// Where the default action is not permissive, a call that is newer than every call the profile names gets ENOSYS, so
// that programs fall back to an older call instead of taking the default errno for an answer. An architecture that the
// profile does not list kills the process, as it would bypass the rules. No architectures means this machine's own.
//
// Errors name the rule, or the flag, and what is wrong with it.
func Compile(p *specs.LinuxSeccomp, o Options) ([]unix.SockFilter, uint, error) {
	if p == nil && !o.FakeIDs {
		return nil, 0, nil
	}
	if p == nil {
		p = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: kernelArches()}
	}
	program, flags, err := compile(p, o)
	if err != nil {
		return nil, 0, fmt.Errorf("compile seccomp profile: %w", err)
	}
	return program, flags, nil
}

// kernelArches are all architectures whose programs this machine's kernel may run.
func kernelArches() []specs.Arch {
	for _, list := range defaultArches {
		if n := native(); n >= 0 && list[0] == abis[n].arch {
			return list
		}
	}
	return nil
}

// A compiler holds what is shared by all architectures of a profile.
type compiler struct {
	rules  []specs.LinuxSyscall // the profile's, and what multiplex adds
	notify bool                 // some rule has action NOTIFY
	fake   bool                 // Options.FakeIDs

	fallback uint32 // the answer of the default action

	sections []section
	leaves   []leaf
	assembler

	// room is where the lists begin, in one piece: in a process that has just been started, every allocation of
	// another size costs several page faults, which are dearer than the work itself. Docker's profile fits.
	room struct {
		sections [3]section
		leaves   [16]leaf
		spans    [200]span
		code     [384]unix.SockFilter
	}
}

func compile(p *specs.LinuxSeccomp, o Options) ([]unix.SockFilter, uint, error) {
	c := &compiler{fake: o.FakeIDs, rules: p.Syscalls[:len(p.Syscalls):len(p.Syscalls)]}
	var err error
	if c.fallback, err = answer(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return nil, 0, fmt.Errorf("default action: %w", err)
	}
	if c.fallback == unix.SECCOMP_RET_USER_NOTIF {
		return nil, 0, fmt.Errorf("default action %s: nobody could answer for the start of the program", p.DefaultAction)
	}
	if err := c.checkRules(); err != nil {
		return nil, 0, err
	}
	flags, err := filterFlags(p, c.notify)
	if err != nil {
		return nil, 0, err
	}
	if err := c.open(p.Architectures); err != nil {
		return nil, 0, err
	}
	c.distribute()
	c.finish()
	program := c.assemble()
	if len(program) > maxInstructions {
		return nil, 0, fmt.Errorf("%d instructions: the kernel takes %d, so the profile needs fewer tests on arguments",
			len(program), maxInstructions)
	}
	return program, flags, nil
}

// open makes a section for each architecture.
func (c *compiler) open(arches []specs.Arch) error {
	if len(arches) == 0 {
		n := native()
		if n < 0 {
			return fmt.Errorf("no table of system calls for this architecture")
		}
		arches = []specs.Arch{abis[n].arch}
	}
	c.sections = c.room.sections[:0]
	for _, arch := range arches {
		n := abiOf(arch)
		if n < 0 && !known(arch) {
			return fmt.Errorf("unknown architecture %q", arch)
		}
		// One that cannot run here may be listed, as Docker's older profiles do; one twice is the same as once.
		if n < 0 || c.section(n) != nil {
			continue
		}
		c.sections = append(c.sections, section{column: n})
	}
	// The calls that x32 shares with x86_64 have the same numbers, so the program need not say everything twice.
	if s := c.section(x32); s != nil && c.section(amd64) != nil {
		s.alike = true
	}
	return nil
}

func (c *compiler) section(column int) *section {
	for i := range c.sections {
		if c.sections[i].column == column {
			return &c.sections[i]
		}
	}
	return nil
}

// known says whether the OCI specification has this architecture.
func known(arch specs.Arch) bool {
	switch arch {
	case specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64,
		specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X,
		specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K,
		specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return abiOf(arch) >= 0
}

// distribute hands each rule to the calls that it names, in every section.
func (c *compiler) distribute() {
	c.leaves = append(c.room.leaves[:0], leaf{ret: c.fallback}, leaf{ret: enosys}, leaf{ret: badArch})
	var s search
	for i := range c.rules {
		r := &c.rules[i]
		simple := uint16(leafDefault) // the verdict, if the rule is one without tests that says something
		if ret := result(r); len(r.Args) == 0 && ret != c.fallback {
			simple = c.plain(ret)
		}
		for _, name := range r.Names {
			k := s.find(name)
			if k == nil {
				continue
			}
			for j := range c.sections {
				c.sections[j].name(c, k, simple, i)
			}
		}
	}
}

// assemble writes the program: which architecture, then one tree for each. It is written from the end, so the
// architecture that comes first in the profile, the native one, is also asked for first.
func (c *compiler) assemble() []unix.SockFilter {
	c.code = c.room.code[:0]
	next := c.ret(badArch)
	for i := range slices.Backward(c.sections) {
		audit := abis[c.sections[i].column].audit
		if c.follows(i, audit) {
			continue // x86_64 and x32 share one tree
		}
		root := c.load(offNumber, c.calls(audit))
		next = c.branch(opJEQ, audit, root, next)
	}
	c.load(offArch, next)
	return c.program()
}

// follows says whether a section before this one has the same architecture in the kernel's eyes.
func (c *compiler) follows(i int, audit uint32) bool {
	return slices.ContainsFunc(c.sections[:i], func(s section) bool { return abis[s.column].audit == audit })
}
