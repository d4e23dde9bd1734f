package early

// Numbers of the system calls that are this package's own.
const (
	sysWrite     = 1
	sysMmap      = 9
	sysPread64   = 17
	sysExitGroup = 231
)
