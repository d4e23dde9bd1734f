package monitor

// Who attaches talks with the monitor over a Unix socket that keeps messages apart (SOCK_SEQPACKET, unix(7)). Each
// message begins with a byte for its kind.
//
//	client                         monitor
//	'a' wishes [rows columns] --->             in the form of 'w'
//	           <----------------- 'r' attached, now or to the next program
//	           <----------------- 'o' bytes    of stdout, or of the terminal
//	           <----------------- 'e' bytes    of stderr
//	'i' bytes ------------------->             for stdin
//	'c' ------------------------->             that was the end of stdin
//	'w' rows columns ------------>             size of the client's terminal, two bytes each, little endian
//	's' signal ------------------>             send this signal to the program
//	'd' ------------------------->             leaves on purpose: the program goes on
//	           <----------------- 'x' status   the container has ended: four bytes, little endian, and a byte of causes
const (
	KindAttach = 'a'
	KindReady  = 'r'
	KindStdout = 'o'
	KindStderr = 'e'
	KindStdin  = 'i'
	KindEOF    = 'c'
	KindSize   = 'w'
	KindSignal = 's'
	KindDetach = 'd'
	KindExit   = 'x'

	// MaxMessage is the longest message in bytes.
	MaxMessage   = 32<<10 + 1
	stallTimeout = 10_000 // ms that a client may hold up the output
)

// Wishes of a client, bits of the second byte of KindAttach.
const (
	WantStdin = 1 << iota
	WantStdout
	WantStderr
	// Tether has the container killed when the client is gone without having said so.
	Tether
)

// Causes of an end, bits of the byte behind the status in KindExit. What follows them is between whole hulls.
const (
	CauseOOM = 1 << iota
	CauseTime
)
