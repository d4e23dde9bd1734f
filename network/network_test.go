package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParsePort(t *testing.T) {
	for in, want := range map[string]string{
		"80":                      "0.0.0.0:0->80/tcp",
		"8080:80/UDP":             "0.0.0.0:8080->80/udp",
		"127.0.0.1:8080:80":       "127.0.0.1:8080->80/tcp",
		"127.0.0.1::80":           "127.0.0.1:0->80/tcp",
		"[::1]:8080:80":           "[::1]:8080->80/tcp",
		"8080-8081:80-81":         "0.0.0.0:8080->80/tcp 0.0.0.0:8081->81/tcp",
		"8000-8010:80":            "0.0.0.0:8000->80/tcp up to 8010",
		"80-81":                   "0.0.0.0:0->80/tcp 0.0.0.0:0->81/tcp",
		"::1:8080:80":             "! need brackets",
		"8080:80/sctp":            "! sctp",
		"8080:80/foo":             "! invalid proto",
		"65536:80":                "! invalid hostPort",
		"8080:0":                  "! invalid containerPort",
		"8080:":                   "! no port specified",
		"8080-8082:80-81":         "! invalid ranges",
		"90-80:1":                 "! invalid hostPort",
		"1.2.3:8080:80":           "! invalid IP",
		"a:8080:80":               "! invalid IP",
		"65530-65535:65530-65535": "0.0.0.0:65530->65530/tcp 0.0.0.0:65531->65531/tcp 0.0.0.0:65532->65532/tcp 0.0.0.0:65533->65533/tcp 0.0.0.0:65534->65534/tcp 0.0.0.0:65535->65535/tcp",
	} {
		list, err := ParsePort(in)
		var words []string
		for _, p := range list {
			words = append(words, p.String())
			if p.HostLast != 0 {
				words = append(words, "up to", fmt.Sprint(p.HostLast))
			}
		}
		got := strings.Join(words, " ")
		if err != nil {
			got = "! " + err.Error()
		}
		if part, bad := strings.CutPrefix(want, "! "); got != want && (!bad || err == nil || !strings.Contains(got, part)) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestFirstFree: a subnet collides with nothing that is routed or another network's.
func TestFirstFree(t *testing.T) {
	for taken, want := range map[string]string{
		"":                             "10.144.0.0/20",
		"10.144.3.0/24":                "10.144.16.0/20",
		"10.144.0.0/20 10.144.16.1/32": "10.144.32.0/20",
		"10.0.0.0/8":                   "172.16.0.0/20",
		"10.0.0.0/8 172.16.0.0/12":     "192.168.0.0/24",
		"0.0.0.0/1 128.0.0.0/1":        "invalid Prefix",
	} {
		var list []netip.Prefix
		for _, p := range strings.Fields(taken) {
			list = append(list, netip.MustParsePrefix(p))
		}
		got, err := firstFree(pools(), list)
		if got.String() != want || (err != nil) != (want == "invalid Prefix") {
			t.Errorf("%s: %s, %v, want %s", taken, got, err, want)
		}
	}
}

// TestFree: an address is nobody else's, and not soon again somebody's.
func TestFree(t *testing.T) {
	u := Subnet{Prefix: netip.MustParsePrefix("10.1.2.0/29"), Gateway: netip.MustParseAddr("10.1.2.1"),
		Reserved: map[string]netip.Addr{"router": netip.MustParseAddr("10.1.2.3")}}
	n := &Network{Name: "n", Subnets: []Subnet{u}, Endpoints: map[string]*Endpoint{}}
	next := func(e *Endpoint) string {
		if err := n.place(e); err != nil {
			return err.Error()
		}
		n.Endpoints[e.Container] = e
		return e.Address.String()
	}
	for _, step := range []struct {
		container, ip, last, want string
	}{
		{"a", "", "", "10.1.2.2/29"},
		{"b", "", "", "10.1.2.4/29"},
		{"c", "10.1.2.6", "", "10.1.2.6/29"},
		{"d", "10.1.2.6", "", "address 10.1.2.6: address already in use"},
		{"d", "10.1.2.7", "", "address 10.1.2.7: address already in use"}, // broadcast
		{"d", "10.1.2.9", "", "invalid address 10.1.2.9: it does not belong to the network's subnet 10.1.2.0/29"},
		{"-a", "", "", ""},
		{"d", "", "", "10.1.2.5/29"}, // not a's
		{"-b", "", "", ""},
		{"e", "", "10.1.2.4", "10.1.2.4/29"},
		{"f", "", "10.1.2.4", "10.1.2.2/29"},
		{"g", "", "", "no available IP addresses in 10.1.2.0/29"},
	} {
		if gone, ok := strings.CutPrefix(step.container, "-"); ok {
			delete(n.Endpoints, gone)
			continue
		}
		e := &Endpoint{Container: step.container}
		e.IP, _ = netip.ParseAddr(step.ip)
		e.LastIP, _ = netip.ParseAddr(step.last)
		if got := next(e); got != step.want {
			t.Errorf("%s: %s, want %s", step.container, got, step.want)
		}
	}
}

// TestFreeInRange: containers get addresses of the range, of both kinds, and one that is asked for may lie outside it.
func TestFreeInRange(t *testing.T) {
	n := &Network{Name: "n", Endpoints: map[string]*Endpoint{}, Subnets: []Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.1.0.1"), Range: netip.MustParsePrefix("10.1.5.8/30"),
			Reserved: map[string]netip.Addr{"router": netip.MustParseAddr("10.1.5.9")}},
		{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1"), Range: netip.MustParsePrefix("fd00::50/126")},
	}}
	for _, step := range []struct{ container, ip, ip6, want string }{
		{"a", "", "", "10.1.5.8/16 fd00::50/64"},
		{"b", "10.1.0.9", "fd00::9", "10.1.0.9/16 fd00::9/64"},
		{"c", "", "", "10.1.5.10/16 fd00::51/64"},
		{"d", "", "", "10.1.5.11/16 fd00::52/64"},
		{"-a", "", "", ""},
		{"e", "", "", "10.1.5.8/16 fd00::53/64"},
		{"f", "", "", "no available IP addresses in 10.1.5.8/30"},
	} {
		if gone, ok := strings.CutPrefix(step.container, "-"); ok {
			delete(n.Endpoints, gone)
			continue
		}
		e := &Endpoint{Container: step.container}
		e.IP, _ = netip.ParseAddr(step.ip)
		e.IP6, _ = netip.ParseAddr(step.ip6)
		got := ""
		if err := n.place(e); err != nil {
			got = err.Error()
		} else {
			n.Endpoints[e.Container] = e
			got = e.Address.String() + " " + e.Address6.String()
		}
		if got != step.want {
			t.Errorf("%s: %s, want %s", step.container, got, step.want)
		}
	}
}

// TestNetworks: names are unique, and what is always there stays.
func TestNetworks(t *testing.T) {
	ctx := context.Background()
	s := &Networks{Dir: filepath.Join(t.TempDir(), "networks")}
	subnet := func(p string) []Subnet { return []Subnet{{Prefix: netip.MustParsePrefix(p)}} }
	web, err := s.Create(ctx, Config{Name: "web", Subnets: subnet("10.9.0.0/24"), Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"already exists":               {Name: "web"},
		"predefined host":              {Name: "host"},
		"is invalid":                   {Name: "../x"},
		"is taken":                     {Name: "log"},
		"want 68 to 65535":             {Name: "b", Options: map[string]string{MTUOption: "60"}},
		"no host has such addresses":   {Name: "b", Subnets: subnet("127.1.0.0/16")},
		"pool overlaps":                {Name: "b", Subnets: subnet("10.9.0.128/25")},
		"it should be":                 {Name: "b", Subnets: subnet("10.9.1.1/24")},
		"no room":                      {Name: "b", Subnets: subnet("10.9.1.0/31")},
		"one of each kind":             {Name: "b", Subnets: append(subnet("10.9.1.0/24"), subnet("10.9.2.0/24")...)},
		"plugin \"macvlan\" not found": {Name: "b", Driver: "macvlan"},
		"it is the address of the network 10.9.1.0/24 itself": {Name: "b", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.9.1.0/24"), Gateway: netip.MustParseAddr("10.9.1.0")}}},
		"it is the broadcast address of 10.9.1.0/25":          {Name: "b", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.9.1.0/25"), Gateway: netip.MustParseAddr("10.9.1.127")}}},
		"it is the address of the network fd00:9::/64 itself": {Name: "b", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("fd00:9::/64"), Gateway: netip.MustParseAddr("fd00:9::")}}},
		"no matching subnet for gateway":                      {Name: "b", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.9.1.0/24"), Gateway: netip.MustParseAddr("10.9.2.1")}}},
	} {
		if _, err := s.Create(ctx, c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range []string{"web", web.ID, web.ID[:5]} {
		if n, err := s.Find(ref); err != nil || n.ID != web.ID || n.Labels["a"] != "b" || n.Subnets[0].Gateway.String() != "10.9.0.1" {
			t.Errorf("find %s: %+v, %v", ref, n, err)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 4 || list[0].Name != Bridge || list[3].Name != "web" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := s.Remove(Bridge); err == nil || !strings.Contains(err.Error(), "pre-defined") {
		t.Errorf("remove bridge: %v", err)
	}
	if _, err := s.Remove("web"); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove twice: %v", err)
	}
}

// TestAnotherOfThatName has somebody ask for a network by its ID, and another get its name before he has the lock: a pipe in the
// place of one more network holds him in the search.
func TestAnotherOfThatName(t *testing.T) {
	ctx := context.Background()
	for name, do := range map[string]func(*Networks, string) error{
		"remove": func(s *Networks, id string) error {
			_, err := s.Remove(id)
			return err
		},
		"reserve": func(s *Networks, id string) error {
			return s.Reserve(ctx, &Endpoint{Container: "c", Network: id})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Networks{Dir: filepath.Join(t.TempDir(), "networks"), UserSpace: true}
			old, err := s.Create(ctx, Config{Name: "web"})
			if err != nil {
				t.Fatal(err)
			}
			pipe := s.path("z")
			if err := unix.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- do(s, old.ID) }()
			f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for him
			if err == nil {
				err = os.Remove(pipe)
			}
			if err == nil {
				_, err = s.Remove("web")
			}
			if err != nil {
				t.Fatal(err)
			}
			other, err := s.Create(ctx, Config{Name: "web"})
			if err != nil {
				t.Fatal(err)
			}
			if err := json.NewEncoder(f).Encode(&Network{Name: "z", ID: newID()}); err != nil {
				t.Error(err)
			}
			f.Close()
			if err := <-done; !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if n, err := s.Find("web"); err != nil || n.ID != other.ID || len(n.Endpoints) > 0 {
				t.Errorf("%+v, %v", n, err)
			}
		})
	}
}
