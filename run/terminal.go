package run

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// terminal is our end of a program's terminal. While the program runs we hold the other end open, too: a program may close
// all that it has of it and open /dev/console again later, as systemd does, and in between the kernel would say that
// nobody is there (EIO).
type terminal struct {
	*os.File // the master
	mu       sync.Mutex
	slave    int // the other end, -1 for none
	ended    bool
}

func newTerminal(master *os.File) *terminal {
	t := &terminal{File: master, slave: -1}
	t.hold()
	return t
}

// Read is at its end when the program has ended and all it wrote is read.
func (t *terminal) Read(b []byte) (int, error) {
	for {
		n, err := t.File.Read(b)
		if n > 0 || !errors.Is(err, unix.EIO) || !t.hold() {
			return n, err
		}
	}
}

// hold opens the other end, anew if somebody has hung up the terminal (vhangup(2)), and says whether it is open.
func (t *terminal) hold() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, t.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return false
	}
	t.letGo()
	t.slave = int(fd)
	return true
}

// end is for when the program has ended.
func (t *terminal) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.letGo()
}

func (t *terminal) letGo() {
	if t.slave >= 0 {
		unix.Close(t.slave)
	}
	t.slave = -1
}
