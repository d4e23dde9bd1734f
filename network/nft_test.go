package network

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestCommit: all that was asked for is done or nothing, and the kernel's reason comes back whichever message it is about, also
// where there are more of its answers than anybody has room for.
func TestCommit(t *testing.T) {
	w := newWorld(t)
	tables := func() (names []string) {
		conn, err := nftables.New()
		must(t, err)
		list, err := conn.ListTables()
		must(t, err)
		for _, l := range list {
			names = append(names, l.Name)
		}
		return names
	}
	add := func(conn *nftables.Conn, name string) *nftables.Table {
		return conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	}
	w.in(w.host, func() {
		must(t, commit(func(conn *nftables.Conn) { add(conn, "one") }))
		for _, wrong := range []int{1, 20000} {
			for _, last := range []bool{false, true} {
				err := commit(func(conn *nftables.Conn) {
					table := add(conn, "two")
					for range wrong {
						conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "none"}, Exprs: verdict(0)})
					}
					if !last {
						add(conn, "three")
					}
				})
				if !errors.Is(err, unix.ENOENT) {
					t.Errorf("%d rules of no chain: %v, want %v", wrong, err, unix.ENOENT)
				}
			}
		}
		if got := tables(); len(got) != 1 || got[0] != "one" {
			t.Errorf("tables %q, want one", got)
		}
	})
}

// TestUplinks: a cable of hull's is no way out of the host, also while it has no master yet.
func TestUplinks(t *testing.T) {
	w := newWorld(t)
	w.in(w.host, func() {
		l := netlink.NewLinkAttrs()
		l.Name, l.Group = "hv012345678901", (&Network{ID: "0123"}).group()
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: l, PeerName: "peer"}))
		up(t, l.Name)
		got, err := findUplinks()
		if must(t, err); !slices.Equal(got.up, []string{"wire"}) || !slices.Equal(got.all, []string{"wire", "peer"}) {
			t.Errorf("uplinks %q, want wire, and peer that is down", got)
		}
	})
}
