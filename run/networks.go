package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hullrun/hull/network"
)

// CreateNetwork makes a network. Nothing of it shows on the host before a container is attached.
func (h *Host) CreateNetwork(ctx context.Context, c network.Config) (*network.Network, error) {
	n, err := h.Networks().Create(ctx, c)
	if err == nil {
		h.noteNetwork("create", n.Name, n.ID, "")
	}
	return n, err
}

// RemoveNetwork removes a network that no running container is attached to.
func (h *Host) RemoveNetwork(ref string) error {
	n, err := h.Networks().Remove(ref)
	if err == nil {
		_ = os.Remove(h.helperSocket(n.ID)) // of a helper that was killed
		h.noteNetwork("destroy", n.Name, n.ID, "")
	}
	return err
}

// PruneNetworks removes the networks that no container is to be attached to and that accept takes, and gives their names.
func (h *Host) PruneNetworks(accept func(*network.Network) bool) (names []string, err error) {
	alone, err := h.HoldImages(true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no root directory, no network
	}
	if err != nil {
		return nil, err
	}
	defer alone.Close()
	list, err := h.Networks().List()
	if err != nil {
		return nil, err
	}
	users, err := h.NetworkUsers()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{} // by ID, for a container may call its network by that, or by the beginning of it
	for ref := range users {
		if n, err := h.Networks().Find(ref); err == nil {
			used[n.ID] = true
		}
	}
	var errs []error
	for _, n := range list {
		if n.Predefined() || used[n.ID] || !accept(n) {
			continue
		}
		if err := h.RemoveNetwork(n.Name); errors.Is(err, network.ErrInUse) || errors.Is(err, network.ErrNotFound) {
			continue
		} else if err != nil {
			errs = append(errs, err)
			continue
		}
		names = append(names, n.Name)
	}
	return names, errors.Join(errs...)
}

// NetworkDocument is a network as docker network inspect shows it.
type NetworkDocument struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       DocNetworkIPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]DocEndpoint
	Options    map[string]string
	Labels     map[string]string
}

// DocNetworkIPAM says where the network's addresses come from.
type DocNetworkIPAM struct {
	Driver  string
	Options map[string]string
	Config  []DocSubnet
}

// DocSubnet is one range of them.
type DocSubnet struct {
	Subnet             string
	IPRange            string            `json:",omitempty"`
	Gateway            string            `json:",omitempty"`
	AuxiliaryAddresses map[string]string `json:"AuxiliaryAddresses,omitempty"`
}

// DocEndpoint is a running container on the network. Addresses have the length of their prefix.
type DocEndpoint struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

// Network shows the network that ref names, as inspect does.
func (h *Host) Network(ref string) (*NetworkDocument, error) {
	n, err := h.Networks().Find(ref)
	if err != nil {
		return nil, fmt.Errorf("%w%w", err, errHidden{asNotFound(err)})
	}
	d := &NetworkDocument{
		Name: n.Name, ID: n.ID, Created: n.Created.Format(time.RFC3339Nano), Scope: "local", Driver: n.Driver,
		EnableIPv4: true, EnableIPv6: n.IPv6, Internal: n.Internal, IPAM: DocNetworkIPAM{Driver: "default", Config: []DocSubnet{}},
		Containers: map[string]DocEndpoint{}, Options: mergeLabels(n.Options, nil), Labels: mergeLabels(n.Labels, nil),
	}
	for _, u := range n.Subnets {
		s := DocSubnet{Subnet: u.Prefix.String(), Gateway: u.Gateway.String()}
		if u.Range.IsValid() {
			s.IPRange = u.Range.String()
		}
		for name, a := range u.Reserved {
			s.AuxiliaryAddresses = put(s.AuxiliaryAddresses, name, a.String())
		}
		d.IPAM.Config = append(d.IPAM.Config, s)
	}
	for id, e := range n.Endpoints {
		c, err := h.load(id)
		if err != nil || !c.Status.Alive() {
			continue
		}
		end := endOf(e)
		d.Containers[id] = DocEndpoint{c.Name, e.ID, e.MAC, end.IP, end.IP6}
	}
	return d, nil
}

// asNotFound is ErrNotFound for who asks by that.
func asNotFound(err error) error {
	if errors.Is(err, network.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
