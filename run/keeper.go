package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/run/monitor"
)

// keeper is a whole hull that starts a detached container, or has been its monitor and sees to its end. In between the monitor
// is the small process of package monitor.
//
//	hull run -d                                 monitor
//	creates, locks
//	keeper.leave: forks it -------------------> waits, see ns.Cmd.Detach
//	cgroup, world, program
//	hands over -------------------------------> becomes package monitor: log, clients, probes
//	ends                                        ...
//	                                            monitorResumes: state, cgroup; keeper.begin after a while, or the last word to
//	                                            clients
//
// Where the monitor cannot be forked like this, it is a hull of its own from the beginning (monitorBegins), and does what is
// on the left.
type keeper struct {
	*Container
	report  *os.File // to whoever started us, nil once that is told
	listen  *os.File // where others attach
	clients []monitor.Client
	pipes   []*os.File    // to the program, open until this process is the small monitor
	backoff time.Duration // what the last restart has waited
	asked   *os.File      // is at its end once this process is asked to end; nil at the first start
}

// workMonitor in helperEnv makes a process part of a monitor; its first word says which.
const (
	workMonitor  = "monitor"
	partBegin    = "begin"
	partResume   = "resume"
	partProbe    = "probe"
	partThaw     = "thaw"
	partExec     = "exec"
	partExecEnds = "exec-ends"
)

// monitorPart is such a process.
func monitorPart(args []string) error {
	switch {
	case len(args) == 3 && args[0] == partBegin:
		return monitorBegins(args[1:])
	case len(args) >= 8 && args[0] == partResume:
		return monitorResumes(args[1:])
	case len(args) == 3 && args[0] == partExec:
		return execBegins(args[1:])
	case len(args) >= 6 && args[0] == partExecEnds:
		return execEnds(args[1:])
	case len(args) == 3 && args[0] == partProbe:
		return probe(args[1], args[2])
	case len(args) == 3 && args[0] == partThaw:
		return thaw(args[1], args[2])
	}
	return fmt.Errorf("monitor: unknown words %q", args)
}

// attachName is the socket in a container's directory; logSuffix ends the name of its log, which is Docker's.
const (
	attachName = "attach"
	logSuffix  = "-json.log"
)

func (c *Container) logPath() string { return c.path(c.ID + logSuffix) }

// monitorBegins is the process that Container.start makes: args are root and ID, descriptor 3 the lock, 4 the report, 5
// a client.
func monitorBegins(args []string) error {
	k := &keeper{report: os.NewFile(4, "report")}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	if unix.SetNonblock(5, false) == nil && isSocket(5) {
		unix.CloseOnExec(5)
		k.clients = append(k.clients, monitor.Client{FD: 5})
	}
	if err := k.open(args[0], args[1], 3); err != nil {
		k.tell(report{Error: err.Error(), Code: 125})
		return err
	}
	k.giveUp(k.begin())
	return nil
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// open finds the container again whose lock is open as a descriptor.
func (k *keeper) open(root, id string, lock int) error {
	h, err := Open(root)
	if err != nil {
		return err
	}
	h.Warn = func(line string) { k.tell(report{Warning: line}) }
	// Not by load: the lock is ours, and a state that says running is no sign of a death.
	k.Container = &Container{host: h, State: State{ID: id}, lock: os.NewFile(uintptr(lock), "lock"), saved: true}
	data, err := os.ReadFile(k.path(stateFile))
	if err == nil {
		err = json.Unmarshal(data, &k.State)
	}
	return err
}

func (k *keeper) tell(r report) {
	if k.report == nil {
		return
	}
	line, err := json.Marshal(r)
	if err == nil {
		_, _ = k.report.Write(append(line, '\n'))
	}
}

// begin starts the program and becomes its monitor. It returns only if that goes wrong.
func (k *keeper) begin() error {
	s := &start{Container: k.Container}
	task, err := k.startProgram(s)
	if err == nil {
		k.tell(report{Started: true})
		k.release()
		if k.stopListening() {
			err = errStopped
		} else { // on this thread the program was made, and with it we must become the monitor
			err = task.Become(append(os.Environ(), helperEnv+"="+workMonitor))
		}
		runtime.KeepAlive(k)
		_ = s.process.Signal(unix.SIGKILL)
		_, _ = s.process.Wait()
	}
	return errors.Join(err, s.takeDown(Result{}, err, false))
}

// release lets go of whoever waits for the report, by way of our standard error too.
func (k *keeper) release() {
	if k.report == nil {
		return
	}
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), 2, 0)
		null.Close()
	}
	k.report.Close()
	k.report = nil
}

// startProgram is what a start in the foreground does too, with pipes in the place of the caller's streams.
func (k *keeper) startProgram(s *start) (*monitor.Task, error) {
	if k.listen == nil {
		if err := k.listenThere(); err != nil {
			return nil, err
		}
	}
	if err := k.needImage(context.Background()); err != nil {
		return nil, err
	}
	if err := s.conceive(); err != nil {
		return nil, err
	}
	defer s.abandon()
	if err := s.findWorld(IO{}); err != nil {
		return nil, err
	}
	s.world.ConsoleSize = k.terminalSize()
	if k.Config.Log.Driver == LogJournald && !isThere(monitor.JournalSocket) {
		return nil, fmt.Errorf("log-driver %q: journald is not enabled on this host", LogJournald)
	}
	t := k.task()
	s.streams = &streams{config: &s.Config}
	if err := k.makePipes(t, s.streams); err != nil {
		return nil, err
	}
	defer s.streams.handedOver()
	s.Detached = true
	plan, err := s.startHealth()
	if err != nil {
		return nil, err
	}
	plan.probes(t, k.Container)
	if err := s.create(); err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		_, _ = s.process.Wait()
		return nil, err
	}
	k.noteStart()
	t.Pid, t.PidFD = s.Pid, s.process.PidFD()
	if s.process.Console != nil {
		t.Console = int(s.process.Console.Fd())
	}
	return t, nil
}

// task is what the monitor has to do, as far as it is known before the start.
func (k *keeper) task() *monitor.Task {
	l, log := &k.Config.Lifetime, &k.Config.Log
	t := &monitor.Task{
		ID: k.ID, Name: k.Name, Lock: int(k.lock.Fd()), Listen: int(k.listen.Fd()),
		Stdin: -1, Stdout: -1, Stderr: -1, Console: -1, KeepStdin: k.Config.Process.KeepStdin,
		LogSize: int(log.MaxSize), LogFiles: max(1, log.MaxFiles), Journal: log.Driver == LogJournald,
		Limit: milliseconds(l.Timeout), LimitGrace: milliseconds(l.TimeoutGrace), StopSignal: int(k.stopSignal()), Grace: k.stopTimeout() * 1000,
	}
	if log.file() {
		t.Log = k.logPath()
	}
	t.Clients = k.clients
	t.Thaw = []string{"hull", partThaw, k.host.Root, k.ID}
	t.Then = []string{"hull", partResume, k.host.Root, k.ID, strconv.Itoa(t.Lock), strconv.Itoa(t.Listen), k.backoff.String()}
	return t
}

// milliseconds rounds up, so that a short limit is not none. What is negative is none.
func milliseconds(d time.Duration) int {
	return int((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

// makePipes connects the program with the monitor.
func (k *keeper) makePipes(t *monitor.Task, s *streams) error {
	if k.Config.Process.TTY {
		return nil
	}
	pipe := func(ours *int, theirs **os.File, weWrite bool) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if weWrite {
			r, w = w, r
		}
		// Fd makes it blocking; the descriptor is the monitor's from now on, and the file is never closed.
		*ours, *theirs = int(r.Fd()), w
		k.pipes = append(k.pipes, r)
		s.inside = append(s.inside, w)
		return nil
	}
	if k.Config.Process.Interactive {
		if err := pipe(&t.Stdin, &s.stdin, true); err != nil {
			return err
		}
	}
	return errors.Join(pipe(&t.Stdout, &s.stdout, false), pipe(&t.Stderr, &s.stderr, false))
}

// thaw lets a container go on that is paused, so that it can end.
func thaw(root, id string) error {
	h, err := Open(root)
	if err != nil {
		return err
	}
	c := &Container{host: h, State: State{ID: id}}
	return c.letGo()
}

// listenThere makes the socket that others attach to. Its path may be longer than a socket's address, so it is named
// from the directory.
func (k *keeper) listenThere() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	k.listen = os.NewFile(uintptr(fd), "attach")
	_ = unix.Unlink(k.path(attachName))
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: k.socketAddress()}); err != nil {
		return fmt.Errorf("make socket %s: %w", k.path(attachName), err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, 64))
}

// socketAddress names the socket by way of the open directory.
func (c *Container) socketAddress() string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", c.lock.Fd(), attachName)
}

// giveUp ends a monitor whose container could not be started.
func (k *keeper) giveUp(err error) {
	if err == nil {
		err = errors.New("start monitor: ended for no reason")
	}
	code := failureCode(err)
	k.tell(report{Error: err.Error(), Code: code})
	k.farewell(Result{Code: code})
}

// monitorResumes is the process once more when the program has ended: args are those of task.Then, the wait status, the
// reason, and the clients.
func monitorResumes(args []string) error {
	k := &keeper{listen: os.NewFile(uintptr(number(args[3])), "attach")}
	k.listenForEnd()
	k.takeClients(args[7:])
	for _, s := range args[2:4] {
		unix.CloseOnExec(number(s))
	}
	if err := k.open(args[0], args[1], number(args[2])); err != nil {
		return err
	}
	var err error
	if k.backoff, err = time.ParseDuration(args[4]); err != nil {
		return err
	}
	status := syscall.WaitStatus(number(args[5]))
	return k.ended(status, args[6])
}

// ended takes down what the program leaves, and starts it again if its policy says so.
func (k *keeper) ended(status syscall.WaitStatus, reason string) error {
	res := Result{Code: status.ExitStatus(), TimedOut: reason == monitor.ReasonTimedOut}
	switch {
	case res.TimedOut:
		res.Code = timedOutCode
	case status.Signaled():
		res.Code = 128 + int(status.Signal())
	}
	s := &start{Container: k.Container}
	if len(k.Cgroups) > 0 {
		var err error
		if s.group, err = cgroups.Open(k.Cgroups); err != nil {
			k.host.warn("%v", err)
		}
	}
	s.countOOM(&res)
	s.measure(&res, nil)
	again := reason == monitor.ReasonNone && k.again(res)
	ran := time.Since(k.Started)
	if err := s.takeDown(res, nil, again); err != nil {
		k.host.warn("%v", err)
	}
	if !again || !k.pause(ran) {
		k.farewell(res)
		return nil
	}
	if err := k.begin(); errors.Is(err, errStopped) {
		k.farewell(res)
	} else {
		k.giveUp(err)
	}
	return nil
}

// again says whether the restart policy wants the program started once more. The state is read afresh: somebody may have
// stopped the container, or changed the policy.
func (k *keeper) again(res Result) bool {
	fresh, err := k.host.read(k.ID)
	if err != nil || fresh.Stopped || fresh.Config.Lifetime.Remove {
		return false
	}
	if fresh.StartAgain {
		return true
	}
	switch p := fresh.Config.Lifetime.Restart; p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return res.Code != 0 && (p.MaxRetries == 0 || fresh.RestartCount < p.MaxRetries)
	}
	return false
}

// Docker's pauses between restarts (moby, restartmanager): they double from the first to the last, and begin anew when
// the program has run for a while.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	longRun      = 10 * time.Second
)

// pause waits before a restart, and says whether it is still wanted then.
func (k *keeper) pause(ran time.Duration) bool {
	k.backoff = min(2*k.backoff, lastBackoff)
	if ran >= longRun || k.backoff == 0 {
		k.backoff = firstBackoff
	}
	changes, glance := k.watchState(), time.Second
	if changes < 0 || k.tethered() {
		glance = 50 * time.Millisecond
	}
	defer unix.Close(changes)
	for deadline := time.Now().Add(k.backoff); ; {
		// Somebody may have stopped the container, renamed it, or changed its limits.
		if err := k.reread(); err != nil || k.Stopped || k.isAsked() || k.abandoned() {
			_ = k.change(func(s *State) error {
				s.Status = Exited
				return nil
			})
			return false
		}
		left := time.Until(deadline)
		if left <= 0 {
			return true
		}
		fds := []unix.PollFd{{Fd: int32(k.asked.Fd()), Events: unix.POLLIN}, {Fd: int32(changes), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, int(min(left, glance)/time.Millisecond)+1)
		var told [4096]byte
		_, _ = unix.Read(changes, told[:])
	}
}

// listenForEnd keeps this process from being ended in the midst of a container's end, or of the pause before the next start:
// a request to end (SIGTERM) is heeded where it does no harm. What a monitor ignores, its heir does too.
func (k *keeper) listenForEnd() {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	k.asked = r
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	go func() {
		<-terms
		w.Close()
	}()
}

func (k *keeper) isAsked() bool { return k.asked != nil && waitFD(int(k.asked.Fd()), 0) }

// stopListening is for when this process is about to become something else, which a request would be lost to: from now on it
// ends this process, and the program with it. It says whether one has come before.
func (k *keeper) stopListening() bool {
	if k.asked != nil {
		signal.Reset(unix.SIGTERM)
	}
	return k.isAsked()
}

// watchState gives an inotify(7) descriptor that can be read when the container's state is replaced; -1 if there is none to
// be had.
func (k *keeper) watchState() int {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1
	}
	if _, err := unix.InotifyAddWatch(fd, k.dir(), unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// farewell tells those who have attached, or wait, that the container has ended for good, and lets go of it.
func (k *keeper) farewell(res Result) {
	_ = os.Remove(k.path(attachName))
	k.unlock()
	k.lastWord(res)
}

// needImage finds the container's image again, and keeps it from being removed until the start is noted.
func (c *Container) needImage(ctx context.Context) error {
	if c.image != nil {
		return nil
	}
	inUse, err := c.host.HoldImages(false)
	if err != nil {
		return err
	}
	c.inUse = inUse
	img, err := c.host.Images.Lookup(c.ImageID)
	if err == nil {
		img, err = c.host.Images.Ready(ctx, img, layers.AddOptions{})
	}
	if err != nil {
		return fmt.Errorf("image %q of container %s: %w", c.Image, c.Name, err)
	}
	c.image = img
	return nil
}

// read gives a container's state as it is written, whoever holds its lock.
func (h *Host) read(id string) (*State, error) {
	var s State
	if err := h.readInto(id, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// readInto gives those fields of a container's state that to, a pointer to a struct, names.
func (h *Host) readInto(id string, to any) error {
	data, err := os.ReadFile(filepath.Join(h.containers(), id, stateFile))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}
