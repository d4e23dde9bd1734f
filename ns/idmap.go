package ns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// writeMaps gives the child its ids. One id that is the caller's own needs no privilege at all; whoever may set ids
// writes any map; everybody else asks newuidmap and newgidmap, which know /etc/subuid (user_namespaces(7)). They are at
// work when it returns, and finish waits for them.
func writeMaps(pid int, uids, gids []specs.LinuxIDMapping) (finish func() error) {
	switch {
	case len(uids) == 0: // no user namespace of its own
		return func() error { return nil }
	case ownID(uids, os.Geteuid()) && ownID(gids, os.Getegid()) && os.Geteuid() != 0:
		// The kernel demands it before an unprivileged gid_map.
		if err := writeProc(pid, "setgroups", "deny"); err != nil {
			return func() error { return err }
		}
		fallthrough
	case os.Geteuid() == 0:
		err := errors.Join(writeProc(pid, "uid_map", mapText(uids, "\n")), writeProc(pid, "gid_map", mapText(gids, "\n")))
		return func() error { return err }
	}
	u, err := startMapper("newuidmap", pid, uids)
	if err != nil {
		return func() error { return err }
	}
	g, err := startMapper("newgidmap", pid, gids)
	if err != nil {
		return func() error { return errors.Join(u.wait(), err) }
	}
	return func() error { return errors.Join(u.wait(), g.wait()) }
}

// mappers remembers where newuidmap and newgidmap are: $PATH may be long, and each start needs to know twice.
var mappers sync.Map

// LookMapper finds newuidmap or newgidmap by its name in $PATH, as exec.LookPath does, once.
func LookMapper(name string) (string, error) {
	key := [2]string{name, os.Getenv("PATH")}
	if path, ok := mappers.Load(key); ok {
		return path.(string), nil
	}
	path, err := exec.LookPath(name)
	if err == nil {
		mappers.Store(key, path)
	}
	return path, err
}

// mapper is newuidmap or newgidmap at work.
type mapper struct {
	args []string
	pid  int
	said *os.File
	womb *womb
}

// startMapper is exec.Cmd's Start as far as these two need it, without its goroutines, probes and waits, which take longer
// than the two themselves.
func startMapper(name string, pid int, maps []specs.LinuxIDMapping) (*mapper, error) {
	path, err := LookMapper(name)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	m := &mapper{args: append([]string{name, strconv.Itoa(pid)}, strings.Fields(mapText(maps, " "))...), said: r}
	b := &birth{program: program{data: make([]byte, 8, 4<<10)}}
	null := b.slot()
	b.call("open", os.DevNull, unix.SYS_OPENAT, num(unix.AT_FDCWD), b.str(os.DevNull), num(unix.O_RDONLY|unix.O_CLOEXEC)).into(null)
	for fd, from := range []arg{null.value(), num(w.Fd()), num(w.Fd())} {
		b.call("place stream", "", unix.SYS_DUP3, from, num(fd), num(0))
	}
	b.call("unblock signals", "", unix.SYS_RT_SIGPROCMASK, num(2 /* SIG_SETMASK */), b.bytes(make([]byte, 8)), num(0), num(8))
	b.call("execute", path, unix.SYS_EXECVE, b.str(path), b.strs(m.args), b.strs(os.Environ()))
	b.blob = b.finish(0, -1)
	m.pid, m.womb, err = spawn(b, 0)
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return m, nil
}

func (m *mapper) wait() error {
	defer m.said.Close()
	said, _ := io.ReadAll(m.said)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(m.pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	runtime.KeepAlive(m.womb)
	if status.ExitStatus() == 0 {
		return nil
	}
	return fmt.Errorf("%s: exit status %d: %s", strings.Join(m.args, " "), status.ExitStatus(), strings.TrimSpace(string(said)))
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
