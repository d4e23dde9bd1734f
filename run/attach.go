package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hullrun/hull/run/monitor"
)

// AttachOptions say what of a detached container's streams is connected.
type AttachOptions struct {
	// Stdin, Stdout and Stderr connect those.
	Stdin, Stdout, Stderr bool
	// DetachKeys leave the container to itself, typed at a terminal; nil for none.
	DetachKeys []byte
	// NoSigProxy keeps signals to hull from the program.
	NoSigProxy bool
}

// ErrDetached says that the user has left, and the container goes on.
var ErrDetached = errors.New("detached")

// attachment is this process's end of the socket to a monitor.
type attachment struct {
	io       IO
	options  AttachOptions
	tty      bool
	tethered bool
	fd       int
	raw      *term.State
	leaving  sync.Once
	left     chan struct{} // closed when the user has left
	code     int           // exit status after that
	why      error         // nil if there is nothing to say, or nobody to hear it
}

// Attach connects the caller's streams with a container that a monitor runs, until it ends or the user leaves: then the
// error is ErrDetached.
func (c *Container) Attach(ctx context.Context, io IO, o AttachOptions) (Result, error) {
	switch {
	case c.Status == Paused:
		//lint:ignore ST1005 Docker's words, which scripts look for
		return Result{}, errors.New("You cannot attach to a paused container, unpause it first")
	case c.Status == Restarting:
		//lint:ignore ST1005 Docker's words, which scripts look for
		return Result{}, errors.New("You cannot attach to a restarting container, wait until it is running")
	case !c.Status.Alive():
		//lint:ignore ST1005 Docker's words, which scripts look for
		return Result{}, errors.New("You cannot attach to a stopped container, start it first")
	case !c.Detached:
		return Result{}, fmt.Errorf("attach to container %s: it runs in the foreground of another hull, which has its streams", c.Name)
	}
	fd, err := c.dial()
	if err != nil {
		return Result{}, fmt.Errorf("attach to container %s: %w", c.Name, err)
	}
	defer unix.Close(fd)
	a := &attachment{io: io, options: o, tty: c.Config.Process.TTY, fd: fd, left: make(chan struct{})}
	if err := a.hello(); err != nil {
		return Result{}, fmt.Errorf("attach to container %s: %w", c.Name, err)
	}
	c.note("attach")
	return a.follow(ctx, c.lost)
}

// RunDetachable runs the container's program under a monitor, with the caller's terminal attached from the first byte. It
// ends with its caller like one in the foreground, unless the user leaves it: then the error is ErrDetached. The caller
// learns of nothing else that it is not what [Container.Run] does.
func (c *Container) RunDetachable(ctx context.Context, io IO, o AttachOptions) (Result, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return Result{}, err
	}
	a := &attachment{io: io, options: o, tty: c.Config.Process.TTY, tethered: true, fd: ours, left: make(chan struct{})}
	defer unix.Close(ours)
	// Said before anybody listens: if this process is killed now, the monitor will find first these words, then the end.
	if err := a.hello(); err != nil {
		theirs.Close()
		return Result{}, err
	}
	err = c.start(ctx, theirs)
	theirs.Close()
	if err != nil {
		return Result{}, err
	}
	return a.follow(ctx, c.lost)
}

func socketPair() (ours int, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, os.NewSyscallError("socketpair", err)
	}
	return fds[0], os.NewFile(uintptr(fds[1]), "client"), nil
}

// dial connects to the container's monitor.
func (c *Container) dial() (int, error) {
	dir, err := os.Open(c.dir())
	if err != nil {
		return -1, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	address := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), attachName)
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: address})
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return -1, os.NewSyscallError("connect", err)
		}
	}
}

// hello says what this client wants, and how large its terminal is.
func (a *attachment) hello() error {
	var wishes byte
	for _, w := range []struct {
		on  bool
		bit byte
	}{{a.options.Stdin, monitor.WantStdin}, {a.options.Stdout, monitor.WantStdout}, {a.options.Stderr, monitor.WantStderr}, {a.tethered, monitor.Tether}} {
		if w.on {
			wishes |= w.bit
		}
	}
	words := []byte{wishes}
	if size := terminalSize(a.io); size != nil && a.tty {
		words = appendSize(words, size)
	}
	return a.send(monitor.KindAttach, words)
}

// appendSize writes a size as the monitor reads it.
func appendSize(b []byte, size *specs.Box) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(size.Height))
	return binary.LittleEndian.AppendUint16(b, uint16(size.Width))
}

func (a *attachment) send(kind byte, b []byte) error {
	for {
		err := unix.Sendto(a.fd, append([]byte{kind}, b...), unix.MSG_NOSIGNAL, nil)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("send", err)
		}
	}
}

// resize gives the container's terminal the size of the caller's.
func (a *attachment) resize() bool {
	if !a.tty {
		return false
	}
	if size := terminalSize(a.io); size != nil {
		_ = a.send(monitor.KindSize, appendSize(nil, size))
	}
	return true
}

// redraw makes a program draw its screen again, or a shell its prompt, for somebody who comes later: they do when the
// size of their terminal changes. Docker does so too.
func (a *attachment) redraw() {
	if size := terminalSize(a.io); size != nil && a.tty {
		_ = a.send(monitor.KindSize, appendSize(nil, &specs.Box{Height: size.Height + 1, Width: size.Width + 1}))
		a.resize()
	}
}

// Signal has the monitor send a signal to the program. Whoever only looks on does not mean the program by it but this
// client: one whose signals are not passed on, and one of a terminal whose keyboard is the program's way to get some.
// Neither does who insists.
func (a *attachment) Signal(sig syscall.Signal) error {
	switch {
	case a.tethered:
	case sig == unix.SIGKILL:
		a.leave(1, errors.New("got 3 SIGTERM/SIGINTs, forcefully exiting")) // Docker's words
		return nil
	case a.options.NoSigProxy || a.tty:
		switch sig {
		case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
			a.leave(128+int(sig), nil)
		}
		return nil
	}
	return a.send(monitor.KindSignal, []byte{byte(sig)})
}

// Guard is not needed: the monitor sees our end.
func (a *attachment) Guard(bool) (func(), error) { return func() {}, nil }

// leave lets the container go on without us.
func (a *attachment) leave(code int, why error) {
	a.leaving.Do(func() {
		a.code, a.why = code, why
		close(a.left) // before the monitor can answer it by hanging up
		_ = a.send(monitor.KindDetach, nil)
		_ = unix.Shutdown(a.fd, unix.SHUT_RDWR) // ends the read of the output
	})
}

// follow carries the streams until the end. lost says what is known when the monitor is gone without its last word.
func (a *attachment) follow(ctx context.Context, lost func() (Result, error)) (Result, error) {
	s := catchSignals(!a.options.NoSigProxy || !a.tethered)
	if !a.tethered {
		s.nohup = true // the caller's end is not the container's
	}
	if a.tty && a.options.Stdin && a.io.In != nil && term.IsTerminal(int(a.io.In.Fd())) {
		if state, err := term.MakeRaw(int(a.io.In.Fd())); err == nil {
			a.raw = state
			defer func() { _ = term.Restore(int(a.io.In.Fd()), state) }()
		}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.forward(ctx, a, a.resize, timeLimit{}, stop)
	}()
	if a.options.Stdin && a.io.In != nil {
		go a.keyboard()
	}
	if !a.tethered {
		a.redraw()
	}
	<-s.ready // whoever sees output of ours may count on it
	res, ended := a.listen()
	close(stop)
	<-done
	select {
	case <-a.left:
		return Result{Code: a.code}, a.why
	default:
	}
	if ended {
		return res, nil
	}
	return lost()
}

// lost gives the end of a container whose monitor is gone.
func (c *Container) lost() (Result, error) {
	if err := c.settle(); err != nil {
		return Result{Code: 137}, fmt.Errorf("container %s: its monitor has ended: %w", c.Name, err)
	}
	if err := c.refresh(); err != nil {
		return Result{Code: 137}, err
	}
	return Result{Code: c.ExitCode, OOMKilled: c.OOMKilled, TimedOut: c.TimedOut, Used: c.Used}, nil
}

// keyboard sends what is typed, until the keys that leave.
func (a *attachment) keyboard() {
	keys := leaveKeys{want: a.options.DetachKeys}
	if a.raw == nil {
		keys.want = nil
	}
	buf := make([]byte, monitor.MaxMessage-1)
	for {
		n, err := a.io.In.Read(buf)
		text, leave := keys.filter(buf[:max(n, 0)])
		if len(text) > 0 && a.send(monitor.KindStdin, text) != nil {
			return
		}
		if leave {
			a.leave(0, ErrDetached)
			return
		}
		if err != nil {
			_ = a.send(monitor.KindEOF, nil)
			return
		}
	}
}

// leaveKeys looks for a sequence of keys in what is typed.
type leaveKeys struct {
	want []byte
	seen int // how many of them came last
}

// filter gives what is to be passed on: keys that may be the beginning of the sequence are held back until it is clear.
func (k *leaveKeys) filter(b []byte) (out []byte, leave bool) {
	if len(k.want) == 0 {
		return b, false
	}
	for _, c := range b {
		if c != k.want[k.seen] && k.seen > 0 {
			out = append(out, k.want[:k.seen]...)
			k.seen = 0
		}
		if c != k.want[k.seen] {
			out = append(out, c)
			continue
		}
		if k.seen++; k.seen == len(k.want) {
			return out, true
		}
	}
	return out, false
}

// listen prints the output. It says whether the end has been told, and how it was.
func (a *attachment) listen() (res Result, ended bool) {
	buf := make([]byte, monitor.MaxMessage)
	for {
		n, _, err := unix.Recvfrom(a.fd, buf, 0)
		// The second is told first, and once, if the monitor has ended without reading all of ours: its last word may be there.
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNRESET) {
			continue
		}
		if err != nil || n < 1 {
			return res, false
		}
		switch b := buf[1:n]; buf[0] {
		case monitor.KindStdout:
			a.print(a.io.Out, b)
		case monitor.KindStderr:
			a.print(a.io.Err, b)
		case monitor.KindReady:
			a.resize() // it may have changed meanwhile, or this is another program's terminal
		case monitor.KindExit:
			return readExit(b), true
		}
	}
}

// print writes output. A reader of ours that is gone is as good as our own end.
func (a *attachment) print(f *os.File, b []byte) {
	if f == nil {
		return
	}
	if _, err := io.Copy(f, bytes.NewReader(b)); err != nil {
		if a.tethered {
			_ = a.Signal(unix.SIGHUP)
			return
		}
		if errors.Is(err, unix.EPIPE) {
			err = nil // whoever reads has seen enough
		}
		a.leave(0, err)
	}
}

// exitMessage and readExit are the two sides of a monitor's last word.
func exitMessage(res Result) []byte {
	var causes byte
	if res.OOMKilled {
		causes |= monitor.CauseOOM
	}
	if res.TimedOut {
		causes |= monitor.CauseTime
	}
	b := append(binary.LittleEndian.AppendUint32([]byte{monitor.KindExit}, uint32(res.Code)), causes)
	if res.Used != nil {
		b = res.Used.append(b)
	}
	return b
}

func readExit(b []byte) Result {
	if len(b) < 5 {
		return Result{Code: 137}
	}
	return Result{Code: int(binary.LittleEndian.Uint32(b)), OOMKilled: b[4]&monitor.CauseOOM != 0, TimedOut: b[4]&monitor.CauseTime != 0, Used: readUsed(b[5:])}
}

// waitAttached waits for the last word of the container's monitor.
func (c *Container) waitAttached(ctx context.Context) (int, error) {
	if !c.Detached {
		return 0, errors.New("not detached")
	}
	fd, err := c.dial()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	defer stop()
	a := &attachment{fd: fd}
	if err := a.send(monitor.KindAttach, []byte{0}); err != nil {
		return 0, err
	}
	res, ended := a.listen()
	if !ended {
		return 0, errors.Join(ctx.Err(), errors.New("the monitor has ended without a word"))
	}
	return res.Code, nil
}
