// Package early carries out the birth of a container: a prepared list of system calls, performed by a process that has
// just been forked, before it becomes the program that the user asked for.
//
// It imports only unsafe. That has two reasons. A child forked from a Go process may neither allocate nor grow its stack,
// so [Perform] is a bare loop around one raw system call. And a package that imports no other is initialised as soon as
// its path's place in the alphabet allows, so that a re-executed hull ([Resume], called from init) gets to work while http,
// the command line library and the rest are still untouched. Package syscall alone would put it behind a dozen others
// that come earlier in the alphabet, those with the tables of DNS and of checksums among them.
//
// Do not use it to run anything but what package ns has prepared: there is no checking here.
package early

import "unsafe"

// Call is one system call of a program. Its size and layout are fixed, because programs cross an exec in a memory file.
type Call struct {
	Nr    uint32 // system call number
	Load  uint8  // bit k set: argument k is the address of a word, and the word's value is passed
	Flags uint8  // see Nonzero
	OnOK  uint16 // how many of the following calls to skip after success
	// OnErr says what an error means: 0 ends the process with a report, n > 0 carries on after skipping n-1 calls.
	OnErr uint16
	// Errno limits OnErr to these errors; all zero means any error.
	Errno [3]uint16
	Store uint64 // address of a word that takes the result, or 0
	Args  [6]uint64
}

// Nonzero makes a result of 0 an error (EPIPE): it is how a read sees that the other side is gone.
const Nonzero = 1

// CallSize is the size of a Call in bytes.
const CallSize = unsafe.Sizeof(Call{})

// Report is what a failing child, or the stub in its place, writes to the socket: eight bytes.
type Report struct {
	Kind  uint8 // KindFailed or KindExec
	_     uint8
	Index uint16 // number of the call that failed
	Errno uint32
}

// Kinds of message from the child. KindReady stands alone in a message of one byte.
const (
	KindReady  = 'r' // the world is ready, the program waits
	KindBorn   = 'p' // the program's process is forked: its pid is in the place of Errno; or -errno, if it is not
	KindFailed = 'f' // call Index failed with Errno
	KindExec   = 'x' // the program itself could not be executed, Errno says why
)

// Perform carries out the calls from number first up to n, and ends the process if one fails, after a Report to the socket.
// It returns only if the last call lets it.
//
// Nothing in here may allocate, grow the stack or be preempted: the caller may be the only thread of a forked copy of
// a Go process (see forkAndExecInChild in package syscall, which lives under the same rules).
//
//go:nosplit
//go:norace
//go:nocheckptr
func Perform(calls *Call, first, n, socket uintptr) {
	for i := first; i < n; {
		c := (*Call)(unsafe.Add(unsafe.Pointer(calls), i*CallSize))
		var a [6]uintptr
		for k := uintptr(0); k < 6; k++ {
			a[k] = uintptr(c.Args[k])
			if c.Load&(1<<k) != 0 {
				a[k] = *word(a[k])
			}
		}
		r, _, errno := rawSyscall6(uintptr(c.Nr), a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == eintr {
			continue
		}
		if errno == 0 && r == 0 && c.Flags&Nonzero != 0 {
			errno = epipe
		}
		switch {
		case errno == 0:
			if c.Store != 0 {
				*word(uintptr(c.Store)) = r
			}
			i += 1 + uintptr(c.OnOK)
		case c.OnErr != 0 && forgives(c, errno):
			i += uintptr(c.OnErr)
		default:
			fail(socket, i, errno)
		}
	}
}

// word is the machine word at an address inside the program, whose memory Go does not move.
//
//go:nosplit
//go:norace
func word(address uintptr) *uintptr { return *(**uintptr)(unsafe.Pointer(&address)) }

// forgives says whether errno is one of those for which OnErr holds.
//
//go:nosplit
//go:norace
func forgives(c *Call, errno uintptr) bool {
	e := uint16(errno)
	return c.Errno == [3]uint16{} || c.Errno[0] == e || c.Errno[1] == e || c.Errno[2] == e
}

// fail reports and ends the process.
//
//go:nosplit
//go:norace
func fail(socket, index uintptr, errno uintptr) {
	r := Report{Kind: KindFailed, Index: uint16(index), Errno: uint32(errno)}
	rawSyscall6(sysWrite, socket, uintptr(unsafe.Pointer(&r)), unsafe.Sizeof(r), 0, 0, 0)
	exit()
}
