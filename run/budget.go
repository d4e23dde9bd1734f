package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/lock"
)

// Budget is how much of the disk images may take. The zero value is no bound.
type Budget struct {
	Bytes int64 // at most so many; 0 is no bound
	Free  int64 // so many hundredths of the file system stay free; 0 is no bound
}

// ParseBudget reads a size ("20GB", powers of 1000; "20GiB", of 1024) or a share of the disk that stays free ("10% free").
func ParseBudget(s string) (b Budget, err error) {
	if share, ok := strings.CutSuffix(s, "% free"); ok {
		if b.Free, err = strconv.ParseInt(share, 10, 64); err == nil && b.Free > 0 && b.Free < 100 {
			return b, nil
		}
	} else if parse := units.FromHumanSize; s != "" {
		if strings.ContainsAny(s, "iI") {
			parse = units.RAMInBytes
		}
		if b.Bytes, err = parse(s); err == nil && b.Bytes > 0 {
			return b, nil
		}
	}
	return Budget{}, fmt.Errorf(`budget %q: want a size such as "20GB", or "10%% free"`, s)
}

// UnmarshalJSON reads what ParseBudget does.
func (b *Budget) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf(`budget %s: want a text such as "20GB", or "10%% free"`, data)
	}
	parsed, err := ParseBudget(s)
	*b = parsed
	return err
}

// excess is by how many bytes images take more than they may; less than 0 is what they may take yet.
func (b Budget) excess(root string, images int64) (int64, error) {
	if b.Bytes > 0 {
		return images - b.Bytes, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: root, Err: err}
	}
	return (int64(st.Blocks)*b.Free/100 - int64(st.Bavail)) * st.Bsize, nil
}

// KeepBudget removes images that nothing refers to, if those on this disk take more than the configuration lets them: see
// [layers.Store.Shrink]. It is for the end of whatever brings images, which it does not let fail.
func (h *Host) KeepBudget() {
	s, err := h.Settings()
	if err == nil && s.Store.Budget != (Budget{}) {
		err = h.keepBudget(s.Store.Budget)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no root directory, no image
		h.warn("store.budget: %v", err)
	}
}

func (h *Host) keepBudget(b Budget) error {
	u, err := h.Images.Usage()
	if err != nil {
		return err
	}
	over, err := b.excess(h.Root, u.Total())
	if err != nil || over <= 0 {
		return err
	}
	alone, err := h.tryImages()
	if err != nil || alone == nil {
		return err
	}
	defer alone.Close()
	users, err := h.ImageUsers()
	if err != nil {
		return err
	}
	locked, err := h.locked()
	if err != nil {
		return err
	}
	images, err := h.Images.List()
	if err != nil {
		return err
	}
	lines, freed, err := h.Images.Shrink(over, layers.Keep{
		Images: func(id string) bool { return len(users[id]) > 0 }, Layers: h.layersInUse(users), Digests: locked,
	})
	h.noteRemoved(lines, func(string) string { return "" }, func(id string) bool {
		return slices.ContainsFunc(images, func(img *layers.Image) bool { return img.ID == id })
	})
	if over -= freed; err == nil && over > 0 {
		h.warn("images take %s more than store.budget allows, and no more may go by itself: see hull system df, remove with hull image prune -a",
			units.HumanSizeWithPrecision(float64(over), 3))
	}
	return err
}

// locked are the digests of manifests and indexes that hull.lock names, if there is one for the host's Dir.
func (h *Host) locked() (digests []string, err error) {
	if h.Dir == "" {
		return nil, nil
	}
	path := lock.Find(h.Dir, h.warn)
	if path == "" {
		return nil, nil
	}
	f, err := lock.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	for _, e := range f.Entries {
		digests = append(append(digests, e.Digest), slices.Collect(maps.Values(e.Platforms))...)
	}
	return digests, nil
}

// budgetPatience is how long somebody who makes a container is waited for. The next one keeps the budget as well.
const budgetPatience = time.Second

// tryImages is HoldImages(true) for somebody who need not have it, and who perhaps is in the way himself: nil if it takes long.
func (h *Host) tryImages() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(h.Root, "images.lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case err == unix.EWOULDBLOCK && time.Since(begin) < budgetPatience:
		case err == unix.EWOULDBLOCK:
			f.Close()
			return nil, nil
		case err != unix.EINTR:
			f.Close()
			return nil, os.NewSyscallError("flock", err)
		}
	}
}
