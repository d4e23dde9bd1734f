package network

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hullrun/hull/network/dns"
)

// Names are those that containers on networks find one another by. They are read when they are asked for, and again when
// somebody has come or gone.
type Names struct {
	Networks *Networks

	mu     sync.Mutex
	read   time.Time       // the time of the directory when the networks were read, zero for not at all
	dead   map[string]bool // containers that have ended, though a network may list them yet
	list   []*Network
	tables map[string]nameTable // by the container that asks
}

// nameTable is what one container finds.
type nameTable struct {
	*dns.Table
	shut bool
}

// settled is how old a directory has to be before a change is sure to show in its time, which has the steps of the kernel's clock.
const settled = 50 * time.Millisecond

// Table gives the names on a container's networks, as they are now, and says whether all those networks are shut, being
// internal: then nobody outside is to be asked.
func (s *Names) Table(container string) (names *dns.Table, shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := os.Stat(s.Networks.Dir)
	if err == nil && (!st.ModTime().Equal(s.read) || s.read.IsZero()) {
		now := time.Now()
		if list, err := s.Networks.List(); err == nil {
			s.list, s.tables = list, nil
			if s.read = st.ModTime(); now.Sub(s.read) < settled {
				s.read = time.Time{}
			}
		}
	}
	t, ok := s.tables[container]
	if !ok {
		if s.tables == nil {
			s.tables = map[string]nameTable{}
		}
		t = s.tableFor(container)
		s.tables[container] = t
	}
	return t.Table, t.shut
}

// ended notes that a container has ended, or is there again.
func (s *Names) ended(container string, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		s.dead = map[string]bool{}
	}
	if s.tables = nil; dead {
		s.dead[container] = true
	} else {
		delete(s.dead, container)
	}
}

// tableFor makes a container's table.
func (s *Names) tableFor(container string) nameTable {
	var hosts []dns.Host
	shut := true
	for _, n := range s.list {
		if n.Endpoints[container] == nil {
			continue
		}
		shut = shut && n.Internal
		if n.Predefined() {
			continue // the default network has no names, as in Docker
		}
		for _, e := range n.list() {
			if e.Interface == "" && !s.Networks.UserSpace || s.dead[e.Container] {
				continue
			}
			h := dns.Host{Names: e.names(), ID: e.Container, Network: n.Name}
			for _, p := range []netip.Prefix{e.Address, e.Address6} {
				if p.IsValid() {
					h.Addresses = append(h.Addresses, p.Addr())
				}
			}
			hosts = append(hosts, h)
		}
	}
	return nameTable{dns.NewTable(hosts), shut}
}

func (e *Endpoint) names() []string {
	var list []string
	if e.Name != "" {
		list = append(list, e.Name)
	}
	return append(list, e.Aliases...)
}
