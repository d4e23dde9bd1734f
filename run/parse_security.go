package run

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
)

// SecurityOpts collects what --security-opt asks for. Its zero value is Docker's default protection.
type SecurityOpts struct {
	// NoNewPrivileges stops setuid programs and file capabilities from giving the program more than it has.
	NoNewPrivileges bool
	// Seccomp is "" or "builtin" for the default profile, "unconfined" for none, or the path of a profile in JSON.
	Seccomp string
	// AppArmor names a profile; "" is the host's default for containers, "unconfined" none.
	AppArmor string
	// Labels are SELinux's: disable, user:U, role:R, type:T, level:L, filetype:T, nested.
	Labels []string
	// UnmaskPaths leaves /proc and /sys without masked and read-only paths (systempaths=unconfined).
	UnmaskPaths bool
	// WritableCgroups mounts /sys/fs/cgroup writable.
	WritableCgroups bool
}

// Set adds one value of --security-opt. Key and value are separated by "=" or ":"; a later value beats an earlier one.
func (o *SecurityOpts) Set(s string) error {
	if err := o.set(s); err != nil {
		return fmt.Errorf("security-opt %q: %w", s, err)
	}
	return nil
}

func (o *SecurityOpts) set(s string) error {
	key, value, hasValue := strings.Cut(s, "=")
	if !hasValue {
		key, value, hasValue = strings.Cut(s, ":")
	}
	if key == "no-new-privileges" {
		return setBool(&o.NoNewPrivileges, key, value, hasValue)
	}
	if !hasValue || value == "" {
		return errors.New("invalid --security-opt: want KEY=VALUE")
	}
	switch key {
	case "seccomp":
		o.Seccomp = value
	case "apparmor":
		o.AppArmor = value
	case "label":
		o.Labels = append(o.Labels, value)
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("invalid value %q: want unconfined", value)
		}
		o.UnmaskPaths = true
	case "writable-cgroups":
		return setBool(&o.WritableCgroups, key, value, true)
	default:
		return errors.New("invalid --security-opt: want no-new-privileges, seccomp, apparmor, label, systempaths or writable-cgroups")
	}
	return nil
}

// allCapabilities stands for every capability in --cap-add and --cap-drop.
const allCapabilities = "ALL"

// ParseCap brings the name of a capability into the kernel's spelling, with or without CAP_ and in any case; "ALL" stays.
func ParseCap(s string) (string, error) {
	name := strings.ToUpper(strings.TrimSpace(s))
	if name == allCapabilities {
		return name, nil
	}
	name = strings.TrimPrefix(name, "CAP_")
	for _, c := range capability.ListKnown() {
		if strings.ToUpper(c.String()) == name {
			return "CAP_" + name, nil
		}
	}
	return "", fmt.Errorf("capability %q: invalid capability: unknown name", s)
}

// AllCapabilities lists every capability that this build knows; a running kernel may lack the last ones.
func AllCapabilities() []string {
	known := capability.ListKnown()
	names := make([]string, len(known))
	for i, c := range known {
		names[i] = "CAP_" + strings.ToUpper(c.String())
	}
	return names
}

// DefaultCapabilities are those a container's root keeps without being asked, Docker's set (mask 0xa80425fb).
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Capabilities applies --cap-drop and --cap-add (names as ParseCap gives them) to the default set, in Docker's order:
// adding ALL leaves out only what is dropped by name; dropping ALL leaves only what is added by name.
func Capabilities(add, drop []string) []string {
	base := DefaultCapabilities()
	switch {
	case slices.Contains(add, allCapabilities):
		base, add = AllCapabilities(), nil
	case slices.Contains(drop, allCapabilities):
		base = nil
	}
	var out []string
	for _, c := range base {
		if !slices.Contains(drop, c) {
			out = append(out, c)
		}
	}
	for _, c := range add {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// isIPCSysctl tells whether the kernel keeps key per IPC namespace.
func isIPCSysctl(key string) bool {
	switch key {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(key, "fs.mqueue.")
}

// ParseSysctl reads --sysctl, KEY=VALUE. Only keys that belong to a namespace of the container are allowed:
// net.*, fs.mqueue.* and System V IPC's under kernel; any other would change the host.
func ParseSysctl(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", fmt.Errorf("sysctl %q: want KEY=VALUE", s)
	}
	// Dots become slashes of a path below /proc/sys, so an empty part could lead out of the allowed folders.
	emptyPart := strings.HasSuffix(key, ".") || strings.Contains(key, "..")
	if emptyPart || !strings.HasPrefix(key, "net.") && !isIPCSysctl(key) {
		return "", "", fmt.Errorf("sysctl %q: sysctl %q is not allowed: want net.*, fs.mqueue.* or kernel.{msg*,sem,shm*}", s, key)
	}
	return key, value, nil
}

// ParseUserns reads --userns: "host", or a way of mapping ids that package ns knows. "" leaves the choice to hull.
// keep-id may carry :uid=N,gid=N.
func ParseUserns(s string) (string, error) {
	mode, rest, _ := strings.Cut(s, ":")
	switch mode {
	case "", "host", "private", "auto", "nomap", "one-id", "sub-ids":
		if rest == "" {
			return mode, nil
		}
	case "keep-id":
		if rest == "" || checkKeepID(rest) == nil {
			return s, nil
		}
	}
	return "", fmt.Errorf("userns %q: want host, private, auto, nomap, one-id, sub-ids or keep-id[:uid=N,gid=N]", s)
}

func checkKeepID(options string) error {
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if key != "uid" && key != "gid" {
			return errors.New("unknown option")
		}
		if _, err := strconv.ParseUint(value, 10, 31); err != nil {
			return err
		}
	}
	return nil
}
