package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// retData is the part of a filter's answer that carries an errno.
const retData = 0xffff

// answer gives what a filter returns to the kernel for an action. An errno is EPERM where the profile names none.
func answer(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	var ret uint32
	switch a {
	case specs.ActAllow:
		ret = unix.SECCOMP_RET_ALLOW
	case specs.ActErrno, specs.ActTrace:
		return answerErrno(a, errno)
	case specs.ActKill, specs.ActKillThread:
		ret = unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		ret = unix.SECCOMP_RET_KILL_PROCESS
	case specs.ActTrap:
		ret = unix.SECCOMP_RET_TRAP
	case specs.ActLog:
		ret = unix.SECCOMP_RET_LOG
	case specs.ActNotify:
		ret = unix.SECCOMP_RET_USER_NOTIF
	case "":
		return 0, fmt.Errorf("the action is missing")
	default:
		return 0, fmt.Errorf("unknown action %q", a)
	}
	if errno != nil {
		return 0, fmt.Errorf("errnoRet makes no sense with action %s", a)
	}
	return ret, nil
}

func answerErrno(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	n, limit, ret := uint(unix.EPERM), uint(4095), uint32(unix.SECCOMP_RET_ERRNO) // 4095: MAX_ERRNO of the kernel
	if a == specs.ActTrace {
		limit, ret = retData, unix.SECCOMP_RET_TRACE
	}
	if errno != nil {
		n = *errno
	}
	if n > limit {
		return 0, fmt.Errorf("errnoRet %d is over %d", n, limit)
	}
	return ret | uint32(n), nil
}

// checkRules finds what is wrong with the profile's rules. After it, their actions have an answer.
func (c *compiler) checkRules() error {
	for i := range c.rules {
		r := &c.rules[i]
		ret, err := answer(r.Action, r.ErrnoRet)
		if err == nil {
			err = checkTests(r.Args)
		}
		if err != nil {
			return fmt.Errorf("rule %d (%s): %w", i, firstName(r), err)
		}
		c.notify = c.notify || ret == unix.SECCOMP_RET_USER_NOTIF
	}
	if len(c.rules) > maxRules {
		return fmt.Errorf("%d rules: more than a filter can hold", len(c.rules))
	}
	return nil
}

// maxRules is more than fit into a filter, and few enough for indices of 16 bits.
const maxRules = 1 << 15

// result gives what a call gets that meets a rule, which has been checked.
func result(r *specs.LinuxSyscall) uint32 {
	ret, _ := answer(r.Action, r.ErrnoRet)
	return ret
}

// either says whether any one test of a rule suffices, because two look at the same argument. So runc has it, for the
// sake of profiles older than libseccomp's support for several tests.
func either(tests []specs.LinuxSeccompArg) bool {
	var seen [6]bool
	for i := range tests {
		if seen[tests[i].Index] {
			return true
		}
		seen[tests[i].Index] = true
	}
	return false
}

func firstName(s *specs.LinuxSyscall) string {
	if len(s.Names) == 0 {
		return "no names"
	}
	return s.Names[0]
}

func checkTests(tests []specs.LinuxSeccompArg) error {
	for i := range tests {
		t := &tests[i]
		if t.Index > 5 {
			return fmt.Errorf("argument %d: a system call has arguments 0 to 5", t.Index)
		}
		switch t.Op {
		case specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
			specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual:
		default:
			return fmt.Errorf("argument %d: unknown operator %q", t.Index, t.Op)
		}
	}
	return nil
}

// filterFlags gives the flags for seccomp(2). A profile with a NOTIFY action needs a listener, which the kernel gives
// together with TSYNC only if TSYNC_ESRCH says that its return value will not be mistaken.
func filterFlags(p *specs.LinuxSeccomp, notify bool) (uint, error) {
	var flags uint
	for _, f := range p.Flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC":
			flags |= unix.SECCOMP_FILTER_FLAG_TSYNC
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, fmt.Errorf("unknown flag %q", f)
		}
	}
	if notify {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		if flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			flags |= unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
		}
	} else if flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
		return 0, fmt.Errorf("flag %s: needs a rule with action %s", specs.LinuxSeccompFlagWaitKillableRecv, specs.ActNotify)
	}
	return flags, nil
}
