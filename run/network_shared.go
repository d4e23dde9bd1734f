package run

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hullrun/hull/network"
)

// shareNetwork opens the network namespace of the container whose network this one is to share, and where there is no root to
// bring the two together, the user namespace that it belongs to.
func (s *start) shareNetwork() error {
	n := &s.Config.Network
	if !n.joins() {
		return nil
	}
	other, err := s.host.Find(strings.TrimPrefix(n.Mode, modeContainer))
	if err != nil {
		return fmt.Errorf("network %q: %w", n.Mode, err)
	}
	target, err := other.target(context.Background())
	if err != nil {
		return fmt.Errorf("cannot join network of a non running container: %s", other.Name)
	}
	defer target.Close()
	if s.peer = other.networkOwner(); s.host.rootless {
		err = s.shareUsers(other)
	} else if s.world.Identity.UserNS {
		err = fmt.Errorf("userns %q: conflicting options: the network of container %s is the host's root's", s.Config.Isolation.Userns, other.Name)
	}
	if err != nil {
		return err
	}
	s.world.Hostname = s.peer.hostname()
	s.world.NetNS, err = s.share(other, "net")
	if err == nil && hasEnded(target) { // what has been opened may be another process's
		err = errNotRunning(other.Name)
	}
	return err
}

// shareUsers makes the other container's users this one's.
func (s *start) shareUsers(other *Container) (err error) {
	if s.peer.Config.Network.Mode == network.Host {
		return fmt.Errorf("network of container %s: it is the host's: --network host shares it, too", other.Name)
	}
	own := s.world.Identity
	if s.world.Identity, err = identityOf(other.Pid, other.UserNS); err != nil {
		return err
	}
	id := &s.world.Identity
	switch userns := s.Config.Isolation.Userns; {
	case userns != "" && userns != "auto" && userns != NamespaceHost && !(slices.Equal(own.UIDs, id.UIDs) && slices.Equal(own.GIDs, id.GIDs)):
		return fmt.Errorf("userns %q: conflicting options: whoever shares the network of container %s has the users that it has", userns, other.Name)
	case id.OneID && !own.OneID && other.Config.Isolation.Userns == "":
		s.host.warn("container %s has a single id, and so has who shares its network: for an image with several users run it with --userns=sub-ids", other.Name)
	}
	s.world.UserNSPath, err = s.share(other, "user")
	return err
}

// share opens a namespace of another container until this one is born, and gives the path to it.
func (s *start) share(other *Container, kind string) (path string, err error) {
	f, err := os.Open(procFile(other.Pid, "ns/"+kind))
	if err != nil {
		return "", fmt.Errorf("share the network of container %s: %w", other.Name, err)
	}
	s.shared = append(s.shared, f)
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

// hostname is the container's name on its network: its own, or the one that it has from whose network it shares.
func (s *State) hostname() string {
	for _, kv := range s.HostEnv {
		if name, ok := strings.CutPrefix(kv, "HOSTNAME="); ok {
			return name
		}
	}
	return hostname(&s.Config, s.ID)
}

func (s *start) closeShared() {
	for _, f := range s.shared {
		f.Close()
	}
	s.shared = nil
}

// networkOwner is the container whose network c has: its own, or that of one whose it shares, if that still runs.
func (c *Container) networkOwner() *Container {
	for range 16 { // more than anybody has in a row
		ref, joins := strings.CutPrefix(c.Config.Network.Mode, modeContainer)
		if !joins {
			break
		}
		other, err := c.host.Find(ref)
		if err != nil || !other.Status.Alive() {
			break
		}
		c = other
	}
	return c
}
