package ns

import (
	"fmt"
	"syscall"
	"unsafe"

	"github.com/hullrun/hull/ns/early"
)

// program collects the system calls of a container's birth, and the strings and structures that they point to, as
// offsets into one block of memory. [program.finish] lays it out for package early.
type program struct {
	calls []early.Call
	where []uint8 // bit k set: argument k is an offset into data
	steps []step  // what each call is for, should it fail
	data  []byte
	words []uint32 // offsets into data of words that are themselves offsets into data
}

// step names a call in the words of an error message: operation and operand.
type step struct{ op, operand string }

// arg is an argument of a call: a number, the place of some data, or the word at a place once earlier calls have run.
type arg struct {
	v    uint64
	kind argKind
}

type argKind uint8

const (
	number argKind = iota
	place
	load
)

// slot is the place of a word that keeps a result, such as a descriptor, for later calls.
type slot uint32

func num[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](v T) arg {
	return arg{uint64(v), number}
}

func (s slot) value() arg { return arg{uint64(s), load} }

// str is a C string.
func (p *program) str(s string) arg {
	off := len(p.data)
	p.data = append(append(p.data, s...), 0)
	return arg{uint64(off), place}
}

// bytes is a block of data, aligned to eight bytes.
func (p *program) bytes(b []byte) arg {
	p.align()
	off := len(p.data)
	p.data = append(p.data, b...)
	return arg{uint64(off), place}
}

// strs is a NULL-terminated array of C strings, as execve wants for arguments and environment.
func (p *program) strs(list []string) arg {
	places := make([]arg, len(list))
	for i, s := range list {
		places[i] = p.str(s)
	}
	return p.array(append(places, arg{}))
}

// array lays out words, each a number or a place.
func (p *program) array(items []arg) arg {
	p.align()
	off := len(p.data)
	for _, it := range items {
		if it.kind == place {
			p.words = append(p.words, uint32(len(p.data)))
		}
		p.data = append(p.data, (*[8]byte)(unsafe.Pointer(&it.v))[:]...)
	}
	return arg{uint64(off), place}
}

func (p *program) slot() slot {
	return slot(p.bytes(make([]byte, 8)).v)
}

func (p *program) align() {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
}

// call appends a system call. The result serves to adjust it and holds until the next call is appended.
func (p *program) call(op, operand string, nr uintptr, args ...arg) *call {
	c, where := early.Call{Nr: uint32(nr)}, uint8(0)
	for k, a := range args {
		c.Args[k] = a.v
		if a.kind != number {
			where |= 1 << k
		}
		if a.kind == load {
			c.Load |= 1 << k
		}
	}
	p.calls = append(p.calls, c)
	p.where = append(p.where, where)
	p.steps = append(p.steps, step{op, operand})
	return (*call)(&p.calls[len(p.calls)-1])
}

// call is the last call of a program, with the things one wants to say of it.
type call early.Call

// into keeps the result in s. Offset 0 of the data is never handed out as a slot, see finish.
func (c *call) into(s slot) *call { c.Store = uint64(s); return c }

// orGoOn ignores these errors, or any if none is named.
func (c *call) orGoOn(errnos ...syscall.Errno) *call { return c.orSkip(0, errnos...) }

// orSkip ignores these errors, or any, and leaves out the n calls that follow.
func (c *call) orSkip(n int, errnos ...syscall.Errno) *call {
	c.OnErr = uint16(n + 1)
	for i, e := range errnos {
		c.Errno[i] = uint16(e)
	}
	return c
}

// thenSkip leaves out the n calls that follow if this one succeeds.
func (c *call) thenSkip(n int) *call { c.OnOK = uint16(n); return c }

// nonzero makes a result of 0 an error.
func (c *call) nonzero() *call { c.Flags |= early.Nonzero; return c }

// blob is a finished program: header, relocation table, calls and data in one block, words still relative.
type blob struct {
	head early.Header
	mem  []uint64
}

// finish lays the program out; first is the call at which a re-executed child resumes.
func (p *program) finish(first int, socket int) blob {
	relocs := p.relocs()
	const head = unsafe.Sizeof(early.Header{})
	calls := (head + 4*uintptr(len(relocs)) + 7) &^ 7
	data := calls + early.CallSize*uintptr(len(p.calls))
	b := blob{
		head: early.Header{
			Size: uint64(data) + uint64(len(p.data)), Calls: uint64(calls), NCalls: uint64(len(p.calls)),
			First: uint64(first), Socket: uint64(socket), Relocs: uint64(head), NReloc: uint64(len(relocs)),
		},
		mem: make([]uint64, (data+uintptr(len(p.data))+7)/8),
	}
	mem := b.bytes()
	*(*early.Header)(unsafe.Pointer(&mem[0])) = b.head
	for i, off := range relocs {
		if off >= dataMark { // a word inside the data
			off = uint32(data) + off - dataMark
			*(*uint64)(unsafe.Pointer(&p.data[off-uint32(data)])) += uint64(data)
		} else {
			off += uint32(calls)
			*(*uint64)(unsafe.Add(unsafe.Pointer(&p.calls[0]), off-uint32(calls))) += uint64(data)
		}
		*(*uint32)(unsafe.Pointer(&mem[head+4*uintptr(i)])) = off
	}
	copy(mem[calls:], unsafe.Slice((*byte)(unsafe.Pointer(&p.calls[0])), early.CallSize*uintptr(len(p.calls))))
	copy(mem[data:], p.data)
	return b
}

// dataMark tells offsets into the data from offsets into the calls while the table of relocations is made.
const dataMark = 1 << 31

// relocs lists the words that hold a place: arguments and stores of calls, and words in the data.
func (p *program) relocs() []uint32 {
	list := make([]uint32, 0, 4*len(p.calls)+len(p.words))
	for i := range p.calls {
		base := uint32(i) * uint32(early.CallSize)
		for k := range 6 {
			if p.where[i]&(1<<k) != 0 {
				list = append(list, base+uint32(unsafe.Offsetof(early.Call{}.Args))+8*uint32(k))
			}
		}
		if p.calls[i].Store != 0 {
			list = append(list, base+uint32(unsafe.Offsetof(early.Call{}.Store)))
		}
	}
	for _, w := range p.words {
		list = append(list, dataMark+w)
	}
	return list
}

func (b *blob) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&b.mem[0])), len(b.mem)*8)
}

// place readies the blob to be performed where it lies, and returns its first call.
func (b *blob) place() *early.Call {
	base := uintptr(unsafe.Pointer(&b.mem[0]))
	early.Relocate(base, &b.head)
	return (*early.Call)(unsafe.Pointer(&b.bytes()[b.head.Calls]))
}

// word is where a slot of the program lies in the blob.
func (b *blob) word(s slot) *uintptr {
	data := uintptr(b.head.Calls) + uintptr(b.head.NCalls)*early.CallSize
	return (*uintptr)(unsafe.Pointer(&b.bytes()[data+uintptr(s)]))
}

// error makes the words of an error out of the number of the call that failed.
func (p *program) error(index int, errno syscall.Errno) error {
	if index >= len(p.steps) {
		return fmt.Errorf("container init: call %d of %d: %w", index, len(p.steps), errno)
	}
	s := p.steps[index]
	if s.op == appArmorOp && errno == syscall.ENOENT {
		return fmt.Errorf("%s %q: it is not loaded: apparmor_parser -r FILE loads a profile", s.op, s.operand)
	}
	if s.operand == "" {
		return fmt.Errorf("%s: %w", s.op, errno)
	}
	return fmt.Errorf("%s %s: %w", s.op, s.operand, errno)
}
