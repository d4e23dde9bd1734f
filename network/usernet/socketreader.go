package usernet

import (
	"errors"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// socketReader gives the stack what has come to a TCP socket. It is a tcpip.Payloader, which has to say beforehand how much it will
// give: so the stack makes its buffers, and the kernel fills them, without one of ours between.
type socketReader struct {
	fd    uintptr
	few   *[fewBytes]byte
	head  []byte // of few: what has been read, and not taken
	queue int    // bytes that the socket has besides
	many  bool   // there were many, and so there may be again
	err   error  // why there is no more: EAGAIN, EOF, or what has gone wrong
}

// fewBytes are read without having asked how many there are, which is seldom more.
const fewBytes = 4096

// fewBuffers are for sockets that are being read; a connection that is silent has none.
var fewBuffers = sync.Pool{New: func() any { return new([fewBytes]byte) }}

// more says whether there is something to give; if not, err says why. release is to be called when that has been taken.
func (r *socketReader) more() bool {
	if r.err != nil {
		return false
	}
	if r.many {
		if r.ask(); r.many {
			return true
		}
	}
	r.few = fewBuffers.Get().(*[fewBytes]byte)
	n := r.read(r.few[:])
	if r.head = r.few[:n]; n == fewBytes {
		r.ask()
	} else if n == 0 {
		r.release()
	}
	return n > 0
}

// ask asks how many bytes there are, if they are many.
func (r *socketReader) ask() {
	n, err := inputQueue(r.fd)
	if r.many = err == nil && n >= fewBytes; r.many {
		r.queue = n
	}
}

func (r *socketReader) release() {
	if r.few != nil {
		fewBuffers.Put(r.few)
		r.few, r.head = nil, nil
	}
}

// read reads from the socket, and sets err if it gives nothing.
func (r *socketReader) read(b []byte) int {
	for {
		switch n, err := readNow(r.fd, b); {
		case err == unix.EINTR:
		case err != nil:
			r.err = err
			return 0
		case n == 0:
			r.err = io.EOF
			return 0
		default:
			return n
		}
	}
}

// Len is how many bytes Read gives.
func (r *socketReader) Len() int { return len(r.head) + r.queue }

// errShort says that a socket has less than it said. The stack throws away what it has got until then.
var errShort = errors.New("the socket gives less than it said")

// Read fails rather than end early: the stack would ask again for ever.
func (r *socketReader) Read(b []byte) (int, error) {
	if r.Len() == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.head)
	r.head = r.head[n:]
	rest := b[n:min(len(b), n+r.queue)]
	if len(rest) == 0 {
		return n, nil
	}
	more := r.read(rest)
	if more == 0 {
		return n, errShort
	}
	r.queue -= more
	return n + more, nil
}
