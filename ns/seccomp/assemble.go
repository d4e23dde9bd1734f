package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Instructions of classic BPF that a seccomp filter may use (kernel: seccomp_check_filter).
const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opJEQ  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJGE  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opJGT  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opRet  = unix.BPF_RET | unix.BPF_K
)

// Offsets in struct seccomp_data, for the little-endian machines that hull knows.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// low and high give the offsets of the two halves of argument i.
func low(i uint) uint32  { return offArgs + 8*uint32(i) }
func high(i uint) uint32 { return low(i) + 4 }

// An assembler writes a program from its end to its beginning: jumps only lead forward, so every target is there
// before the jump to it. A label is the index of an instruction in this reversed program.
type assembler struct {
	code []unix.SockFilter
	rets []label // the latest copy of each return
}

type label int

func (a *assembler) put(op uint16, k uint32) label {
	a.code = append(a.code, unix.SockFilter{Code: op, K: k})
	return label(len(a.code) - 1)
}

// ret gives a return of that value: one that is still near, or a new one.
func (a *assembler) ret(value uint32) label {
	for i, l := range a.rets {
		if a.code[l].K == value {
			if len(a.code)-int(l) > 128 { // half the reach, so that those who ask can use it for a while
				a.rets[i] = a.put(opRet, value)
			}
			return a.rets[i]
		}
	}
	l := a.put(opRet, value)
	a.rets = append(a.rets, l)
	return l
}

// near makes a target reachable from an instruction that follows after at most spare others. Conditional jumps reach
// over 255 instructions; beyond that a copy of the return helps, or a jump without condition, which reaches anywhere.
func (a *assembler) near(to label, spare int) label {
	skip := len(a.code) - int(to) - 1
	if skip+spare <= 255 {
		return to
	}
	if a.code[to].Code == opRet {
		return a.put(opRet, a.code[to].K)
	}
	return a.put(opJump, uint32(skip))
}

// branch jumps to yes if the comparison of the accumulator with k holds, else to no.
func (a *assembler) branch(op uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	yes = a.near(yes, 1)
	no = a.near(no, 0)
	here := len(a.code)
	a.code = append(a.code, unix.SockFilter{Code: op, K: k,
		Jt: uint8(here - int(yes) - 1), Jf: uint8(here - int(no) - 1)})
	return label(here)
}

// follow makes what is put next run into to, which may have been put long ago.
func (a *assembler) follow(to label) {
	switch {
	case int(to) == len(a.code)-1:
	case a.code[to].Code == opRet:
		a.put(opRet, a.code[to].K)
	default:
		a.put(opJump, uint32(len(a.code)-int(to)-1))
	}
}

// load reads a word of seccomp_data into the accumulator and goes on to then.
func (a *assembler) load(offset uint32, then label) label {
	a.follow(then)
	return a.put(opLoad, offset)
}

// and masks the accumulator and goes on to then; a mask of ones costs nothing.
func (a *assembler) and(mask uint32, then label) label {
	if mask == 0xffffffff {
		return then
	}
	a.follow(then)
	return a.put(opAnd, mask)
}

// program gives the finished program, its first instruction being the last one put.
func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.code)
	return a.code
}

// tree finds the span that the accumulator lies in, and goes where leaf says for that span. spans are given by where
// they begin, ascending, the first at 0.
func (a *assembler) tree(spans []span, leaf func(uint16) label) label {
	groups := make([]uint16, 0, len(spans)+1)
	for i := 0; i < len(spans); {
		groups = append(groups, uint16(i))
		i += exceptional(spans[i:])
	}
	return a.halve(spans, append(groups, uint16(len(spans))), leaf)
}

// halve finds the group of spans by halving. groups has the index of the first span of each, and of what follows.
func (a *assembler) halve(spans []span, groups []uint16, leaf func(uint16) label) label {
	if len(groups) == 2 {
		return a.exceptions(spans[groups[0]:groups[1]], leaf)
	}
	mid := len(groups) / 2
	hi := a.halve(spans, groups[mid:], leaf)
	lo := a.halve(spans, groups[:mid+1], leaf)
	return a.branch(opJGE, spans[groups[mid]].from, hi, lo)
}

// maxExceptions is how many single numbers may lie in a span that is not divided further. With more of them the
// program gets hardly shorter.
const maxExceptions = 2

// exceptional says how many spans from the first on are one span with exceptions: single numbers that differ from what
// is said around them.
func exceptional(spans []span) int {
	n := 1
	for n+1 < len(spans) && n < 2*maxExceptions && spans[n+1].what == spans[0].what && spans[n+1].from == spans[n].from+1 {
		n += 2
	}
	return n
}

// exceptions asks for those single numbers: one comparison for each, where halving would need two.
func (a *assembler) exceptions(spans []span, leaf func(uint16) label) label {
	next := leaf(spans[0].what)
	for i := len(spans) - 2; i > 0; i -= 2 {
		next = a.branch(opJEQ, spans[i].from, leaf(spans[i].what), next)
	}
	return next
}

// A span begins at from and reaches to the beginning of the next one; what is for the user of tree.
type span struct {
	from uint32
	what uint16
}

// test compares an argument of the call and goes to yes or no. On an ABI with 32-bit arguments only the low half of
// argument and value counts. "Less" is "greater or equal" with yes and no exchanged, and so on.
func (a *assembler) test(t *specs.LinuxSeccompArg, narrow bool, yes, no label) label {
	switch t.Op {
	case specs.OpNotEqual:
		return a.equal(t.Index, ^uint64(0), t.Value, narrow, no, yes)
	case specs.OpMaskedEqual:
		return a.equal(t.Index, t.Value, t.ValueTwo, narrow, yes, no)
	case specs.OpGreaterThan:
		return a.over(opJGT, t, narrow, yes, no)
	case specs.OpGreaterEqual:
		return a.over(opJGE, t, narrow, yes, no)
	case specs.OpLessEqual:
		return a.over(opJGT, t, narrow, no, yes)
	case specs.OpLessThan:
		return a.over(opJGE, t, narrow, no, yes)
	default: // checkTests has let nothing else pass
		return a.equal(t.Index, ^uint64(0), t.Value, narrow, yes, no)
	}
}

// equal tests argument&mask == value&mask. A half whose mask is empty needs no look.
func (a *assembler) equal(index uint, mask, value uint64, narrow bool, yes, no label) label {
	value &= mask
	if m := uint32(mask); m != 0 {
		yes = a.load(low(index), a.and(m, a.branch(opJEQ, uint32(value), yes, no)))
	}
	if m := uint32(mask >> 32); m != 0 && !narrow {
		yes = a.load(high(index), a.and(m, a.branch(opJEQ, uint32(value>>32), yes, no)))
	}
	return yes
}

// over tests argument > value (opJGT) or argument >= value (opJGE).
func (a *assembler) over(op uint16, t *specs.LinuxSeccompArg, narrow bool, yes, no label) label {
	l := a.load(low(t.Index), a.branch(op, uint32(t.Value), yes, no))
	if narrow {
		return l
	}
	h := uint32(t.Value >> 32)
	return a.load(high(t.Index), a.branch(opJGT, h, yes, a.branch(opJEQ, h, l, no)))
}

// oneOf tests whether an argument is one of the values, which are sorted.
func (a *assembler) oneOf(index uint, values []uint64, narrow bool, yes, no label) label {
	if narrow {
		cut := make([]uint64, len(values))
		for i, v := range values {
			cut[i] = uint64(uint32(v))
		}
		slices.Sort(cut)
		return a.lowOneOf(index, cut, yes, no)
	}
	next := no
	for end := len(values); end > 0; {
		h := uint32(values[end-1] >> 32)
		begin := end - 1
		for begin > 0 && uint32(values[begin-1]>>32) == h {
			begin--
		}
		next = a.branch(opJEQ, h, a.lowOneOf(index, values[begin:end], yes, no), next)
		end = begin
	}
	return a.load(high(index), next)
}

// lowOneOf does so for the low half alone.
func (a *assembler) lowOneOf(index uint, values []uint64, yes, no label) label {
	spans := make([]span, 1, 2*len(values)+1)
	for _, v := range values {
		v := uint32(v)
		if last := &spans[len(spans)-1]; last.from == v { // right behind the value before, or at 0
			last.what = 1
		} else if last.from < v {
			spans = append(spans, span{v, 1})
		}
		if v != 0xffffffff {
			spans = append(spans, span{v + 1, 0})
		}
	}
	return a.load(low(index), a.tree(merge(spans), func(what uint16) label {
		if what == 1 {
			return yes
		}
		return no
	}))
}

// merge joins neighbours that are alike, in place.
func merge(spans []span) []span {
	out := spans[:1]
	for _, s := range spans[1:] {
		if s.what != out[len(out)-1].what {
			out = append(out, s)
		}
	}
	return out
}
