package network

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestWhole: a list that was interrupted is asked for again, and another error is not covered up.
func TestWhole(t *testing.T) {
	lists := [][]int{{1}, {1, 2}, {1, 2, 3}}
	errs := []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}
	asked := 0
	got, err := whole(func() ([]int, error) {
		asked++
		return lists[asked-1], errs[asked-1]
	})
	if err != nil || !slices.Equal(got, lists[2]) {
		t.Errorf("after %d: %v, %v", asked, got, err)
	}
	broken := errors.New("broken")
	if _, err := whole(func() ([]int, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}
