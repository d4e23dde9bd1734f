package run

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/usernet"
)

// workNames is the work of the process that answers for containers' names, see helperEnv.
const workNames = "names"

// startNames starts that process, in a session of its own: what a terminal says to hull is not for it.
func (h *Host) startNames(listener *os.File) error {
	cmd := exec.Command("/proc/self/exe", filepath.Join(h.Root, "networks"))
	cmd.Args[0] = "hull-names"
	cmd.Env = []string{helperEnv + "=" + workNames}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{listener}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the process that answers for names: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// helpNames is all that the process does.
func helpNames(dir string) error {
	const listenerFD = 3
	unix.CloseOnExec(listenerFD)
	usernet.ShrinkSoon()
	return network.ServeNames(dir, os.NewFile(listenerFD, "listener"))
}

// hasNames says whether the container finds others by name: on networks that somebody has made.
func (n *NetworkConfig) hasNames() bool {
	return slices.ContainsFunc(n.Networks, func(w NetworkWish) bool { return w.Name != network.Bridge })
}

// wantsNames says whether a container on bridges asks hull for names: where it finds others by name, and where the host knows no
// resolver but on its loopback, which is not the container's.
func (n *NetworkConfig) wantsNames() bool {
	return n.hasNames() || len(n.Networks) > 0 && len(n.DNS) == 0 && len(hostResolvers()) == 0
}

// hostResolvers are those of the host that a container can reach too.
func hostResolvers() []string {
	servers, _, _ := readResolvConf("/etc/resolv.conf", false)
	if len(servers) == 0 { // systemd-resolved's stub; whom it asks itself is there (systemd-resolved.service(8))
		servers, _, _ = readResolvConf("/run/systemd/resolve/resolv.conf", false)
	}
	return servers
}

// askNames lets the container ask for names, if its resolv.conf says so.
func (c *Container) askNames() error {
	if !c.asksNames() {
		return nil
	}
	fd, err := c.process()
	if err != nil {
		return err
	}
	process := os.NewFile(uintptr(fd), "container")
	defer process.Close()
	a := network.Asker{Container: c.ID, Process: process}
	for _, text := range c.Config.Network.DNS {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("dns %q: %w", text, err)
		}
		a.DNS = append(a.DNS, ip)
	}
	return c.host.Networks().Answer(a)
}

func (s *State) asksNames() bool {
	return slices.ContainsFunc(s.Ends, func(e NetworkEnd) bool { return e.Resolver == network.Resolver })
}

// RenewRules writes the rules of networks anew, if somebody has thrown them away. It looks once in the life of a process.
func (h *Host) RenewRules() {
	if h.rootless || h.rulesRenewed.Swap(true) {
		return
	}
	if err := h.Networks().Renew(); err != nil {
		h.warn("rules of networks: %v", err)
	}
}

// mendNames starts the process that answers for names again, if it was killed, for a running container.
func (c *Container) mendNames() {
	if c.Status != Running && c.Status != Paused || !c.asksNames() || c.host.Networks().Answered(c.ID) {
		return
	}
	if err := c.askNames(); err != nil && unix.Kill(c.Pid, 0) == nil {
		c.host.warn("%v", err)
	}
}
