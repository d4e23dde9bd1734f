package seccomp

import "golang.org/x/sys/unix"

// A fake is a call that cannot work where one id is mapped, and the arguments that tell.
type fake struct {
	name  string
	kind  uint8
	index uint8 // of the first argument that matters
	count uint8 // of such arguments
}

const (
	// fakeIDs: made if every id is 0 or -1 (which means "leave it"), else a success that does nothing.
	fakeIDs = iota
	// fakeAlways: the kernel has setgroups denied there, whatever the arguments.
	fakeAlways
	// fakeDevice: no devices can be made, but FIFOs, sockets and regular files; and the character device 0:0, which
	// overlay uses to mark a deleted file. The first argument that matters is the mode, then comes the device.
	fakeDevice
)

// fakes are the calls that Options.FakeIDs answers. Those with 32 at the end are found on x86 and arm, where the name
// without it has ids of 16 bits.
var fakes = [...]fake{
	{"chown", fakeIDs, 1, 2}, {"lchown", fakeIDs, 1, 2}, {"fchown", fakeIDs, 1, 2}, {"fchownat", fakeIDs, 2, 2},
	{"chown32", fakeIDs, 1, 2}, {"lchown32", fakeIDs, 1, 2}, {"fchown32", fakeIDs, 1, 2},
	{"setuid", fakeIDs, 0, 1}, {"setgid", fakeIDs, 0, 1}, {"setuid32", fakeIDs, 0, 1}, {"setgid32", fakeIDs, 0, 1},
	{"setreuid", fakeIDs, 0, 2}, {"setregid", fakeIDs, 0, 2},
	{"setreuid32", fakeIDs, 0, 2}, {"setregid32", fakeIDs, 0, 2},
	{"setresuid", fakeIDs, 0, 3}, {"setresgid", fakeIDs, 0, 3},
	{"setresuid32", fakeIDs, 0, 3}, {"setresgid32", fakeIDs, 0, 3},
	{"setfsuid", fakeIDs, 0, 1}, {"setfsgid", fakeIDs, 0, 1},
	{"setfsuid32", fakeIDs, 0, 1}, {"setfsgid32", fakeIDs, 0, 1},
	{"setgroups", fakeAlways, 0, 0}, {"setgroups32", fakeAlways, 0, 0},
	{"mknod", fakeDevice, 1, 2}, {"mknodat", fakeDevice, 2, 2},
}

// success makes a call return 0 without being made: an errno of 0.
const success = unix.SECCOMP_RET_ERRNO

// fakeIDs puts the fakes in place of verdicts that let the call pass unconditionally. capset is not among them: it
// works there as elsewhere, and who drops a capability must lose it.
func (c *compiler) fakeIDs() {
	for i := range fakes {
		var s search
		k := s.find(fakes[i].name)
		for j := range c.sections {
			if nr := k.nr[c.sections[j].column]; nr != none && !c.sections[j].alike { // x32 has none of its own
				c.fakeCall(&c.sections[j], nr, &fakes[i])
			}
		}
	}
}

func (c *compiler) fakeCall(s *section, nr uint16, f *fake) {
	l := &c.leaves[s.verdict[nr]]
	if l.tests != nil || l.ret != unix.SECCOMP_RET_ALLOW && l.ret != unix.SECCOMP_RET_LOG {
		return
	}
	if !abis[s.column].apart(nr) {
		s.faked = max(s.faked, int(nr))
	}
	if f.kind == fakeAlways {
		s.verdict[nr] = c.plain(success)
		return
	}
	// Only the ids of the old calls have 16 bits; where the calls are old, the newer ones end in 32 or at.
	end := f.name[len(f.name)-1]
	old := f.kind == fakeIDs && abis[s.column].old && end != '2' && end != 't'
	s.verdict[nr] = c.fakeLeaf(leaf{ret: l.ret, fake: f, old: old})
}

// fakeLeaf gives one leaf for all calls that differ in name only.
func (c *compiler) fakeLeaf(n leaf) uint16 {
	for i := range c.leaves {
		l := &c.leaves[i]
		if l.fake != nil && l.ret == n.ret && l.old == n.old && l.fake.kind == n.fake.kind &&
			l.fake.index == n.fake.index && l.fake.count == n.fake.count {
			return uint16(i)
		}
	}
	return c.newLeaf(n)
}

// assemble writes the tests of a fake; pass is the answer for a call that is really made. Ids and modes have 32 bits
// at most, so the low half of an argument is all that the kernel looks at.
func (f *fake) assemble(a *assembler, pass uint32, old bool) label {
	yes, no := a.ret(pass), a.ret(success)
	if f.kind == fakeDevice {
		device := a.load(low(uint(f.index)+1), a.branch(opJEQ, 0, yes, no))
		mode := a.branch(opJEQ, unix.S_IFCHR, device, a.branch(opJEQ, unix.S_IFBLK, no, yes))
		return a.load(low(uint(f.index)), a.and(unix.S_IFMT, mode))
	}
	mask := uint32(0xffffffff)
	if old {
		mask = 0xffff
	}
	for i := f.index + f.count; i > f.index; i-- {
		id := a.branch(opJEQ, 0, yes, a.branch(opJEQ, mask, yes, no))
		yes = a.load(low(uint(i-1)), a.and(mask, id))
	}
	return yes
}
