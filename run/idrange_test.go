package run

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	subid "github.com/moby/sys/user"
)

func TestRangePool(t *testing.T) {
	own := rangePool(nil, nil)
	if len(own) != ownRangeCount || own[0] != (IDRange{0x40000000, 0x40000000}) || own[1].UID != 0x40010000 {
		t.Errorf("%d ranges, %x", len(own), own[:2])
	}
	const k = 1 << 16
	for _, row := range []struct {
		name       string
		uids, gids []subid.SubID
		first      []IDRange // how the pool begins
		count      int
	}{
		{"root's", []subid.SubID{{Name: "root", SubID: 5 * k, Count: 2*k + 1}}, []subid.SubID{{Name: "0", SubID: 7 * k, Count: 2 * k}},
			[]IDRange{{5 * k, 7 * k}, {6 * k, 8 * k}}, 2},
		{"podman's", []subid.SubID{{Name: "containers", SubID: 100, Count: k}}, []subid.SubID{{Name: "containers", SubID: 200, Count: k}}, []IDRange{{100, 200}}, 1},
		{"two lines", []subid.SubID{{Name: "root", SubID: k, Count: k}, {Name: "root", SubID: 9 * k, Count: k}}, []subid.SubID{{Name: "root", SubID: k, Count: 3 * k}},
			[]IDRange{{k, k}, {9 * k, 2 * k}}, 2},
		{"too small", []subid.SubID{{Name: "root", SubID: k, Count: k - 1}}, []subid.SubID{{Name: "root", SubID: k, Count: 3 * k}}, own[:2], ownRangeCount},
		{"one file only", []subid.SubID{{Name: "root", SubID: k, Count: k}}, nil, own[:2], ownRangeCount},
		{"beyond all ids", []subid.SubID{{Name: "root", SubID: 1<<32 - k, Count: 5 * k}}, []subid.SubID{{Name: "root", SubID: k, Count: 9 * k}}, own[:2], ownRangeCount},
		{"somebody's in the midst", []subid.SubID{{Name: "eve", SubID: 0x40000000 + k - 1, Count: 2}}, []subid.SubID{{Name: "eve", SubID: 0x40000000 + 3*k, Count: 1}},
			[]IDRange{{0x40020000, 0x40020000}, {0x40040000, 0x40040000}}, ownRangeCount - 3},
	} {
		got := rangePool(row.uids, row.gids)
		if len(got) != row.count || !slices.Equal(got[:len(row.first)], row.first) {
			t.Errorf("%s: %d ranges, %x", row.name, len(got), got[:min(len(got), 2)])
		}
	}
}

// TestClaimIDs has containers claim ranges until none is left, and take over that of one which is gone.
func TestClaimIDs(t *testing.T) {
	h := &Host{Root: t.TempDir()}
	claim := func(id string) (*Container, error) {
		c := &Container{host: h, State: State{ID: id}}
		if err := os.MkdirAll(c.dir(), 0o700); err != nil {
			t.Fatal(err)
		}
		return c, c.claimIDs()
	}
	seen := map[IDRange]string{}
	for _, tail := range []string{"a", "b", "c"} { // all begin to look at the same place
		c, err := claim("12345678" + tail)
		if err != nil {
			t.Fatal(err)
		}
		if old := seen[*c.IDs]; old != "" {
			t.Errorf("%s has the ids of %s", tail, old)
		}
		seen[*c.IDs] = tail
		id := c.IDs.identity()
		if !id.UserNS || !id.Mapped || id.OneID || id.UIDs[0].ContainerID != 0 || id.UIDs[0].HostID != c.IDs.UID || id.UIDs[0].Size != 65536 {
			t.Errorf("%+v", id)
		}
	}
	gone := &Container{host: h, State: State{ID: "12345678b"}}
	if err := os.RemoveAll(gone.dir()); err != nil {
		t.Fatal(err)
	}
	c, err := claim("12345678d")
	if err != nil || seen[*c.IDs] != "b" {
		t.Errorf("%+v, %v", c.IDs, err)
	}
	c.dropIDs()
	again, err := claim("12345678e")
	if err != nil || *again.IDs != *c.IDs {
		t.Errorf("%+v, %v", again.IDs, err)
	}
	c.dropIDs() // once more, as for one whose remover was killed: they are another's by now
	if owner, _ := os.Readlink(filepath.Join(h.idRanges(), uitoa(c.IDs.UID))); owner != again.ID {
		t.Errorf("the ids of %s are now those of %q", again.ID, owner)
	}
	// All taken.
	owner := filepath.Join(h.containers(), "12345678a")
	for _, r := range rangePool(readSubIDs()) {
		_ = os.Symlink(filepath.Base(owner), filepath.Join(h.idRanges(), uitoa(r.UID)))
	}
	if c, err := claim("12345678f"); err == nil || !strings.Contains(err.Error(), "ranges of ids are taken") || c.IDs != nil {
		t.Errorf("%+v, %v", c.IDs, err)
	}
}
