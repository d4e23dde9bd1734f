package ns

import (
	"bytes"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// AppArmorUnconfined is the name of no profile at all.
const AppArmorUnconfined = "unconfined"

// AppArmorEnabled says whether this kernel has AppArmor and it is switched on, as the parameter of its module tells
// (security/apparmor/lsm.c).
var AppArmorEnabled = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(text, []byte("Y"))
})

// AppArmorLoaded says whether the kernel lists a profile of this name. Only the host's root may read the list: for all
// others it is false.
func AppArmorLoaded(profile string) bool {
	if !AppArmorEnabled() {
		return false
	}
	list, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(string(list), "\n") { // NAME (MODE), and a name may hold blanks
		if i := strings.LastIndex(line, " ("); i > 0 && line[:i] == profile {
			return true
		}
	}
	return false
}

const appArmorOp = "apply AppArmor profile"

// appArmor asks for a profile from the next execution on, which is the program's, by way of the stub. It is asked for early,
// while /proc is the host's: one that a container can change might take the word and do nothing (CVE-2019-16884). What
// the child does until then is not confined by it.
func (b *birth) appArmor() error {
	profile := b.spec.Process.ApparmorProfile
	if profile == "" || profile == AppArmorUnconfined {
		return nil
	}
	fd, word := b.slot(), "exec "+profile
	// The first is AppArmor's own (Linux 5.8), the second the one of whichever module is shown there.
	const own, shared = "/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"
	b.call(appArmorOp, profile, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(own), num(unix.O_WRONLY|unix.O_CLOEXEC)).into(fd).
		thenSkip(1).orGoOn(unix.ENOENT)
	b.call(appArmorOp, profile, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(shared), num(unix.O_WRONLY|unix.O_CLOEXEC)).into(fd)
	b.call(appArmorOp, profile, unix.SYS_WRITE, fd.value(), b.str(word), num(len(word)))
	b.call(appArmorOp, profile, unix.SYS_CLOSE, fd.value())
	return nil
}
