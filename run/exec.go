package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hullrun/hull/cgroups"
	"github.com/hullrun/hull/ns"
)

// ExecConfig is a wish for one more program in a running container. Where a field but Args has its zero value, it is as
// with the container's first program.
type ExecConfig struct {
	Args []string
	// Env holds "KEY=VALUE", which beat the container's. A KEY alone removes one.
	Env []string
	// User is "NAME|UID[:GROUP|GID]", looked up in the container as it is now. Workdir must exist.
	User, Workdir string
	// Interactive connects the caller's input; TTY gives the program a terminal.
	Interactive, TTY bool
	// Privileged gives all capabilities, and lifts the seccomp filter.
	Privileged bool
	// Detach leaves the program to itself as soon as it runs, without the caller's streams.
	Detach bool
	// DetachKeys, typed at a terminal, do so later; nil for none.
	DetachKeys []byte
	// SigProxy passes on the signals that this process gets, and ends the program with whoever called it, as is right for a
	// command in somebody's foreground.
	SigProxy bool
	// Timeout and TimeoutGrace are as in LifetimeConfig, with SIGTERM for the stop signal. They end this program, and not
	// what it may have left behind in the container. They go with SigProxy, or with a monitor.
	Timeout, TimeoutGrace time.Duration
}

// execution is one run of a program in a running container.
type execution struct {
	*Container
	wish    ExecConfig
	id      string // for events
	config  Config // the container's, as the wish has it
	group   cgroups.Group
	streams *streams
	process *ns.Process
	begin   time.Time
	// landlock is what holds for the container's first program too.
	landlock *ns.Landlock
}

func (c *Container) newExecution(x ExecConfig) *execution {
	e := &execution{Container: c, wish: x, id: NewID(), config: c.Config}
	p := &e.config.Process
	p.Interactive, p.TTY, p.Attach = x.Interactive, x.TTY, nil
	p.Env = append(p.Env[:len(p.Env):len(p.Env)], x.Env...)
	p.User, p.Workdir = cmp.Or(x.User, p.User), cmp.Or(x.Workdir, p.Workdir)
	if x.Privileged {
		e.config.Isolation.Privileged = true
	}
	return e
}

// Exec runs one more program in the container, connected to the caller's streams, until it ends. It ends with the
// container, with the thread that runs this function, and when ctx does: then its status is 137. With Detach Exec returns
// when the program runs; and with ErrDetached once the keys for it are typed.
//
// An error has the exit status that is due as its ExitCode: 127 if there is no such program, 126 if it cannot be started,
// 1 if the container is not one to run anything in.
func (c *Container) Exec(ctx context.Context, x ExecConfig, io IO) (Result, error) {
	if err := c.mayExec(); err != nil {
		return Result{}, err
	}
	if x.Workdir != "" && !path.IsAbs(x.Workdir) {
		return Result{}, startFailure{fmt.Errorf("workdir %q: the working directory is invalid, it needs to be an absolute path", x.Workdir), 126}
	}
	if x.Detach || x.TTY && x.Interactive && x.DetachKeys != nil && io.In != nil && term.IsTerminal(int(io.In.Fd())) {
		return c.execKept(ctx, x, io)
	}
	e := c.newExecution(x)
	var err error
	if e.streams, err = openStreams(&e.config, io); err != nil {
		return Result{}, execFailure(err)
	}
	defer e.streams.close()
	if err := e.start(ctx, terminalSize(io)); err != nil {
		return Result{}, err
	}
	return e.wait(ctx), nil
}

// mayExec says why nothing can be run in the container, if so.
func (c *Container) mayExec() error {
	switch {
	case c.Status == Paused:
		return fmt.Errorf("container %s is paused, unpause the container before exec", c.Name)
	case c.Status == Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running", c.Name)
	case c.Status != Running || c.Pid == 0:
		return errNotRunning(c.Name)
	}
	return nil
}

func errNotRunning(name string) error { return fmt.Errorf("container %s is not running", name) }

// startFailure is an error of the start of a program, with the exit status that Docker gives it.
type startFailure struct {
	error
	code int
}

func (e startFailure) Unwrap() error { return e.error }
func (e startFailure) ExitCode() int { return e.code }

func execFailure(err error) error {
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &coded):
		return err
	case errors.Is(err, unix.ENOENT):
		return startFailure{err, 127} // the working directory
	}
	return startFailure{err, 126}
}

// start starts the program. The container may have ended since we looked.
func (e *execution) start(ctx context.Context, size *specs.Box) error {
	target, err := e.target(ctx)
	if err != nil {
		return err
	}
	defer target.Close()
	e.begin = time.Now().UTC()
	if err = ctx.Err(); err == nil {
		err = e.create(ctx, target, size)
	}
	if err == nil {
		if err = e.process.Start(); err != nil {
			_ = e.process.Signal(unix.SIGKILL)
			_, _ = e.process.Wait()
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil && hasEnded(target):
		return errNotRunning(e.Name)
	case err != nil:
		err = execFailure(err)
	}
	e.noteStart(err)
	return err
}

// hasEnded says whether a process has, by its pidfd.
func hasEnded(pidfd *os.File) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, 0)
	return err == nil && n == 1
}

// target opens the container's first process (pidfd_open(2)) once it has become the program: before, its world is still
// the host's.
func (c *Container) target(ctx context.Context) (*os.File, error) {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return nil, errNotRunning(c.Name)
	}
	target := os.NewFile(uintptr(fd), "container")
	stat, err := readStat(c.Pid)
	if err != nil || stat.start != c.PidStart { // somebody else has the number by now
		target.Close()
		return nil, errNotRunning(c.Name)
	}
	const glance, patience = time.Millisecond, 10 * time.Second
	for begin := time.Now(); inBirth(c.Pid, stat.ppid); time.Sleep(glance) {
		if hasEnded(target) || ctx.Err() != nil || time.Since(begin) > patience {
			target.Close()
			return nil, errors.Join(errNotRunning(c.Name), ctx.Err())
		}
	}
	return target, nil
}

// inBirth says whether a container's first process is still the child that prepares its world: it executes the same file,
// by the same mount, as its parent, or has the root directory of the host. In doubt it is.
func inBirth(pid, parent int) bool {
	mine, err := identify(procFile(pid, "exe"))
	if err != nil {
		return true
	}
	if its, err := identify(procFile(parent, "exe")); err == nil && its == mine {
		return true
	}
	var root, host unix.Stat_t
	if unix.Stat(procFile(pid, "root"), &root) != nil || unix.Stat("/", &host) != nil {
		return true
	}
	return root.Dev == host.Dev && root.Ino == host.Ino
}

// fileIdentity tells a file from all others, and from itself seen by way of another mount.
type fileIdentity struct {
	major, minor uint32
	ino, mount   uint64
}

func identify(path string) (fileIdentity, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st)
	return fileIdentity{st.Dev_major, st.Dev_minor, st.Ino, st.Mnt_id}, err
}

// create prepares the program in the container.
func (e *execution) create(ctx context.Context, target *os.File, size *specs.Box) error {
	spec, oneID, err := e.spec(size)
	if err != nil {
		return err
	}
	cmd := &ns.Cmd{
		Spec: spec, Join: target, Context: ctx, FakeIDs: oneID, Landlock: e.landlock,
		Stdin: e.streams.stdin, Stdout: e.streams.stdout, Stderr: e.streams.stderr,
	}
	if err := e.join(cmd, e.Cgroups); err != nil {
		return err
	}
	e.process, err = cmd.Create()
	if err != nil && cmd.Cgroup != nil {
		err = e.createElsewhere(cmd, err)
	}
	if e.group != nil {
		_ = e.group.Close()
	}
	e.streams.handedOver()
	return err
}

// join has the program born in the container's cgroup.
func (e *execution) join(cmd *ns.Cmd, paths []string) (err error) {
	if len(paths) == 0 {
		return nil
	}
	if e.group, err = cgroups.Open(paths); err != nil {
		return err
	}
	if cmd.Cgroup = e.group.Dir(); cmd.Cgroup == nil {
		cmd.Attach = e.group.Add
	}
	return nil
}

// createElsewhere tries again where the kernel let the program into the container's cgroup v2 group not at all: because
// there are groups in it and so may not be processes, then it goes where the first program is; or because a user may not
// move processes from where hull is to there.
func (e *execution) createElsewhere(cmd *ns.Cmd, refused error) (err error) {
	_ = e.group.Close()
	e.group, cmd.Cgroup = nil, nil
	switch {
	case errors.Is(refused, unix.EBUSY):
		inner := cgroups.Inner(e.Cgroups, e.Pid)
		if inner == nil {
			return refused
		}
		if err := e.join(cmd, inner); err != nil {
			return err
		}
	case e.host.rootless && (errors.Is(refused, unix.EACCES) || errors.Is(refused, unix.EPERM)):
		e.host.warn("exec: the program is not within the container's limits: %v", refused)
	default:
		return refused
	}
	e.process, err = cmd.Create()
	return err
}

// spec says what to run and where. oneID is true if calls that need a second id are to be answered as if they worked.
func (e *execution) spec(size *specs.Box) (s *specs.Spec, oneID bool, err error) {
	c := &e.config
	img := e.image
	if img == nil {
		if img, err = e.host.Images.Lookup(e.ImageID); err != nil {
			return nil, false, fmt.Errorf("image %q of container %s: %w", e.Image, e.Name, err)
		}
	}
	w := World{ID: e.ID, ConsoleSize: size, Env: e.HostEnv}
	if w.Identity, err = identityOf(e.Pid, e.UserNS); err != nil {
		return nil, false, err
	}
	if w.User, err = e.findUser(c, img, w.Identity); err != nil {
		return nil, false, err
	}
	if !e.UserNS {
		if w.Permitted, err = ownCapabilities(); err != nil {
			return nil, false, err
		}
	}
	p, err := process(c, &img.Config.Config, e.wish.Args, w)
	if err != nil {
		return nil, false, err
	}
	s = &specs.Spec{Process: p, Linux: &specs.Linux{
		Namespaces: namespaces(c, w), UIDMappings: w.Identity.UIDs, GIDMappings: w.Identity.GIDs,
	}}
	p.ApparmorProfile = e.AppArmor // with Privileged too, as in Docker
	s.Linux.Seccomp, err = seccompProfile(c, p.Capabilities.Bounding)
	e.landlock = landlock(c, workdir(&e.Config, &img.Config.Config), e.Mounts)
	return s, w.Identity.OneID, err
}

// identityOf tells the ids of a container from its first process.
func identityOf(pid int, userns bool) (Identity, error) {
	if !userns {
		return Identity{}, nil
	}
	uids, err := readMap(procFile(pid, "uid_map"))
	if err != nil {
		return Identity{}, err
	}
	gids, err := readMap(procFile(pid, "gid_map"))
	return Identity{UserNS: true, UIDs: uids, GIDs: gids, OneID: len(uids) == 1 && uids[0].Size == 1}, err
}

// readMap reads a file of lines of three numbers, user_namespaces(7).
func readMap(path string) (list []specs.LinuxIDMapping, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("read %s: want three numbers, not %q", path, line)
		}
		var n [3]uint32
		for i := range f {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
			n[i] = uint32(v)
		}
		list = append(list, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return list, nil
}

// wait stays with the program to its end.
func (e *execution) wait(ctx context.Context) Result {
	e.streams.started(e.process.Console)
	if e.streams.console != nil {
		e.streams.follow()
	}
	var status ns.Status
	var timedOut bool
	if e.wish.SigProxy {
		s := catchSignals(true)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			limit := timeLimit{e.wish.Timeout, e.wish.TimeoutGrace, unix.SIGTERM}
			timedOut = s.forward(ctx, awake{e.process, e.Container}, e.streams.resize, limit, stop)
		}()
		status, _ = e.process.Wait()
		close(stop)
		<-done
	} else {
		stop := context.AfterFunc(ctx, func() { _ = e.process.Signal(unix.SIGKILL) })
		status, _ = e.process.Wait()
		stop()
	}
	e.streams.drain()
	res := Result{Code: status.Code(), TimedOut: timedOut}
	if timedOut {
		res.Code = timedOutCode
	}
	e.noteEnd(res.Code)
	return res
}

// noteStart notes that the program runs, or could not be started, in the words of Docker's events. It is done when the
// program runs already.
func (e *execution) noteStart(failure error) {
	line := strings.Join(e.wish.Args, " ")
	e.noteExec("exec_create: "+line, e.begin)
	e.noteExec("exec_start: "+line, e.begin)
	var coded interface{ ExitCode() int }
	if errors.As(failure, &coded) {
		e.noteEnd(coded.ExitCode())
	}
}

func (e *execution) noteEnd(code int) {
	e.noteExec("exec_die", time.Time{}, "exitCode", strconv.Itoa(code))
}

func (e *execution) noteExec(action string, when time.Time, more ...string) {
	e.noteAt(when, action, append(more, "execID", e.id)...)
}
