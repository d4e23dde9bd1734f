package commands

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hullrun/hull/layers"
	"golang.org/x/term"
)

// progress shows what happens to the layers of an image on its way here: a bar for each on a terminal, elsewhere lines in
// Docker's words. It has no colours, so there is nothing for NO_COLOR to turn off.
type progress struct {
	w          *os.File
	onTerminal bool
	words      progressWords
	bars       *bars // nil as long as there is nothing to draw

	mu     sync.Mutex // layers come several at once
	layers map[int]*layerProgress
	// held are layers that are here already: nobody wants to hear of them unless another one comes.
	held []layers.Event
}

// layerProgress is one layer. Its phase is one of layers.Event's.
type layerProgress struct {
	layers.Event
	at   time.Time // of the last look at Done
	rate float64   // bytes a second, smoothed
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
	switch {
	case !p.onTerminal:
		p.say(before, e)
	case p.bars == nil:
		p.bars = drawBars(p)
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

// close leaves the bars as they are and gives the terminal back.
func (p *progress) close() {
	if p != nil && p.bars != nil {
		p.bars.close()
		p.bars = nil
	}
}
