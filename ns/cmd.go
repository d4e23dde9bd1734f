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
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// Cmd is a program that is about to be run in namespaces of its own. The zero value of each field but Spec is usable.
type Cmd struct {
	// Spec says what to run, in the words of the OCI runtime specification. A first mount whose destination is / is the
	// root file system, mounted over Root.Path; without one Root.Path itself is the root. The source of an overlay is
	// the directory that its relative lower directories start from. Hooks and Spec.Linux.Resources are not read.
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
	// Init puts a tiny process at pid 1, which passes on signals and reaps orphans; the program is its child.
	Init bool
	// Reexec prepares the world in a re-executed hull, from a read-only mount of its binary, instead of a plain fork.
	// It is slower by the start of a Go runtime, and needs no machine code written for the architecture.
	Reexec bool
}

// File is a file with Data in it, mounted over Path, writable, of mode 0644. It lives as long as the container's /dev,
// on whose file system it is; it is written to Path itself if that is there, or where the container has no /dev of its own.
type File struct {
	Path string
	Data []byte
}

// Process is a program in its namespaces, at first waiting to be started. It belongs to the goroutine that created it,
// which stays on one thread until Wait returns: the kernel kills the program when that thread ends.
type Process struct {
	// Pid is the process id as the host sees it.
	Pid int
	// Console is the master side of the program's terminal, if Spec.Process.Terminal asked for one. The caller closes it.
	Console *os.File

	pidfd  int
	socket int // to the child, closed by Start
	prog   *program
	name   string // of the program, for errors
}

// Create forks the child and lets it build its world. When it returns, everything is in place but the program: the
// caller may still attach a network, and then calls Start, or Kill and Wait.
func (c *Cmd) Create() (*Process, error) {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer func() { unix.Close(sockets[1]) }()
	b, err := c.plan(sockets)
	if err != nil {
		unix.Close(sockets[0])
		return nil, err
	}
	defer b.close()
	p := &Process{socket: sockets[0], prog: &b.program, name: c.Spec.Process.Args[0]}
	runtime.LockOSThread()
	if err := p.fork(c, b, sockets[1]); err != nil {
		unix.Close(sockets[0])
		runtime.UnlockOSThread()
		return nil, err
	}
	unix.Close(sockets[1])
	sockets[1] = -1
	if err := p.midwife(c); err != nil {
		_ = p.Signal(unix.SIGKILL)
		unix.Close(p.socket)
		p.socket = -1
		_, _ = p.Wait()
		return nil, err
	}
	return p, nil
}

// midwife does the parent's part while the child prepares: id maps, cgroup v1, waiting for readiness.
//
//	parent                         child
//	fork ------------------------> (waits if it has a user namespace of its own)
//	write uid_map, gid_map
//	'm' -------------------------> becomes root in there
//	Attach to cgroups, meanwhile   mounts, devices, pivot_root, ...
//	       <---------------- 'r'   world ready (with the terminal's master, if any)
//	Start: 'g' ------------------> drops rights, executes the program
//	       <------------- closed   it runs
//
// Instead of any of its messages the child may send an early.Report, and end.
func (p *Process) midwife(c *Cmd) error {
	if len(c.Spec.Linux.UIDMappings) > 0 {
		if err := writeMaps(p.Pid, c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings); err != nil {
			return err
		}
		if err := p.say('m'); err != nil {
			return err
		}
	}
	var attached error
	if c.Attach != nil {
		attached = c.Attach(p.Pid)
	}
	// The child's own words come first: if it has ended, it could not be attached either.
	return errors.Join(p.ready(), attached)
}

// ready waits for the child's word that its world stands, and takes the terminal that may come with it.
func (p *Process) ready() error {
	var msg [8]byte
	var oob [24]byte // one descriptor
	n, oobn, err := p.receive(msg[:], oob[:])
	if err != nil {
		return err
	}
	if n != 1 || msg[0] != early.KindReady {
		return p.reported(msg[:n])
	}
	if oobn == 0 {
		return nil
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(cmsgs) != 1 {
		return fmt.Errorf("receive the terminal: %w", errors.Join(err, unix.EBADMSG))
	}
	fds, err := unix.ParseUnixRights(&cmsgs[0])
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("receive the terminal: %w", errors.Join(err, unix.EBADMSG))
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that a read of the console can be given up
		return os.NewSyscallError("fcntl", err)
	}
	p.Console = os.NewFile(uintptr(fds[0]), "terminal")
	return nil
}

// Start lets the program run. The error is an *ExecError if the program itself cannot be executed.
func (p *Process) Start() error {
	defer func() {
		unix.Close(p.socket)
		p.socket = -1
	}()
	if err := p.say('g'); err != nil {
		return err
	}
	var msg [8]byte
	n, _, err := p.receive(msg[:], nil)
	if err != nil || n == 0 { // closed by the exec
		return err
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

// Wait waits for the program to end, and frees what belongs to it.
func (p *Process) Wait() (Status, error) {
	defer runtime.UnlockOSThread()
	var s Status
	for {
		_, err := unix.Wait4(p.Pid, &s.wait, unix.WALL, &s.Usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		unix.Close(p.pidfd)
		p.pidfd = -1
		if p.socket >= 0 {
			unix.Close(p.socket)
		}
		return s, os.NewSyscallError("wait4", err)
	}
}

// Signal sends sig to the program, as pid 1 of its namespace sees it: the kernel drops what it has no handler for,
// unless it is SIGKILL or SIGSTOP (pid_namespaces(7)).
func (p *Process) Signal(sig syscall.Signal) error {
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(p.pidfd, sig, nil, 0))
}

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

// Signal is the signal that ended the program, or 0.
func (s Status) Signal() syscall.Signal {
	if s.wait.Signaled() {
		return s.wait.Signal()
	}
	return 0
}
