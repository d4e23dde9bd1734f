package usernet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Order is what a helper process is told of one who wants to be a member; the first one's says what the network is like.
type Order struct {
	Network Config
	Member  Member
	// Socket is the name of the socket on which more members come, "" for none.
	Socket string `json:",omitempty"`
}

// Answer is what a helper says once: that the member is on the network, or why not.
type Answer struct {
	Ports []Port `json:",omitempty"`
	Pid   int    // the helper's
	Error string `json:",omitempty"`
	// Unavailable says that the error is [ErrUnavailable].
	Unavailable bool `json:",omitempty"`
}

// SocketFD is the descriptor of a helper process on which its first member comes: a socket of type SOCK_SEQPACKET. On such a
// socket [SendOrder] and [SendLink] make a member, in whichever order, and [SendLeave] ends that.
const SocketFD = 3

// LockFile is held by whoever connects to a helper's socket, or makes one, in the directory of the sockets.
const LockFile = ".helpers"

// helper is a process that is a network.
type helper struct {
	names   Names
	mu      sync.Mutex
	network *Network
	members map[string]*membership // by ID
	busy    int                    // members, and connections by which they come and go
	idle    chan struct{}          // gets a word when there are none any more
	leaving []*net.UnixConn        // wait until it is clear whether the process ends
	failure error

	// Of a network that others may join:
	more   *net.UnixListener
	socket string // its name
	dir    *os.File
	lock   int
}

// membership lasts until gone is closed.
type membership struct {
	*member
	process *os.File // its pidfd
	gone    chan struct{}
}

// Help is all that a helper process does: it is a network until its last member has left.
func Help(names Names) error {
	unix.CloseOnExec(SocketFD)
	debug.SetGCPercent(50) // there is little that lives long, and that should stay little
	file := os.NewFile(SocketFD, "socket")
	first, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("network helper: %w", err)
	}
	file.Close()
	h := &helper{names: names, members: map[string]*membership{}, busy: 1, idle: make(chan struct{}, 1)}
	go h.serve(first.(*net.UnixConn))
	for ended := false; !ended; ended = h.end() {
		<-h.idle
	}
	if h.network != nil {
		h.network.Close()
	}
	return h.failure
}

func (h *helper) begin() {
	h.mu.Lock()
	h.busy++
	h.mu.Unlock()
}

func (h *helper) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy--; h.busy == 0 {
		select {
		case h.idle <- struct{}{}:
		default:
		}
	}
}

// end takes the socket away if nobody is there, nor on the way: who is has the lock until they have connected.
func (h *helper) end() bool {
	if h.more != nil {
		if err := h.flock(); err != nil {
			return true
		}
		defer func() { _ = unix.Flock(h.lock, unix.LOCK_UN) }()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy == 0 && h.more != nil {
		_ = h.more.SetDeadline(time.Now().Add(time.Millisecond))
		if c, err := h.more.AcceptUnix(); err == nil {
			h.busy++
			go h.serve(c)
		}
		_ = h.more.SetDeadline(time.Time{})
	}
	if h.busy > 0 {
		for _, c := range h.leaving {
			stays(c)
		}
		h.leaving = nil
		return false
	}
	if h.more != nil {
		_ = unix.Unlinkat(int(h.dir.Fd()), h.socket, 0)
	}
	return true
}

func (h *helper) flock() error {
	for {
		if err := unix.Flock(h.lock, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// accept lets in whoever connects.
func (h *helper) accept() {
	for {
		c, err := h.more.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // end has set a deadline, or there are too many descriptors
			time.Sleep(5 * time.Millisecond)
			continue
		}
		h.begin()
		go h.serve(c)
	}
}

// patience is how long a member may take to come.
const patience = 20 * time.Second

// serve does what somebody wants who has connected.
func (h *helper) serve(c *net.UnixConn) {
	defer h.done()
	_ = c.SetDeadline(time.Now().Add(patience))
	j := joining{helper: h}
	defer j.close()
	for !j.ended() {
		word, text, files, err := receive(c)
		if err != nil {
			j.broken = errors.New("network device: nobody has made it")
			break
		}
		switch {
		case word == leaveWord:
			h.leave(text, c)
			return
		case word == linkWord && len(files) == 1:
			j.cable = files[0]
		case word == failWord:
			j.broken = errors.New(text)
		case word == lackWord:
			j.broken = lack(text)
		case word == orderWord && len(files) >= 3:
			j.answer, j.process = files[1], files[2]
			j.failed = j.begin(files[0], files[3:])
		default:
			closeAll(files)
		}
	}
	c.Close()
	j.finish()
}

// leave ends a membership, and answers when that has been done: by the end of the process if it was the last.
func (h *helper) leave(id string, c *net.UnixConn) {
	h.mu.Lock()
	m := h.members[id]
	h.mu.Unlock()
	if m != nil {
		if hasEnded(m.process) {
			m.depart()
		} else {
			m.leave()
		}
		<-m.gone
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy > 1 { // one is this
		stays(c)
		return
	}
	h.leaving = append(h.leaving, c)
}

// stays tells who has left that the process does not end.
func stays(c *net.UnixConn) {
	_, _ = c.Write([]byte{leaveWord})
	c.Close()
}

// joining is somebody who is about to be a member.
type joining struct {
	*helper
	answer, process, cable *os.File
	m                      *member
	failed, broken         error
}

// ended says whether nothing more is to come.
func (j *joining) ended() bool {
	return j.failed != nil || j.m != nil && (j.cable != nil || j.broken != nil)
}

func (j *joining) close() {
	closeAll([]*os.File{j.answer, j.process})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// begin reads the order, makes the network if this is the first member, and takes its ports. With the first come the socket
// for more, and the directory in which that is.
func (j *joining) begin(order *os.File, files []*os.File) error {
	defer order.Close()
	var o Order
	if err := json.NewDecoder(order).Decode(&o); err != nil {
		closeAll(files)
		return fmt.Errorf("network helper: read order: %w", err)
	}
	if err := j.open(&o, files); err != nil {
		return err
	}
	j.mu.Lock()
	old := j.members[o.Member.ID]
	j.mu.Unlock()
	if old != nil { // whose device is gone, say
		old.leave()
		<-old.gone
	}
	var err error
	j.m, err = j.network.add(o.Member)
	return err
}

// open makes the network, if it is not there.
func (j *joining) open(o *Order, files []*os.File) (err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.network != nil {
		closeAll(files)
		return nil
	}
	if j.network, err = Open(o.Network, j.names); err == nil {
		j.network.link.rest = &rest{above: restSize}
	}
	if err != nil || len(files) != 2 {
		closeAll(files)
		return err
	}
	l, err := net.FileListener(files[0])
	files[0].Close()
	if err != nil {
		return fmt.Errorf("network helper: %w", err)
	}
	j.more, j.socket, j.dir = l.(*net.UnixListener), o.Socket, files[1]
	if j.lock, err = unix.Openat(int(j.dir.Fd()), LockFile, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600); err != nil {
		return &os.PathError{Op: "open", Path: LockFile, Err: err}
	}
	go j.accept()
	return nil
}

// lack is an ErrUnavailable that has come as text.
type lack string

func (l lack) Error() string { return string(l) }
func (l lack) Unwrap() error { return ErrUnavailable }

// finish connects the member, or says why not.
func (j *joining) finish() {
	err := j.failed
	if err == nil && j.m == nil {
		err = errors.New("network helper: no order came")
	}
	if err == nil && j.cable == nil {
		err = j.broken
	}
	if err == nil {
		err = j.m.plug(j.cable)
	} else if j.cable != nil {
		j.cable.Close()
	}
	a := Answer{Pid: os.Getpid()}
	if err != nil {
		a.Unavailable = errors.Is(err, ErrUnavailable)
		if a.Error = err.Error(); j.m != nil {
			j.m.leave()
		}
		j.mu.Lock()
		j.failure = err
		j.mu.Unlock()
	} else {
		a.Ports = j.m.published()
		j.keep(j.m, j.process)
		j.process = nil
	}
	if j.answer != nil {
		_ = json.NewEncoder(j.answer).Encode(a)
	}
}

// keep lets the member be one until it leaves, or its process ends.
func (h *helper) keep(m *member, process *os.File) {
	k := &membership{m, process, make(chan struct{})}
	h.mu.Lock()
	h.members[m.ID] = k
	if h.busy++; len(h.members) == 1 {
		ShrinkSoon()
	}
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		waitEnd(process)
		close(ended)
	}()
	go func() {
		select {
		case <-ended:
			m.depart()
		case <-m.ctx.Done():
			m.leave()
		}
		process.Close()
		h.mu.Lock()
		if h.members[m.ID] == k {
			delete(h.members, m.ID)
		}
		h.mu.Unlock()
		h.done()
		close(k.gone)
	}()
}

// waitEnd waits until a process has ended, or its pidfd is closed.
func waitEnd(pidfd *os.File) {
	if raw, err := pidfd.SyscallConn(); err == nil {
		_ = raw.Read(canRead)
	}
}

// hasEnded says whether a process has ended, or its pidfd is closed.
func hasEnded(pidfd *os.File) (yes bool) {
	raw, err := pidfd.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { yes = canRead(fd) })
	}
	return yes || err != nil
}

func canRead(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// reportPause is how long to wait for more before a report is written.
const reportPause = 500 * time.Millisecond

// keepReport writes the report down soon after each change. The result does so for the last time.
func (n *Network) keepReport(ctx context.Context) (last func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.policy.report.changed:
			}
			_ = n.writeReport()
			select {
			case <-ctx.Done():
				return
			case <-time.After(reportPause):
			}
		}
	}()
	return func() {
		<-ended
		_ = n.writeReport()
	}
}

// writeReport replaces the file at once, so that who reads it finds it whole.
func (n *Network) writeReport() error {
	r := n.Report()
	if len(r.Entries) == 0 {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(n.config.Report), ".tmp-"+filepath.Base(n.config.Report))
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, n.config.Report)
}
