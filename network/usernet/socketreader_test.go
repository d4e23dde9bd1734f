package usernet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
)

// TestSocketReader: what comes to a socket is given whole, however much of it the stack takes at once.
func TestSocketReader(t *testing.T) {
	for _, size := range []int{1, fewBytes - 1, fewBytes, fewBytes + 1, 2 * fewBytes, 100_000, 1 << 20} {
		for _, room := range []int{1000, 70_000, 1 << 20} {
			near, far := tcpPair(t)
			var data, got bytes.Buffer
			_, _ = io.Copy(&data, noise(uint64(size), int64(size)))
			want := bytes.Clone(data.Bytes())
			go func() {
				_, _ = far.Write(data.Bytes())
				far.Close()
			}()
			drain(t, near, room, &got)
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%d bytes, %d at once: got %d, or others", size, room, got.Len())
			}
			near.Close()
		}
	}
}

// drain reads as the relay and the stack do, until the end.
func drain(t *testing.T, c *net.TCPConn, room int, to io.Writer) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var r socketReader
	outer := raw.Read(func(fd uintptr) bool {
		r.fd, r.err = fd, nil
		for r.more() {
			for r.Len() > 0 {
				var b buffer.Buffer
				n, err := b.WriteFromReaderAndLimitedReader(&r, int64(min(room, r.Len())), nil)
				if err != nil || n == 0 {
					t.Errorf("took %d, %v", n, err)
					return true
				}
				_, _ = b.ReadToWriter(to, n)
				b.Release()
			}
			r.release()
		}
		return r.err != unix.EAGAIN
	})
	if outer != nil || r.err != io.EOF {
		t.Errorf("ended by %v, %v; want the end", outer, r.err)
	}
}

// TestSocketReaderShort: a socket that does not keep its word is an error, and not the end, nor waited for.
func TestSocketReaderShort(t *testing.T) {
	near, far := tcpPair(t)
	defer near.Close()
	defer far.Close()
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		r := socketReader{fd: fd, queue: 10}
		var b buffer.Buffer
		if n, err := b.WriteFromReaderAndLimitedReader(&r, 10, nil); n != 0 || !errors.Is(err, errShort) {
			t.Errorf("took %d, %v", n, err)
		}
	})
}

// tcpPair is a connection's two ends.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a.(*net.TCPConn), b.(*net.TCPConn)
}
