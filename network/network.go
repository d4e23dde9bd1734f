// Package network gives network namespaces their cables. As root that is a Linux bridge for each network, a veth pair for each
// container on it, and a table of nftables' for each bridge; all of it is there only while somebody is attached.
//
// A network is a file below [Networks].Dir, replaced as a whole, and so are the addresses that containers have on it. Which of
// these still count the kernel says: the host's end of a cable goes when the container's namespace goes, however it ends. So
// nothing that a killed process has left is in anybody's way for longer than until the next call.
//
// network knows no containers beyond their IDs, and runs no program. An ordinary user's network is not made here.
package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/internal/jsononce"
)

// Networks are those that are kept in one directory.
type Networks struct {
	// Dir holds a file for each network. It need not be there.
	Dir string
	// UserSpace networks are processes, see package usernet: here they are written down, and nothing of the kernel's is touched.
	UserSpace bool
	// Warn takes a line about something that does not work as asked, nil drops it.
	Warn func(string)
	// StartNames starts the process that is [ServeNames], with a listening socket for it. It closes nothing.
	StartNames func(listener *os.File) error
}

// The names of the networks that are always there, as in Docker.
const (
	Bridge = "bridge"
	Host   = "host"
	None   = "none"
)

// Network is one network, with what is attached to it.
type Network struct {
	Name    string
	ID      string // 64 hexadecimal digits
	Created time.Time
	Driver  string // "bridge", "host" or "null", as Docker calls what is behind none
	// Subnets are one of IPv4, which comes first, and one of IPv6 if that was asked for.
	Subnets []Subnet
	// IPv6 says that there is one of IPv6; Internal that no packet leaves the network.
	IPv6, Internal  bool
	Labels, Options map[string]string
	// Endpoints are by the containers' IDs.
	Endpoints map[string]*Endpoint
	// Last are the addresses that were given out last: the next to be given follow them, so that what somebody else
	// remembers of an address is not soon another container's.
	Last []netip.Addr
}

// Subnet is a range of addresses.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // the bridge's own
	// Range is the part that addresses are chosen from, the zero value for all.
	Range netip.Prefix
	// Reserved addresses are somebody else's, by his name.
	Reserved map[string]netip.Addr
}

// Config is what somebody wishes of a network.
type Config struct {
	Name, Driver    string // the driver is "" or "bridge"
	Subnets         []Subnet
	IPv6, Internal  bool
	Labels, Options map[string]string
}

// ErrNotFound is what the name of no network ends in.
var ErrNotFound = errors.New("not found")

// ErrInUse says that containers are attached.
var ErrInUse = errors.New("network has active endpoints")

// Interface is the name of the bridge.
func (n *Network) Interface() string { return bridgePrefix + n.ID[:10] }

// bridgePrefix begins the names of all bridges and tables of hull's. A name has at most 15 characters (IFNAMSIZ).
const bridgePrefix = "hull-"

// Predefined says whether the network is always there.
func (n *Network) Predefined() bool { return predefined(n.Name) }

func predefined(name string) bool { return name == Bridge || name == Host || name == None }

func (s *Networks) path(name string) string { return filepath.Join(s.Dir, name+".json") }

// lock keeps all others from changing anything until the file is closed. It may wait, but not for long.
func (s *Networks) lock() (*os.File, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, ".lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// List gives all networks by name, the three that are always there among them.
func (s *Networks) List() ([]*Network, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []*Network{s.initial(Host), s.initial(None)}
	if _, err := os.Stat(s.path(Bridge)); err != nil {
		list = append(list, s.initial(Bridge))
	}
	for _, e := range entries {
		name, isNetwork := strings.CutSuffix(e.Name(), ".json")
		if !isNetwork || strings.HasPrefix(name, ".") {
			continue
		}
		n, err := s.read(name)
		if errors.Is(err, ErrNotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Find gives the network that ref names: its name or ID, or the beginning of exactly one ID.
func (s *Networks) Find(ref string) (*Network, error) {
	if validName(ref) {
		if n, err := s.read(ref); !errors.Is(err, ErrNotFound) {
			return n, err
		}
	}
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(n *Network) bool { return ref == "" || !strings.HasPrefix(n.ID, ref) })
	switch len(list) {
	case 0:
		return nil, fmt.Errorf("network %s %w", ref, ErrNotFound)
	case 1:
		return list[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous (%d matches found based on ID prefix): give more of it", ref, len(list))
}

// read reads a network by its name. One that is always there may not have been written down yet.
func (s *Networks) read(name string) (*Network, error) {
	data, err := os.ReadFile(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		if predefined(name) {
			return s.initial(name), nil
		}
		return nil, fmt.Errorf("network %s %w", name, ErrNotFound)
	}
	n := &Network{}
	if err == nil {
		err = json.Unmarshal(data, n)
	}
	if err == nil && (n.Name != name || len(n.ID) != 64) {
		err = errors.New("it is no network's")
	}
	if err != nil {
		return nil, fmt.Errorf("read network %s: %w", name, err)
	}
	return n, nil
}

// again reads a network once more that was found by ref before the caller had the lock. Another may have taken its name since,
// which is not the one whose ID somebody gave.
func (s *Networks) again(n *Network, ref string) (*Network, error) {
	now, err := s.read(n.Name)
	if err == nil && now.ID != n.ID && ref != n.Name {
		err = fmt.Errorf("network %s %w", ref, ErrNotFound)
	}
	return now, err
}

// initial is a network that is always there. Its ID follows from where it is kept, so that nobody has to write it down.
func (s *Networks) initial(name string) *Network {
	sum := sha256.Sum256([]byte(s.Dir + "\x00" + name))
	n := &Network{Name: name, ID: hex.EncodeToString(sum[:]), Driver: name}
	if name == None {
		n.Driver = "null"
	}
	if st, err := os.Stat(filepath.Dir(s.Dir)); err == nil {
		n.Created = st.ModTime()
	}
	return n
}

// write replaces the network's file. The caller has the lock.
func (s *Networks) write(n *Network) error {
	data, err := jsononce.Marshal(n)
	if err != nil {
		return err
	}
	tmp := filepath.Join(s.Dir, ".new")
	if err = os.WriteFile(tmp, data, 0o600); err == nil {
		err = os.Rename(tmp, s.path(n.Name))
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write network %s: %w", n.Name, err)
	}
	return nil
}

// Create makes a network. Nothing of it shows on the host before somebody is attached.
func (s *Networks) Create(_ context.Context, c Config) (*Network, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(list, func(n *Network) bool { return n.Name == c.Name }) {
		return nil, fmt.Errorf("network with name %s already exists", c.Name)
	}
	n := &Network{Name: c.Name, ID: newID(), Created: time.Now(), Driver: "bridge", Subnets: slices.Clone(c.Subnets),
		IPv6: c.IPv6, Internal: c.Internal, Labels: maps.Clone(c.Labels), Options: maps.Clone(c.Options)}
	if err := n.complete(list); err != nil {
		return nil, fmt.Errorf("create network %s: %w", c.Name, err)
	}
	return n, s.write(n)
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// check refuses what can be no network whatever others there are.
func (c *Config) check() error {
	if !validName(c.Name) {
		return fmt.Errorf("network name %q is invalid: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", c.Name)
	}
	if predefined(c.Name) || c.Name == "default" {
		return fmt.Errorf("operation is not permitted on predefined %s network", c.Name)
	}
	if c.Name == "allow" || c.Name == "log" || c.Name == "pasta" {
		return fmt.Errorf("network name %q is taken: run --network %s is something else", c.Name, c.Name)
	}
	if _, err := mtuOf(c.Options); err != nil {
		return err
	}
	if c.Driver != "" && c.Driver != "bridge" {
		return fmt.Errorf("network driver %q: plugin %q not found: want bridge", c.Driver, c.Driver)
	}
	_, err := parseAllowed(c.Options[OptionAllow])
	return err
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) < 250
}

// Remove removes a network that nobody is attached to.
func (s *Networks) Remove(ref string) (*Network, error) {
	n, err := s.Find(ref)
	if err != nil {
		return nil, err
	}
	if n.Predefined() {
		return nil, fmt.Errorf("%s is a pre-defined network and cannot be removed", n.Name)
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if n, err = s.again(n, ref); err != nil {
		return nil, err
	}
	if err := s.settle(n); err != nil {
		return nil, err
	}
	if len(n.Endpoints) > 0 {
		return nil, fmt.Errorf("network %s has active endpoints: disconnect or stop %s%w", n.Name, strings.Join(n.containers(), ", "), errHidden{ErrInUse})
	}
	return n, os.Remove(s.path(n.Name))
}

// errHidden carries an error for errors.Is without a word of its own.
type errHidden struct{ error }

func (errHidden) Error() string   { return "" }
func (e errHidden) Unwrap() error { return e.error }

// containers names those that are attached.
func (n *Network) containers() (names []string) {
	for id, e := range n.Endpoints {
		names = append(names, cmp.Or(e.Name, id[:min(12, len(id))]))
	}
	slices.Sort(names)
	return names
}

func (s *Networks) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}
