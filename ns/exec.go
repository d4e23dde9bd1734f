package ns

import (
	"bytes"
	"encoding/binary"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// execute looks the program up as its user, in the container, and becomes it: by way of the stub, so that
// /proc/self/exe, should the image name it as its program's interpreter, is never hull's binary on the host.
func (b *birth) execute() error {
	p := b.spec.Process
	candidates := b.candidates()
	b.keepOnExec(b.socket) // the stub closes it when it succeeds
	run, err := b.executor()
	if err != nil {
		return err
	}
	for _, c := range candidates {
		b.call(execOp, c, unix.SYS_FACCESSAT2, num(unix.AT_FDCWD), b.str(c), num(unix.X_OK), num(unix.AT_EACCESS)).orSkip(2)
		b.call(execOp, c, unix.SYS_FACCESSAT2, num(unix.AT_FDCWD), b.str(c+"/."), num(unix.F_OK), num(0)).thenSkip(1).orGoOn() // a directory
		run(c)
	}
	// None may be executed. If one is there at all, the error is that of trying.
	for _, c := range candidates {
		b.call(execOp, c, unix.SYS_FACCESSAT2, num(unix.AT_FDCWD), b.str(c), num(unix.F_OK), num(0)).orSkip(1)
		if b.Join != nil { // not in here, outside of the pid namespace: it may be one that can be executed by now
			run(c)
			continue
		}
		b.call(execOp, c, unix.SYS_EXECVE, b.str(c), b.strs(p.Args), b.strs(p.Env))
	}
	b.call(execOp, p.Args[0], unix.SYS_FACCESSAT2, num(unix.AT_FDCWD), b.str(candidates[0]), num(unix.F_OK), num(0))
	return nil
}

// candidates are the paths that the program may have, in the order of $PATH.
func (b *birth) candidates() (list []string) {
	name := b.spec.Process.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	for _, e := range b.spec.Process.Env {
		dirs, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		list = nil // the last one counts
		for dir := range strings.SplitSeq(dirs, ":") {
			if strings.HasPrefix(dir, "/") { // an empty or relative entry means the working directory: not without asking
				list = append(list, path.Join(dir, name))
			}
		}
	}
	if list == nil {
		list = []string{path.Join("/usr/bin", name), path.Join("/bin", name)}
	}
	return list
}

func (b *birth) keepOnExec(fd arg) {
	b.call("keep descriptor", "", unix.SYS_FCNTL, fd, num(unix.F_SETFD), num(0))
}

// executor gives the function that appends the execution of a path.
func (b *birth) executor() (func(path string), error) {
	p := b.spec.Process
	env := b.strs(p.Env)
	if b.Reexec && !b.Init { // the re-executed hull itself is read-only
		b.call("close on exec", "", unix.SYS_FCNTL, b.socket, num(unix.F_SETFD), num(unix.FD_CLOEXEC))
		args := b.strs(p.Args)
		return func(path string) { b.call(execOp, path, unix.SYS_EXECVE, b.str(path), args, env) }, nil
	}
	code, socket := stubCode, stubNumber(int(b.socket.v))
	switch {
	case b.Join != nil:
		code, socket = joinCode, socket+b.joinFlags()
	case b.Init:
		code = initCode
	}
	stub, err := stubFile(code)
	if err != nil {
		return nil, err
	}
	fd := b.keep(stub)
	return func(path string) {
		args := b.strs(append([]string{socket, path}, p.Args...))
		b.call("execute", "the stub", unix.SYS_EXECVEAT, fd, b.str(""), args, env, num(unix.AT_EMPTY_PATH))
	}, nil
}

// reexec continues the program in a new hull, executed from a read-only mount that only this descriptor knows: nobody
// can write to it, whatever rights they gain.
func (b *birth) reexec() error {
	mem, err := unix.MemfdCreate("hull-birth", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	for range 16 {
		heir := b.slot()
		b.setWord(heir, ^uint64(0))
		b.heirs = append(b.heirs, heir)
		b.call("keep descriptor", "", unix.SYS_FCNTL, heir.value(), num(unix.F_SETFD), num(0)).orGoOn(unix.EBADF)
	}
	b.memory = os.NewFile(uintptr(mem), "memory")
	fd := b.keep(b.memory)
	for _, f := range []*os.File{b.Stdin, b.Stdout, b.Stderr} {
		b.inherit(f)
	}
	// By its path: /proc/self/exe leads to the mount in the parent's namespace, which cannot be copied into ours.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	exe := b.slot()
	b.call("open", self, unix.SYS_OPEN_TREE, num(unix.AT_FDCWD), b.str(self), num(unix.OPEN_TREE_CLONE)).into(exe)
	b.mountSetattr(self, exe.value(), false, unix.MOUNT_ATTR_RDONLY, 0)
	b.keepOnExec(b.socket)
	b.keepCapabilities()
	args, env := b.strs([]string{"hull-init"}), b.strs([]string{early.Env + "=" + strconv.Itoa(int(fd.v)), "GOGC=off"})
	b.call("re-execute", "hull", unix.SYS_EXECVEAT, exe.value(), b.str(""), args, env, num(unix.AT_EMPTY_PATH))
	b.resume = len(b.calls)
	b.call("clear ambient capabilities", "", unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_CLEAR_ALL), num(0), num(0), num(0))
	return nil
}

// keepCapabilities carries the rights over a new user namespace across the re-execution: where no id 0 is mapped they
// would be lost to it, capabilities(7).
func (b *birth) keepCapabilities() {
	if !b.userns || zeroMapped(b.spec.Linux.UIDMappings) && zeroMapped(b.spec.Linux.GIDMappings) {
		return
	}
	var head [8]byte
	binary.NativeEndian.PutUint32(head[:], unix.LINUX_CAPABILITY_VERSION_3)
	all := bytes.Repeat([]byte{0xff}, 24) // the kernel leaves out what it does not know
	b.call("keep capabilities", "", unix.SYS_CAPSET, b.bytes(head[:]), b.bytes(all))
	for n := range lastCap + 1 {
		b.call("keep capability", strconv.Itoa(n), unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_RAISE),
			num(n), num(0), num(0)).orGoOn(unix.EINVAL)
	}
}

// inherit notes that a re-executed hull needs the descriptor too. The calls that keep it open come before the
// descriptors are all known, so they read them from words that are filled in here.
func (b *birth) inherit(f *os.File) {
	if f == nil || len(b.heirs) == 0 {
		return
	}
	b.setWord(b.heirs[0], uint64(f.Fd()))
	b.heirs = b.heirs[1:]
}

func (b *birth) setWord(s slot, v uint64) { binary.NativeEndian.PutUint64(b.data[s:], v) }
