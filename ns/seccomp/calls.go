package seccomp

import (
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run mktables.go

// A call is a system call: its name and its numbers, one for each entry of abis.
type call struct {
	name string
	nr   [len(abis)]uint16
}

const (
	none    = 0xffff // the ABI lacks the call
	private = 0x230  // nr private+n stands for number 0xf0000+n: arm's private calls, see number
	columns = 0x238  // one more than the highest nr in the table
)

// An abi is a way to enter the kernel: an architecture with its own numbers. It is what the OCI specification calls an
// architecture; the kernel sees x86_64 and x32 as one, told apart by bit 30 of the number.
type abi struct {
	arch   specs.Arch
	audit  uint32
	base   uint32 // is added to all numbers
	narrow bool   // arguments have 32 bits; a profile's 64-bit values are cut to fit, as libseccomp does
	old    bool   // has calls with 16-bit ids, and the 32-bit ones end in "32"
}

const x32Bit = 0x40000000

// abis is in the order of the columns in calls. It has hull's two platforms and what else their kernels run.
var abis = [5]abi{
	{arch: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64},
	{arch: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, narrow: true, old: true},
	{arch: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, base: x32Bit},
	{arch: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64},
	{arch: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, narrow: true, old: true},
}

const (
	amd64 = iota
	x86
	x32
	arm64
	arm
)

// abiOf gives the index in abis, or -1.
func abiOf(arch specs.Arch) int {
	for i := range abis {
		if abis[i].arch == arch {
			return i
		}
	}
	return -1
}

// native gives the ABI of this program, or -1 where hull has no tables.
func native() int {
	switch runtime.GOARCH {
	case "amd64":
		return amd64
	case "arm64":
		return arm64
	}
	return -1
}

// number turns a column of the table into the number that the kernel sees.
func (a *abi) number(nr uint32) uint32 {
	if nr >= private {
		return 0xf0000 + nr - private
	}
	return a.base + nr
}

// own gives the range, in the table's numbers, that is set apart from the usual numbering: x32's own calls, arm's
// private ones. The highest number in it says nothing about how new a profile is.
func (a *abi) own() (first, end uint32) {
	switch a.arch {
	case specs.ArchX32:
		return 512, 548
	case specs.ArchARM:
		return private, columns
	}
	return 0, 0
}

// apart says whether nr lies in that range.
func (a *abi) apart(nr uint16) bool { return nr >= 512 && (nr >= private || a.base == x32Bit) }

// Number gives the number of the system call name on arch, which for x32 includes bit 30. The last result is false
// where the architecture lacks the call or hull has no table for it.
func Number(arch specs.Arch, name string) (uint32, bool) {
	a := abiOf(arch)
	var s search
	c := s.find(name)
	if a < 0 || c == nil || c.nr[a] == none {
		return 0, false
	}
	return abis[a].number(uint32(c.nr[a])), true
}

// A search remembers where the last name was found, because profiles list theirs mostly in order: then each costs one
// or two comparisons instead of ten.
type search struct{ next int }

// find gives the call of that name, or nil.
func (s *search) find(name string) *call {
	lo, hi := 0, s.next // the name is in calls[lo:hi] or nowhere
	if hi < len(calls) && calls[hi].name <= name {
		for step := 1; ; step *= 2 {
			lo, hi = hi, hi+step
			if hi >= len(calls) {
				hi = len(calls)
				break
			}
			if calls[hi].name > name {
				break
			}
		}
	}
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if calls[mid].name <= name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	s.next = lo
	if lo > 0 && calls[lo-1].name == name {
		return &calls[lo-1]
	}
	return nil
}
