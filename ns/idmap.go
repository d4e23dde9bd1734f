package ns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// writeMaps gives the child its ids. One id that is the caller's own needs no privilege at all; whoever may set ids
// writes any map; everybody else asks newuidmap and newgidmap, which know /etc/subuid (user_namespaces(7)).
func writeMaps(pid int, uids, gids []specs.LinuxIDMapping) error {
	switch {
	case ownID(uids, os.Geteuid()) && ownID(gids, os.Getegid()):
		if os.Geteuid() != 0 {
			// The kernel demands it before an unprivileged gid_map.
			if err := writeProc(pid, "setgroups", "deny"); err != nil {
				return err
			}
		}
		fallthrough
	case os.Geteuid() == 0:
		return errors.Join(writeProc(pid, "uid_map", mapText(uids, "\n")), writeProc(pid, "gid_map", mapText(gids, "\n")))
	}
	// Both at once: each is the start of a setuid program.
	var wg sync.WaitGroup
	var errs [2]error
	for i, helper := range []struct {
		name string
		maps []specs.LinuxIDMapping
	}{{"newuidmap", uids}, {"newgidmap", gids}} {
		wg.Go(func() { errs[i] = runMapper(helper.name, pid, helper.maps) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func runMapper(name string, pid int, maps []specs.LinuxIDMapping) error {
	args := append([]string{strconv.Itoa(pid)}, strings.Fields(mapText(maps, " "))...)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ownID says whether maps is the one map that anybody may write: a single id, the caller's.
func ownID(maps []specs.LinuxIDMapping, id int) bool {
	return len(maps) == 1 && maps[0].Size == 1 && maps[0].HostID == uint32(id)
}

func mapText(maps []specs.LinuxIDMapping, sep string) string {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d%s", m.ContainerID, m.HostID, m.Size, sep)
	}
	return b.String()
}

func writeProc(pid int, file, text string) error {
	path := "/proc/" + strconv.Itoa(pid) + "/" + file
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(text) + " to", Path: path, Err: err}
	}
	return nil
}

// zeroMapped says whether id 0 of the container exists.
func zeroMapped(maps []specs.LinuxIDMapping) bool {
	for _, m := range maps {
		if m.ContainerID == 0 && m.Size > 0 {
			return true
		}
	}
	return false
}
