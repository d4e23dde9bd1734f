package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/ns"
)

// IO are the streams of whoever runs a container in the foreground.
type IO struct{ In, Out, Err *os.File }

// Result is how a container ended.
type Result struct {
	// Code is the program's exit status, or 128 + n if signal n ended it; 124 if its time was up.
	Code int
	// OOMKilled is true if the kernel ended something in the container for want of memory within its limit.
	OOMKilled bool
	// TimedOut is true if Lifetime.Timeout ended it.
	TimedOut bool
	// Used is what it took, for a container with Isolation.Sandbox.
	Used *Used
}

// start is one run of a container: what is held while it lasts.
type start struct {
	*Container
	world   World
	group   cgroups.Group // nil for none
	streams *streams
	cmd     *ns.Cmd
	process *ns.Process
	signals *signals
	health  *HealthConfig // how to probe, or nil
	lowers  []ns.Mapped   // what lies below layers over binds, where ids are mapped
	looking bool          // nothing is run: only somebody wants to see the files that are there
	// endpoints are its places on networks. shared are the namespaces of another container whose network it shares; peer is the
	// one that has that network.
	endpoints []*network.Endpoint
	shared    []*os.File
	peer      *Container
	cabled    func() error // waits for the cables, see layAhead
	spare     *spareHelper
	netns     *os.File // the container's network namespace, see layCables
}

// Run runs the container's program to its end, connected to the caller's streams, and takes everything down again. An
// error says that it could not be started; it is an *ns.ExecError if only the program was at fault.
//
// The calling goroutine stays on its thread until Run returns: when the thread ends, however it ends, the kernel kills
// the container.
func (c *Container) Run(ctx context.Context, io IO) (Result, error) {
	s := &start{Container: c}
	s.signals = catchSignals(!c.Config.Lifetime.NoSigProxy)
	res, err := s.run(ctx, io)
	if left := s.end(res, err); left != nil && err == nil {
		c.host.warn("clean up after container %s: %v", c.Name, left) // the program's status is what counts
	} else {
		err = errors.Join(err, left)
	}
	return res, err
}

func (s *start) run(ctx context.Context, io IO) (res Result, err error) {
	if err := s.needImage(ctx); err != nil {
		return res, err
	}
	if err := s.conceive(); err != nil {
		return res, err
	}
	defer s.abandon()
	if err := s.findWorld(io); err != nil {
		return res, err
	}
	if s.streams, err = openStreams(&s.Config, io); err != nil {
		return res, err
	}
	if s.health, err = s.startHealth(); err != nil {
		return res, err
	}
	defer s.streams.close()
	if err := s.create(); err != nil {
		return res, err
	}
	<-s.signals.ready // until then a signal ends hull, and with it what is there of the container
	if err := s.process.Start(); err != nil {
		_, _ = s.process.Wait()
		return res, err
	}
	s.noteStart()
	s.streams.started(s.process.Console)
	if s.streams.console != nil {
		s.streams.follow()
	}
	return s.wait(ctx)
}

// noteStart notes that the program runs, and that its image is used.
func (c *Container) noteStart() {
	c.note("start")
	if c.image != nil {
		c.host.Images.Used(c.image)
	}
}

// conceive finds out what the kernel has to know first, which is whose ids, which namespaces and what group, and has it
// begin with them, for they take the longest.
func (s *start) conceive() (err error) {
	if s.cmd == nil {
		if err := s.outline(); err != nil {
			return err
		}
	}
	if err := s.makeGroup(); err != nil {
		return err
	}
	if s.group != nil {
		s.cmd.Cgroup = s.group.Dir()
	}
	if err := s.cmd.Conceive(); err != nil {
		return err
	}
	s.spare = s.host.spareHelper(&s.Config.Network)
	return nil
}

// abandon ends what conceive has begun and nobody has taken over.
func (s *start) abandon() {
	s.cmd.Abandon()
	s.spare.drop()
}

// outline is what conceive finds out.
func (s *start) outline() (err error) {
	c, w := &s.Config, &s.world
	if w.Identity, err = s.identity(); err != nil {
		return err
	}
	if c.Network.Mode == network.Host && c.Network.Hostname == "" {
		w.Hostname, _ = os.Hostname() // Docker's rule
	}
	if err := s.shareNetwork(); err != nil {
		return err
	}
	s.cmd = &ns.Cmd{
		Spec: &specs.Spec{
			Process: &specs.Process{OOMScoreAdj: c.Limits.OOMScoreAdj},
			Linux: &specs.Linux{
				Namespaces: namespaces(c, *w), UIDMappings: w.Identity.UIDs, GIDMappings: w.Identity.GIDs,
			},
		},
		Reexec: os.Getenv("HULL_REEXEC") == "1",
	}
	return nil
}

// create has the world built, and meanwhile joins the cgroup, where that is slow, and writes the state down.
func (s *start) create() error {
	defer s.closeShared()
	if err := s.reserve(context.Background()); err != nil {
		return err
	}
	if s.cabled = s.layAhead(); s.cabled != nil {
		defer s.cabled() // what is begun is finished before it is taken down
	}
	spec, err := Spec(&s.Config, s.image.Config, s.world)
	if err != nil {
		return err
	}
	if spec.Linux.Seccomp, err = seccompProfile(&s.Config, spec.Process.Capabilities.Bounding); err != nil {
		return err
	}
	if s.AppArmor, err = s.host.appArmor(&s.Config.Isolation); err != nil {
		return err
	}
	spec.Process.ApparmorProfile = s.AppArmor
	cmd := s.cmd
	cmd.Spec, cmd.Files, cmd.FakeIDs = spec, s.files(spec), s.world.Identity.OneID
	cmd.Landlock = landlock(&s.Config, path.Clean(spec.Process.Cwd), s.Mounts)
	cmd.OwnWorkdir = s.Config.Files.OwnWorkdir && s.Config.Files.ReadOnly && inRootItself(path.Clean(spec.Process.Cwd), spec.Mounts)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Init = s.streams.stdin, s.streams.stdout, s.streams.stderr, s.Config.Process.Init
	s.Status, s.Args, s.Started, s.UserNS = Running, spec.Process.Args, time.Now().UTC(), s.world.Identity.UserNS
	cmd.Attach = func(pid int) error {
		s.Pid, s.PidStart, s.Boot = pid, startTime(pid), bootID()
		if s.Detached {
			s.Monitor = cmp.Or(cmd.Parent(), os.Getpid())
			s.MonitorStart = startTime(s.Monitor)
		}
		if err := s.attach(pid); err != nil {
			return err
		}
		if s.cabled == nil {
			cables := s.layCables(pid)
			s.cabled = func() error { return cables } // not one of Attach's: the program may do without
		}
		return nil
	}
	if s.group != nil {
		cmd.Hierarchies = s.hierarchies()
	}
	if err = s.mapped(cmd); err != nil {
		return err
	}
	if s.process, err = cmd.Create(); err != nil {
		return err
	}
	s.noteVolumes("mount")
	s.streams.handedOver()
	if err := s.plugIn(context.Background(), s.cabled()); err != nil {
		_ = s.process.Signal(unix.SIGKILL)
		_, _ = s.process.Wait()
		return err
	}
	if file := s.Config.Lifetime.PIDFile; file != "" {
		if err := writePID(file, s.Pid); err != nil {
			_ = s.process.Signal(unix.SIGKILL)
			_, _ = s.process.Wait()
			return fmt.Errorf("pidfile: %w", err)
		}
	}
	return nil
}

// writePID writes a pid to a file. On a FIFO that nobody reads open(2) would wait for ever without O_NONBLOCK.
func writePID(file string, pid int) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	return errors.Join(err, f.Close())
}

// attach runs while the child prepares its world.
func (s *start) attach(pid int) error {
	if s.group != nil && s.group.Dir() == nil {
		if err := s.group.Add(pid); err != nil {
			return err
		}
	}
	defer s.imageNoted()
	if !s.saved {
		return s.save()
	}
	begun := s.State
	return s.change(func(now *State) error {
		if now.Status == Restarting && now.Stopped {
			return errStopped
		}
		now.Status, now.Args, now.Started, now.UserNS, now.Detached = begun.Status, begun.Args, begun.Started, begun.UserNS, begun.Detached
		if now.Probed = begun.Probed; begun.Detached {
			now.Monitor, now.MonitorStart = begun.Monitor, begun.MonitorStart
		}
		now.Ends, now.HostEnv = begun.Ends, begun.HostEnv
		now.Pid, now.PidStart, now.Boot, now.Cgroups, now.Volumes = begun.Pid, begun.PidStart, begun.Boot, begun.Cgroups, begun.Volumes
		now.Error, now.OOMKilled, now.TimedOut, now.ExitCode, now.StartAgain = "", false, false, 0, false
		return nil
	})
}

// wait passes on signals until the program ends, by itself, by its time limit or with its caller.
func (s *start) wait(ctx context.Context) (res Result, err error) {
	stop, limit := make(chan struct{}), s.timeLimit()
	var timedOut bool
	done := make(chan struct{})
	s.signals.confined = s.AppArmor != "" && s.AppArmor != ns.AppArmorUnconfined
	go func() {
		defer close(done)
		timedOut = s.signals.forward(ctx, awake{s.process, s.Container}, s.streams.resize, limit, stop)
	}()
	if s.health != nil {
		go s.keepProbing(s.health, stop)
	}
	status, err := s.process.Wait()
	close(stop)
	<-done
	if s.Config.Isolation.PID == "host" && s.group != nil {
		_ = s.group.Kill() // with a pid namespace of its own, all that was in it is dead already
	}
	s.streams.drain()
	res.Code, res.TimedOut = status.Code(), timedOut
	if timedOut {
		res.Code = timedOutCode
	}
	s.countOOM(&res)
	s.measure(&res, &status.Usage)
	return res, err
}

// timedOutCode is the exit status of whom its time limit has ended: that of timeout(1), also for one that ended by itself
// within its grace, with whatever status.
const timedOutCode = 124

// timeLimit is the container's.
func (c *Container) timeLimit() timeLimit {
	l := &c.Config.Lifetime
	t := timeLimit{after: l.Timeout, grace: l.TimeoutGrace}
	if t.after > 0 && t.grace > 0 { // else nobody needs to know, and the image may have to be looked up for it
		t.signal = c.stopSignal()
	}
	return t
}

// awake is a container's program, woken if it is to end while somebody has paused it: a frozen one cannot.
type awake struct {
	*ns.Process
	c *Container
}

func (a awake) Signal(sig syscall.Signal) error {
	err := a.Process.Signal(sig)
	if sig == unix.SIGKILL || sig == a.c.stopSignal() {
		return errors.Join(err, a.c.wake())
	}
	return err
}

// countOOM asks whether the kernel killed something for want of memory.
func (s *start) countOOM(res *Result) {
	if s.group != nil && s.Config.Limits.Resources.Memory != nil {
		n, err := s.group.OOMKills()
		res.OOMKilled = err == nil && n > 0
	}
}

// end takes down what is left of a run, writes down how it ended, and lets go of the container.
func (s *start) end(res Result, failure error) error {
	defer s.unlock()
	return s.takeDown(res, failure, false)
}

// takeDown is end without letting go; again says that the program will be started once more.
func (s *start) takeDown(res Result, failure error, again bool) error {
	var errs []error
	if err := s.findGroup(); err != nil {
		errs = append(errs, err)
	}
	if s.group != nil {
		_ = s.group.Kill()
		errs = append(errs, s.group.Remove(), s.group.Close())
	}
	errs = append(errs, s.leaveNetworks())
	if s.netns != nil {
		s.netns.Close()
		s.netns = nil
	}
	if !s.Detached {
		s.tellReport()
	}
	if failure == nil {
		s.noteEnd(res)
		s.noteLeft()
	}
	if s.Config.Lifetime.Remove && !again {
		return errors.Join(append(errs, s.discard())...)
	}
	if !s.saved { // it never came to the start
		if err := s.save(); err != nil {
			return errors.Join(append(errs, err, s.discard())...) // nobody would know what it is
		}
	}
	return errors.Join(append(errs, s.change(func(now *State) error {
		now.ended(res, failure)
		if again {
			now.Status = Restarting
			now.RestartCount++
		}
		return nil
	}))...)
}

// findGroup opens the group that others have given the container since it was started, or put into more hierarchies, see
// needGroup.
func (s *start) findGroup() error {
	if !s.saved {
		return nil
	}
	// Not the whole State: encoding/json would first learn all of its types, which takes as long as the rest of the end.
	var now struct {
		Cgroups   []string
		LateGroup bool
	}
	if err := s.host.readInto(s.ID, &now); err != nil {
		return nil
	}
	paths := now.Cgroups
	if now.LateGroup && len(paths) == 0 {
		paths = cgroups.Left(s.ID, s.host.rootless)
	}
	if len(paths) <= len(s.Cgroups) {
		return nil
	}
	if s.group != nil {
		_ = s.group.Close()
	}
	s.Cgroups = paths
	var err error
	s.group, err = cgroups.Open(paths)
	return err
}

func (s *start) noteEnd(res Result) {
	if res.OOMKilled {
		s.note("oom")
	}
	s.note("die", "exitCode", strconv.Itoa(res.Code), "execDuration", strconv.Itoa(int(time.Since(s.Started)/time.Second)))
	s.noteVolumes("unmount")
}

// errStopped says that a container was stopped by hand when its policy was about to start it again. This and the mark
// exclude each other by the lock on the state: what is marked is not started, and what is started is there to be stopped.
var errStopped = errors.New("stopped by hand")

// ended notes how a run has ended, or why it could not begin.
func (s *State) ended(res Result, failure error) {
	s.Pid, s.Cgroups, s.LateGroup, s.Used = 0, nil, false, res.Used
	if errors.Is(failure, errStopped) {
		s.Status = Exited
		return
	}
	if failure != nil && s.Stopped && !s.Finished.IsZero() { // killed by hand in the midst of a start that is not the first
		s.Status, s.ExitCode, s.Finished = Exited, 128+int(unix.SIGKILL), time.Now().UTC()
		return
	}
	if failure == nil {
		s.Status, s.ExitCode, s.OOMKilled, s.TimedOut, s.Finished = Exited, res.Code, res.OOMKilled, res.TimedOut, time.Now().UTC()
		return
	}
	s.Error, s.ExitCode = failure.Error(), 128
	if code := (interface{ ExitCode() int })(nil); errors.As(failure, &code) {
		s.ExitCode = code.ExitCode()
	}
	if s.Status = Exited; s.Finished.IsZero() { // it has never run
		s.Status, s.Started = Created, time.Time{}
	}
}

// findWorld looks up on the host and in the image what the specification needs.
func (s *start) findWorld(io IO) (err error) {
	h, c := s.host, &s.Config
	w := &s.world
	w.ID, w.Dir = s.ID, s.dir()
	if w.User, err = s.findUser(c, s.image, w.Identity); err != nil {
		return err
	}
	// Whoever was killed while it ran has left a mark. It stands if the machine was down since: then files may be incomplete.
	if c.Lifetime.Remove && s.saved && (s.Boot == "" || s.Boot == bootID()) {
		clearWork(s.dir())
	}
	w.Root, err = h.Images.Mount(s.path("upper"), s.path("work"), s.image, layers.MountOptions{
		Volatile: c.Lifetime.Remove, UserXattr: w.Identity.UserNS,
	})
	if err == nil {
		err = h.layIn(&w.Root)
	}
	if err != nil {
		return err
	}
	if w.Mounts, err = s.findMounts(); err != nil {
		return err
	}
	if err := s.takeTrust(); err != nil {
		return err
	}
	if w.Hostname != "" {
		s.HostEnv = append(s.HostEnv, "HOSTNAME="+w.Hostname)
		w.Env = s.HostEnv
	}
	if !w.Identity.UserNS {
		if w.Permitted, err = ownCapabilities(); err != nil {
			return err
		}
	}
	if c.Isolation.IPC == "host" {
		_, err := os.Stat("/dev/mqueue")
		w.NoMqueue = err != nil
	}
	w.HotCPUs = hotCPUs()
	if c.Process.TTY {
		w.ConsoleSize = terminalSize(io)
	}
	return s.findDevices()
}
