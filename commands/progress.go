package commands

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/hullrun/hull/layers"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows what happens to the layers of an image on its way here: a bar for each on a terminal, elsewhere lines in
// Docker's words. It has no colours, so there is nothing for NO_COLOR to turn off.
type progress struct {
	w          io.Writer
	onTerminal bool
	words      progressWords
	bars       *mpb.Progress // nil as long as there is nothing to draw

	mu     sync.Mutex // layers come several at once
	layers map[int]*layerProgress
	// held are layers that are here already: nobody wants to hear of them unless another one comes.
	held []layers.Event
}

// layerProgress is one layer. Its phase is one of layers.Event's.
type layerProgress struct {
	layers.Event
	bar  *mpb.Bar
	at   time.Time // of the last look at done
	rate float64   // bytes a second, smoothed
	// shown is a copy for the library, which draws from a goroutine of its own: calls into it may wait for that, so no
	// lock can be held by both.
	shown atomic.Pointer[layerShown]
}

// layerShown is what a bar shows of its layer.
type layerShown struct {
	layers.Event
	rate float64
}

// newProgress shows progress on w; call close when the last event has come, or none will any more. Nil shows nothing.
func newProgress(w *os.File) *progress {
	p := &progress{w: w, words: pullWords, layers: map[int]*layerProgress{}}
	p.onTerminal = term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb"
	return p
}

// event is for layers.AddOptions.Progress.
func (p *progress) event(e layers.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Phase == "exists" && len(p.layers) == 0 && p.words.begin != "" {
		p.held = append(p.held, e)
		return
	}
	for _, h := range p.held {
		p.show(h)
	}
	p.held = nil
	p.show(e)
}

func (p *progress) show(e layers.Event) {
	l, known := p.layers[e.Index]
	if !known {
		l = &layerProgress{at: time.Now()}
		p.layers[e.Index] = l
	}
	before := l.Phase
	l.measure(e)
	if p.onTerminal {
		p.draw(l)
	} else {
		p.say(before, e)
	}
}

// measure takes over an event and smooths the speed of its phase.
func (l *layerProgress) measure(e layers.Event) {
	now := time.Now()
	switch passed := now.Sub(l.at).Seconds(); {
	case e.Phase != l.Phase:
		l.rate, l.at = 0, now
	case passed > 0.05:
		speed := float64(e.Done-l.Done) / passed
		if l.rate > 0 {
			speed = 0.7*l.rate + 0.3*speed
		}
		l.rate, l.at = speed, now
	default:
		e.Done = max(e.Done, l.Done)
	}
	l.Event = e
	l.shown.Store(&layerShown{e, l.rate})
}

// shortDigest is how a layer is called in lines and bars: twelve digits.
func shortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(len(hex), 12)]
}

// progressWords are Docker's words for what happens to a layer.
type progressWords struct {
	// begin and whole are lines for when a layer begins to come, and has all come; "" are not printed.
	begin, whole string
	// text is the word for a phase of layers.Event or registry.Sent.
	text func(phase string) string
}

var (
	pullWords = progressWords{"Pulling fs layer", "Download complete", pullText}
	pushWords = progressWords{"", "", pushText}
)

func pullText(phase string) string {
	switch phase {
	case "exists":
		return "Already exists"
	case "download":
		return "Downloading"
	case "extract":
		return "Extracting"
	case "done":
		return "Pull complete"
	}
	return phase
}

func pushText(phase string) string {
	switch phase {
	case "exists":
		return "Layer already exists"
	case "upload":
		return "Pushing"
	case "done":
		return "Pushed"
	}
	return phase
}

// mountedFrom begins the phase of a layer that a registry took from another of its repositories.
const mountedFrom = "Mounted from "

// isEnd tells whether nothing comes after a phase.
func isEnd(phase string) bool {
	return phase == "done" || phase == "exists" || strings.HasPrefix(phase, mountedFrom)
}

// say prints a line when a layer enters a phase.
func (p *progress) say(before string, e layers.Event) {
	if e.Phase == before {
		return
	}
	id := shortDigest(e.Layer)
	if before == "" && e.Phase != "exists" && p.words.begin != "" {
		fmt.Fprintf(p.w, "%s: %s\n", id, p.words.begin)
	}
	switch {
	case isEnd(e.Phase):
		fmt.Fprintf(p.w, "%s: %s\n", id, p.words.text(e.Phase))
	case e.Phase == "extract":
		fmt.Fprintf(p.w, "%s: %s\n", id, p.words.whole)
	}
}

// draw makes a layer's bar when it is first heard of, and moves it.
func (p *progress) draw(l *layerProgress) {
	if p.bars == nil {
		p.bars = mpb.New(mpb.WithOutput(p.w), mpb.WithRefreshRate(100*time.Millisecond))
	}
	if l.bar == nil {
		id := shortDigest(l.Layer)
		// A total that is set later does not end the bar when it is reached: unpacking begins again at nought.
		l.bar = p.bars.New(0, mpb.BarStyle().Padding(" "),
			mpb.BarPriority(l.Index),
			mpb.BarWidth(30), mpb.BarFillerClearOnComplete(),
			mpb.PrependDecorators(decor.Name(id+" "), cell(l, func(l *layerShown) string { return p.words.text(l.Phase) }, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(cell(l, layerBytes, decor.WCSyncSpaceR), cell(l, layerSpeed, decor.WCSyncSpaceR)))
		l.bar.SetTotal(l.Total, false)
	}
	l.bar.SetCurrent(l.Done)
	if isEnd(l.Phase) {
		l.bar.SetTotal(l.Total, true)
	}
}

// cell is one column of a bar.
func cell(l *layerProgress, text func(*layerShown) string, align decor.WC) decor.Decorator {
	return decor.Any(func(decor.Statistics) string { return text(l.shown.Load()) }, align)
}

func layerBytes(l *layerShown) string {
	total := units.HumanSizeWithPrecision(float64(l.Total), 3)
	if isEnd(l.Phase) {
		return total
	}
	return units.HumanSizeWithPrecision(float64(l.Done), 3) + "/" + total
}

func layerSpeed(l *layerShown) string {
	if l.rate <= 0 || isEnd(l.Phase) {
		return ""
	}
	return units.HumanSizeWithPrecision(l.rate, 3) + "/s"
}

// close leaves the bars as they are and gives the terminal back.
func (p *progress) close() {
	if p == nil || p.bars == nil {
		return
	}
	p.mu.Lock()
	var bars []*mpb.Bar
	for _, l := range p.layers {
		if l.bar != nil {
			bars = append(bars, l.bar)
		}
	}
	p.mu.Unlock()
	for _, b := range bars {
		b.Abort(false) // no effect on one that is complete
	}
	p.bars.Wait()
}
