package run

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// The kinds of MountSpec.
const (
	MountBind   = "bind"
	MountVolume = "volume"
	MountTmpfs  = "tmpfs"
	MountImage  = "image"
)

// MountSpec is one wish for something to appear inside a container, as -v, --mount and --tmpfs put it.
// It is data only: nothing has been looked up on the host, and a source may not exist.
type MountSpec struct {
	// Type is one of the kinds above.
	Type string
	// Source is the absolute host path of a bind, the name of a volume ("" for an anonymous one) or of an image, or "" for
	// a tmpfs.
	Source string
	// Image is the ID of an image, once it has been looked up.
	Image string
	// Target is the absolute, clean path inside the container, never "/".
	Target string
	// Long says that it was spelled out with --mount, which inspect shows in a place of its own.
	Long bool
	// ReadOnly asks for a read-only mount.
	ReadOnly bool

	// Propagation is "", or one of private, rprivate, shared, rshared, slave, rslave. Binds only; "" means rprivate.
	Propagation string
	// CreateSource says that a missing source of a bind is made as an empty directory (-v) instead of being an error (--mount).
	CreateSource bool
	// NonRecursive leaves out what is mounted below the source of a bind.
	NonRecursive bool
	// ReadOnlyNonRecursive makes only the bind itself read-only, not what is mounted below it.
	ReadOnlyNonRecursive bool
	// ReadOnlyForceRecursive makes everything below the bind read-only, or fails where the kernel cannot (before 5.12).
	ReadOnlyForceRecursive bool
	// Relabel is "", "z" (shared) or "Z" (private): the SELinux label for the source of a bind.
	Relabel string
	// Overlay gives the container a throw-away writable layer over a bind or volume (podman's O).
	Overlay bool
	// Chown hands the source to the container's user (podman's U).
	Chown bool

	// NoCopy leaves a fresh volume empty where the image has content at Target.
	NoCopy bool
	// Subpath is a relative path below a volume's or image's root that is mounted instead of the root.
	Subpath string
	// Driver is the volume driver, "" for local; DriverOpts and Labels are given to a volume that has to be made.
	Driver     string
	DriverOpts map[string]string
	Labels     map[string]string

	// TmpfsSize is the limit of a tmpfs in bytes; 0 is the kernel's default, half of memory.
	TmpfsSize int64
	// TmpfsMode holds the permission bits of a tmpfs's root; 0 means 1777.
	TmpfsMode uint32

	// Options are further mount options in mount(8)'s words, such as noexec or uid=5. A later one beats an earlier one.
	Options []string
	// Unknown lists options of -v that nobody knows. Docker's client ignores them; the caller should say so.
	Unknown []string
}

// isPropagation tells whether s names a mount propagation.
func isPropagation(s string) bool {
	switch s {
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
		return true
	}
	return false
}

// cleanTarget checks a path inside the container: absolute and not the root itself.
func cleanTarget(target string) (string, error) {
	if !strings.HasPrefix(target, "/") {
		return "", fmt.Errorf("mount path %q must be absolute", target)
	}
	if strings.ContainsRune(target, 0) {
		return "", errors.New("mount path holds a zero byte")
	}
	if target = path.Clean(target); target == "/" {
		return "", errors.New("destination can't be '/'")
	}
	return target, nil
}

// hostPath makes the source of a bind absolute: a leading "." counts from cwd, "~" and "~/" from home.
// Docker leaves "~" to the shell, which does not expand it after a colon or an equals sign; nobody means a folder called "~".
func hostPath(source, cwd, home string) (string, error) {
	switch {
	case strings.HasPrefix(source, "/"):
		return filepath.Clean(source), nil
	case source == "~" || strings.HasPrefix(source, "~/"):
		if home == "" {
			return "", fmt.Errorf("source %q needs HOME, which is not set", source)
		}
		return filepath.Join(home, source[1:]), nil
	case strings.HasPrefix(source, "~"):
		return "", fmt.Errorf("source %q: only ~ and ~/ are understood", source)
	}
	return filepath.Join(cwd, source), nil
}

// CheckVolumeName says what is wrong with the name of a volume: [a-zA-Z0-9][a-zA-Z0-9_.-]+, so at least two characters.
func CheckVolumeName(name string) error {
	if validName(name) {
		return nil
	}
	if len(name) == 1 && isAlnum(name[0]) {
		return fmt.Errorf("volume name %q is too short, names should be at least two alphanumeric characters", name)
	}
	return fmt.Errorf("%q includes invalid characters for a local volume name, only %q are allowed; a host directory needs its absolute path", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
}
