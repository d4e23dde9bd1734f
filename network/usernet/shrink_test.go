package usernet

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestShrink compares what of files is in memory before and after.
func TestShrink(t *testing.T) {
	resident := func() int {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(text)
		if m == nil {
			t.Skip("the kernel does not tell")
		}
		kb, _ := strconv.Atoi(string(m[1]))
		return kb
	}
	before := resident()
	shrink()
	if after := resident(); after > before*3/4 {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
}
