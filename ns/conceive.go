package ns

import (
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Conceive forks the child ahead of Create, if it can be done: to make namespaces and to have ids mapped takes longer than
// to find out what else the container shall be, and so the two go on side by side. Of c it needs Cgroup, Reexec, and of Spec the
// namespaces, id maps and out-of-memory score; the rest is read by Create. After Conceive comes Create or Abandon, on the
// same goroutine.
func (c *Cmd) Conceive() (err error) {
	if c.knownAhead() {
		c.conceived, err = c.conceive()
	}
	return err
}

// Child is the pid of the process that Conceive has made, until Create; 0 if it has made none.
func (c *Cmd) Child() int {
	if c.conceived == nil {
		return 0
	}
	return c.conceived.Pid
}

// Abandon ends a child for which no Create has come.
func (c *Cmd) Abandon() {
	if p := c.conceived; p != nil {
		c.conceived = nil
		p.abandon()
	}
}

// knownAhead says whether the child can be forked before its program is planned: whether it sees what is written and
// opened for it later.
func (c *Cmd) knownAhead() bool { return c.Join == nil && !c.Reexec && c.mayShareMemory() }

// conceive forks the child, with all of its program or as much as is known.
func (c *Cmd) conceive() (*Process, error) {
	l, err := openLine()
	if err != nil {
		return nil, err
	}
	if c.Join != nil || c.entersUsers() {
		err = knowSender(l.parent)
	}
	p := &Process{socket: l.parent, line: l, planned: make(chan bool, 1), mapped: make(chan error, 1)}
	if err == nil {
		err = p.begin(c)
	}
	if err != nil {
		l.close()
		unix.Close(l.parent)
		return nil, err
	}
	c.parent = p.child
	if c.Join == nil {
		finish := func() error { return nil }
		if fresh(c.Spec, specs.UserNamespace) {
			finish = writeMaps(p.Pid, c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings)
		}
		go func() {
			err := finish()
			if planned := <-p.planned; planned && err == nil {
				err = p.say('m')
			}
			p.mapped <- err
		}()
	}
	return p, nil
}

// begin writes the program, or the part that is known, and forks the child.
func (p *Process) begin(c *Cmd) (err error) {
	var b *birth
	if c.knownAhead() {
		b, err = c.write(p.line, conception)
	} else {
		b, err = c.plan(p.line)
		p.birth = b
	}
	if err != nil {
		return err
	}
	p.known = len(b.calls)
	runtime.LockOSThread()
	if err = p.fork(c, b); err == nil {
		if p.birth != nil {
			p.line.close()
		} // else they are the child's too as long as it shares our open files
		if c.entersUsers() {
			err = p.delivered()
		}
	}
	if err != nil {
		b.close()
		p.unlockThread()
	}
	return err
}

// line is how parent and child talk: the two ends of a socket, and a pidfd of the parent, whose end the child notices.
type line struct{ parent, child, self int }

func openLine() (*line, error) {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	if sockets[1] >= stubNumbers {
		unix.Close(sockets[0])
		unix.Close(sockets[1])
		return nil, os.NewSyscallError("socketpair", unix.EMFILE)
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		unix.Close(sockets[0])
		unix.Close(sockets[1])
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &line{sockets[0], sockets[1], self}, nil
}

// close closes what only the child needs.
func (l *line) close() {
	for _, fd := range []*int{&l.child, &l.self} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}
