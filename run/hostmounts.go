package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostMount is a line of mountinfo, proc_pid_mountinfo(5): a mount on the host, and whether mounts travel to others from
// it (shared) or to it (slave).
type hostMount struct {
	id            string
	point         string
	shared, slave bool
}

func hostMounts() ([]hostMount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseHostMounts(string(data)), nil
}

func parseHostMounts(text string) (list []hostMount) {
	// The kernel writes these four so.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		m := hostMount{id: f[0], point: unescape.Replace(f[4])}
		for _, o := range f[6:] {
			if o == "-" {
				break
			}
			m.shared = m.shared || strings.HasPrefix(o, "shared:")
			m.slave = m.slave || strings.HasPrefix(o, "master:")
		}
		list = append(list, m)
	}
	return list
}

// checkPropagation refuses what would silently not happen: mounts pass between host and container only where the host's
// mount takes part, and from a user namespace none ever goes out.
func (h *Host) checkPropagation(m MountSpec, userns bool) error {
	if strings.HasSuffix(m.Propagation, "private") || m.Propagation == "" {
		return nil
	}
	list, err := hostMounts()
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, m.Source, 0, unix.STATX_MNT_ID, &st); err != nil {
		return &os.PathError{Op: "statx", Path: m.Source, Err: err}
	}
	for _, on := range list {
		if on.id != strconv.FormatUint(st.Mnt_id, 10) {
			continue
		}
		if strings.HasSuffix(m.Propagation, "slave") {
			if !on.shared && !on.slave {
				return fmt.Errorf("mount %q: path %s is mounted on %s but it is not a shared or slave mount", m.Target, m.Source, on.point)
			}
			return nil
		}
		if !on.shared {
			return fmt.Errorf("mount %q: path %s is mounted on %s but it is not a shared mount", m.Target, m.Source, on.point)
		}
	}
	if userns {
		h.warn("mount %s: %s: what is mounted in the container stays there: it has a user namespace", m.Target, m.Propagation)
	}
	return nil
}

// checkSubmounts refuses to leave out what is mounted below a source where the kernel does not allow it: in a user
// namespace nobody may look under a mount of the host's.
func checkSubmounts(m MountSpec) error {
	list, err := hostMounts()
	if err != nil {
		return err
	}
	source, err := filepath.EvalSymlinks(m.Source)
	if err != nil {
		return err
	}
	for _, on := range list {
		if strings.HasPrefix(on.point, strings.TrimSuffix(source, "/")+"/") {
			return fmt.Errorf("mount %q: %s is mounted below %s, and in a user namespace nobody may leave it out", m.Target, on.point, m.Source)
		}
	}
	return nil
}
