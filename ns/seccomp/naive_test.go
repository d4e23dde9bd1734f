package seccomp

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// An entry is one entry into the kernel, as a filter sees it.
type entry struct {
	audit uint32
	nr    uint32
	args  [6]uint64
}

// A machine runs a compiled filter.
type machine struct{ vm *bpf.VM }

func newMachine(t testing.TB, code []unix.SockFilter) machine {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(code))
	for i, c := range code {
		raw[i] = bpf.RawInstruction{Op: c.Code, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	list, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("not all instructions can be disassembled")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

// run gives the filter's answer. The virtual machine is made for packets and loads big-endian words, so that is how the
// fields are laid down.
func (m machine) run(t testing.TB, e entry) uint32 {
	t.Helper()
	var data [64]byte
	binary.BigEndian.PutUint32(data[0:], e.nr)
	binary.BigEndian.PutUint32(data[4:], e.audit)
	for i, a := range e.args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	n, err := m.vm.Run(data[:])
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// compiled gives a machine with the filter for a profile.
func compiled(t testing.TB, p *specs.LinuxSeccomp, o Options) machine {
	t.Helper()
	code, _, err := Compile(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return newMachine(t, code)
}

// A reader judges an entry by reading the profile from the top, in the slowest and plainest way. It shares with the
// compiler only the table of numbers.
type reader struct {
	*specs.LinuxSeccomp
	lines map[specs.Arch][]line // the profile with one line for each name
}

type line struct {
	nr   uint32
	ret  uint32
	args []specs.LinuxSeccompArg
}

func newReader(p *specs.LinuxSeccomp) *reader {
	r := reader{p, map[specs.Arch][]line{}}
	for _, a := range abis {
		for _, s := range p.Syscalls {
			for _, name := range s.Names {
				if nr, ok := Number(a.arch, name); ok {
					r.lines[a.arch] = append(r.lines[a.arch], line{nr, naiveAnswer(s.Action, s.ErrnoRet), s.Args})
				}
			}
		}
	}
	return &r
}

func (p *reader) judge(e entry) uint32 {
	arch, listed := archOfEntry(p.LinuxSeccomp, e)
	if !listed {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	fallback := naiveAnswer(p.DefaultAction, p.DefaultErrnoRet)
	narrow := arch == specs.ArchX86 || arch == specs.ArchARM
	alike := arch == specs.ArchX32 && slices.Contains(p.Architectures, specs.ArchX86_64)
	if alike && e.nr < x32Bit+512 {
		e.nr -= x32Bit
		return p.judge(e)
	}
	last, hit := uint32(0), uint32(0)
	found, sure := false, false
	for _, l := range p.lines[arch] {
		if usual(arch, l.nr) {
			last = max(last, l.nr)
		}
		if l.nr != e.nr || l.ret == fallback || sure {
			continue
		}
		if len(l.args) == 0 {
			hit, found, sure = l.ret, true, true
		} else if !found && naiveMatch(l.args, e.args, narrow) {
			hit, found = l.ret, true
		}
	}
	switch {
	case found:
		return hit
	case arch == specs.ArchX86 && (e.nr == 102 || e.nr == 117):
		return naiveMux(p.LinuxSeccomp, e, fallback)
	case e.nr > last && usual(arch, e.nr) && (last > 0 || alike) && !permissive(p.DefaultAction):
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return fallback
}

// naiveMux judges socketcall and ipc by the rules for what is called through them.
func naiveMux(p *specs.LinuxSeccomp, e entry, fallback uint32) uint32 {
	names := map[uint64]string{1: "socket", 2: "bind", 3: "connect", 4: "listen", 5: "accept", 6: "getsockname",
		7: "getpeername", 8: "socketpair", 9: "send", 10: "recv", 11: "sendto", 12: "recvfrom", 13: "shutdown",
		14: "setsockopt", 15: "getsockopt", 16: "sendmsg", 17: "recvmsg", 18: "accept4", 19: "recvmmsg", 20: "sendmmsg"}
	what := e.args[0] & 0xffffffff
	if e.nr == 117 {
		names = map[uint64]string{1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv",
			13: "msgget", 14: "msgctl", 21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl"}
		what &= 0xffff
	}
	for _, r := range p.Syscalls {
		for _, name := range r.Names {
			if ret := naiveAnswer(r.Action, r.ErrnoRet); name == names[what] && len(r.Args) == 0 && ret != fallback {
				return ret
			}
		}
	}
	return fallback
}

func permissive(a specs.LinuxSeccompAction) bool {
	return a == specs.ActAllow || a == specs.ActLog || a == specs.ActTrace
}

// usual says whether a number is in the architecture's usual numbering.
func usual(arch specs.Arch, nr uint32) bool {
	switch arch {
	case specs.ArchX32:
		return nr < x32Bit+512 || nr >= x32Bit+548
	case specs.ArchARM:
		return nr < 0xf0000 || nr >= 0xf0008
	}
	return true
}

func archOfEntry(p *specs.LinuxSeccomp, e entry) (specs.Arch, bool) {
	arches := p.Architectures
	if len(arches) == 0 {
		arches = []specs.Arch{abis[native()].arch}
	}
	has := func(a specs.Arch) bool {
		for _, b := range arches {
			if a == b {
				return true
			}
		}
		return false
	}
	arch := map[uint32]specs.Arch{unix.AUDIT_ARCH_X86_64: specs.ArchX86_64, unix.AUDIT_ARCH_I386: specs.ArchX86,
		unix.AUDIT_ARCH_AARCH64: specs.ArchAARCH64, unix.AUDIT_ARCH_ARM: specs.ArchARM}[e.audit]
	if arch == specs.ArchX86_64 && e.nr&x32Bit != 0 && (e.nr != 0xffffffff || has(specs.ArchX32)) {
		arch = specs.ArchX32
		// What has bit 31 too is no x32 call, but it is not x86_64 either.
	} else if arch == specs.ArchX86_64 && e.nr >= x32Bit && e.nr != 0xffffffff {
		arch = specs.ArchX32
	}
	return arch, has(arch)
}

func naiveAnswer(a specs.LinuxSeccompAction, errno *uint) uint32 {
	n := uint32(unix.EPERM)
	if errno != nil {
		n = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return 0x7fff0000
	case specs.ActErrno:
		return 0x00050000 | n
	case specs.ActTrace:
		return 0x7ff00000 | n
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActNotify:
		return 0x7fc00000
	case specs.ActTrap:
		return 0x00030000
	case specs.ActKillProcess:
		return 0x80000000
	}
	return 0 // kill the thread
}

func naiveMatch(tests []specs.LinuxSeccompArg, args [6]uint64, narrow bool) bool {
	counts := map[uint]int{}
	hold := 0
	repeated := false
	for _, t := range tests {
		counts[t.Index]++
		repeated = repeated || counts[t.Index] > 1
		if naiveTest(t, args[t.Index], narrow) {
			hold++
		}
	}
	return hold == len(tests) || repeated && hold > 0
}

func naiveTest(t specs.LinuxSeccompArg, arg uint64, narrow bool) bool {
	v, w := t.Value, t.ValueTwo
	if narrow {
		arg, v, w = uint64(uint32(arg)), uint64(uint32(v)), uint64(uint32(w))
	}
	switch t.Op {
	case specs.OpEqualTo:
		return arg == v
	case specs.OpNotEqual:
		return arg != v
	case specs.OpLessThan:
		return arg < v
	case specs.OpLessEqual:
		return arg <= v
	case specs.OpGreaterThan:
		return arg > v
	case specs.OpGreaterEqual:
		return arg >= v
	}
	return arg&v == w&v
}
