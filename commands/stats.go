package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/hullrun/hull/run"
)

// statsRow is one container's line: as it was asked for, and two measurements of it.
type statsRow struct {
	typed       string
	c           *run.Container
	before, now run.Stats
}

// known tells whether there is an earlier measurement, so that the use of the processor is known.
func (r statsRow) known() bool { return !r.before.Time.IsZero() }

// statsColumns have Docker's names, fields and units: memory by 1024, traffic by 1000.
func statsListing(whole bool) listing[statsRow] {
	pair := func(a, b uint64) string {
		return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
	}
	return listing[statsRow]{
		shown: "ID Name CPUPerc MemUsage MemPerc NetIO BlockIO PIDs", quiet: "ID",
		columns: []column[statsRow]{
			{"ID", "CONTAINER ID", func(r statsRow) string {
				if whole {
					return r.c.ID
				}
				return run.ShortID(r.c.ID)
			}},
			{"Container", "CONTAINER", func(r statsRow) string { return r.typed }},
			{"Name", "NAME", func(r statsRow) string { return r.c.Name }},
			{"CPUPerc", "CPU %", func(r statsRow) string {
				if !r.known() {
					return "--"
				}
				return fmt.Sprintf("%.2f%%", r.now.CPUPercent(r.before))
			}},
			{"MemUsage", "MEM USAGE / LIMIT", func(r statsRow) string {
				return units.BytesSize(float64(r.now.Memory)) + " / " + units.BytesSize(float64(r.now.MemoryLimit))
			}},
			{"MemPerc", "MEM %", func(r statsRow) string { return fmt.Sprintf("%.2f%%", r.now.MemoryPercent()) }},
			{"NetIO", "NET I/O", func(r statsRow) string { return pair(r.now.Received, r.now.Sent) }},
			{"BlockIO", "BLOCK I/O", func(r statsRow) string { return pair(r.now.Read, r.now.Written) }},
			{"PIDs", "PIDS", func(r statsRow) string { return fmt.Sprint(r.now.PIDs) }},
		},
	}
}

func statsCommand(s *session) ([]*option, action) {
	var all, once, whole bool
	var format string
	flags := []*option{
		toggle(&all, "all,a", "show those that do not run too"),
		toggle(&once, "no-stream", "measure once, over a second"),
		toggle(&whole, "no-trunc", "show everything in full"),
		text(&format, "format", "FORMAT", listUsage),
	}
	return flags, func(ctx context.Context, args []string) error {
		h, err := s.host()
		if err != nil {
			return err
		}
		l := statsListing(whole)
		// A template that cannot work is an error before the first measurement.
		if err := l.print(io.Discard, format, false, nil); err != nil {
			return err
		}
		return s.stats(ctx, &statsView{h: h, names: args, all: all, last: map[string]run.Stats{}}, once, func(rows []statsRow) (string, error) {
			var b bytes.Buffer
			err := l.print(&b, format, false, rows)
			return b.String(), err
		})
	}
}

// statsPeriod is how often containers are measured. Docker's is the same.
const statsPeriod = time.Second

// stats measures again and again, or once, and prints: over and over at the same place of a terminal, which shows what is
// known at once, or else one text after the other.
func (s *session) stats(ctx context.Context, v *statsView, once bool, text func([]statsRow) (string, error)) error {
	live := !once && term.IsTerminal(int(s.out.Fd())) && os.Getenv("TERM") != "dumb"
	tick := time.NewTicker(statsPeriod)
	defer tick.Stop()
	for first := true; ; first = false {
		rows, err := v.measure()
		if err != nil {
			return err
		}
		if live || !first || len(rows) == 0 && once {
			out, err := text(rows)
			if err == nil && live {
				out = s.frame(out, first)
			}
			if err == nil {
				_, err = io.WriteString(s.out, out)
			}
			if err != nil || once || len(rows) == 0 && len(v.names) > 0 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// frame is a text that takes the place of the last one on a terminal. Lines that would not fit are left out: they would move
// what is above them.
func (s *session) frame(text string, first bool) string {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width < 1 || height < 2 {
		width, height = 1<<20, 1<<20
	}
	var b strings.Builder
	if first {
		b.WriteString("\x1b[2J") // clear all
	}
	b.WriteString("\x1b[H") // to the upper left
	rows := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		length := utf8.RuneCountInString(line)
		if rows += 1 + max(length-1, 0)/width; rows >= height {
			break
		}
		b.WriteString(line)
		if length == 0 || length%width != 0 { // at the edge the cursor still stands on the last character
			b.WriteString("\x1b[K") // clear the rest of the line
		}
		b.WriteByte('\n')
	}
	b.WriteString("\x1b[J") // clear what is below
	return b.String()
}

// statsView is what is measured: the containers that were named, or those there are.
type statsView struct {
	h     *run.Host
	names []string
	all   bool
	last  map[string]run.Stats // by ID
}

// measure measures each container. One that was named has to be there at first, and is left out once it is gone.
func (v *statsView) measure() (rows []statsRow, err error) {
	if rows, err = v.find(); err != nil {
		return nil, err
	}
	now := make(map[string]run.Stats, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.now, err = r.c.Stats(); err != nil {
			return nil, fmt.Errorf("measure container %s: %w", r.c.Name, err)
		}
		r.before = v.last[r.c.ID]
		now[r.c.ID] = r.now
	}
	v.last = now
	return rows, nil
}

func (v *statsView) find() (rows []statsRow, err error) {
	if len(v.names) == 0 {
		list, err := v.h.List()
		for _, c := range list {
			if v.all || c.Status.Alive() {
				rows = append(rows, statsRow{typed: run.ShortID(c.ID), c: c})
			}
		}
		return rows, err
	}
	var failed []error
	first := len(v.last) == 0
	for _, name := range v.names {
		c, err := v.h.Find(name)
		switch {
		case err == nil:
			rows = append(rows, statsRow{typed: name, c: c})
		case first || !errors.Is(err, run.ErrNotFound):
			failed = append(failed, err)
		}
	}
	return rows, errors.Join(failed...)
}
