package usernet

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// inside is a TCP connection's end in the stack, towards the container.
type inside struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
	// early is what has been read from it already, to look at the server's name.
	early []byte
}

// relay copies both ways until both have ended. An end of data ends that way only; a reset, or any other failure, ends both
// by a reset.
func relay(in *inside, out *net.TCPConn, check func(*inside) error) {
	raw, err := out.SyscallConn()
	if err != nil {
		in.ep.Abort()
		out.Close()
		return
	}
	var once sync.Once
	reset := func() {
		once.Do(func() {
			in.ep.Abort()
			_ = out.SetLinger(0)
			out.Close()
		})
	}
	var both sync.WaitGroup
	both.Go(func() {
		if err := fromOutside(in, raw); err != nil {
			reset()
			return
		}
		_ = in.ep.Shutdown(tcpip.ShutdownWrite)
	})
	both.Go(func() {
		if check != nil {
			if err := check(in); err != nil {
				reset()
				return
			}
		}
		if err := fromInside(in, raw, out); err != nil {
			reset()
			return
		}
		_ = out.CloseWrite()
	})
	both.Wait()
	once.Do(func() {
		in.ep.Close()
		out.Close()
	})
}

var errReset = errors.New("connection reset")

// fromOutside copies what the host's socket gives until its end, straight into the stack's buffers.
func fromOutside(in *inside, raw syscall.RawConn) error {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	in.wq.EventRegister(&entry)
	defer in.wq.EventUnregister(&entry)
	var r socketReader
	var err error
	outer := raw.Read(func(fd uintptr) (done bool) {
		r.fd, r.err, err = fd, nil, nil
		for err == nil && r.more() {
			err = in.write(&r, ready)
			r.release()
		}
		if err == nil {
			err = r.err
		}
		return err != unix.EAGAIN
	})
	switch {
	case outer != nil:
		return outer
	case err == io.EOF:
		return nil
	}
	return err
}

// write gives the container all that there is; ready says when the stack may have room again.
func (in *inside) write(r *socketReader, ready <-chan struct{}) error {
	for r.Len() > 0 {
		n, err := in.ep.Write(r, tcpip.WriteOptions{})
		if n == 0 && err == nil {
			return nil
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		default:
			return errReset
		}
	}
	return nil
}

// fromInside copies what the container sends until its end, straight from the stack's buffers.
func fromInside(in *inside, raw syscall.RawConn, out *net.TCPConn) error {
	if len(in.early) > 0 {
		if _, err := out.Write(in.early); err != nil {
			return err
		}
		in.early = nil
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	in.wq.EventRegister(&entry)
	defer in.wq.EventUnregister(&entry)
	w := &socketWriter{raw: raw}
	for {
		_, err := in.ep.Read(w, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil
		case *tcpip.ErrBadBuffer: // the socket took nothing: wait for it outside of the stack's locks
			if w.err != nil {
				return w.err
			}
			if err := w.wait(); err != nil {
				return err
			}
		default:
			return errReset
		}
	}
}

// socketWriter writes what the socket takes at once, for it is called under the stack's locks.
type socketWriter struct {
	raw syscall.RawConn
	err error
}

func (w *socketWriter) Write(b []byte) (n int, err error) {
	outer := w.raw.Control(func(fd uintptr) {
		for {
			if n, err = writeNow(fd, b); err != unix.EINTR {
				return
			}
		}
	})
	n = max(n, 0)
	switch {
	case outer != nil:
		w.err = outer
	case err == unix.EAGAIN:
		return n, io.ErrShortWrite
	case err != nil:
		w.err = err
	case n < len(b):
		return n, io.ErrShortWrite
	default:
		return n, nil
	}
	return n, w.err
}

// wait waits until the socket takes more. It asks first, for the word that it does may have come since.
func (w *socketWriter) wait() error {
	return w.raw.Write(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	})
}

// Read, Write and the rest are a net.Conn's, for what wants to look into the beginning of a stream.
func (in *inside) Read(b []byte) (int, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	in.wq.EventRegister(&entry)
	defer in.wq.EventUnregister(&entry)
	for {
		w := tcpip.SliceWriter(b)
		res, err := in.ep.Read(&w, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
			in.early = append(in.early, b[:res.Count]...)
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return 0, io.EOF
		default:
			return 0, errReset
		}
	}
}

func (in *inside) Write(b []byte) (int, error)      { return len(b), nil } // what a look into the stream would answer
func (in *inside) Close() error                     { return nil }
func (in *inside) LocalAddr() net.Addr              { return nil }
func (in *inside) RemoteAddr() net.Addr             { return nil }
func (in *inside) SetDeadline(time.Time) error      { return nil }
func (in *inside) SetReadDeadline(time.Time) error  { return nil }
func (in *inside) SetWriteDeadline(time.Time) error { return nil }
