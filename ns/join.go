package ns

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// Whoever joins a container meets what is in there already, and it may mean harm: root of the container might trace a
// helper that has one foot on the host, read its memory, or take its descriptors (CVE-2016-9962), or write to the
// executable that it runs (CVE-2019-5736). So the child that prepares everything never becomes a member of the pid
// namespace: the container does not see it. Last of all it becomes a stub, which is nothing but a few instructions in a
// sealed file, with the program's own rights. Only that forks the process that is seen. There is nothing to gain from it
// that the container does not have.
//
// The stub stays as the program's parent. It ends the program when hull ends, also one that has changed its user, and
// collects it. Were the program hull's own child, it would be left to the host's pid 1, and as long as that does not collect
// it, which not every pid 1 does, the kernel would not let the container end either (pid_namespaces(7)).

// joining is the way of a program into a running container, in its order.
var joining = recipe{
	(*birth).ownFiles,
	// While /proc is the host's, and our own.
	(*birth).limits,
	(*birth).appArmor,
	// A container that shares the host's pid namespace does see the child.
	(*birth).shield,
	(*birth).join,
	(*birth).becomeRoot,
	(*birth).shield, // undone by a change of ids
	(*birth).terminal,
	(*birth).waitForGroup,
	(*birth).session,
	(*birth).signals,
	(*birth).stdio,
	// From here as at a birth, see finale.
	(*birth).dropBounding,
	(*birth).filterAsRoot,
	(*birth).user,
	(*birth).shield,
	(*birth).capabilities,
	(*birth).noNewPrivileges,
	(*birth).workdir,
	(*birth).execute,
}

// shield keeps others from tracing the child, whose memory is its parent's or a copy of it, and ends it with its parent.
// Both last until the next change of ids. The execution of the stub lifts the first, when it has a memory of its own.
func (b *birth) shield() error {
	b.call("set parent-death signal", "", unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL))
	b.call("clear dumpable", "", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0), num(0), num(0), num(0))
	return nil
}

// join enters all namespaces at once, so that the kernel takes the rights over the others from the user namespace. The
// root directory and the working directory become the container's. The pid namespace is for children only.
func (b *birth) join() error {
	flags := b.cloneFlags()
	if b.fresh(specs.CgroupNamespace) {
		flags |= unix.CLONE_NEWCGROUP
	}
	if flags != 0 {
		b.call("join the container's namespaces", "", unix.SYS_SETNS, num(b.Join.Fd()), num(flags))
	}
	return nil
}

// waitForGroup waits until the parent has put the child into its cgroups: the program is born in the child's.
func (b *birth) waitForGroup() error {
	if b.Attach != nil {
		b.wait("wait for the cgroup")
	}
	return nil
}

// joinFlags tells the stub whether its standard input is a terminal that shall control the program's session.
func (b *birth) joinFlags() string {
	if b.spec.Process.Terminal {
		return "A"
	}
	return "@"
}

// escort does the parent's part while the child joins a container.
//
//	parent                    child                                     program's process
//	fork -------------------> joins the namespaces
//	Attach to cgroups
//	'a' (after Attach) -----> drops rights, executes the stub
//	       <------------ 'r'  with the terminal's master, if any
//	                          forks ----------------------------------> waits
//	       <------------ 'p'  its pid
//	Start: 'g' -------------------------------------------------------> executes the program
//	       <------------------------------------------------- closed    it runs
//	                          collects it <---------------------------- ends
//	Wait   <------------      ends with its status
func (p *Process) escort(c *Cmd) error {
	if c.Attach != nil {
		if err := c.Attach(p.Pid); err != nil {
			return err
		}
		if err := p.say('a'); err != nil {
			return err
		}
	}
	if c.Spec.Process.Terminal {
		if err := p.ready(); err != nil {
			return err
		}
	}
	pid, err := p.born()
	if err != nil {
		return err
	}
	return p.adopt(pid)
}

// knowSender has the kernel say who sent a message: the container may have its hands on the program's process as soon
// as that is there, and write to the socket.
func knowSender(socket int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
}

// born waits for the child's word that the program's process is there.
func (p *Process) born() (pid int, err error) {
	for {
		var msg [8]byte
		var oob [64]byte
		n, oobn, err := p.receive(msg[:], oob[:])
		if err != nil {
			return 0, err
		}
		if n != len(msg) || msg[0] != early.KindBorn {
			return 0, p.reported(msg[:n])
		}
		if sender(oob[:oobn]) != p.Pid {
			continue // not the child's word
		}
		pid := int(int32((*early.Report)(unsafe.Pointer(&msg[0])).Errno))
		if pid <= 0 {
			return 0, fmt.Errorf("fork in the container: %w", syscall.Errno(-pid))
		}
		return pid, nil
	}
}

// sender is the process that the kernel says a message came from, 0 if it does not.
func sender(oob []byte) int {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range cmsgs {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}

// adopt takes note of the program's process, which has this pid. The child stays to be waited for, and its number with it.
func (p *Process) adopt(pid int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	// The container may have killed it, and the number may be another's by now. Or it shares the host's pid namespace, has
	// traced the stub and made it say any number. Of the stub's children none is worth more than the program's process.
	if parent := parentOf(pid); parent != p.Pid {
		unix.Close(pidfd)
		return fmt.Errorf("join the container: its process %d is gone", pid)
	}
	unix.Close(p.pidfd)
	p.child, p.Pid, p.pidfd = p.Pid, pid, pidfd
	p.separated() // it is the stub now
	return nil
}

// parentOf is the parent of a process, 0 if there is no such process.
func parentOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field is the program's name in parentheses, and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
