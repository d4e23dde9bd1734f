package monitor

import (
	"syscall"
	"unsafe"
)

// The Go runtime lets no thread of a program block the signals that end it, so they cannot be read from a descriptor
// (signalfd(2)), and package os/signal is not initialised yet. So SIGTERM has a handler of a few instructions, which adds
// to an eventfd(2) that the monitor polls, and those that people and shells may send beside it are ignored. What a monitor
// executes gets the default again for SIGTERM; package syscall gives it for all where it forks.

// termFD is the eventfd that the handler adds termOne to.
var (
	//lint:ignore U1000 read in signal_*.s
	termFD int32 = -1
	//lint:ignore U1000 read in signal_*.s
	termOne uint64 = 1
)

// handlerCode gives the addresses of the handler and of what it returns to, see signal_*.s.
func handlerCode() (handler, restorer uintptr)

// catchSignals makes the eventfd, -1 if there is none to be had.
func catchSignals() int {
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, efdCloexec|efdNonblock, 0)
	if errno != 0 {
		return -1
	}
	termFD = int32(fd)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM} {
		setAction(sig, sigaction{handler: sigIgn})
	}
	handler, restorer := handlerCode()
	setAction(syscall.SIGTERM, sigaction{handler: handler, flags: saRestorer | saOnStack | saRestart, restorer: restorer})
	return int(fd)
}

// sigaction is struct kernel_sigaction, sigaction(2).
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

const (
	sigIgn     = 1
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
)

func setAction(sig syscall.Signal, action sigaction) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, sizeofSigset, 0, 0)
}
