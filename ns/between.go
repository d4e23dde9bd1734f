package ns

import (
	"errors"
	"os"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// Nobody enters a user namespace who has more than one thread, or a memory that others share (setns(2)), and nobody changes
// his own pid namespace. So a program that is to live in the user namespace of others has a go-between: a copy of this process
// with one thread, which enters what is there, forks the child in it, as a child of this process (CLONE_PARENT), and ends.
//
//	parent                   go-between                        child
//	fork ------------------> enters the user namespace
//	                         forks --------------------------> makes namespaces
//	       <----------- 'p'  its pid, and ends
//	Create, Start as ever <----------------------------------> see midwife
//
// If this process ends meanwhile, nothing is left: the go-between waits for nobody, and the child sees it in waitForWord.

// entersUsers says whether the program is to live in a user namespace that is there already.
func (c *Cmd) entersUsers() bool { return c.Join == nil && pathOf(c.Spec, specs.UserNamespace) != "" }

// pathOf is where the namespace of a kind is that the program joins, "" if there is none.
func pathOf(spec *specs.Spec, kind specs.LinuxNamespaceType) string {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path
		}
	}
	return ""
}

// goBetween is what the go-between does. The child, whose clone(2) returns 0, goes on with what comes after.
func (b *birth) goBetween() error {
	if !b.entersUsers() {
		return nil
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.UserNamespace, specs.PIDNamespace} {
		if err := b.enterNamespace(kind, pathOf(b.spec, kind)); err != nil {
			return err
		}
	}
	args := b.bornWith()
	args.flags |= unix.CLONE_PARENT // and with it the signal at its end
	born := b.bytes(append([]byte{early.KindBorn, 0, 0, 0}, make([]byte, 8)...))
	const rest = 2
	b.call(createNamespaces, "", unix.SYS_CLONE3, b.bytes((*[unsafe.Sizeof(args)]byte)(unsafe.Pointer(&args))[:]), num(unsafe.Sizeof(args))).
		into(slot(born.v+4)).nonzero().orSkip(rest, unix.EPIPE)
	b.call("tell the child's pid", "", unix.SYS_WRITE, b.socket, born, num(unsafe.Sizeof(early.Report{})))
	b.call("end", "", unix.SYS_EXIT_GROUP, num(0))
	return nil
}

// delivered waits until the go-between has told of the child, and ended.
func (p *Process) delivered() error {
	pid, err := p.born()
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
	}
	for {
		if _, e := unix.Wait4(p.Pid, nil, 0, nil); !errors.Is(e, unix.EINTR) {
			break
		}
	}
	unix.Close(p.pidfd)
	p.pidfd = -1
	if err != nil {
		return err
	}
	p.Pid = pid // which is nobody else's as long as we have not waited for it
	p.pidfd, err = unix.PidfdOpen(pid, 0)
	return os.NewSyscallError("pidfd_open", err)
}
