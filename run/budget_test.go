package run

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/lock"
)

func TestParseBudget(t *testing.T) {
	for text, want := range map[string]Budget{
		"20GB": {Bytes: 20e9}, "1.5gb": {Bytes: 15e8}, "2GiB": {Bytes: 2 << 30}, "512": {Bytes: 512}, "10% free": {Free: 10},
		"": {}, "0": {}, "-1": {}, "10%": {}, "0% free": {}, "100% free": {}, "x% free": {}, "lots": {},
	} {
		got, err := ParseBudget(text)
		if got != want || (err != nil) != (want == Budget{}) || err != nil && !strings.Contains(err.Error(), `want a size such as "20GB"`) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		var b Budget
		if text, _ := json.Marshal(text); (json.Unmarshal(text, &b) == nil) != (err == nil) || b != want {
			t.Errorf("%s: %+v", text, b)
		}
	}
	if err := json.Unmarshal([]byte("20"), new(Budget)); err == nil || !strings.Contains(err.Error(), "want a text") {
		t.Error(err)
	}
}

func TestBudgetExcess(t *testing.T) {
	for images, want := range map[int64]int64{100: -900, 1000: 0, 1500: 500} {
		if over, err := (Budget{Bytes: 1000}).excess("/", images); over != want || err != nil {
			t.Error(images, over, err)
		}
	}
	var st unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * 100 / int64(st.Blocks)
	if free > 2 {
		if over, err := (Budget{Free: free - 1}).excess(dir, 1<<60); over >= 0 || err != nil {
			t.Error("enough is free:", over, err)
		}
	}
	if free < 98 {
		if over, err := (Budget{Free: free + 2}).excess(dir, 0); over <= 0 || err != nil {
			t.Error("too little is free:", over, err)
		}
	}
	if _, err := (Budget{Free: 1}).excess(dir+"/no", 0); err == nil {
		t.Error("nothing there")
	}
}

// TestBudgetWaits: somebody who makes a container now is not waited for for long, and nothing is removed behind him.
func TestBudgetWaits(t *testing.T) {
	h := emptyHost(t)
	t.Cleanup(func() { _ = h.removeTree(h.Root) })
	img, err := h.Image(context.Background(), "hello", Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Untag("hello"); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(h.Images.Blob(img.Digest), past, past); err != nil {
		t.Fatal(err)
	}
	making, err := h.HoldImages(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.keepBudget(Budget{Bytes: 1}); err != nil {
		t.Error(err)
	}
	if _, err := h.Images.Lookup(img.ID); err != nil {
		t.Error("while a container is made:", err)
	}
	making.Close()
	h.Dir = t.TempDir()
	locked := lock.File{Path: filepath.Join(h.Dir, lock.Name), Entries: map[string]lock.Entry{"docker.io/library/hello:latest": {
		Digest: "sha256:" + strings.Repeat("0", 64), Platforms: map[string]string{"linux/" + runtime.GOARCH: img.Digest},
	}}}
	if err := locked.Write(); err != nil {
		t.Fatal(err)
	}
	var said []string
	h.Warn = func(line string) { said = append(said, line) }
	if err := h.keepBudget(Budget{Bytes: 1}); err != nil {
		t.Error(err)
	}
	if _, err := h.Images.Lookup(img.ID); err != nil {
		t.Error("a locked one:", err)
	}
	if len(said) != 1 || strings.Contains(said[0], "\n") || !strings.Contains(said[0], "hull image prune -a") {
		t.Errorf("%q", said)
	}
	h.Dir = ""
	if err := h.keepBudget(Budget{Bytes: 1}); err != nil {
		t.Error(err)
	}
	if _, err := h.Images.Lookup(img.ID); err == nil {
		t.Error("it is still there")
	}
}
