package layers

import (
	"io"
	"sync"
)

// The stages of a layer's way onto the disk (download, inflate, hash, unpack) pass buffers to one another, so that
// they run at the same time on several processors, no byte is copied between them, and the memory of a layer is
// known beforehand: chunks × chunkSize between each two stages.
const (
	chunkSize = 64 << 10 // bytes
	chunks    = 6
)

// chunkPool keeps buffers of chunkSize for all layers of the process.
var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// chunk is a pooled buffer, filled up to n.
type chunk struct {
	buf *[chunkSize]byte
	n   int
}

// newChunk takes an empty buffer.
func newChunk() chunk { return chunk{buf: chunkPool.Get().(*[chunkSize]byte)} }

// free gives the buffer back.
func (c chunk) free() {
	if c.buf != nil {
		chunkPool.Put(c.buf)
	}
}

// bytes is what the chunk holds.
func (c chunk) bytes() []byte { return c.buf[:c.n] }

// pipe carries chunks from one goroutine to the next. One side sends and then closes; the other receives, and may
// stop early, after which sending fails with the error it gave.
type pipe struct {
	ch   chan chunk
	quit chan struct{}
	once sync.Once
	end  error // why there is no more; read only after ch is closed
	stop error // why nobody listens; read only after quit is closed
	cur  chunk // the reading side's chunk
	off  int
	read int64 // bytes that left through Read
}

// newPipe makes an empty pipe.
func newPipe() *pipe {
	return &pipe{ch: make(chan chunk, chunks), quit: make(chan struct{})}
}

// send passes a chunk on. The chunk is no longer the caller's, whatever send returns.
func (p *pipe) send(c chunk) error {
	select {
	case <-p.quit:
	default:
		select {
		case p.ch <- c:
			return nil
		case <-p.quit:
		}
	}
	c.free()
	return p.stop
}

// closeSend says that nothing more comes; err is io.EOF if that is as it should be.
func (p *pipe) closeSend(err error) {
	p.end = err
	close(p.ch)
}

// closeRead says that nobody listens any more.
func (p *pipe) closeRead(err error) {
	p.once.Do(func() {
		p.stop = err
		close(p.quit)
	})
	for c := range p.ch {
		c.free()
	}
}

// receive takes the next chunk, which is the caller's from then on.
func (p *pipe) receive() (chunk, error) {
	c, ok := <-p.ch
	if !ok {
		return chunk{}, p.end
	}
	return c, nil
}

// Read makes the receiving side an io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	for p.off == p.cur.n {
		c, err := p.receive()
		if err != nil {
			return 0, err
		}
		p.cur.free()
		p.cur, p.off = c, 0
	}
	n := copy(b, p.cur.bytes()[p.off:])
	p.off += n
	p.read += int64(n)
	return n, nil
}

// fill reads into a new chunk until it holds at least least bytes or r ends. The chunk is to be used even if there
// is an error.
func fill(r io.Reader, least int) (chunk, error) {
	c := newChunk()
	for c.n < least {
		n, err := r.Read(c.buf[c.n:])
		c.n += n
		if err != nil {
			return c, err
		}
	}
	return c, nil
}
