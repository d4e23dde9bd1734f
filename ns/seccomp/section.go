package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A section holds the verdicts for the calls of one architecture: indices into leaves, by the table's numbers.
type section struct {
	column  int  // in calls and abis
	alike   bool // this is x32, and below 512 it has the verdicts of x86_64
	last    int  // highest usual number that the profile names, or 0; calls beyond are newer than the profile
	faked   int  // highest usual number with a fake
	verdict [columns]uint16
}

// A leaf is what a call gets: tests on its arguments, if there are any, then ret.
type leaf struct {
	ret    uint32
	tests  []uint16 // rules with tests, in order
	fake   *fake    // see fakes; the leaf has no other tests then
	narrow bool     // arguments of 32 bits
	old    bool     // ids of 16 bits
	at     label    // where it was written, plus one
}

// The first leaves.
const (
	leafDefault = iota
	leafNewer
	leafBadArch
)

const (
	enosys  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	badArch = unix.SECCOMP_RET_KILL_PROCESS
)

// name gives a call the rule of that index, or at once the verdict that it amounts to.
func (s *section) name(c *compiler, k *call, simple uint16, index int) {
	nr := k.nr[s.column]
	if nr == none {
		return
	}
	if !abis[s.column].apart(nr) {
		if s.alike {
			return
		}
		s.last = max(s.last, int(nr))
	}
	if simple != leafDefault && s.verdict[nr] == leafDefault {
		s.verdict[nr] = simple
		return
	}
	s.add(c, int(nr), index)
}

// add gives one more rule to a call, in the order of precedence that Compile promises.
func (s *section) add(c *compiler, nr, index int) {
	r := &c.rules[index]
	v := &s.verdict[nr]
	l := &c.leaves[*v]
	ret := result(r)
	switch {
	case ret == c.fallback: // says nothing new
	case *v != leafDefault && l.tests == nil: // an unconditional rule came before
	case len(r.Args) == 0:
		*v = c.plain(ret)
	case *v != leafDefault:
		l.tests = append(l.tests, uint16(index))
	default:
		tests := append(make([]uint16, 0, 8), uint16(index))
		*v = c.newLeaf(leaf{ret: c.fallback, tests: tests, narrow: abis[s.column].narrow})
	}
}

func (c *compiler) newLeaf(l leaf) uint16 {
	c.leaves = append(c.leaves, l)
	return uint16(len(c.leaves) - 1)
}

// plain gives the leaf that only returns.
func (c *compiler) plain(ret uint32) uint16 {
	for i := range c.leaves {
		if l := &c.leaves[i]; i != leafDefault && l.ret == ret && l.tests == nil && l.fake == nil {
			return uint16(i)
		}
	}
	return c.newLeaf(leaf{ret: ret})
}

// strict says whether the default action stands in a program's way, so that a newer call must be told from a
// forbidden one. LOG and TRACE do not: they let the kernel, or a tracer, answer.
func (c *compiler) strict() bool {
	switch c.fallback &^ retData {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return false
	}
	return true
}

// newer is the leaf for numbers beyond those that the profile knows.
func (s *section) newer(c *compiler) uint16 {
	if (s.last > 0 || s.alike) && c.strict() {
		return leafNewer
	}
	return leafDefault
}

// calls writes what finds the verdict for the system call number in the accumulator.
func (c *compiler) calls(audit uint32) label {
	if audit == unix.AUDIT_ARCH_X86_64 {
		return c.callsX86(c.section(amd64), c.section(x32))
	}
	i := slices.IndexFunc(c.sections, func(s section) bool { return abis[s.column].audit == audit })
	return c.tree(c.sections[i].spans(c, c.room.spans[:0]), c.leaf)
}

// callsX86 does so for the two ABIs that share an architecture; either may be nil.
func (c *compiler) callsX86(long, short *section) label {
	out := c.room.spans[:0]
	switch {
	case long == nil:
		return c.tree(short.spans(c, append(out, span{0, leafBadArch})), c.leaf)
	case short == nil:
		out = push(long.spans(c, out), x32Bit, leafBadArch)
		// A tracer sets number -1 to have a call skipped: that is not x32.
		return c.tree(push(out, 0xffffffff, long.newer(c)), c.leaf)
	}
	usual := c.tree(long.spans(c, out), c.leaf)
	own := c.tree(short.ownSpans(c, out), c.leaf)
	first, _ := abis[x32].own()
	return c.branch(opJGE, x32Bit, c.branch(opJGE, x32Bit+first, own, c.and(^uint32(x32Bit), usual)), usual)
}

// spans gives the verdicts as ranges of system call numbers.
func (s *section) spans(c *compiler, out []span) []span {
	a, newer := &abis[s.column], s.newer(c)
	end := max(s.last, s.faked) + 1
	for nr, v := range s.verdict[:end] {
		if v == leafDefault && nr > s.last {
			v = newer
		}
		out = push(out, a.base+uint32(nr), v)
	}
	out = push(out, a.base+uint32(end), newer)
	return s.ownSpans(c, out)
}

// ownSpans adds the numbers that are set apart, see own, and what is beyond.
func (s *section) ownSpans(c *compiler, out []span) []span {
	a := &abis[s.column]
	first, end := a.own()
	for nr := first; nr < end; nr++ {
		out = push(out, a.number(nr), s.verdict[nr])
	}
	if first < end {
		out = push(out, a.number(end), s.newer(c))
	}
	return out
}

// push adds a span unless it goes on with what the last one says.
func push(spans []span, from uint32, what uint16) []span {
	if n := len(spans); n > 0 && spans[n-1].what == what {
		return spans
	}
	return append(spans, span{from, what})
}

// leaf writes the leaf of that index, unless it is written already.
func (c *compiler) leaf(index uint16) label {
	l := &c.leaves[index]
	switch {
	case l.tests == nil && l.fake == nil:
		return c.ret(l.ret)
	case l.at == 0 && l.fake != nil:
		l.at = 1 + l.fake.assemble(&c.assembler, l.ret, l.old)
	case l.at == 0:
		l.at = 1 + c.conditions(l)
	}
	return l.at - 1
}

// conditions writes the tests of a leaf's rules, the last rule first.
func (c *compiler) conditions(l *leaf) label {
	next := c.ret(l.ret)
	for end := len(l.tests); end > 0; {
		begin := c.similar(l.tests[:end])
		if end-begin > 1 {
			next = c.set(l.tests[begin:end], l.narrow, next)
		} else {
			next = c.rule(&c.rules[l.tests[begin]], l.narrow, next)
		}
		end = begin
	}
	return next
}

// rule writes the tests of one rule, and what follows if they hold; next is for the case that they do not.
func (c *compiler) rule(r *specs.LinuxSyscall, narrow bool, next label) label {
	yes, any := c.ret(result(r)), either(r.Args)
	then := yes
	for i := range slices.Backward(r.Args) {
		if any {
			next = c.test(&r.Args[i], narrow, yes, next)
		} else {
			then = c.test(&r.Args[i], narrow, then, next)
		}
	}
	if any {
		return next
	}
	return then
}

// set writes the question of similar rules.
func (c *compiler) set(rules []uint16, narrow bool, next label) label {
	values := make([]uint64, len(rules))
	for i, k := range rules {
		values[i] = c.rules[k].Args[0].Value
	}
	slices.Sort(values)
	r := &c.rules[rules[0]]
	return c.oneOf(r.Args[0].Index, values, narrow, c.ret(result(r)), next)
}

// similar gives the index of the first of those last rules that differ only in the value that one argument must have:
// together they are a question for a set, as in Docker's list of socket families.
func (c *compiler) similar(rules []uint16) int {
	begin := len(rules) - 1
	last := &c.rules[rules[begin]]
	for begin > 0 {
		r := &c.rules[rules[begin-1]]
		if !single(r) || !single(last) || result(r) != result(last) || r.Args[0].Index != last.Args[0].Index {
			break
		}
		begin--
	}
	return begin
}

func single(r *specs.LinuxSyscall) bool { return len(r.Args) == 1 && r.Args[0].Op == specs.OpEqualTo }

// A part is one of the calls that x86 reaches through another: its first argument says which.
type part struct {
	name string
	code uint64
}

// socketParts and ipcParts are from linux/net.h and linux/ipc.h.
var socketParts = [...]part{{"socket", 1}, {"bind", 2}, {"connect", 3}, {"listen", 4}, {"accept", 5}, {"getsockname", 6},
	{"getpeername", 7}, {"socketpair", 8}, {"send", 9}, {"recv", 10}, {"sendto", 11}, {"recvfrom", 12}, {"shutdown", 13},
	{"setsockopt", 14}, {"getsockopt", 15}, {"sendmsg", 16}, {"recvmsg", 17}, {"accept4", 18}, {"recvmmsg", 19},
	{"sendmmsg", 20}}

var ipcParts = [...]part{{"semop", 1}, {"semget", 2}, {"semctl", 3}, {"semtimedop", 4}, {"msgsnd", 11}, {"msgrcv", 12},
	{"msgget", 13}, {"msgctl", 14}, {"shmat", 21}, {"shmdt", 22}, {"shmget", 23}, {"shmctl", 24}}

// multiplex carries rules for socket calls and IPC over to socketcall and ipc, unless the profile has a rule without
// tests for these. A rule with tests cannot be carried over: there the arguments lie behind a pointer.
func (c *compiler) multiplex(s *section, through string, parts []part, mask uint64) {
	nr, _ := Number(specs.ArchX86, through)
	if v := s.verdict[nr]; v != leafDefault && c.leaves[v].tests == nil {
		return
	}
	for _, p := range parts {
		i := slices.IndexFunc(c.rules, func(r specs.LinuxSyscall) bool {
			return len(r.Args) == 0 && result(&r) != c.fallback && slices.Contains(r.Names, p.name)
		})
		if i < 0 {
			continue
		}
		r := c.rules[i]
		r.Args = []specs.LinuxSeccompArg{{Value: mask, ValueTwo: p.code, Op: specs.OpMaskedEqual}}
		c.rules = append(c.rules, r)
		s.add(c, int(nr), len(c.rules)-1)
	}
}

// finish adds what is not in the profile's rules.
func (c *compiler) finish() {
	if s := c.section(x86); s != nil {
		c.multiplex(s, "socketcall", socketParts[:], 0xffffffff)
		c.multiplex(s, "ipc", ipcParts[:], 0xffff) // above it is the version of the interface
	}
	if c.fake {
		c.fakeIDs()
	}
}
