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

// rawSyscall6 is [syscall.RawSyscall6]: r is the result, or -1 if errno is not 0.
func rawSyscall6(nr, a1, a2, a3, a4, a5, a6 uintptr) (r, errno uintptr)

// exit ends the process with hull's own exit status, should nobody read the report.
//
//go:nosplit
//go:norace
func exit() {
	for {
		rawSyscall6(sysExitGroup, 125, 0, 0, 0, 0, 0)
	}
}

// environ is the environment as the runtime has kept it. Package syscall has it the same way.
//
//go:linkname environ syscall.runtime_envs
func environ() []string

// lookup is the environment's value of name.
func lookup(name string) (value string, ok bool) {
	for _, word := range environ() {
		if n := len(name); len(word) > n && word[:n] == name && word[n] == '=' {
			return word[n+1:], true
		}
	}
	return "", false
}
