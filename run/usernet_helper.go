package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/dns"
	"github.com/hullrun/hull/network/usernet"
)

// Work of helper processes, see helperEnv: a network, and the making of a container's device.
const (
	workNetwork = "network"
	workPlug    = "plug"
)

// helperSocket is where the members of a network come to its helper.
func (h *Host) helperSocket(networkID string) string {
	return filepath.Join(h.Networks().Dir, "."+ShortID(networkID)+".sock")
}

// plugInHelpers makes the container a member of its networks, and writes down who they are.
func (s *start) plugInHelpers(ctx context.Context) error {
	defer s.spare.drop() // others may have started the network meanwhile
	for i := range s.Ends {
		if len(s.endpoints) > i {
			if err := s.host.Networks().Hold(ctx, s.endpoints[i], s.Pid); err != nil {
				return err
			}
		}
		if err := s.join(&s.Ends[i], s); err != nil {
			return err
		}
		if len(s.endpoints) > i {
			s.host.noteNetwork("connect", s.Ends[i].Name, s.Ends[i].NetworkID, s.ID)
		}
	}
	ends := s.Ends
	return s.change(func(now *State) error {
		now.Ends = ends
		return nil
	})
}

// connectHelper makes a running container a member of one more network.
func (c *Container) connectHelper(ctx context.Context, n *network.Network, e *network.Endpoint, end *NetworkEnd) error {
	if err := c.host.Networks().Hold(ctx, e, c.Pid); err != nil {
		return err
	}
	end.Resolver = n.Subnets[0].Gateway.String()
	for i := 0; end.Device == ""; i++ {
		name := "eth" + strconv.Itoa(i)
		if !slices.ContainsFunc(c.Ends, func(e NetworkEnd) bool { return e.Device == name }) {
			end.Device = name
		}
	}
	return c.join(end, nil)
}

// join makes the container a member of a network, whose helper is started if this is the first, and has the device made. When
// it returns without an error the network is there. Bind errors are among its errors. begun is the start that the container is in
// the midst of, nil if its program runs already.
func (c *Container) join(end *NetworkEnd, begun *start) error {
	if c.Config.Network.pasta() {
		return c.joinPasta(end)
	}
	order, err := c.orderFor(end)
	if err != nil {
		return err
	}
	pidfd, err := c.process()
	if err != nil {
		return err
	}
	target := os.NewFile(uintptr(pidfd), "container")
	defer target.Close()
	answer, answerW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answer.Close()
	call, err := c.host.callHelper(order.Socket, c.Config.Network.watched(), begun.spareHelper())
	if err == nil {
		err = usernet.SendOrder(int(call.socket.Fd()), order, answerW, target, call.more...)
		call.closeMore()
	}
	answerW.Close()
	if err != nil {
		call.end(true)
		return fmt.Errorf("network helper: %w", err)
	}
	plugged := make(chan error, 1)
	go func() {
		err := c.plug(target, call.socket, order.Member.Device, begun != nil)
		call.socket.Close() // else the helper would wait for what never comes
		plugged <- err
	}()
	var a usernet.Answer
	_ = answer.SetReadDeadline(time.Now().Add(helperPatience))
	if err = json.NewDecoder(answer).Decode(&a); err != nil {
		err = fmt.Errorf("network helper: no answer: %w", err)
	} else if a.Error != "" {
		if err = errors.New(a.Error); a.Unavailable {
			err = fmt.Errorf("%w%w", err, errHidden{usernet.ErrUnavailable})
		}
	}
	if e := <-plugged; e != nil && err != nil {
		err = e
	}
	call.end(err != nil)
	if err != nil {
		return err
	}
	end.Helper, end.HelperStart = a.Pid, startTime(a.Pid)
	for i, p := range a.Ports {
		end.Ports[i].HostPort, end.Ports[i].HostLast = p.Host.Port(), 0
	}
	return nil
}

// helperPatience is how long a network may take to come up.
const helperPatience = 20 * time.Second

// helperCall is a connection to a helper, and the process if it has been started for it.
type helperCall struct {
	socket *os.File
	cmd    *exec.Cmd
	alone  bool       // nobody else's
	more   []*os.File // that the process is to get
}

func (c *helperCall) closeMore() {
	for _, f := range c.more {
		f.Close()
	}
	c.more = nil
}

// end leaves the process alone, or ends it if it has failed and is nobody else's: one for several ends by itself.
func (c *helperCall) end(failed bool) {
	c.closeMore()
	if c.cmd == nil {
		return
	}
	if failed && c.alone {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		return
	}
	go func() { _ = c.cmd.Wait() }()
}

// callHelper connects to the helper of a network by the name of its socket, or starts it.
func (h *Host) callHelper(name string, alone bool, spare *spareHelper) (c helperCall, err error) {
	c.alone = alone
	if alone {
		return c, c.takeOrStart(spare, "")
	}
	lock, dir, err := h.lockHelpers()
	if err != nil {
		return c, err
	}
	defer lock.Close()
	defer func() {
		if !slices.Contains(c.more, dir) {
			dir.Close()
		}
	}()
	if c.socket, err = dialHelper(dir, name); err == nil || !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
		return c, err
	}
	_ = unix.Unlinkat(int(dir.Fd()), name, 0) // that of one that was killed
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return c, os.NewSyscallError("socket", err)
	}
	listener := os.NewFile(uintptr(fd), name)
	if err = unix.Bind(fd, socketIn(dir, name)); err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err == nil {
		err = c.takeOrStart(spare, h.Networks().Dir)
	}
	if err != nil {
		listener.Close()
		return c, &os.PathError{Op: "listen", Path: name, Err: err}
	}
	c.more = []*os.File{listener, dir}
	return c, nil
}

// lockHelpers keeps others from connecting to helpers, and those from ending, until the file is closed.
func (h *Host) lockHelpers() (lock, dir *os.File, err error) {
	if dir, err = os.Open(h.Networks().Dir); err != nil {
		return nil, nil, err
	}
	if lock, err = os.OpenFile(filepath.Join(dir.Name(), usernet.LockFile), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		if err = flock(lock, unix.LOCK_EX); err != nil {
			lock.Close()
		}
	}
	if err != nil {
		dir.Close()
	}
	return lock, dir, err
}

// socketIn is a socket's address, which has room for a short path only, unix(7).
func socketIn(dir *os.File, name string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)}
}

func dialHelper(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, socketIn(dir, name)); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// takeOrStart gets the process: one that has been started beforehand, if it is there.
func (c *helperCall) takeOrStart(spare *spareHelper, networks string) error {
	call, ok := spare.take(networks)
	if !ok {
		return c.start(networks)
	}
	c.cmd, c.socket = call.cmd, call.socket
	return nil
}

// start starts the process; networks is the directory that tells names, "" for none. It leads a session of its own: what a
// terminal says to hull is not for it.
func (c *helperCall) start(networks string) error {
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(sockets[1]), "socket")
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", networks)
	cmd.Args[0] = "hull-network"
	// A packet goes through several goroutines: what another processor could do meanwhile is less than waking its thread costs.
	cmd.Env = append(os.Environ(), helperEnv+"="+workNetwork, "GOMAXPROCS=1")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		unix.Close(sockets[0])
		return err
	}
	c.cmd, c.socket = cmd, os.NewFile(uintptr(sockets[0]), "socket")
	return nil
}

// helpNetwork is all that the process does.
func helpNetwork(networks string) error {
	if networks == "" {
		return usernet.Help(nil)
	}
	names := network.Names{Networks: &network.Networks{Dir: networks, UserSpace: true}}
	return usernet.Help(func(member string) *dns.Table {
		table, _ := names.Table(member) // the outside is the network's own affair, of which each has a process
		return table
	})
}

// leaveHelpers takes the container, which has ended, off its networks, and waits for the end of those that were its own.
func (c *Container) leaveHelpers() {
	if c.Boot != bootID() {
		return
	}
	for i := range c.Ends {
		if end := &c.Ends[i]; end.Helper == 0 {
			continue
		} else if c.Config.Network.pasta() {
			waitHelper(end, 0)
		} else if c.Config.Network.watched() {
			waitHelper(end, 2*time.Second)
		} else {
			c.leaveHelper(end)
		}
	}
}

// leaveHelper takes the container off a network that is a process.
func (c *Container) leaveHelper(end *NetworkEnd) {
	if end.Helper == 0 {
		return
	}
	lock, dir, err := c.host.lockHelpers()
	if err != nil {
		return
	}
	socket, err := dialHelper(dir, filepath.Base(c.host.helperSocket(end.NetworkID)))
	dir.Close()
	lock.Close()
	if err != nil {
		return // it has ended, or was killed
	}
	defer socket.Close()
	fd := int(socket.Fd())
	if usernet.SendLeave(fd, c.ID) != nil || !waitFD(fd, 5*time.Second) {
		return
	}
	if n, err := unix.Read(fd, make([]byte, 1)); n == 0 || err != nil { // it was the last
		waitHelper(end, 2*time.Second)
	}
}

// waitHelper waits for a helper's end, and helps it along if it must.
func waitHelper(end *NetworkEnd, patience time.Duration) {
	if fd, err := unix.PidfdOpen(end.Helper, 0); err == nil {
		if startTime(end.Helper) == end.HelperStart && !waitFD(fd, patience) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			waitFD(fd, deathTime)
		}
		unix.Close(fd)
	}
	_, _ = unix.Wait4(end.Helper, nil, unix.WNOHANG, nil) // it may be a monitor's child, which has become this process
}

// helperRuns says whether a network's process is there. One that was killed may stay in the table of processes as long as
// nobody collects it.
func (end *NetworkEnd) helperRuns() bool {
	fd, err := unix.PidfdOpen(end.Helper, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return startTime(end.Helper) == end.HelperStart && !waitFD(fd, 0)
}

// lostHelper says whether a network of the running container was a process that has been killed.
func (c *Container) lostHelper() bool {
	return c.Status == Running && slices.ContainsFunc(c.Ends, func(e NetworkEnd) bool { return e.Helper != 0 && !e.helperRuns() })
}

// mendHelpers starts the networks of a running container again whose process was killed. The container keeps its addresses
// and ports, its connections it has lost.
func (c *Container) mendHelpers() {
	if !c.lostHelper() || !c.host.usesHelper(&c.Config.Network) {
		return
	}
	lock, err := lockAt(c.path("upper"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody else is about it
	}
	defer lock.Close()
	if err := c.reread(); err != nil || !c.lostHelper() {
		return
	}
	begun := *c
	begun.Ends = slices.Clone(c.Ends)
	for i := range begun.Ends {
		end := &begun.Ends[i]
		end.Ports = slices.Clone(end.Ports)
		if end.Helper == 0 || end.helperRuns() {
			continue
		}
		if err := begun.join(end, nil); err != nil {
			if !begun.hasProcess() {
				return // it has ended, and its network with it
			}
			c.host.warn("network of container %s: its process was killed, and cannot be started again: %v", c.Name, err)
			return
		}
	}
	err = c.change(func(now *State) error {
		now.Ends = begun.Ends
		return nil
	})
	if err != nil {
		c.host.warn("network of container %s: %v", c.Name, err)
	}
}
