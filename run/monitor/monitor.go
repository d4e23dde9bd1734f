package monitor

import (
	"strconv"
	"syscall"
	"time"
)

// monitor is the state of this process. There is one goroutine, which waits in poll(2) for whatever happens next.
type monitor struct {
	task    *Task
	outputs [2]stream
	log     *log
	clients []*client
	terms   int // descriptor that counts requests to end
	reason  string
	// peer is the other end of the program's terminal, -1 for none. It is held open while the program runs: the program may
	// close all that it has of it and open /dev/console again later, as systemd does, and in between the kernel would say
	// that nobody is there.
	peer int

	ended bool // the program has

	// flight is output that some client has not taken yet; stalled is when those are given up.
	flight  []byte
	stalled int64
	// input is what the program has not taken yet of its input; closeInput asks to close it after that.
	input      []byte
	closeInput bool

	// Times in ms of the monotonic clock, 0 for none.
	probeAt, limitAt, killAt, drainUntil int64
	probe                                int // pid of a probe that runs, or 0
	probeFD                              int // its pidfd

	fds []pollFD
	buf [MaxMessage]byte
}

func newMonitor(t *Task) *monitor {
	m := &monitor{task: t, reason: ReasonNone, probeFD: -1, peer: -1}
	m.terms = catchSignals()
	setName("hull-monitor")
	for _, fd := range t.descriptors() {
		setCloexec(fd, true)
	}
	stdout := t.Stdout
	if t.Console >= 0 {
		stdout = t.Console
		m.peer = openPeer(t.Console)
	}
	m.outputs = [2]stream{
		{fd: stdout, name: "stdout", kind: KindStdout, want: WantStdout},
		{fd: t.Stderr, name: "stderr", kind: KindStderr, want: WantStderr},
	}
	for _, fd := range []int{t.Stdin, t.Stdout, t.Stderr, t.Console, t.Listen} {
		if fd >= 0 {
			_ = syscall.SetNonblock(fd, true)
		}
	}
	for _, old := range t.Clients {
		_ = syscall.SetNonblock(old.FD, true)
		c := &client{fd: old.FD, wishes: old.Wishes}
		m.clients = append(m.clients, c)
		if c.wishes != 0 { // it has seen an end; this is another program
			m.tell(c, []byte{KindReady})
		}
	}
	t.Clients = nil
	if t.Log != "" || t.Journal {
		m.log = &log{path: t.Log, max: t.LogSize, files: t.LogFiles, fd: -1, journal: -1, id: t.ID, name: t.Name}
		if t.Journal {
			m.log.journal = openJournal()
		}
	}
	if len(t.Probe) > 0 {
		m.probeAt = now() + int64(t.StartInterval)
	}
	if t.Limit > 0 {
		m.limitAt = now() + int64(t.Limit)
	}
	return m
}

// now is the monotonic clock in ms.
func now() int64 { return int64(time.Since(began)/time.Millisecond) + 1 }

var began = time.Now()

// drainTime is how long in ms output is waited for after the program's end: somebody outside the container may hold
// its pipe.
const drainTime = 2000

// run does everything until the program has ended, and becomes a whole hull.
func (m *monitor) run() {
	for _, c := range m.clients {
		m.hear(c)
	}
	for {
		m.sweep()
		if m.closeInput && len(m.input) == 0 {
			m.shutInput()
		}
		m.wait()
		if !m.ended && m.ready(m.task.PidFD) {
			m.ended = true
			m.drainUntil = now() + drainTime
			m.stalled = min(m.stalled, m.drainUntil)
			m.endProbe()
			closeFD(&m.peer)
		}
		m.serve()
		m.timers()
		if m.ended && len(m.flight) > 0 { // who takes it slowly still gets all of it
			m.drainUntil = now() + drainTime
		}
		if m.ended && (m.drained() || now() >= m.drainUntil) {
			break
		}
	}
	m.finish()
}

// wait polls for everything that matters now.
func (m *monitor) wait() {
	m.fds = m.fds[:0]
	m.want(m.terms, pollIn)
	if !m.ended {
		m.want(m.task.PidFD, pollIn)
	}
	if len(m.flight) == 0 {
		for i := range m.outputs {
			m.want(m.outputs[i].fd, pollIn)
		}
	}
	if len(m.input) > 0 {
		m.want(m.inputFD(), pollOut)
	}
	m.want(m.task.Listen, pollIn)
	m.want(m.probeFD, pollIn)
	for _, c := range m.clients {
		var events int16
		if len(m.input) == 0 {
			events |= pollIn
		}
		if c.owed {
			events |= pollOut
		}
		m.want(c.fd, events)
	}
	poll(m.fds, m.patience())
}

func (m *monitor) want(fd int, events int16) {
	if fd < 0 {
		return
	}
	for i := range m.fds {
		if m.fds[i].fd == int32(fd) { // the terminal, which is read and written
			m.fds[i].events |= events
			return
		}
	}
	m.fds = append(m.fds, pollFD{fd: int32(fd), events: events})
}

// ready says whether something happened to fd.
func (m *monitor) ready(fd int) bool { return m.got(fd) != 0 }

// got is what poll said of fd.
func (m *monitor) got(fd int) int16 {
	for i := range m.fds {
		if m.fds[i].fd == int32(fd) {
			return m.fds[i].got
		}
	}
	return 0
}

// patience is how long to wait at most, in ms, or -1.
func (m *monitor) patience() int {
	next := int64(-1)
	for _, at := range []int64{m.probeAt, m.limitAt, m.killAt, m.drainUntil} {
		if at > 0 && (next < 0 || at < next) {
			next = at
		}
	}
	if len(m.flight) > 0 && (next < 0 || m.stalled < next) {
		next = m.stalled
	}
	if next < 0 {
		return -1
	}
	return int(max(0, next-now()))
}

// serve does what the descriptors ask for.
func (m *monitor) serve() {
	if m.ready(m.terms) {
		m.asked()
	}
	if len(m.input) > 0 && m.ready(m.inputFD()) {
		m.flushInput()
	}
	if m.ready(m.task.Listen) {
		m.accept()
	}
	for _, c := range m.clients {
		if !c.gone && m.ready(c.fd) {
			m.hear(c)
		}
	}
	if len(m.flight) > 0 {
		m.settle()
	}
	for i := range m.outputs {
		if s := &m.outputs[i]; s.fd >= 0 && len(m.flight) == 0 && m.ready(s.fd) {
			m.copy(s)
		}
	}
	if m.probeFD >= 0 && m.ready(m.probeFD) {
		m.probed()
	}
}

// copy takes one read's worth of output to the log and to those who have attached.
func (m *monitor) copy(s *stream) {
	n, err := read(s.fd, m.buf[1:])
	if err == syscall.EAGAIN {
		return
	}
	if err != nil && m.peer >= 0 && s.fd == m.task.Console { // somebody has hung it up, vhangup(2)
		closeFD(&m.peer)
		if m.peer = openPeer(s.fd); m.peer >= 0 {
			return
		}
	}
	if err != nil || n == 0 { // a terminal that nobody has open any more gives EIO
		m.log.end(s)
		if s.fd != m.task.Console {
			syscall.Close(s.fd)
		}
		s.fd = -1
		return
	}
	m.buf[0] = s.kind
	m.publish(s.want, m.buf[:n+1])
	m.log.add(s, m.buf[1:n+1])
}

// drained says whether all output has gone where it should.
func (m *monitor) drained() bool {
	return m.outputs[0].fd < 0 && m.outputs[1].fd < 0 && len(m.flight) == 0
}

// asked handles the first request to end: it means to stop the container.
func (m *monitor) asked() {
	var count [8]byte
	if n, err := read(m.terms, count[:]); err != nil || n < len(count) || m.reason == ReasonShutdown {
		return
	}
	killAt := int64(0)
	if m.task.Grace >= 0 {
		killAt = now() + int64(m.task.Grace) + 1
	}
	if m.reason != ReasonTimedOut {
		m.reason, m.killAt = ReasonShutdown, killAt
	} // else it has been sent the signal, and may not get more time than it has
	m.end(m.task.StopSignal)
}

// timers does what is due.
func (m *monitor) timers() {
	t := now()
	due := func(at *int64) bool {
		if *at == 0 || t < *at {
			return false
		}
		*at = 0
		return true
	}
	if due(&m.limitAt) {
		m.timeUp()
	}
	if due(&m.killAt) {
		m.end(int(syscall.SIGKILL))
	}
	if due(&m.probeAt) {
		m.startProbe()
	}
}

// timeUp ends a program whose time is up. One that is being ended already has no more of it.
func (m *monitor) timeUp() {
	signal := int(syscall.SIGKILL)
	if m.reason == ReasonNone && m.task.LimitGrace > 0 {
		signal, m.killAt = m.task.StopSignal, now()+int64(m.task.LimitGrace)
	}
	if m.reason == ReasonNone {
		m.reason = ReasonTimedOut
	}
	m.end(signal)
}

// end sends the program a signal that it is to end of, and has it go on for that if it is paused.
func (m *monitor) end(signal int) {
	sendSignal(m.task.PidFD, signal)
	if len(m.task.Thaw) > 0 {
		_, _ = syscall.ForkExec(self, m.task.Thaw, &syscall.ProcAttr{Env: environment()})
	}
}

// startProbe runs the probe, a whole hull that goes into the container for it.
func (m *monitor) startProbe() {
	fd := -1
	pid, err := syscall.ForkExec(self, m.task.Probe, &syscall.ProcAttr{Env: environment(), Sys: &syscall.SysProcAttr{PidFD: &fd, Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		m.probeAt = now() + int64(m.task.Interval)
		return
	}
	m.probe, m.probeFD = pid, fd
}

// probed notes that a probe has ended, and when the next is due.
func (m *monitor) probed() {
	next := m.task.Interval
	if m.endProbe() == 1 {
		next = m.task.StartInterval
	}
	m.probeAt = now() + int64(next)
}

// endProbe collects the probe, which it kills if it runs, and gives its exit status.
func (m *monitor) endProbe() int {
	m.probeAt = 0
	if m.probe == 0 {
		return 0
	}
	if !m.ready(m.probeFD) {
		_ = syscall.Kill(m.probe, syscall.SIGKILL)
	}
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(m.probe, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if m.probeFD >= 0 {
		syscall.Close(m.probeFD)
	}
	m.probe, m.probeFD = 0, -1
	return status.ExitStatus()
}

// environment is ours without the settings of a monitor.
func environment() (list []string) {
next:
	for _, kv := range syscall.Environ() {
		for _, setting := range settings() {
			if kv == setting {
				continue next
			}
		}
		list = append(list, kv)
	}
	return list
}

// finish collects the program and becomes the hull that takes the container down.
func (m *monitor) finish() {
	for i := range m.outputs {
		m.log.end(&m.outputs[i])
	}
	var status syscall.WaitStatus
	const wall = 0x40000000 // __WALL, wait(2)
	for {
		if _, err := syscall.Wait4(m.task.Pid, &status, wall, nil); err != syscall.EINTR {
			break
		}
	}
	for { // what end has started
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
			break
		}
	}
	words := append(m.task.Then, strconv.Itoa(int(status)), m.reason)
	for _, c := range m.clients {
		if !c.gone {
			setCloexec(c.fd, false)
			_ = syscall.SetNonblock(c.fd, false)
			words = append(words, Client{c.fd, c.wishes}.Word())
		}
	}
	setCloexec(m.task.Lock, false)
	if m.task.Listen >= 0 {
		setCloexec(m.task.Listen, false)
	}
	_ = syscall.Exec(self, words, environment())
}
