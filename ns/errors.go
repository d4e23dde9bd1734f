package ns

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// ExecError says that the program could not be executed: the rest of its world was fine.
type ExecError struct {
	Name  string // as the user gave it
	Errno syscall.Errno
	path  bool // it was looked up in $PATH
}

// Error words the cause as Docker does, because scripts look for it.
func (e *ExecError) Error() string {
	if e.path && e.Errno == unix.ENOENT {
		return fmt.Sprintf("exec %q: executable file not found in $PATH", e.Name)
	}
	return fmt.Sprintf("exec %q: %v", e.Name, e.Errno)
}

// Unwrap gives the error of execve(2).
func (e *ExecError) Unwrap() error { return e.Errno }

// ExitCode is 127 if there is no such program, else 126, as in a shell.
func (e *ExecError) ExitCode() int {
	if e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR {
		return 127
	}
	return 126
}

// execOp marks the steps that stand for the program itself, whose errors become an ExecError.
const execOp = "exec"

// reported turns the child's report into an error; msg is empty if the child ended without one.
func (p *Process) reported(msg []byte) error {
	if len(msg) != int(unsafe.Sizeof(early.Report{})) {
		return errors.New("container init ended without a word: was it killed, or out of memory?")
	}
	r := (*early.Report)(unsafe.Pointer(&msg[0]))
	errno := syscall.Errno(r.Errno)
	i := int(r.Index)
	if r.Kind == early.KindExec || i < len(p.birth.steps) && p.birth.steps[i].op == execOp {
		return &ExecError{Name: p.name, Errno: errno, path: !strings.Contains(p.name, "/")}
	}
	if i < len(p.birth.steps) && p.birth.steps[i].op == createNamespaces {
		return explain(errno, p.birth.cloneFlags())
	}
	return p.birth.error(i, errno)
}

// explain adds to a refused clone what refuses it and how to allow it. The settings are those of user_namespaces(7),
// Debian and Ubuntu.
func explain(err error, flags uint64) error {
	err = fmt.Errorf(createNamespaces+": %w", err)
	if flags&unix.CLONE_NEWUSER == 0 {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w\nroot without CAP_SYS_ADMIN may not: run hull as an ordinary user, or allow the capability", err)
		}
		return err
	}
	for _, s := range []struct{ key, bad string }{
		{"user/max_user_namespaces", "0"},
		{"kernel/unprivileged_userns_clone", "0"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1"},
	} {
		if v, e := os.ReadFile("/proc/sys/" + s.key); e == nil && strings.TrimSpace(string(v)) == s.bad {
			good := map[string]string{"0": "1", "1": "0"}[s.bad]
			if s.key == "user/max_user_namespaces" {
				good = "15000"
			}
			name := strings.ReplaceAll(s.key, "/", ".")
			return fmt.Errorf("%w\nthe setting %s=%s forbids user namespaces; root can allow them with: sysctl -w %s=%s",
				err, name, s.bad, name, good)
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w\nuser namespaces are forbidden here by a seccomp profile or by chroot(2): "+
			"a container that runs hull needs --security-opt seccomp=unconfined", err)
	}
	return err
}
