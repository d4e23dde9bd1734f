package commands

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"
)

// bars draws a progress on its terminal, a line for each layer, every redraw as long as it is not closed.
type bars struct {
	p     *progress
	drawn int // lines of the last drawing; the cursor is below them
	quit  chan struct{}
	done  sync.WaitGroup
}

const (
	redraw   = 100 * time.Millisecond
	barWidth = 28 // columns
)

func drawBars(p *progress) *bars {
	b := &bars{p: p, quit: make(chan struct{})}
	b.done.Go(func() {
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.draw(false)
			case <-b.quit:
				return
			}
		}
	})
	return b
}

// close draws all layers once more, as they have ended.
func (b *bars) close() {
	close(b.quit)
	b.done.Wait()
	b.draw(true)
}

// draw draws the layers over the last drawing: all of them if it is the last, else no more than the terminal has lines,
// because the cursor cannot go back to one that has scrolled away.
func (b *bars) draw(last bool) {
	width, height, err := term.GetSize(int(b.p.w.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	if last {
		height = 0
	}
	b.p.mu.Lock()
	lines := b.p.lines(height - 1)
	b.p.mu.Unlock()
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	for _, line := range lines {
		s.WriteString("\r" + line[:min(len(line), width-1)] + "\x1b[K\n") // the last column may begin a new line
	}
	s.WriteString("\x1b[J")
	b.drawn = len(lines)
	_, _ = b.p.w.WriteString(s.String()) // with no lock: a terminal that is held up holds up no layer
}

// lines has a line for each layer, or at most so many, if not negative: those that have ended make room for others.
func (p *progress) lines(most int) []string {
	list := slices.SortedFunc(maps.Values(p.layers), func(a, b *layerProgress) int { return cmp.Compare(a.Index, b.Index) })
	if surplus := len(list) - most; most >= 0 && surplus > 0 {
		list = slices.DeleteFunc(list, func(l *layerProgress) bool {
			gone := surplus > 0 && isEnd(l.Phase)
			if gone {
				surplus--
			}
			return gone
		})
		list = list[:min(len(list), most)]
	}
	rows := make([][]string, len(list))
	widths := make([]int, 5)
	for i, l := range list {
		rows[i] = []string{shortDigest(l.Layer), p.words.text(l.Phase), l.bar(), l.bytes(), l.speed()}
		for k, cell := range rows[i] {
			widths[k] = max(widths[k], len(cell))
		}
	}
	lines := make([]string, len(list))
	for i, row := range rows {
		for k, cell := range row {
			row[k] = fmt.Sprintf("%-*s", widths[k], cell)
		}
		lines[i] = strings.TrimRight(strings.Join(row, " "), " ")
	}
	return lines
}

// bar is how far a layer's phase has come, "" if it has no more.
func (l *layerProgress) bar() string {
	if isEnd(l.Phase) {
		return ""
	}
	full := 0
	if l.Total > 0 {
		full = int(barWidth * max(0, min(l.Done, l.Total)) / l.Total)
	}
	return fmt.Sprintf("[%-*s]", barWidth, (strings.Repeat("=", full) + ">")[:min(full+1, barWidth)])
}

func (l *layerProgress) bytes() string {
	total := units.HumanSizeWithPrecision(float64(l.Total), 3)
	if isEnd(l.Phase) {
		return total
	}
	return units.HumanSizeWithPrecision(float64(l.Done), 3) + "/" + total
}

// speed is "" as long as it is not known.
func (l *layerProgress) speed() string {
	if l.rate <= 0 || isEnd(l.Phase) {
		return ""
	}
	return units.HumanSizeWithPrecision(l.rate, 3) + "/s"
}
