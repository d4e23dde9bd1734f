// Package ns runs one program inside its own world: namespaces, a root file system, a set of rights. [Cmd] is made
// like an exec.Cmd; what it runs is an OCI runtime specification.
//
// The world is prepared by a child that is forked from this process and performs a list of system calls which the
// parent has worked out beforehand (see birth.go for the list, package early for the loop). The child never returns to
// Go: it becomes the user's program. That spares the start of a second Go runtime.
//
// ns does not limit resources (package cgroups), does not fetch or stack images (registry, layers) and keeps no state
// (run).
package ns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// Cmd is a program that is about to be run in namespaces of its own. The zero value of each field but Spec is usable.
type Cmd struct {
	// Spec says what to run, in the words of the OCI runtime specification. A first mount whose destination is / is the
	// root file system, mounted over Root.Path; without one Root.Path itself is the root. The source of an overlay is
	// the directory that its relative lower directories start from. Where there is a path to a user namespace, the id maps tell
	// what it has. Hooks and Spec.Linux.Resources are not read.
	Spec *specs.Spec
	// Stdin, Stdout and Stderr are handed to the program as they are; nil is /dev/null. With Process.Terminal set they
	// are not used: see Process.Console.
	Stdin, Stdout, Stderr *os.File
	// Files are small files that appear in the container without lying anywhere on the host.
	Files []File
	// Cgroup is the directory of a cgroup v2 group in which the program is born, or nil.
	Cgroup *os.File
	// Attach, if set, is called with the child's pid while the child prepares its world. Joining a cgroup v1 group
	// belongs here: it can take ten milliseconds, and this way they pass unnoticed.
	Attach func(pid int) error
	// Hierarchies names the cgroup v1 hierarchies ("memory", "cpu,cpuacct") that a mount of type cgroup shows.
	Hierarchies []string
	// FakeIDs answers calls that set owners and ids as if they had succeeded, where they cannot work because a single
	// id is mapped.
	FakeIDs bool
	// Landlock, if set, confines the program further, where the kernel has it: see LandlockVersion.
	Landlock *Landlock
	// OwnWorkdir lets the program's working directory, unless that is the root directory itself, be written although
	// Spec.Root is read-only.
	OwnWorkdir bool
	// IDMap is a user namespace with the id maps of Spec, from UserNamespace, in whose ids Mapped are shown, and binds that have
	// IDMapOption. Within the first of Mapped lie Spec.Root.Path and the Source of each overlay; and what the overlays are made
	// of lies within one of them. It takes root.
	IDMap  *os.File
	Mapped []Mapped
	// Join is a pidfd of a process, such as a container's first. The program then gets no namespaces of its own but runs in
	// those of that process, all that Spec.Linux.Namespaces lists. Of Spec only Process, Linux.Seccomp and Linux.GIDMappings
	// are read beside these, and Landlock. See join.go. It goes with neither Init nor Reexec.
	Join *os.File
	// Context gives up Create and Start when it ends, nil for never. What the container does with its own files can make a
	// Join wait for ever.
	Context context.Context
	// Init puts a tiny process at pid 1, which passes on signals and reaps orphans; the program is its child.
	Init bool
	// Reexec prepares the world in a re-executed hull, from a read-only mount of its binary, instead of a plain fork.
	// It is slower by the start of a Go runtime, and needs no machine code written for the architecture.
	Reexec bool
	// Detach gives the program a parent of its own, which leads a session and shall look after it when this process ends: see
	// Process.HandOver. It needs CanDetach.
	Detach bool

	conceived *Process
	parent    int // see Parent
}

// File is a file with Data in it, mounted over Path, writable, of mode 0644. It lives as long as the container's /dev,
// on whose file system it is; it is written to Path itself if that is there, or where the container has no /dev of its own.
type File struct {
	Path string
	Data []byte
}

// Process is a program in its namespaces, at first waiting to be started. It belongs to the goroutine that created it,
// which stays on one thread until Wait returns: the kernel kills the program when that thread ends. Where the program has
// joined a pid namespace it stays there for good: whatever it starts later would be in that namespace too.
type Process struct {
	// Pid is the process id as the host sees it.
	Pid int
	// Console is the master side of the program's terminal, if Spec.Process.Terminal asked for one. The caller closes it.
	Console *os.File

	pidfd   int
	child   int             // to wait for, if not Pid: see join.go
	socket  int             // to the child, closed by Start
	mu      sync.Mutex      // keeps socket and pidfd open while another goroutine uses them
	context context.Context // see Cmd
	name    string          // of the program, for errors
	birth   *birth          // nil while it is not planned
	womb    *womb           // nil once the child has a memory of its own
	foster  *foster         // between this process and the program, or nil
	strayed bool            // the children of our thread are born into another pid namespace
	// Between Conceive and the child's word that its world stands:
	line    *line
	known   int        // calls of the program that the child has been given at the fork
	planned chan bool  // tells that the rest is there too, or false if it never will be
	mapped  chan error // tells when the child has its ids and the word to go on, or why not
}

// Create forks the child, if Conceive has not, and lets it build its world. When it returns, everything is in place but the
// program: the caller may still attach a network, and then calls Start, or Kill and Wait.
func (c *Cmd) Create() (*Process, error) {
	if !c.knownAhead() { // it has turned out so
		c.Abandon()
	}
	if c.conceived == nil {
		var err error
		if c.conceived, err = c.conceive(); err != nil {
			return nil, err
		}
	}
	p := c.conceived
	c.conceived = nil
	p.name, p.context = c.Spec.Process.Args[0], c.Context
	defer p.giveUp()()
	if err := p.create(c); err != nil {
		p.abandon()
		return nil, p.cause(err)
	}
	return p, nil
}

// create does the parent's part between the fork and the world's being ready.
func (p *Process) create(c *Cmd) (err error) {
	if p.birth == nil {
		if p.birth, err = c.plan(p.line); err != nil {
			return err
		}
		p.womb.next = p.birth.script(p.known)
		p.womb.births = append(p.womb.births, p.birth)
	}
	defer p.birth.close()
	defer p.line.close()
	if c.Join != nil {
		return p.escort(c)
	}
	p.planned <- true
	return p.midwife(c)
}

// abandon ends what does not come to its start.
func (p *Process) abandon() {
	if p.Console != nil {
		p.Console.Close()
	}
	_ = p.Signal(unix.SIGKILL)
	if p.birth == nil {
		p.planned <- false
	}
	p.hangUp()
	_, _ = p.Wait()
	p.line.close()
}

// giveUp shuts the socket when the context ends, so that nobody waits for a word any more. The result stops that.
func (p *Process) giveUp() (stop func() bool) {
	if p.context == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(p.context, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.socket >= 0 {
			_ = unix.Shutdown(p.socket, unix.SHUT_RDWR)
		}
	})
}

// cause is err, or the end of the context that led to it.
func (p *Process) cause(err error) error {
	if p.context != nil && p.context.Err() != nil {
		return p.context.Err()
	}
	return err
}

func (p *Process) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.socket >= 0 {
		unix.Close(p.socket)
	}
	p.socket = -1
}

// midwife does the parent's part while the child prepares: id maps, cgroup v1, waiting for readiness.
//
//	parent                         child
//	fork ------------------------> makes namespaces
//	write uid_map, gid_map
//	'm' -------------------------> becomes root in there
//	Attach to cgroups, meanwhile   mounts, devices, pivot_root, ...
//	       <---------------- 'r'   world ready (with the terminal's master, if any)
//	Start: 'g' ------------------> drops rights, executes the program
//	       <------------- closed   it runs
//
// Instead of any of its messages the child may send an early.Report, and end.
func (p *Process) midwife(c *Cmd) error {
	// Not beside the mapping, which keeps two processors busy, but beside the child's work.
	if err := <-p.mapped; err != nil {
		return err
	}
	var attached error
	if c.Attach != nil {
		attached = c.Attach(p.Pid)
	}
	if err := p.outlives(); err != nil {
		return err
	}
	// The child's own words come first: if it has ended, it could not be attached either.
	return errors.Join(p.ready(), attached)
}

// outlives waits for a word, or the child's end, which the socket does not tell as long as our end of it may be open for the
// child's sake.
func (p *Process) outlives() error {
	fds := []unix.PollFd{{Fd: int32(p.socket), Events: unix.POLLIN}, {Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case fds[0].Revents == 0:
			return p.reported(nil)
		default:
			return nil
		}
	}
}

// ready waits for the child's word that its world stands, and takes the terminal that may come with it.
func (p *Process) ready() error {
	var msg [8]byte
	var oob [64]byte // one descriptor, and who sent it
	n, oobn, err := p.receive(msg[:], oob[:])
	if err != nil {
		return err
	}
	if n != 1 || msg[0] != early.KindReady {
		return p.reported(msg[:n])
	}
	fd, err := passed(oob[:oobn])
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	if fd < 0 {
		return nil
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that a read of the console can be given up
		return os.NewSyscallError("fcntl", err)
	}
	p.Console = os.NewFile(uintptr(fd), "terminal")
	return nil
}

// passed is the descriptor that came with a message, -1 if none did.
func passed(oob []byte) (int, error) {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	for _, m := range cmsgs {
		if m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil || len(fds) != 1 {
			return -1, errors.Join(err, unix.EBADMSG)
		}
		return fds[0], nil
	}
	return -1, nil
}

// Start lets the program run. The error is an *ExecError if the program itself cannot be executed.
func (p *Process) Start() error {
	defer p.hangUp()
	defer p.giveUp()()
	if err := p.say('g'); err != nil {
		return err
	}
	var msg [8]byte
	n, _, err := p.receive(msg[:], nil)
	if err != nil {
		return err
	}
	if n == 0 { // closed by the exec
		p.separated()
		return nil
	}
	return p.reported(msg[:n])
}

func (p *Process) say(b byte) error {
	for {
		err := unix.Send(p.socket, []byte{b}, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
			return nil // the child has ended: its report, read next, says why
		default:
			return os.NewSyscallError("send to the container's init", err)
		}
	}
}

func (p *Process) receive(msg, oob []byte) (n, oobn int, err error) {
	for {
		n, oobn, _, _, err = unix.Recvmsg(p.socket, msg, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ECONNRESET) {
			return 0, 0, nil
		}
		return n, oobn, os.NewSyscallError("receive from the container's init", err)
	}
}

// Wait waits for the program to end, and frees what belongs to it. With Cmd.Detach it ends the program.
func (p *Process) Wait() (Status, error) {
	defer p.unlockThread()
	p.foster.dismiss()
	var s Status
	for {
		_, err := unix.Wait4(p.WaitPid(), &s.wait, unix.WALL, &s.Usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		p.separated()
		p.hangUp()
		if p.foster != nil {
			p.foster.close()
			p.foster = nil
		}
		p.mu.Lock()
		unix.Close(p.pidfd)
		p.pidfd = -1
		p.mu.Unlock()
		return s, os.NewSyscallError("wait4", err)
	}
}

// Signal sends sig to the program. If it is pid 1 of its namespace, the kernel drops what it has no handler for, unless
// it is SIGKILL or SIGSTOP (pid_namespaces(7)).
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(p.pidfd, sig, nil, 0))
}

// PidFD is a descriptor of the program's process, pidfd_open(2), that belongs to p.
func (p *Process) PidFD() int { return p.pidfd }

// WaitPid is the child of this process whose end Wait waits for: the program, or with Cmd.Join or Cmd.Detach the one that
// stays with it.
func (p *Process) WaitPid() int { return cmp.Or(p.child, p.Pid) }

// Status is how a program ended.
type Status struct {
	// Usage is what the program and the children it waited for consumed.
	Usage unix.Rusage
	wait  unix.WaitStatus
}

// Code is the exit status of a shell: the program's own, or 128+n if signal n ended it.
func (s Status) Code() int {
	if s.wait.Signaled() {
		return 128 + int(s.wait.Signal())
	}
	return s.wait.ExitStatus()
}

// Signal is the signal that ended the program, or 0. With Cmd.Init or Cmd.Join only its Code is known.
func (s Status) Signal() syscall.Signal {
	if s.wait.Signaled() {
		return s.wait.Signal()
	}
	return 0
}
