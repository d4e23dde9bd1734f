package early

// Numbers of the system calls that are this package's own.
const (
	sysWrite     = 64
	sysPread64   = 67
	sysExitGroup = 94
	sysMmap      = 222
)
