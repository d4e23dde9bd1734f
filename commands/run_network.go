package commands

import (
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/usernet"
	"github.com/hullrun/hull/run"
)

// joinNetwork turns --network and what belongs to it into networks by name, or one of the modes that are none.
func (w *wishes) joinNetwork() error {
	n, values := &w.Network, w.networks
	if len(values) == 0 && !w.Isolation.Sandbox {
		values = []string{"default"}
	}
	for i, value := range values {
		if list, ok := strings.CutPrefix(value, "allow="); ok {
			if err := w.allow(value, list); err != nil {
				return err
			}
			continue
		}
		if value == "pasta" || strings.HasPrefix(value, "pasta:") {
			if len(values) > 1 {
				return fmt.Errorf("--network %q: conflicting options: a container with pasta has no other network", value)
			}
			if err := w.pasta(value); err != nil {
				return err
			}
			continue
		}
		wish, err := w.parseNetwork(value)
		if err != nil {
			return err
		}
		if i == 0 {
			if wish, err = w.withFirst(wish); err != nil {
				return err
			}
		}
		if wish.Name == "default" || wish.Name == "" {
			n.Default = len(values) == 1 && wish.IP+wish.IP6+wish.MAC == "" && len(wish.Aliases)+len(n.Publish) == 0 && !n.PublishAll
			wish.Name = network.Bridge
		}
		if wish.Name == network.Bridge && len(wish.Aliases) > 0 {
			return fmt.Errorf("--network-alias %q: network-scoped aliases are only supported for user-defined networks: name one with --network", wish.Aliases[0])
		}
		isMode := wish.Name == "none" || wish.Name == "log" || wish.Name == "host" || strings.HasPrefix(wish.Name, "container:")
		switch {
		case isMode && (wish.IP+wish.IP6+wish.MAC != "" || len(wish.Aliases) > 0):
			return noAddresses(value)
		case n.Mode == wish.Name && isMode:
		case wish.Name == "allow":
			return fmt.Errorf("--network allow: want allow=HOST[:PORT],*.DOMAIN,NETWORK/BITS")
		case n.Mode != "" && (isMode || len(n.Networks) == 0):
			return fmt.Errorf("--network %q: conflicting options: the container already has network %s", value, n.Mode)
		case isMode:
			n.Mode = wish.Name
		default:
			n.Networks = append(n.Networks, wish)
			n.Mode = n.Networks[0].Name
		}
	}
	if len(n.Publish) == 0 && !n.PublishAll {
		return nil
	}
	switch {
	case n.Mode == "host":
		w.warnings = append(w.warnings, "--publish: ignored: published ports are discarded when using host network mode")
		n.Publish, n.PublishAll = nil, false
	case n.Mode == "" && len(n.Publish) > 0:
		return fmt.Errorf("--publish %q: needs a network: name one too, such as --network bridge", n.Publish[0])
	case n.Mode == "":
		return fmt.Errorf("--publish-all: needs a network: name one too, such as --network bridge")
	}
	return nil
}

func noAddresses(value string) error {
	return fmt.Errorf("--network %q: conflicting options: addresses and aliases need a network by name: --network NAME", value)
}

// allow notes what may be reached. It can be said in several pieces.
func (w *wishes) allow(value, list string) error {
	n := &w.Network
	if w.first.IP+w.first.IP6+w.first.MAC != "" || len(w.first.Aliases) > 0 {
		return noAddresses(value)
	}
	if _, err := usernet.ParseAllow(list); err != nil {
		return fmt.Errorf("--network %q: %w", value, err)
	}
	if n.Mode != "" && n.Mode != "allow" {
		return fmt.Errorf("--network %q: conflicting options: the container already has network %s", value, n.Mode)
	}
	if n.Allow != "" {
		list = n.Allow + "," + list
	}
	n.Mode, n.Allow = "allow", list
	return nil
}

// pasta reads "pasta[:OPTION,...]", podman's form.
func (w *wishes) pasta(value string) error {
	if w.first.IP+w.first.IP6+w.first.MAC != "" || len(w.first.Aliases) > 0 {
		return fmt.Errorf("--network %q: conflicting options: pasta has options of its own for addresses, such as pasta:--address,192.0.2.7", value)
	}
	if _, options, _ := strings.Cut(value, ":"); options != "" {
		w.Network.Pasta = strings.Split(options, ",")
	}
	w.Network.Mode = "pasta"
	return nil
}

// withFirst lays the flags that speak of no network in particular over the first that is named.
func (w *wishes) withFirst(wish run.NetworkWish) (run.NetworkWish, error) {
	for _, f := range []struct {
		name, value string
		to          *string
	}{{"ip", w.first.IP, &wish.IP}, {"ip6", w.first.IP6, &wish.IP6}, {"mac-address", w.first.MAC, &wish.MAC}} {
		if f.value == "" {
			continue
		}
		if *f.to != "" {
			return wish, fmt.Errorf("--%s %q: conflicting options: cannot specify both --%s and per-network %s", f.name, f.value, f.name, f.name)
		}
		*f.to = f.value
	}
	wish.Aliases = append(wish.Aliases, w.first.Aliases...)
	return wish, nil
}

// parseNetwork reads --network: a name, or NAME=VALUE fields between commas. Those that network connect ignores are ignored here.
func (w *wishes) parseNetwork(value string) (wish run.NetworkWish, err error) {
	bad := func(why string) (run.NetworkWish, error) {
		return wish, fmt.Errorf("--network %q: %s: want a name, or name=,alias=,ip=,ip6=,mac-address=", value, why)
	}
	if !strings.Contains(value, "=") {
		wish.Name = value
		return wish, nil
	}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return bad(err.Error())
	}
	for _, f := range fields {
		key, v, _ := strings.Cut(f, "=")
		switch strings.ToLower(key) {
		case "name":
			wish.Name = v
		case "alias":
			wish.Aliases = append(wish.Aliases, v)
		case "ip":
			wish.IP = v
		case "ip6":
			wish.IP6 = v
		case "mac-address":
			wish.MAC = v
		case "link-local-ip", "driver-opt", "gw-priority":
			w.warnings = append(w.warnings, fmt.Sprintf("--network %q: %s: ignored: it is not known yet", value, key))
		default:
			return bad("invalid field key " + key)
		}
	}
	if wish.Name == "" {
		return bad("network name is missing")
	}
	return wish, nil
}
