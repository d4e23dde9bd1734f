package ns

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Landlock is a set of rules of the kernel's security module of that name, landlock(7), which a program puts on itself and
// all that descend from it, for good. It looks at what a path leads to, not by which mount, so it holds where a mount turns
// out to be writable that should not be. It needs Process.NoNewPrivileges.
type Landlock struct {
	// Writable are paths in the container: what they name and what lies beneath may be changed, nothing else, nowhere. One
	// that is missing, or that the user may not reach, is left out. Reading and executing are not restricted. What the program
	// was given open, and its three standard streams by whatever name, stays as writable as it is.
	Writable []string
	// NoTCP refuses to bind and to connect TCP sockets, to the container's own loopback too (Linux 6.7).
	NoTCP bool
}

// minLandlock is the version of Landlock's interface from which on a file can be moved from one directory to another (Linux
// 5.19). Before, a program under any rules could not, and would break in odd ways: it gets none then.
const minLandlock = 2

// LandlockVersion is the version of Landlock's interface that this kernel has, landlock_create_ruleset(2): 1 came with Linux
// 5.13, 4 with 6.7 (TCP), 6 with 6.12 (scopes). It is 0 where Landlock is missing, switched off, or too old to be of use.
func LandlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || int(v) < minLandlock {
		return 0
	}
	return int(v)
}

// Rights over files that a rule set takes away, except where a rule gives them back.
const (
	landlockFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	landlockDir  = landlockFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	landlockNodes = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK // given back nowhere
)

// ruleset is struct landlock_ruleset_attr, as long as this version knows it: rights over files, rights over the network,
// scopes. scoped is false for a program that joins others: they are outside of its scope, and it is to reach them.
func (l *Landlock) ruleset(version int, scoped bool) []byte {
	files, net, scope := uint64(landlockDir|landlockNodes), uint64(0), uint64(0)
	if version >= 3 {
		files |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 && l.NoTCP {
		net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 && scoped {
		scope = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	attr := binary.NativeEndian.AppendUint64(nil, files)
	if version >= 4 {
		attr = binary.NativeEndian.AppendUint64(attr, net)
	}
	if version >= 6 {
		attr = binary.NativeEndian.AppendUint64(attr, scope)
	}
	return attr
}

// landlock confines the program. As its user, who cannot open more that way than may be opened anyway; and before the
// system call filter, which may know nothing of these calls.
func (b *birth) landlock() error {
	if b.Landlock == nil {
		return nil
	}
	version := LandlockVersion()
	if version == 0 {
		return nil // the caller has looked, and said what there is to say
	}
	file, dir := uint64(landlockFile), uint64(landlockDir)
	if version >= 3 {
		file, dir = file|unix.LANDLOCK_ACCESS_FS_TRUNCATE, dir|unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rules := b.slot()
	attr := b.Landlock.ruleset(version, b.Join == nil)
	b.call("create landlock rules", "", unix.SYS_LANDLOCK_CREATE_RULESET, b.bytes(attr), num(len(attr)), num(0)).into(rules)
	for fd := range 3 { // a pipe has no path and needs no rule
		rule := b.rule(file)
		b.setWord(rule+8, uint64(fd))
		b.addRule("", rules, rule).orGoOn()
	}
	for _, path := range b.Landlock.Writable {
		whole, part := b.rule(dir), b.rule(file)
		const flags = unix.O_PATH | unix.O_CLOEXEC
		// Twice, for the descriptor is stored where the rule wants it.
		b.call("open", path, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(path), num(flags), num(0)).into(whole + 8).orSkip(3)
		b.call("open", path, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(path), num(flags), num(0)).into(part + 8).orSkip(2)
		b.addRule(path, rules, whole).thenSkip(1).orGoOn(unix.EINVAL) // a file has no rights of a directory
		b.addRule(path, rules, part)
	}
	b.call("restrict the program with landlock rules", "", unix.SYS_LANDLOCK_RESTRICT_SELF, rules.value(), num(0))
	return nil
}

// rule makes room for struct landlock_path_beneath_attr: rights, and a descriptor of 32 bits that comes into the word behind
// them, whose first half it is on all machines that hull is for.
func (b *birth) rule(rights uint64) slot {
	s := slot(b.bytes(make([]byte, 16)).v)
	b.setWord(s, rights)
	return s
}

func (b *birth) addRule(path string, rules, rule slot) *call {
	return b.call("allow to write", path, unix.SYS_LANDLOCK_ADD_RULE, rules.value(), num(unix.LANDLOCK_RULE_PATH_BENEATH),
		arg{uint64(rule), place}, num(0))
}
