package run

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/usernet"
	"github.com/hullrun/hull/ns"
)

// Modes of a container whose connections are looked at one by one, see package usernet.
const (
	modeAllow = "allow"
	modeLog   = "log"
)

// Work of helper processes, see helperEnv: a container's network, and the making of its device inside.
const (
	workNetwork = "network"
	workPlug    = "plug"
)

// watched says whether each connection is looked at.
func (n *NetworkConfig) watched() bool { return n.Mode == modeAllow || n.Mode == modeLog }

// usesHelper says whether the container's network is a process: what an ordinary user's is, and one with an allow-list.
func (h *Host) usesHelper(n *NetworkConfig) bool {
	return n.watched() || h.rootless && n.named()
}

// checkHelper refuses what a network of this kind does not have.
func (h *Host) checkHelper(n *NetworkConfig) error {
	if len(n.Networks) > 1 {
		return fmt.Errorf("network %q: an ordinary user's container has one network", n.Networks[1].Name)
	}
	for _, w := range n.Networks {
		if _, err := h.network(w.Name); err != nil {
			return err
		}
		if w.IP+w.IP6+w.MAC != "" {
			return fmt.Errorf("network %q: an ordinary user's container has no address of its own choice", w.Name)
		}
	}
	if n.Mode == modeAllow {
		_, err := usernet.ParseAllow(n.Allow)
		return err
	}
	return nil
}

// helperDevice is the container's device. Nobody else is on its network, so that all have the same addresses; they are those
// that other user-space networks use too.
func helperDevice() usernet.Device {
	return usernet.Device{
		Name: "eth0", MAC: net.HardwareAddr{0x02, 0x42, 0x0a, 0x00, 0x02, 0x64},
		IPv4: netip.MustParsePrefix("10.0.2.100/24"), Gateway4: netip.MustParseAddr("10.0.2.2"),
		IPv6: netip.MustParsePrefix("fd00:a00:2::100/64"), Gateway6: netip.MustParseAddr("fd00:a00:2::2"),
	}
}

// reserveHelper writes down what the container is going to have.
func (s *start) reserveHelper() error {
	n := &s.Config.Network
	if err := s.host.checkHelper(n); err != nil {
		return err
	}
	ports, err := s.toPublish()
	if err != nil {
		return err
	}
	d := helperDevice()
	s.Ends = []NetworkEnd{{
		Name: n.Mode, MAC: d.MAC.String(), IP: d.IPv4.String(), IP6: d.IPv6.String(), Gateway: d.Gateway4.String(), Gateway6: d.Gateway6.String(),
		Resolver: d.Gateway4.String(),
	}}
	for _, p := range ports {
		s.Ends[0].Ports = append(s.Ends[0].Ports, publishedPort(p))
	}
	return os.RemoveAll(s.path(reportFile))
}

func publishedPort(p network.Port) PublishedPort {
	out := PublishedPort{HostPort: p.HostPort, HostLast: p.HostLast, Port: p.Port, Protocol: p.Protocol}
	if p.HostIP.IsValid() {
		out.HostIP = p.HostIP.String()
	}
	return out
}

// reportFile is what the helper writes down about refused connections, in the container's directory.
const reportFile = "network.json"

// helperConfig is the helper's task.
func (c *Container) helperConfig() (usernet.Config, error) {
	n := &c.Config.Network
	u := usernet.Config{Device: helperDevice()}
	if n.watched() {
		u.Mode, u.Report = usernet.Mode(n.Mode), c.path(reportFile)
	}
	if n.Mode == modeAllow {
		var err error
		if u.Allow, err = usernet.ParseAllow(n.Allow); err != nil {
			return u, err
		}
	}
	for _, text := range n.DNS {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return u, fmt.Errorf("dns %q: %w", text, err)
		}
		u.DNS = append(u.DNS, netip.AddrPortFrom(ip, 53))
	}
	for _, p := range c.Ends[0].Ports {
		ip := netip.IPv6Unspecified() // all, IPv4's too
		if p.HostIP != "" {
			ip = netip.MustParseAddr(p.HostIP)
		}
		u.Ports = append(u.Ports, usernet.Port{Proto: p.Protocol, Host: netip.AddrPortFrom(ip, p.HostPort), Last: p.HostLast, Container: p.Port})
	}
	return u, nil
}

// plugInHelper starts the container's network and writes down who it is.
func (s *start) plugInHelper() error {
	if err := s.startHelper(); err != nil {
		return err
	}
	end := s.Ends[0]
	return s.change(func(now *State) error {
		now.Ends = []NetworkEnd{end}
		return nil
	})
}

// startHelper starts the process that is the container's network, and has the device made. When it returns without an error
// the network is there. Bind errors are among its errors.
func (c *Container) startHelper() error {
	config, err := c.helperConfig()
	if err != nil {
		return err
	}
	pidfd, err := c.process()
	if err != nil {
		return err
	}
	target := os.NewFile(uintptr(pidfd), "container")
	defer target.Close()
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	inside, outside := os.NewFile(uintptr(sockets[0]), "socket"), os.NewFile(uintptr(sockets[1]), "socket")
	defer inside.Close()
	cmd, answer, err := forkHelper(config, outside, target)
	outside.Close()
	if err != nil {
		return err
	}
	defer answer.Close()
	plugged := make(chan error, 1)
	go func() {
		err := c.plug(target, inside, config.Device)
		inside.Close() // else the helper would wait for what never comes
		plugged <- err
	}()
	var a usernet.Answer
	_ = answer.SetReadDeadline(time.Now().Add(helperPatience))
	if err = json.NewDecoder(answer).Decode(&a); err != nil {
		err = fmt.Errorf("network helper: no answer: %w", err)
	} else if a.Error != "" {
		err = errors.New(a.Error)
	}
	if e := <-plugged; e != nil && err != nil {
		err = e
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	go func() { _ = cmd.Wait() }()
	end := &c.Ends[0]
	end.Helper, end.HelperStart = cmd.Process.Pid, startTime(cmd.Process.Pid)
	for i, p := range a.Ports {
		end.Ports[i].HostPort, end.Ports[i].HostLast = p.Host.Port(), 0
	}
	return nil
}

// helperPatience is how long a network may take to come up.
const helperPatience = 20 * time.Second

// forkHelper starts the process. It leads a session of its own: what a terminal says to hull is not for it.
func forkHelper(config usernet.Config, socket, target *os.File) (cmd *exec.Cmd, answer *os.File, err error) {
	order, orderW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer order.Close()
	defer orderW.Close()
	answer, answerW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer answerW.Close()
	cmd = exec.Command("/proc/self/exe")
	cmd.Args[0] = "hull-network"
	cmd.Env = append(os.Environ(), helperEnv+"="+workNetwork)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{order, answerW, socket, target}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err = cmd.Start(); err == nil {
		if err = json.NewEncoder(orderW).Encode(config); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	if err != nil {
		answer.Close()
		return nil, nil, fmt.Errorf("network helper: %w", err)
	}
	return cmd, answer, nil
}

// plug has the device made in the container's namespaces, and the cable's end sent by the socket.
func (c *Container) plug(target, socket *os.File, d usernet.Device) error {
	if !c.UserNS {
		return plugAsRoot(target, socket, d)
	}
	device, err := json.Marshal(d)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ids, err := mappedIDs(c.Pid)
	if err != nil {
		return err
	}
	// Of the container's rights it needs those to make a device, and a namespace for the other end of a pair.
	caps := []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	cmd := &ns.Cmd{Join: target, Stdin: socket, Spec: &specs.Spec{
		Process: &specs.Process{
			Args: []string{self, string(device)}, Env: []string{helperEnv + "=" + workPlug}, Cwd: "/",
			User:         specs.User{UID: ids.UIDs[0].ContainerID, GID: ids.GIDs[0].ContainerID},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps},
		},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.NetworkNamespace}},
			UIDMappings: ids.UIDs, GIDMappings: ids.GIDs,
		},
	}}
	done := make(chan error, 1)
	go func() { // whose thread the process belongs to
		done <- plugByProcess(cmd)
	}()
	return <-done
}

func plugByProcess(cmd *ns.Cmd) error {
	p, err := cmd.Create()
	if err == nil {
		if err = p.Start(); err == nil {
			var status ns.Status
			if status, err = p.Wait(); err == nil && status.Code() != 0 {
				err = fmt.Errorf("it ended with status %d", status.Code())
			}
		} else {
			_, _ = p.Wait()
		}
	}
	if err != nil {
		return fmt.Errorf("make network device: %w", err)
	}
	return nil
}

// plugAsRoot is for a container in the host's user namespace: a thread of ours may enter its network.
func plugAsRoot(target, socket *os.File, d usernet.Device) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- plugHere(int(socket.Fd()), d)
	}()
	return <-done
}

// plugHere makes the device where the calling thread is.
func plugHere(socket int, d usernet.Device) error {
	file, err := usernet.Plug(d)
	if file != nil {
		defer file.Close()
	}
	if err = usernet.SendLink(socket, file, err); errors.Is(err, unix.EPIPE) {
		err = nil // the helper has given up already, and says why
	}
	return err
}

// helpPlug is all that the process which makes the device does.
func helpPlug(device string) error {
	var d usernet.Device
	if err := json.Unmarshal([]byte(device), &d); err != nil {
		return err
	}
	return plugHere(0, d)
}

// mappedIDs reads the maps of a process's user namespace, user_namespaces(7).
func mappedIDs(pid int) (id Identity, err error) {
	for _, m := range []struct {
		file string
		to   *[]specs.LinuxIDMapping
	}{{"uid_map", &id.UIDs}, {"gid_map", &id.GIDs}} {
		text, err := os.ReadFile(procFile(pid, m.file))
		if err != nil {
			return id, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 3 {
				*m.to = append(*m.to, specs.LinuxIDMapping{ContainerID: uint32(number(f[0])), HostID: uint32(number(f[1])), Size: uint32(number(f[2]))})
			}
		}
		if len(*m.to) == 0 {
			return id, fmt.Errorf("%s of process %d: empty", m.file, pid)
		}
	}
	return id, nil
}

// helperEnds waits for the end of the container's network after the container's own, and helps it along if it must.
func (c *Container) helperEnds() {
	if len(c.Ends) == 0 || c.Ends[0].Helper == 0 || c.Boot != bootID() {
		return
	}
	end := &c.Ends[0]
	if fd, err := unix.PidfdOpen(end.Helper, 0); err == nil {
		if startTime(end.Helper) == end.HelperStart && !waitFD(fd, 2*time.Second) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			waitFD(fd, deathTime)
		}
		unix.Close(fd)
	}
	_, _ = unix.Wait4(end.Helper, nil, unix.WNOHANG, nil) // it is a monitor's child, which has become this process
}

// helperRuns says whether the container's network is there. One that was killed may stay in the table of processes as long as
// nobody collects it.
func (c *Container) helperRuns() bool {
	end := &c.Ends[0]
	fd, err := unix.PidfdOpen(end.Helper, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return startTime(end.Helper) == end.HelperStart && !waitFD(fd, 0)
}

// mendHelper starts the network of a running container again whose process was killed. The container keeps its addresses and
// ports, its connections it has lost.
func (c *Container) mendHelper() {
	if c.Status != Running || len(c.Ends) == 0 || c.Ends[0].Helper == 0 || !c.host.usesHelper(&c.Config.Network) || c.helperRuns() {
		return
	}
	dir := c.path("upper")
	lock, err := lockAt(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return // somebody else is about it
	}
	defer lock.Close()
	if err := c.reread(); err != nil || c.Status != Running || len(c.Ends) == 0 || c.helperRuns() {
		return
	}
	begun := *c
	begun.Ends = slices.Clone(c.Ends)
	if err := begun.startHelper(); err != nil {
		c.host.warn("network of container %s: its process was killed, and cannot be started again: %v", c.Name, err)
		return
	}
	err = c.change(func(now *State) error {
		now.Ends = begun.Ends
		return nil
	})
	if err != nil {
		c.host.warn("network of container %s: %v", c.Name, err)
	}
}

// NetworkReport is what the container's network has refused, or with --network log seen, at its last run; nil for nothing.
func (c *Container) NetworkReport() *usernet.Report { return readReport(c.dir()) }

func readReport(dir string) *usernet.Report {
	data, err := os.ReadFile(filepath.Join(dir, reportFile))
	if err != nil {
		return nil
	}
	var r usernet.Report
	if json.Unmarshal(data, &r) != nil {
		return nil
	}
	return &r
}

// shownRefusals is how many refused destinations are told of one by one.
const shownRefusals = 20

// tellReport tells whoever runs the container in the foreground what its network has refused or seen.
func (s *start) tellReport() {
	n := &s.Config.Network
	if !n.watched() {
		return
	}
	r := s.NetworkReport()
	if r == nil {
		return
	}
	left := 0
	for i, e := range slices.DeleteFunc(slices.Clone(r.Entries), func(e usernet.Entry) bool { return !e.Refused }) {
		if i >= shownRefusals {
			left++
			continue
		}
		s.host.warn("network: refused %s to %s%s: %s", e.What, e.To, times(e.Count), e.Why)
	}
	if left += r.Omitted; left > 0 {
		s.host.warn("network: refused %d more: hull inspect %s shows them while the container is there", left, cmp.Or(s.Name, s.ID))
	}
	if list := r.List(); n.Mode == modeLog && list != "" {
		s.host.warn("network: this was reached; to allow no more: --network allow=%s", list)
	}
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return ", " + strconv.Itoa(n) + " times"
}
