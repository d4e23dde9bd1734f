package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/layers"
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
}

// start is one run of a container: what is held while it lasts.
type start struct {
	*Container
	world   World
	group   cgroups.Group // nil for none
	streams *streams
	process *ns.Process
	signals *signals
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
	if err := s.findWorld(io); err != nil {
		return res, err
	}
	if err := s.makeGroup(); err != nil {
		return res, err
	}
	if s.streams, err = openStreams(&s.Config, io); err != nil {
		return res, err
	}
	defer s.streams.close()
	if err := s.create(); err != nil {
		return res, err
	}
	if err := s.process.Start(); err != nil {
		_, _ = s.process.Wait()
		return res, err
	}
	s.streams.started(s.process.Console)
	if s.streams.console != nil {
		s.streams.follow(s.process.Console)
	}
	return s.wait(ctx)
}

// create has the world built, and meanwhile joins the cgroup, where that is slow, and writes the state down.
func (s *start) create() error {
	spec, err := Spec(&s.Config, s.image.Config, s.world)
	if err != nil {
		return err
	}
	if spec.Linux.Seccomp, err = seccompProfile(&s.Config, spec.Process.Capabilities.Bounding); err != nil {
		return err
	}
	cmd := &ns.Cmd{
		Spec: spec, Files: s.files(spec), Stdin: s.streams.stdin, Stdout: s.streams.stdout, Stderr: s.streams.stderr,
		FakeIDs: s.world.Identity.OneID, Init: s.Config.Process.Init, Reexec: os.Getenv("HULL_REEXEC") == "1",
	}
	s.Status, s.Args, s.Started, s.UserNS = Running, spec.Process.Args, time.Now().UTC(), s.world.Identity.UserNS
	cmd.Attach = func(pid int) error {
		s.Pid, s.PidStart = pid, startTime(pid)
		return s.attach(pid)
	}
	if s.group != nil {
		cmd.Cgroup = s.group.Dir()
		cmd.Hierarchies = s.hierarchies()
	}
	if s.process, err = cmd.Create(); err != nil {
		return err
	}
	s.streams.handedOver()
	if file := s.Config.Lifetime.PIDFile; file != "" {
		if err := os.WriteFile(file, []byte(strconv.Itoa(s.Pid)), 0o644); err != nil {
			_ = s.process.Signal(unix.SIGKILL)
			_, _ = s.process.Wait()
			return fmt.Errorf("pidfile: %w", err)
		}
	}
	return nil
}

// attach runs while the child prepares its world.
func (s *start) attach(pid int) error {
	if s.group != nil && s.group.Dir() == nil {
		if err := s.group.Add(pid); err != nil {
			return err
		}
	}
	defer s.imageNoted()
	return s.save(true)
}

// wait passes on signals until the program ends, by itself, by its time limit or with its caller.
func (s *start) wait(ctx context.Context) (res Result, err error) {
	stop := make(chan struct{})
	var timedOut bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		timedOut = s.signals.forward(ctx, s.process, s.streams, s.Config.Lifetime.Timeout, stop)
	}()
	status, err := s.process.Wait()
	close(stop)
	<-done
	if s.Config.Isolation.PID == "host" && s.group != nil {
		_ = s.group.Kill() // with a pid namespace of its own, all that was in it is dead already
	}
	s.streams.drain()
	res.Code, res.TimedOut = status.Code(), timedOut
	if timedOut {
		res.Code = 124
	}
	if s.group != nil && s.Config.Limits.Resources.Memory != nil {
		n, e := s.group.OOMKills()
		res.OOMKilled = e == nil && n > 0
	}
	return res, err
}

// end takes down what is left, and writes down how it ended.
func (s *start) end(res Result, failure error) error {
	var errs []error
	if s.group != nil {
		if s.process != nil {
			_ = s.group.Kill()
		}
		errs = append(errs, s.group.Remove(), s.group.Close())
	}
	defer s.unlock()
	if s.Config.Lifetime.Remove {
		return errors.Join(append(errs, s.discard())...)
	}
	s.Pid, s.Cgroups, s.Finished = 0, nil, time.Now().UTC()
	s.Status, s.ExitCode, s.OOMKilled = Exited, res.Code, res.OOMKilled
	if failure != nil {
		s.Status, s.Error, s.ExitCode = Created, failure.Error(), 128
		if code := (interface{ ExitCode() int })(nil); errors.As(failure, &code) {
			s.ExitCode = code.ExitCode()
		}
		s.Started, s.Finished = time.Time{}, time.Time{}
	}
	return errors.Join(append(errs, s.save(false))...)
}

// findWorld looks up on the host and in the image what the specification needs.
func (s *start) findWorld(io IO) (err error) {
	h, c := s.host, &s.Config
	w := &s.world
	w.ID, w.Dir = s.ID, s.dir()
	if w.Identity, err = h.identity(c.Isolation.Userns, s.image.OneIDSafe && c.Process.User == ""); err != nil {
		return err
	}
	user := c.Process.User
	if user == "" {
		user = s.image.Config.Config.User
	}
	if mode, _, _ := strings.Cut(c.Isolation.Userns, ":"); mode == "keep-id" && user == "" {
		user = fmt.Sprintf("%d:%d", w.Identity.UIDs[0].ContainerID, w.Identity.GIDs[0].ContainerID)
	}
	if w.User, err = lookupUser(append([]string{s.path("upper")}, h.Images.Dirs(s.image)...), user, c.Process.GroupAdd); err != nil {
		return err
	}
	if err := w.Identity.checkUser(w.User.User); err != nil {
		return err
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
	if !w.Identity.UserNS {
		if w.Permitted, err = ownCapabilities(); err != nil {
			return err
		}
	}
	if c.Isolation.IPC == "host" {
		_, err := os.Stat("/dev/mqueue")
		w.NoMqueue = err != nil
	}
	if c.Process.TTY {
		w.ConsoleSize = terminalSize(io)
	}
	return s.findDevices()
}
