package layers

import (
	"sync"
	"time"
)

// tell calls Progress, if there is one.
func tell(opt AddOptions, e Event) {
	if opt.Progress != nil {
		opt.Progress(e)
	}
}

// progressEvery is how often at most a layer's byte counts are reported: bars look alive with less.
const progressEvery = 50 * time.Millisecond

// reporter gives each job its way to report: one call of Progress at a time, and not one for every chunk. A layer
// that an image has twice reports once, at its first place.
func reporter(p *plan, opt AddOptions) func(*job) func(phase string, done int64) {
	if opt.Progress == nil {
		return func(*job) func(string, int64) { return func(string, int64) {} }
	}
	var mu sync.Mutex
	return func(j *job) func(string, int64) {
		last, lastPhase := time.Time{}, ""
		e := Event{Layer: j.desc.Digest.String(), Index: j.index, Count: p.counts, Total: j.desc.Size}
		return func(phase string, done int64) {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			if phase == lastPhase && done < e.Total && now.Sub(last) < progressEvery {
				return
			}
			last, lastPhase = now, phase
			e.Phase, e.Done = phase, done
			opt.Progress(e)
		}
	}
}
