package ns

import (
	"encoding/binary"
	"os"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// birth is the program that a child performs to become a container, while it is being written.
type birth struct {
	program
	*Cmd
	spec   *specs.Spec
	socket arg // the child's end

	userns bool
	binds  map[int]slot // number of a mount of the specification: its detached copy
	masks  []slot       // copies of the host's /dev/null, one a masked path, where the container's is not to be trusted
	nodes  []node       // devices to make, or to bind where the kernel lets nobody make them
	here   string       // the working directory on the host, with Cmd.Mapped, "" elsewhere
	resume int          // the call at which a re-executed hull carries on
	shut   int          // the call before which all other descriptors are closed, or -1: see closeOthers
	files  []*os.File   // open for the child until the fork is done
	memory *os.File     // the program, for a re-executed hull
	heirs  []slot       // words with the descriptors that a re-executed hull needs; -1 if free
	blob   blob
	pidfd  int32 // of the child, see clone(2)
	line   *line
}

// recipe is a list of steps, each of which appends one or a few system calls.
type recipe []func(*birth) error

// The birth in its order. Each step says why it stands where it does.
var (
	// conception is what a child can do of which nothing else is known yet.
	conception = recipe{
		// Who lives with others is born among them, and has the right to namespaces of his own from theirs.
		(*birth).goBetween,
		// These take as long as all mounts, and the parent has its own work to do meanwhile.
		(*birth).makeNamespaces,
		(*birth).waitForWord,
	}
	prelude = recipe{
		// From here on the end of the parent is noticed as the end of the socket.
		(*birth).ownFiles,
		// Before the child has ids that no place of the host is open to.
		(*birth).showMapped,
		// Nothing that follows is allowed before the ids are there.
		(*birth).becomeRoot,
		// From here on no end of the parent leaves a half-made container. After becomeRoot, because a change of ids
		// clears it.
		(*birth).dieWithParent,
		// After the last exec but the program's, while /proc is the host's.
		(*birth).appArmor,
	}
	// world is left out where there is no mount namespace to build it in.
	world = recipe{
		// Before any mount: sysfs shows the network namespace of who makes it.
		(*birth).joinNamespaces,
		// While the host is still in sight: what comes from it is taken as descriptors, and what the kernel makes only
		// where the host's own is visible (proc, sysfs) is made. Nothing is attached to a place yet.
		(*birth).takeBinds,
		// Nothing mounted below travels to the host. After takeBinds: a volume may want to stay in touch with the host.
		(*birth).cutPropagation,
		// Their layers are the host's: in the place where the root is going to be, before that is there.
		(*birth).takeOverlays,
		(*birth).mountRoot,
		(*birth).pivot,
		// At once, before any path of the image is looked up: while the old root is stacked on the new one, a .. at / leads
		// into it. From here on no link leads anywhere but into the container.
		(*birth).leaveOldRoot,
		(*birth).mounts,
		(*birth).devices,
		(*birth).putFiles, // on the file system of /dev
		(*birth).terminal,
		// Made by root, as in Docker, while the root file system can still be written.
		(*birth).makeWorkdir,
		(*birth).ownWorkdir,
		// After the last mount: these lie on top. sysctls before /proc/sys becomes read-only.
		(*birth).sysctls,
		(*birth).maskPaths,
		(*birth).readOnlyRoot,
		(*birth).hostname,
		(*birth).loopback,
		(*birth).limits,
	}
	finale = recipe{
		// The world is ready. The parent attaches networks and cgroups now.
		(*birth).waitForStart,
		// After the parent has put us into our group: its place becomes the root of what we see.
		(*birth).cgroupNamespace,
		(*birth).session,
		(*birth).signals,
		(*birth).stdio,
		// From here rights only shrink, those that others need last.
		(*birth).dropBounding,
		(*birth).filterAsRoot,
		(*birth).user,
		(*birth).capabilities,
		(*birth).noNewPrivileges,
		// As the user, in the container: a directory or a program that the user may not reach is an error.
		(*birth).workdir,
		(*birth).execute,
	}
)

// plan writes the whole program of a child.
func (c *Cmd) plan(l *line) (*birth, error) {
	switch {
	case c.Join != nil:
		return c.write(l, joining)
	case !fresh(c.Spec, specs.MountNamespace):
		return c.write(l, conception, prelude, finale)
	}
	return c.write(l, conception, prelude, world, finale)
}

// write makes a program of recipes.
func (c *Cmd) write(l *line, recipes ...recipe) (*birth, error) {
	b := &birth{Cmd: c, spec: c.Spec, line: l, socket: num(l.child), binds: map[int]slot{}, shut: -1}
	b.data = make([]byte, 8, 8<<10*len(recipes)) // place 0 stays unused: a Store of 0 means none
	const calls = 100                            // of a recipe, and the usual PATH fits
	b.calls = make([]early.Call, 0, calls*len(recipes))
	b.where = make([]uint8, 0, cap(b.calls))
	b.steps = make([]step, 0, cap(b.calls))
	b.userns = b.fresh(specs.UserNamespace) || b.entersUsers()
	for _, part := range recipes {
		for _, step := range part {
			if err := step(b); err != nil {
				b.close()
				return nil, err
			}
		}
	}
	b.closeOthers()
	b.blob = b.finish(b.resume, l.child)
	if b.memory != nil {
		if _, err := b.memory.WriteAt(b.blob.bytes(), 0); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

// script readies the program to be performed where it lies, from its call number first on. It is done once.
func (b *birth) script(first int) script {
	return script{b.blob.place(), uintptr(first), uintptr(b.blob.head.NCalls), uintptr(b.blob.head.Socket)}
}

func (b *birth) close() {
	for _, f := range b.files {
		f.Close()
	}
}

// keep holds a file open until the child is forked, and gives its descriptor.
func (b *birth) keep(f *os.File) arg {
	b.files = append(b.files, f)
	b.inherit(f)
	return num(f.Fd())
}

// fresh says whether the program gets a new namespace of this kind, or joins the container's.
func (b *birth) fresh(kind specs.LinuxNamespaceType) bool { return fresh(b.spec, kind) }

func fresh(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path == ""
		}
	}
	return false
}

// cloneFlags are the namespaces that the child is born into. The cgroup namespace comes later, see cgroupNamespace.
func (b *birth) cloneFlags() (flags uint64) {
	for _, n := range b.spec.Linux.Namespaces {
		if n.Path == "" && n.Type != specs.CgroupNamespace {
			flags |= uint64(cloneFlag(n.Type))
		}
	}
	return flags
}

// cloneFlag is the bit of clone(2) for a kind of namespace.
func cloneFlag(kind specs.LinuxNamespaceType) int {
	switch kind {
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	}
	return 0
}

// bornInto are the namespaces that a child must be cloned into. The user namespace gives the rights to the others, and a
// process cannot change its pid namespace.
const bornInto = unix.CLONE_NEWUSER | unix.CLONE_NEWPID

const createNamespaces = "create namespaces"

func (b *birth) makeNamespaces() error {
	if flags := b.cloneFlags() &^ bornInto; flags != 0 {
		b.call(createNamespaces, "", unix.SYS_UNSHARE, num(flags))
	}
	return nil
}

// waitForWord waits until the id maps are written, and the rest of the program, or until the parent has ended, which the
// socket does not tell: the child may share its open files.
func (b *birth) waitForWord() error {
	const what = "wait for the id maps"
	b.call(what, "", unix.SYS_PPOLL, b.polls(b.line.child, b.line.self), num(2), num(0), num(0), num(0))
	b.call(what, "", unix.SYS_RECVFROM, b.socket, b.bytes(make([]byte, 8)), num(1), num(unix.MSG_DONTWAIT), num(0), num(0)).nonzero()
	return nil
}

// polls is an array of struct pollfd, poll(2), that waits until something can be read.
func (b *birth) polls(fds ...int) arg {
	polls := make([]byte, 8*len(fds))
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(polls[8*i:], uint32(fd))
		binary.NativeEndian.PutUint16(polls[8*i+4:], unix.POLLIN)
	}
	return b.bytes(polls)
}

// becomeRoot takes on id 0 of the user namespace.
func (b *birth) becomeRoot() error {
	if b.userns {
		if zeroMapped(b.spec.Linux.UIDMappings) && zeroMapped(b.spec.Linux.GIDMappings) {
			b.call("set group id", "0", unix.SYS_SETRESGID, num(0), num(0), num(0))
			b.call("set user id", "0", unix.SYS_SETRESUID, num(0), num(0), num(0))
		}
	}
	b.call("set umask", "", unix.SYS_UMASK, num(0)) // modes below are meant as written
	return nil
}

// wait reads one byte from the parent. Its end closes the socket, and ends us.
func (b *birth) wait(what string) {
	b.call(what, "", unix.SYS_READ, b.socket, b.bytes(make([]byte, 8)), num(1)).nonzero()
}

func (b *birth) dieWithParent() error {
	b.call("set parent-death signal", "", unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL))
	if b.userns { // became non-dumpable by the change of ids; /proc/self would belong to the host's root
		b.call("set dumpable", "", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(1))
	}
	if b.Reexec {
		return b.reexec()
	}
	return nil
}

func (b *birth) cutPropagation() error {
	b.call("make / a slave mount", "", unix.SYS_MOUNT, num(0), b.str("/"), num(0), num(unix.MS_REC|unix.MS_SLAVE), num(0))
	return nil
}

// joinNamespaces enters namespaces that exist already, but those that the child is born into.
func (b *birth) joinNamespaces() error {
	for _, n := range b.spec.Linux.Namespaces {
		if cloneFlag(n.Type)&bornInto != 0 {
			continue
		}
		if err := b.enterNamespace(n.Type, n.Path); err != nil {
			return err
		}
	}
	return nil
}

func (b *birth) enterNamespace(kind specs.LinuxNamespaceType, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	b.call("join "+string(kind)+" namespace", path, unix.SYS_SETNS, b.keep(f), num(cloneFlag(kind)))
	return nil
}

// mountRoot mounts the root file system over Root.Path, which becomes the working directory.
func (b *birth) mountRoot() error {
	root, m := b.spec.Root.Path, b.spec.Mounts
	if len(m) == 0 || m[0].Destination != "/" {
		b.call("bind", root, unix.SYS_MOUNT, b.str(root), b.str(root), num(0), num(unix.MS_BIND|unix.MS_REC), num(0))
	} else {
		flags, data, err := mountOptions(m[0].Options)
		if err != nil {
			return err
		}
		// Relative lower directories are short: 500 of them fit into the one page that mount(2) takes.
		b.enter(m[0].Source)
		b.call("mount "+m[0].Type+" on", "/", unix.SYS_MOUNT, b.str(m[0].Type), b.str(b.seen(root)), b.str(m[0].Type),
			num(flags.set), b.str(data))
	}
	b.enter(root)
	return nil
}

// pivot makes the working directory the root. Mounting the old root on the very same directory (pivot_root(2), NOTES)
// needs no directory of the image for it.
func (b *birth) pivot() error {
	b.call("pivot_root to", b.spec.Root.Path, unix.SYS_PIVOT_ROOT, b.str("."), b.str("."))
	return nil
}

func (b *birth) leaveOldRoot() error {
	b.call("unmount the host's root", "", unix.SYS_UMOUNT2, b.str("."), num(unix.MNT_DETACH))
	b.call("enter", "/", unix.SYS_CHDIR, b.str("/"))
	return nil
}

func (b *birth) sysctls() error {
	for key, value := range b.spec.Linux.Sysctl {
		file := "/proc/sys/" + dotsToSlashes(key)
		fd := b.slot()
		b.call("set sysctl", key, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(file), num(unix.O_WRONLY|unix.O_CLOEXEC)).into(fd)
		b.call("set sysctl", key+"="+value, unix.SYS_WRITE, fd.value(), b.str(value), num(len(value)))
		b.call("set sysctl", key, unix.SYS_CLOSE, fd.value())
	}
	return nil
}

func dotsToSlashes(key string) string {
	s := []byte(key)
	for i := range s {
		if s[i] == '.' {
			s[i] = '/'
		}
	}
	return string(s)
}

func (b *birth) hostname() error {
	for _, n := range []struct {
		op, name string
		nr       uintptr
	}{{"set hostname", b.spec.Hostname, unix.SYS_SETHOSTNAME}, {"set domain name", b.spec.Domainname, unix.SYS_SETDOMAINNAME}} {
		if n.name != "" {
			b.call(n.op, n.name, n.nr, b.str(n.name), num(len(n.name)))
		}
	}
	return nil
}

// loopback brings lo up, which a new network namespace has but down.
func (b *birth) loopback() error {
	if !b.fresh(specs.NetworkNamespace) {
		return nil
	}
	ifreq := make([]byte, 40) // struct ifreq, netdevice(7): a name of 16 bytes, then the flags
	copy(ifreq, "lo")
	ifreq[16] = unix.IFF_UP | unix.IFF_RUNNING
	fd := b.slot()
	b.call("bring up", "lo", unix.SYS_SOCKET, num(unix.AF_INET), num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), num(0)).into(fd)
	b.call("bring up", "lo", unix.SYS_IOCTL, fd.value(), num(unix.SIOCSIFFLAGS), b.bytes(ifreq))
	b.call("bring up", "lo", unix.SYS_CLOSE, fd.value())
	return nil
}

func (b *birth) waitForStart() error {
	if !b.spec.Process.Terminal { // else the message has gone out with the terminal
		b.call("say that the world is ready", "", unix.SYS_WRITE, b.socket, b.bytes([]byte{early.KindReady}), num(1))
	}
	b.wait("wait for the start")
	return nil
}

// session makes the program the leader of its own session, so that a Ctrl-C at the caller's terminal reaches it only
// through the caller, and it cannot push input into that terminal.
func (b *birth) session() error {
	if !b.spec.Process.Terminal || b.Join != nil { // else done with the terminal
		b.call("start a session", "", unix.SYS_SETSID)
	}
	// A keyring of the caller must not come along. Where keyrings are missing or used up there is nothing to hide.
	b.call("start a session keyring", "", unix.SYS_KEYCTL, num(unix.KEYCTL_JOIN_SESSION_KEYRING), num(0)).orGoOn()
	return nil
}

// signals undoes what the caller may have set to ignored (nohup does) or blocked.
func (b *birth) signals() error {
	deflt := b.bytes(make([]byte, 32)) // struct sigaction: SIG_DFL, no flags, empty mask
	for sig := range 65 {
		if sig > 0 && sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
			b.call("reset signal", "", unix.SYS_RT_SIGACTION, num(sig), deflt, num(0), num(8))
		}
	}
	b.call("unblock signals", "", unix.SYS_RT_SIGPROCMASK, num(2 /* SIG_SETMASK */), b.bytes(make([]byte, 8)), num(0), num(8))
	return nil
}

// makeWorkdir makes the working directory if the image lacks it.
func (b *birth) makeWorkdir() error {
	dir := path.Clean("/" + b.spec.Process.Cwd)
	if dir == "/" {
		return nil
	}
	mark := len(b.calls)
	b.call("look for", dir, unix.SYS_FACCESSAT, num(unix.AT_FDCWD), b.str(dir), num(unix.F_OK))
	b.makeBelow(dir, true)
	(*call)(&b.calls[mark]).thenSkip(len(b.calls) - mark - 1).orGoOn()
	// What cannot be made, on a read-only mount say, shows when it is entered.
	for i := mark + 1; i < len(b.calls); i++ {
		if b.calls[i].OnErr == 0 {
			(*call)(&b.calls[i]).orSkip(len(b.calls) - i - 1)
		} else {
			b.calls[i].Errno = [3]uint16{}
		}
	}
	return nil
}

// ownWorkdir lays a copy of the root's mount over the working directory, which stays writable when the root is made
// read-only.
func (b *birth) ownWorkdir() error {
	dir := path.Clean("/" + b.spec.Process.Cwd)
	if !b.OwnWorkdir || dir == "/" {
		return nil
	}
	place, tree := b.slot(), b.slot()
	b.spot("bind", dir, 0).into(place)
	b.call("bind", dir, unix.SYS_OPEN_TREE, place.value(), b.str(""), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)).into(tree)
	b.moveTo(dir, tree.value(), dir, place)
	b.call("close", dir, unix.SYS_CLOSE, tree.value())
	b.call("close", dir, unix.SYS_CLOSE, place.value())
	return nil
}

// workdir enters the working directory, not by a link of /proc to somebody else's. A filter may forbid to ask for that;
// by then it is what the program could do itself.
func (b *birth) workdir() error {
	const op = "enter working directory"
	dir := path.Clean("/" + b.spec.Process.Cwd)
	if dir != "/" {
		fd := b.slot()
		b.spot(op, dir, 0).into(fd).thenSkip(1).orGoOn(unix.EPERM, unix.ENOSYS)
		b.call(op, dir, unix.SYS_CHDIR, b.str(dir)).thenSkip(1)
		b.call(op, dir, unix.SYS_FCHDIR, fd.value())
		return nil
	}
	b.call(op, dir, unix.SYS_CHDIR, b.str(dir))
	return nil
}
