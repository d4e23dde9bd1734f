package ns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/seccomp"
)

// limits sets the resource limits and the out-of-memory score. A hard limit above the caller's own is lowered to it:
// not everybody may raise one.
func (b *birth) limits() error {
	for _, l := range b.spec.Process.Rlimits {
		res, ok := rlimit(l.Type)
		if !ok {
			return fmt.Errorf("resource limit %q: unknown", l.Type)
		}
		var own unix.Rlimit
		if err := unix.Getrlimit(res, &own); err != nil {
			return fmt.Errorf("resource limit %q: %w", l.Type, err)
		}
		var lim [16]byte
		hard := min(l.Hard, own.Max)
		binary.NativeEndian.PutUint64(lim[0:], min(l.Soft, hard))
		binary.NativeEndian.PutUint64(lim[8:], hard)
		b.call("set resource limit", l.Type, unix.SYS_PRLIMIT64, num(0), num(res), b.bytes(lim[:]), num(0))
	}
	if adj := b.spec.Process.OOMScoreAdj; adj != nil {
		text, fd := strconv.Itoa(*adj), b.slot()
		const file = "/proc/self/oom_score_adj"
		b.call("open", file, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(file), num(unix.O_WRONLY|unix.O_CLOEXEC)).into(fd)
		// Lowering it takes CAP_SYS_RESOURCE on the host. The caller has warned of it.
		b.call("write "+text+" to", file, unix.SYS_WRITE, fd.value(), b.str(text), num(len(text))).orGoOn(unix.EACCES, unix.EPERM)
		b.call("close", file, unix.SYS_CLOSE, fd.value())
	}
	return nil
}

// rlimit is the number of a resource limit by its name in the specification, getrlimit(2).
func rlimit(name string) (int, bool) {
	for i, n := range [...]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
		"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"} {
		if name == "RLIMIT_"+n {
			return i, true
		}
	}
	return 0, false
}

// lastCap is the highest number that a capability may have; the kernel knows 41 today.
const lastCap = 63

// dropBounding removes what the program shall never be able to gain, not even by a setuid program.
func (b *birth) dropBounding() error {
	c := b.spec.Process.Capabilities
	if c == nil {
		return nil
	}
	keep, err := capBits(c.Bounding)
	if err != nil {
		return err
	}
	for n := range lastCap + 1 {
		if keep&(1<<n) == 0 {
			b.call("drop capability", strconv.Itoa(n), unix.SYS_PRCTL, num(unix.PR_CAPBSET_DROP), num(n)).orGoOn(unix.EINVAL)
		}
	}
	return nil
}

// filterAsRoot installs the seccomp filter while CAP_SYS_ADMIN is still there, which the kernel wants of whoever does not
// give up new privileges. It must then allow the calls that follow, as every profile does in practice.
func (b *birth) filterAsRoot() error {
	if b.spec.Process.NoNewPrivileges {
		return nil
	}
	return b.filter()
}

// noNewPrivileges comes last, and the filter after it, so that the filter may be as narrow as one likes.
func (b *birth) noNewPrivileges() error {
	if !b.spec.Process.NoNewPrivileges {
		if b.Landlock != nil {
			return errors.New("landlock: needs no_new_privs")
		}
		return nil
	}
	b.call("set no_new_privs", "", unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
	if err := b.landlock(); err != nil {
		return err
	}
	return b.filter()
}

func (b *birth) filter() error {
	profile := b.spec.Linux.Seccomp
	if profile == nil && !b.FakeIDs {
		return nil
	}
	filter, flags, err := seccomp.Compile(profile, seccomp.Options{FakeIDs: b.FakeIDs})
	if err != nil {
		return err
	}
	code := make([]byte, 0, 8*len(filter))
	for _, i := range filter {
		code = binary.NativeEndian.AppendUint16(code, i.Code)
		code = append(code, i.Jt, i.Jf)
		code = binary.NativeEndian.AppendUint32(code, i.K)
	}
	fprog := b.array([]arg{num(len(filter)), b.bytes(code)}) // struct sock_fprog: a length, padded, and a pointer
	b.call("install seccomp filter", "", unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(flags), fprog)
	return nil
}

// user takes on the program's ids. Capabilities are kept across the change, capabilities sets them right.
func (b *birth) user() error {
	u := b.spec.Process.User
	umask := uint32(0o022)
	if u.Umask != nil {
		umask = *u.Umask
	}
	b.call("set umask", "", unix.SYS_UMASK, num(umask))
	if u.UID != 0 {
		b.call("keep capabilities", "", unix.SYS_PRCTL, num(unix.PR_SET_KEEPCAPS), num(1))
	}
	if !b.groupsDenied() {
		groups := make([]byte, 0, 4*len(u.AdditionalGids)+4)
		for _, g := range u.AdditionalGids {
			groups = binary.NativeEndian.AppendUint32(groups, g)
		}
		b.call("set groups", "", unix.SYS_SETGROUPS, num(len(u.AdditionalGids)), b.bytes(groups))
	}
	who := strconv.Itoa(int(u.UID)) + ":" + strconv.Itoa(int(u.GID))
	b.call("set group id of user", who, unix.SYS_SETRESGID, num(u.GID), num(u.GID), num(u.GID))
	b.call("set user id of user", who, unix.SYS_SETRESUID, num(u.UID), num(u.UID), num(u.UID))
	return nil
}

// groupsDenied says whether the kernel forbids setgroups(2): the price of an id map that needs no privilege.
func (b *birth) groupsDenied() bool {
	maps := b.spec.Linux.GIDMappings
	return b.userns && len(maps) == 1 && maps[0].Size == 1
}

// capabilities sets the sets that the exec starts from. A change of ids has cleared the parent-death signal: again.
func (b *birth) capabilities() error {
	b.call("set parent-death signal", "", unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL))
	if b.spec.Process.User.UID != 0 { // did it end in between? A filter may forbid us to ask.
		b.call("look for the parent", "", unix.SYS_RECVFROM, b.socket, b.bytes(make([]byte, 8)), num(1), num(unix.MSG_DONTWAIT),
			num(0), num(0)).nonzero().orGoOn(unix.EAGAIN, unix.EPERM, unix.ENOSYS)
	}
	c := b.spec.Process.Capabilities
	if c == nil {
		return nil
	}
	var sets [3]uint64
	for i, names := range [][]string{c.Effective, c.Permitted, c.Inheritable} {
		bits, err := capBits(names)
		if err != nil {
			return err
		}
		sets[i] = bits
	}
	var head [8]byte // struct cap_user_header_t and two of cap_user_data_t, capset(2)
	binary.NativeEndian.PutUint32(head[:], unix.LINUX_CAPABILITY_VERSION_3)
	var data []byte
	for half := range 2 {
		for _, s := range sets {
			data = binary.NativeEndian.AppendUint32(data, uint32(s>>(32*half)))
		}
	}
	b.call("set capabilities", "", unix.SYS_CAPSET, b.bytes(head[:]), b.bytes(data))
	ambient, err := capBits(c.Ambient)
	for n := range lastCap + 1 {
		if ambient&(1<<n) != 0 {
			b.call("raise ambient capability", strconv.Itoa(n), unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT),
				num(unix.PR_CAP_AMBIENT_RAISE), num(n), num(0), num(0)).orGoOn()
		}
	}
	return err
}

func capBits(names []string) (bits uint64, err error) {
	for _, name := range names {
		n, ok := capNumber(name)
		if !ok {
			return 0, fmt.Errorf("capability %q: unknown", name)
		}
		bits |= 1 << n
	}
	return bits, nil
}

// capNames are the capabilities in the order of their numbers, linux/capability.h.
var capNames = [...]string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
	"SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

func capNumber(name string) (int, bool) {
	for n, c := range capNames {
		if len(name) == len(c)+4 && name[4:] == c && name[:4] == "CAP_" {
			return n, true
		}
	}
	return 0, false
}

// AllCapabilities are the names of all capabilities that this package knows, "CAP_CHOWN" first.
func AllCapabilities() []string {
	list := make([]string, len(capNames))
	for i, n := range capNames {
		list[i] = "CAP_" + n
	}
	return list
}
