package early

import _ "unsafe" // for go:linkname

// Of errno(3) and mmap(2), the same for all processors that hull is built for.
const (
	eintr      = 4
	epipe      = 32
	protRead   = 1
	protWrite  = 2
	mapPrivate = 2
)

// The names of others: to import package syscall would mean to be initialised after it.

//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

//go:linkname environ syscall.runtime_envs
func environ() []string

// exit ends the process with hull's own exit status, should nobody read the report.
//
//go:nosplit
//go:norace
func exit() {
	for {
		rawSyscall6(sysExitGroup, 125, 0, 0, 0, 0, 0)
	}
}

// lookup is the environment's value of name.
func lookup(name string) (value string, ok bool) {
	for _, word := range environ() {
		if n := len(name); len(word) > n && word[:n] == name && word[n] == '=' {
			return word[n+1:], true
		}
	}
	return "", false
}
