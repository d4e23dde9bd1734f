package layers

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// flushEvery is after how many written bytes the disk is told to keep up.
const flushEvery = 128 << 20

// flusher makes durable what an Add writes, before any of it gets its name: a power loss must never leave a layer
// that looks finished and is not.
//
// It calls syncfs, which writes back the whole file system, for what Add makes is nearly all there is to write: 75,000
// files of 1.1 GB, and the blobs. fsync for each of them would wait for the disk 75,000 times. With one syncfs at the
// end such an Add took 4.2 to 4.6 s (ext4, 2 processors), the last second of it without work for a processor; with
// one after every 128 MiB as well, 3.9 to 4.4, and with more of them no less. With no sync at all it took 3.2. The
// other way, to publish at once and to unpack again after an unclean reboot whatever is not known to be on the disk,
// would save the rest, but every start would have to look for such a mark, and nobody tells hull that a reboot was clean.
type flusher struct {
	dir     *os.File
	written atomic.Int64
	kick    chan struct{}
	ended   chan struct{}
	err     error // of the flushing goroutine, good after ended is closed
	// keep gives what is durable its place, see Store.keepFinished.
	keep func(sync func() error) error
}

// newFlusher starts flushing for the jobs of a plan.
func (s *Store) newFlusher(p *plan) *flusher {
	f := &flusher{kick: make(chan struct{}, 1), ended: make(chan struct{})}
	f.dir, f.err = os.Open(s.path("tmp"))
	f.keep = func(sync func() error) error { return s.keepFinished(p, sync) }
	for _, j := range p.jobs {
		j.wrote = f.wrote
	}
	go func() {
		defer close(f.ended)
		for range f.kick {
			if f.err == nil {
				f.err = f.keep(func() error { f.sync(); return f.err })
			}
		}
	}()
	return f
}

// wrote counts bytes, and has them flushed when there are enough. It never waits.
func (f *flusher) wrote(n int) {
	before := f.written.Add(int64(n)) - int64(n)
	if before/flushEvery == (before+int64(n))/flushEvery {
		return
	}
	select {
	case f.kick <- struct{}{}:
	default: // one is due already
	}
}

// sync writes everything back. The first error stays: the kernel reports each once.
func (f *flusher) sync() {
	if f.err == nil {
		f.err = os.NewSyscallError("syncfs", unix.Syncfs(int(f.dir.Fd())))
	}
}

// keepFinished makes durable what is finished and gives it its place, while more is on its way: others wait for it perhaps,
// and whatever kills this process takes no more than what came since.
func (s *Store) keepFinished(p *plan, sync func() error) error {
	p.mu.Lock()
	finished := p.finished
	p.finished = nil
	p.mu.Unlock()
	if err := sync(); err != nil || len(finished) == 0 {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, j := range finished {
		if err := s.publish(j); err != nil {
			return fmt.Errorf("keep layer %s: %w", j.desc.Digest, err)
		}
	}
	return nil
}

// finish makes durable all that was written until now.
func (f *flusher) finish() error {
	close(f.kick)
	<-f.ended
	if f.dir != nil {
		f.sync()
		f.dir.Close()
	}
	return f.err
}
