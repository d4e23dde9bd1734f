package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seen collects the actions of events.
func seen(t *testing.T, h *Host, since, until time.Time) (actions []string) {
	t.Helper()
	err := h.Events(context.Background(), since, until, func(e Event) error {
		actions = append(actions, e.Action)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return actions
}

func TestEventsPast(t *testing.T) {
	h := emptyHost(t)
	begin := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for i, action := range []string{"zero", "one", "two", "three"} {
		h.note(Event{Type: "test", Action: action, Time: begin.Add(time.Duration(i) * time.Second)})
		if i == 1 {
			f, err := os.OpenFile(h.journal(), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(f, `{"Type":"broken`)
			f.Close()
		}
	}
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	for _, row := range []struct {
		since, until time.Time
		want         string
	}{
		{time.Time{}, at(9), "zero one two three"}, {at(1), at(2), "one two"}, {at(2), at(9), "two three"}, {time.Time{}, at(0), "zero"}, {at(4), at(9), ""},
	} {
		if got := strings.Join(seen(t, h, row.since, row.until), " "); got != row.want {
			t.Errorf("%v to %v: %q, want %q", row.since, row.until, got, row.want)
		}
	}
	stop := errors.New("stop")
	if err := h.Events(context.Background(), begin, at(9), func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if got := seen(t, emptyHost(t), time.Time{}, at(0)); got != nil {
		t.Errorf("without a journal: %q", got)
	}
}

// TestEventsFollow reads while several write and the journal is put aside again and again.
func TestEventsFollow(t *testing.T) {
	h := emptyHost(t)
	h.note(Event{Type: "test", Action: "before"})
	h.journalSize = 8000 // some 80 events
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan string, 1000)
	var written, read atomic.Int32
	done := make(chan error)
	go func() {
		done <- h.Events(ctx, time.Time{}, time.Time{}, func(e Event) error {
			got <- e.Action
			if e.Action != "hello" {
				read.Add(1)
			}
			return nil
		})
	}()
	// It tells of nothing that was before; so wait until it listens.
	for first := ""; first == ""; {
		h.note(Event{Type: "test", Action: "hello"})
		select {
		case first = <-got:
			if first != "hello" {
				t.Errorf("began with %q", first)
			}
		case <-time.After(time.Millisecond):
		}
	}
	const writers, each = 4, 50
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() {
			for i := range each {
				// No faster than the reader: it follows one file that was put aside, not any number.
				for written.Add(1); written.Load()-read.Load() > 40; {
					time.Sleep(time.Millisecond)
				}
				h.note(Event{Type: "test", Action: fmt.Sprintf("%d-%d", n, i)})
			}
		})
	}
	all.Wait()
	var list []string
	for len(list) < writers*each {
		select {
		case action := <-got:
			if action != "hello" {
				list = append(list, action)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("only %d events have come", len(list))
		}
	}
	slices.Sort(list)
	if n := len(slices.Compact(list)); n != writers*each {
		t.Errorf("%d different events", n)
	}
	if !exists(h.journal() + oldJournal) {
		t.Error("the journal was not put aside")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestEventsUntil ends at its time although nothing happens.
func TestEventsUntil(t *testing.T) {
	h := emptyHost(t)
	begin := time.Now()
	if got := seen(t, h, begin, begin.Add(50*time.Millisecond)); got != nil {
		t.Error(got)
	}
	if took := time.Since(begin); took < 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// TestPutAside puts a journal aside once, whoever thinks that it is time.
func TestPutAside(t *testing.T) {
	h := emptyHost(t)
	h.note(Event{Action: "old"})
	var files [2]*os.File
	for i := range files {
		f, err := os.OpenFile(h.journal(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	putAside(files[0], h.journal())
	files[0].Close()
	h.note(Event{Action: "new"})
	putAside(files[1], h.journal())
	if !exists(h.journal()) || !exists(h.journal()+oldJournal) {
		t.Errorf("%q", names(h.Root))
	}
	if got := strings.Join(seen(t, h, time.Time{}, time.Now()), " "); got != "old new" {
		t.Errorf("%q", got)
	}
}

// TestEventsOfContainers: a container's beginning and end, and those of what its name and image come from.
func TestEventsOfContainers(t *testing.T) {
	h := testHost(t)
	since := time.Now()
	config := verbConfig(t, "exit", "CODE=0")
	config.Name, config.Labels = "evented", map[string]string{"tier": "test"}
	config.Lifetime.Remove = false
	c := create(t, h, config)
	if _, err := c.Run(context.Background(), IO{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Tag(context.Background(), "hello", "another:tag"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemoveImage("another:tag", false); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	var said []string
	err := h.Events(context.Background(), since, time.Now(), func(e Event) error {
		if e.Type == "container" && e.ID != c.ID {
			t.Errorf("%+v", e)
		}
		switch e.Action {
		case "create", "destroy", "tag", "untag", "delete":
			said = append(said, e.Type+" "+e.Action+" "+e.Attributes["name"]+" "+e.Attributes["tier"])
		}
		return nil
	})
	want := []string{"container create evented test", "image tag another:tag ", "image untag another:tag ", "container destroy evented test"}
	if err != nil || !slices.Equal(said, want) {
		t.Errorf("%q, %v", said, err)
	}
}
