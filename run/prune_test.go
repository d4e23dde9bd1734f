package run

import (
	"context"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

func TestPruneContainers(t *testing.T) {
	h := testHost(t)
	ended := func(name string) *Container {
		config := verbConfig(t, "write")
		config.Name, config.Lifetime.Remove = name, false
		c := create(t, h, config)
		if res, err := c.Run(context.Background(), IO{}); err != nil || res.Code != 0 {
			t.Fatal(res, err)
		}
		return c
	}
	gone, stays := ended("gone"), ended("stays")
	config := verbConfig(t, "sleep")
	config.Name = "runs"
	otherHull(t, config)
	made := create(t, h, verbConfig(t, "exit")) // locked, as long as its maker may start it
	if err := made.save(); err != nil {
		t.Fatal(err)
	}
	ids, freed, err := h.PruneContainers(func(c *Container) bool { return c.Name != "stays" })
	if err != nil || !slices.Equal(ids, []string{gone.ID}) || freed != 1 {
		t.Errorf("%q, %d bytes, %v", ids, freed, err)
	}
	if exists(gone.dir()) || !exists(stays.dir()) || !exists(made.dir()) {
		t.Error("one is there that is not to be, or the other way round")
	}
	if c, err := h.Find("runs"); err != nil || c.Status != Running {
		t.Errorf("%+v, %v", c, err)
	} else if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	// It has run since the prune has looked.
	c, err := h.Find("stays")
	if err != nil {
		t.Fatal(err)
	}
	c.Started = c.Started.Add(-1)
	if _, gone, err := c.removeIdle(); gone || err != nil {
		t.Error(gone, err)
	}
}

// TestPruneGlance: who looks at a container for a moment does not save it.
func TestPruneGlance(t *testing.T) {
	config := verbConfig(t, "exit", "CODE=0")
	config.Lifetime.Remove = false
	c := create(t, testHost(t), config)
	if err := c.Keep(); err != nil {
		t.Fatal(err)
	}
	look, err := c.openLocked(unix.LOCK_SH | unix.LOCK_NB)
	if err != nil {
		t.Fatal(err)
	}
	defer func(d time.Duration) { glanceTime = d }(glanceTime)
	glanceTime = time.Hour // on a busy machine the next line may take as long as a glance may
	time.AfterFunc(20*time.Millisecond, func() { look.Close() })
	if _, gone, err := c.removeIdle(); !gone || err != nil {
		t.Error(gone, err)
	}
}

func TestPruneImages(t *testing.T) {
	h := emptyHost(t)
	all := func(*layers.Image) bool { return true }
	if lines, freed, err := h.PruneImages(true, all); lines != nil || freed != 0 || err != nil {
		t.Error(lines, freed, err)
	}
	t.Cleanup(func() { _ = h.removeTree(h.Root) })
	if _, err := h.Image(context.Background(), "hello", Fetch{}); err != nil {
		t.Fatal(err)
	}
	if lines, freed, err := h.PruneImages(false, all); lines != nil || freed != 0 || err != nil {
		t.Errorf("one with a name: %v, %d, %v", lines, freed, err)
	}
	config := verbConfig(t, "exit")
	c, err := h.Create(context.Background(), config, Fetch{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if lines, _, err := h.PruneImages(true, all); lines != nil || err != nil {
		t.Errorf("one in use: %v, %v", lines, err)
	}
	if err := c.Remove(RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if lines, _, err := h.PruneImages(true, func(*layers.Image) bool { return false }); lines != nil || err != nil {
		t.Errorf("one that is not wanted: %v, %v", lines, err)
	}
	lines, freed, err := h.PruneImages(true, all)
	if err != nil || len(lines) != 3 || lines[0].Untagged != "hello:latest" || freed < 1<<20 {
		t.Errorf("%v, %d, %v", lines, freed, err)
	}
}
