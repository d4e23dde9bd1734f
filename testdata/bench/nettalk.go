package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// talkEnv makes this program the one in the containers: a server on the port that it says.
const talkEnv = "HULL_BENCH_TALK"

// What a client asks for, by the first byte that it sends.
const (
	talkUp    = 'u' // to be sent data
	talkDown  = 'd' // to send data
	talkTrips = 't' // to send each byte back
	talkCall  = 'c' // to ask somebody else for one of these, whose letter and address follow, and tell how it went
)

// talkTime is how long data goes one way, or bytes to and fro.
const talkTime = 400 * time.Millisecond

// talkPatience is when something has got lost.
const talkPatience = 15 * time.Second

// spoken is what has passed, in bytes or round trips, and how long that took.
type spoken struct {
	Count int64
	Took  time.Duration
}

func (s spoken) perSecond() float64 { return float64(s.Count) / s.Took.Seconds() }

// talk is all that the program in a container does, on the first processor.
func talk() error {
	if _, err := pin(false); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+os.Getenv(talkEnv))
	if err != nil {
		return err
	}
	return answer(l)
}

// pin keeps this process on one of the processors that it may use, the first or the last, until undo. With both ends of a
// connection on processors of their own, as on a machine that has nothing else to do, it is not chance that decides which
// of them share one. Whatever lies between the ends goes where the scheduler likes.
func pin(last bool) (undo func(), err error) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	for i := range 8 * int(unsafe.Sizeof(all)) {
		if all.IsSet(i) && (last || one.Count() == 0) {
			one.Zero()
			one.Set(i)
		}
	}
	procs := runtime.GOMAXPROCS(1)
	return func() {
		runtime.GOMAXPROCS(procs)
		_ = bind(&all)
	}, bind(&one)
}

// bind puts the threads of this process on processors. Those that come later have those of the one that makes them.
func bind(set *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("sched_setaffinity", err)
		}
	}
	return nil
}

func answer(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(talkPatience))
			_ = answerOne(c.(*net.TCPConn))
		}()
	}
}

func answerOne(c *net.TCPConn) error {
	var word [1]byte
	if _, err := io.ReadFull(c, word[:]); err != nil {
		return err
	}
	switch word[0] {
	case talkUp:
		n, err := io.Copy(io.Discard, onlyReader{c})
		if err != nil {
			return err
		}
		return binary.Write(c, binary.BigEndian, n)
	case talkDown:
		return pour(c)
	case talkTrips:
		for {
			if _, err := io.ReadFull(c, word[:]); err != nil {
				return err
			}
			if _, err := c.Write(word[:]); err != nil {
				return err
			}
		}
	case talkCall:
		if _, err := io.ReadFull(c, word[:]); err != nil {
			return err
		}
		to, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		out, err := net.DialTimeout("tcp", string(to), 10*time.Second)
		if err != nil {
			return err
		}
		s, err := ask(out.(*net.TCPConn), word[0])
		if err != nil {
			return err
		}
		return binary.Write(c, binary.BigEndian, s)
	}
	return errors.New("unknown word")
}

// onlyReader keeps io.Copy from splicing, which discards nothing.
type onlyReader struct{ io.Reader }

// pour sends data for a while, and then its end.
func pour(c *net.TCPConn) error {
	data := make([]byte, 128<<10)
	for end := time.Now().Add(talkTime); time.Now().Before(end); {
		if _, err := c.Write(data); err != nil {
			return err
		}
	}
	return c.CloseWrite()
}

// ask is the client's side. It closes the connection.
func ask(c *net.TCPConn, what byte) (s spoken, err error) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(talkPatience))
	if _, err := c.Write([]byte{what}); err != nil {
		return s, err
	}
	begin := time.Now()
	switch what {
	case talkUp:
		if err = pour(c); err == nil {
			err = binary.Read(c, binary.BigEndian, &s.Count)
		}
	case talkDown:
		s.Count, err = io.Copy(io.Discard, onlyReader{c})
	case talkTrips:
		var word [1]byte
		for err == nil && time.Since(begin) < talkTime {
			if _, err = c.Write(word[:]); err == nil {
				_, err = io.ReadFull(c, word[:])
			}
			s.Count++
		}
	}
	s.Took = time.Since(begin)
	return s, err
}

// askThrough has the server at the other end of c ask another one.
func askThrough(c *net.TCPConn, what byte, to string) (s spoken, err error) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(talkPatience))
	if _, err := c.Write(append([]byte{talkCall, what}, to...)); err != nil {
		return s, err
	}
	if err := c.CloseWrite(); err != nil {
		return s, err
	}
	if err := binary.Read(c, binary.BigEndian, &s); err != nil {
		return s, fmt.Errorf("from inside to %s: %w", to, err)
	}
	return s, nil
}
