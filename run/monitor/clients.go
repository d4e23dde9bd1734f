package monitor

import "syscall"

// client is somebody who has attached.
type client struct {
	fd     int
	wishes byte
	// owed is set while the message in flight has not been taken by this client.
	owed bool
	gone bool
}

// accept takes in who has connected.
func (m *monitor) accept() {
	for {
		fd, _, err := syscall.Accept4(m.task.Listen, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		if len(m.clients) >= maxClients {
			syscall.Close(fd)
			continue
		}
		m.clients = append(m.clients, &client{fd: fd})
	}
}

// maxClients bounds the memory that attached clients can make a monitor use.
const maxClients = 64

// hear reads what a client says. It is left unread while the program has not taken what came before, but for the end of
// the client.
func (m *monitor) hear(c *client) {
	if len(m.input) > 0 && m.got(c.fd)&pollHup != 0 {
		m.lastWords(c)
	}
	for range hearAtOnce { // then it is the turn of others
		if len(m.input) > 0 || c.gone {
			return
		}
		n, err := receive(c.fd, m.buf[:MaxMessage])
		if err == syscall.EAGAIN {
			return
		}
		if err != nil || n == 0 {
			m.leave(c)
			return
		}
		m.obey(c, m.buf[0], m.buf[1:n])
	}
}

// lastWords lets a client go who is gone. What he has typed is lost, but not that he meant to leave.
func (m *monitor) lastWords(c *client) {
	for {
		var kind [1]byte // what follows it goes with it
		n, err := receive(c.fd, kind[:])
		if err != nil || n == 0 {
			break
		}
		if kind[0] == KindDetach {
			c.wishes &^= Tether
		}
	}
	m.leave(c)
}

// hearAtOnce is how many messages of one client are read before anything else is done.
const hearAtOnce = 16

func (m *monitor) obey(c *client, kind byte, b []byte) {
	switch {
	case kind == KindAttach && len(b) > 0:
		c.wishes = b[0]
		m.resize(b[1:])
		m.tell(c, []byte{KindReady})
	case kind == KindStdin:
		m.feed(b)
	case kind == KindEOF:
		m.endOfInput()
	case kind == KindSize:
		m.resize(b)
	case kind == KindSignal && len(b) > 0:
		if c.wishes&Tether != 0 && AsksToEnd(b[0]) {
			m.left()
		}
		sendSignal(m.task.PidFD, int(b[0]))
	case kind == KindDetach:
		c.wishes &^= Tether
		m.leave(c)
	}
}

// left notes that nobody stays. A program whose time is up has ended of that.
func (m *monitor) left() {
	if m.reason != ReasonTimedOut {
		m.reason = ReasonLeft
	}
}

// resize gives the terminal, if there is one, the size that b says, if it does.
func (m *monitor) resize(b []byte) {
	if len(b) >= 4 && m.task.Console >= 0 {
		setSize(m.task.Console, uint16(b[0])|uint16(b[1])<<8, uint16(b[2])|uint16(b[3])<<8)
	}
}

// AsksToEnd tells whether somebody who stays with a container means its end by a signal, after which no policy starts it
// again.
func AsksToEnd(signal byte) bool {
	switch syscall.Signal(signal) {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGTERM:
		return true
	}
	return false
}

// leave lets a client go. The container of one that was tethered to it ends with it.
func (m *monitor) leave(c *client) {
	if c.gone {
		return
	}
	c.gone = true
	syscall.Close(c.fd)
	if c.wishes&Tether != 0 {
		m.left()
		if !m.ended {
			m.end(int(syscall.SIGKILL))
		}
	}
	// Whose input it was is over, unless it is to stay open.
	if c.wishes&(WantStdin|Tether) == WantStdin && !m.task.KeepStdin && m.task.Stdin >= 0 {
		m.closeInput = true
	}
}

// tell sends a short message, which a client that does not listen may miss.
func (m *monitor) tell(c *client, message []byte) bool {
	return syscall.Sendto(c.fd, message, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, nil) == nil
}

// publish sends a message to all who want it. Who cannot take it now holds up the output for a while, see settle.
func (m *monitor) publish(want byte, message []byte) {
	for _, c := range m.clients {
		if c.gone || c.wishes&want == 0 {
			continue
		}
		switch err := send(c.fd, message); err {
		case nil:
		case syscall.EAGAIN:
			c.owed = true
			if len(m.flight) == 0 {
				m.flight = append(m.flight[:0], message...)
				m.stalled = now() + m.stallTime()
			}
		default:
			m.lastWords(c)
		}
	}
}

func send(fd int, message []byte) error {
	for {
		err := syscall.Sendto(fd, message, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, nil)
		if err != syscall.EINTR {
			return err
		}
	}
}

// stallTime is how long in ms a client may hold up a message. When the program has ended, its end is what others wait for.
func (m *monitor) stallTime() int64 {
	if m.ended {
		return drainTime
	}
	return stallTimeout
}

// settle tries again to deliver the message in flight. A client that has held up everything for long is dropped, unless
// the program is tethered to it: nobody else waits for its output then, until it ends.
func (m *monitor) settle() {
	left := false
	for _, c := range m.clients {
		if !c.owed || c.gone {
			continue
		}
		switch err := send(c.fd, m.flight); {
		case err == nil:
			c.owed = false
		case err != syscall.EAGAIN:
			m.lastWords(c)
		case now() >= m.stalled && (m.ended || c.wishes&Tether == 0):
			m.leave(c)
		default:
			left = true
		}
	}
	if left && now() >= m.stalled {
		m.stalled = now() + m.stallTime()
	}
	if !left {
		m.flight = m.flight[:0]
	}
}

// sweep forgets those who are gone.
func (m *monitor) sweep() {
	kept := m.clients[:0]
	for _, c := range m.clients {
		if !c.gone {
			kept = append(kept, c)
		}
	}
	m.clients = kept
}

// feed hands the program its input. What it does not take now is kept, and nobody is heard until it is gone.
func (m *monitor) feed(b []byte) {
	to := m.inputFD()
	if to < 0 || len(b) == 0 {
		return
	}
	n, err := write(to, b)
	switch {
	case err == syscall.EAGAIN:
		m.input = append(m.input, b...)
	case err != nil:
		m.dropInput()
	case n < len(b):
		m.input = append(m.input, b[n:]...)
	}
}

// flushInput goes on with what feed has kept.
func (m *monitor) flushInput() {
	n, err := write(m.inputFD(), m.input)
	if err != nil && err != syscall.EAGAIN {
		m.dropInput()
		return
	}
	m.input = m.input[:copy(m.input, m.input[max(n, 0):])]
}

func (m *monitor) inputFD() int {
	if m.task.Console >= 0 {
		return m.task.Console
	}
	return m.task.Stdin
}

// dropInput forgets what nobody reads any more.
func (m *monitor) dropInput() {
	m.input = m.input[:0]
	if m.task.Console < 0 {
		m.shutInput()
	}
}

// endOfInput passes on that a client's input has ended: a terminal reads Ctrl-D, a pipe is closed unless it is to stay.
func (m *monitor) endOfInput() {
	switch {
	case m.task.Console >= 0:
		m.feed([]byte{4})
	case !m.task.KeepStdin:
		m.closeInput = true
	}
}

func (m *monitor) shutInput() {
	if m.task.Stdin >= 0 {
		syscall.Close(m.task.Stdin)
		m.task.Stdin = -1
	}
	m.closeInput = false
}
