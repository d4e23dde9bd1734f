package run

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Each processor that has counters of heat is masked, and no other.
func TestHotCPUs(t *testing.T) {
	for _, test := range []struct {
		possible string
		hot      []int
		want     []int
	}{
		{"0-3\n", nil, nil},
		{"0\n", []int{0}, []int{0}},
		{"0-3,8\n", []int{0, 1, 3, 8}, []int{0, 1, 3, 8}},
		{"0,2-3\n", []int{0, 2, 3}, []int{0, 2, 3}},
		{"nonsense\n", []int{0}, nil},
		{"", []int{0}, []int{0}}, // no such file
	} {
		dir := t.TempDir()
		if test.possible != "" {
			if err := os.WriteFile(filepath.Join(dir, "possible"), []byte(test.possible), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range test.hot {
			if err := os.MkdirAll(throttleFolder(dir, n), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got := findHotCPUs(dir); !slices.Equal(got, test.want) {
			t.Errorf("possible %q, hot %v: got %v, want %v", test.possible, test.hot, got, test.want)
		}
	}
	if list := maskedPaths([]int{1, 12}); !slices.Contains(list, "/sys/devices/system/cpu/cpu12/thermal_throttle") {
		t.Errorf("masked: %v", list)
	}
}
