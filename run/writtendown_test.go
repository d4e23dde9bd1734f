package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
)

// waits says whether somebody waits for the lock of a file, proc_locks(5).
func waits(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	text, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
			return true
		}
	}
	return false
}

// untilWaits does something in the background until it has ended, or waits for the lock of a file. Where the kernel does not say so
// it goes on in the end: then the tests show less, but do not fail.
func untilWaits(path string, do func()) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for end := time.Now().Add(20 * time.Second); !waits(path) && time.Now().Before(end); {
		select {
		case <-done:
			return done
		case <-time.After(time.Millisecond):
		}
	}
	return done
}

// heldInList does something in the background until it lists containers, where it stops until goOn is called, or until it has
// ended without: a pipe lies in the place of one's state.
func heldInList(t *testing.T, h *Host, do func()) (done chan struct{}, goOn func()) {
	t.Helper()
	pipe := filepath.Join(h.containers(), "z", stateFile) // after every ID, which is hexadecimal
	if err := errors.Join(os.MkdirAll(filepath.Dir(pipe), 0o700), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		f, err := os.OpenFile(pipe, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			return done, func() { f.Close() }
		}
		if !errors.Is(err, unix.ENXIO) { // which it is while nobody reads
			t.Fatal(err)
		}
		select {
		case <-done:
			return done, func() {}
		case <-time.After(time.Millisecond):
		}
	}
}

// pruneNetworks removes all networks that no container is to be attached to.
func pruneNetworks(t *testing.T, h *Host) {
	if _, err := h.PruneNetworks(func(*network.Network) bool { return true }); err != nil {
		t.Error(err)
	}
}

// TestNetworkWrittenDown prunes networks while a container is on its way to one.
func TestNetworkWrittenDown(t *testing.T) {
	onNetwork := func(name string) Config {
		return Config{Image: "full", Network: NetworkConfig{Mode: name, Networks: []NetworkWish{{Name: name}}}}
	}
	for name, test := range map[string]func(*testing.T, *Host){
		"create": func(t *testing.T, h *Host) {
			c := create(t, h, onNetwork("mine"))
			pruned := untilWaits(filepath.Join(h.Root, "images.lock"), func() { pruneNetworks(t, h) })
			if err := c.Keep(); err != nil {
				t.Error(err)
			}
			<-pruned
		},
		"connect": func(t *testing.T, h *Host) {
			c := create(t, h, Config{Image: "full", Network: NetworkConfig{Mode: network.None}})
			if err := c.Keep(); err != nil {
				t.Fatal(err)
			}
			lock, err := c.lockState()
			if err != nil {
				t.Fatal(err)
			}
			connected := untilWaits(c.path(stateFile), func() {
				if err := c.Connect(t.Context(), NetworkWish{Name: "mine"}); err != nil {
					t.Error(err)
				}
			})
			pruned := untilWaits(filepath.Join(h.Root, "images.lock"), func() { pruneNetworks(t, h) })
			lock.Close()
			<-connected
			<-pruned
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := volumeHost(t)
			addImage(t, h, "full", nil)
			if _, err := h.CreateNetwork(t.Context(), network.Config{Name: "mine"}); err != nil {
				t.Fatal(err)
			}
			test(t, h)
			if _, err := h.Network("mine"); err != nil {
				t.Error("a container has lost its network:", err)
			}
		})
	}
}

// TestNetworkGone removes a network when a container that is to be on it has been made, and not yet written down.
func TestNetworkGone(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil)
	if _, err := h.CreateNetwork(t.Context(), network.Config{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	c, err := h.Create(context.Background(), Config{Image: "full", Network: NetworkConfig{Mode: "mine", Networks: []NetworkWish{{Name: "mine"}}}}, Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveNetwork("mine"); err != nil {
		t.Error(err)
	}
	if err := c.Keep(); err == nil || !strings.Contains(err.Error(), "network mine not found") {
		t.Error(err)
	}
	if list, err := h.List(); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// TestImageGone removes an image between a maker's look at it and his lock. Its layers stay, for another image has the same.
func TestImageGone(t *testing.T) {
	h := volumeHost(t)
	files := map[string]string{"a": "1"}
	addImage(t, h, "goes", []string{"/x"}, files)
	addImage(t, h, "stays", []string{"/y"}, files)
	img, err := h.Images.Lookup("goes")
	if err != nil {
		t.Fatal(err)
	}
	alone, err := h.HoldImages(true)
	if err != nil {
		t.Fatal(err)
	}
	var c *Container
	made := untilWaits(filepath.Join(h.Root, "images.lock"), func() {
		c, err = h.Create(context.Background(), Config{Image: "goes"}, Fetch{})
	})
	if _, err := h.removeImage("goes", false, nil); err != nil {
		t.Error(err)
	}
	alone.Close()
	<-made
	if err == nil || !strings.Contains(err.Error(), "removed this moment") {
		t.Errorf("a container stands on an image that is gone: %v", err)
	}
	if c != nil {
		t.Error(c.discard())
	}
	for _, dir := range h.Images.Dirs(img) {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

// TestVolumeImportHeld imports into a volume while somebody who removes it has seen that nobody has it: the files must not go
// into what is about to be thrown away.
func TestVolumeImportHeld(t *testing.T) {
	h := volumeHost(t)
	if _, err := h.CreateVolume(VolumeConfig{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	tar, err := os.Create(filepath.Join(t.TempDir(), "tar"))
	if err == nil {
		err = h.ExportVolume(t.Context(), "mine", tar)
	}
	if err == nil {
		_, err = tar.Seek(0, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	var removeErr error
	removed, goOn := heldInList(t, h, func() { removeErr = h.RemoveVolume("mine") })
	imported := untilWaits(filepath.Join(h.Root, "volumes.lock"), func() { err = h.ImportVolume(t.Context(), "mine", tar) })
	goOn()
	<-imported
	<-removed
	if err == nil || !errors.Is(err, ErrNotFound) || removeErr != nil {
		t.Errorf("import: %v, remove: %v", err, removeErr)
	}
}

// TestMendedLater starts a container between the look at a layer and its mending.
func TestMendedLater(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil)
	c := create(t, h, Config{Image: "full"})
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	c.imageNoted()
	status := func(status Status) {
		if err := c.change(func(s *State) error {
			s.Status = status
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	number := c.image.Layers[0]
	if err := os.Remove(h.Images.LayerDir(number) + ".json"); err != nil {
		t.Fatal(err)
	}
	list, err := h.flawedImages(false)
	if err != nil || len(list) != 1 || list[0].mend == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	links := func() int {
		list, err := os.ReadDir(filepath.Join(h.Images.LayersDir(), "sha256"))
		if err != nil {
			t.Error(err)
		}
		return len(list)
	}
	before := links()
	status(Running)
	if err := list[0].mend(); err == nil || links() != before {
		t.Errorf("a container that runs loses a layer: %v", err)
	}
	status(Created)
	if img, err := h.Images.Lookup("full"); err != nil || len(img.Layers) == 0 {
		t.Error(img, err)
	}
	if err := list[0].mend(); err != nil || links() != before-1 {
		t.Error(err)
	}
	if img, err := h.Images.Lookup("full"); err != nil || len(img.Layers) > 0 {
		t.Errorf("%+v, %v: an answer from before is taken for right", img, err)
	}
}

// TestMendedTogether: a round that buries a container, and so changes what is used, mends an image too.
func TestMendedTogether(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil)
	c := create(t, h, Config{Image: "full"})
	c.Status = Running
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	c.imageNoted()
	if err := os.RemoveAll(h.Images.LayerDir(c.image.Layers[0])); err != nil {
		t.Fatal(err)
	}
	list, err := h.flawedImages(false)
	if err != nil || len(list) != 1 || list[0].mend == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	c.Close()
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := list[0].mend(); err != nil {
		t.Error(err)
	}
}

// TestNetworkByID: a network that a container calls by its ID is used like one that it calls by name.
func TestNetworkByID(t *testing.T) {
	h := volumeHost(t)
	addImage(t, h, "full", nil)
	n, err := h.CreateNetwork(t.Context(), network.Config{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	short := n.ID[:12]
	c := create(t, h, Config{Image: "full", Network: NetworkConfig{Mode: short, Networks: []NetworkWish{{Name: short}}}})
	if err := c.Keep(); err != nil {
		t.Fatal(err)
	}
	// One whose ID begins with the name of another is not used by whoever uses that.
	if _, err := h.CreateNetwork(t.Context(), network.Config{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	other, err := h.Network("other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateNetwork(t.Context(), network.Config{Name: other.ID[:4]}); err != nil {
		t.Fatal(err)
	}
	if err := c.change(func(s *State) error {
		s.Config.Network.Networks = append(s.Config.Network.Networks, NetworkWish{Name: other.ID[:4]})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	pruneNetworks(t, h)
	if _, err := h.Network("mine"); err != nil {
		t.Error("a container has lost its network:", err)
	}
	if _, err := h.Network("other"); err == nil {
		t.Error("a network stays whose ID begins like another's name")
	}
	if err := c.Remove(RemoveOptions{}); err != nil {
		t.Error(err)
	}
	pruneNetworks(t, h)
	if _, err := h.Network("mine"); err == nil {
		t.Error("a network stays that nobody uses")
	}
}
