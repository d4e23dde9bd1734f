package run

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// streams connects a container with its caller. Files and pipes of the caller's are handed in as they are. A terminal
// never is, because whoever has it open can type into it: it gets a pipe and a copying goroutine, or with -t a
// terminal of the container's own.
type streams struct {
	io                    IO
	config                *Config
	stdin, stdout, stderr *os.File // for the program; nil is /dev/null
	inside                []*os.File
	copies                sync.WaitGroup
	starters              []func()
	pipes                 []*os.File // our ends
	console               *terminal
	raw                   *term.State
}

func openStreams(c *Config, io IO) (*streams, error) {
	s := &streams{io: io, config: c}
	if c.Process.TTY {
		return s, nil
	}
	var err error
	if c.attached("stdin") && io.In != nil {
		if s.stdin, err = s.input(io.In); err != nil {
			return nil, err
		}
	}
	if c.attached("stdout") && io.Out != nil {
		if s.stdout, err = s.output(io.Out); err != nil {
			return nil, err
		}
	}
	if c.attached("stderr") && io.Err != nil {
		if s.stderr, err = s.output(io.Err); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// input is what the program reads from: the caller's file, or a pipe filled from the caller's terminal. The goroutine
// that fills it cannot be called back from a read and ends with hull.
func (s *streams) input(f *os.File) (*os.File, error) {
	if !term.IsTerminal(int(f.Fd())) {
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.inside = append(s.inside, r)
	s.starters = append(s.starters, func() {
		go func() {
			_, _ = io.Copy(w, f)
			w.Close()
		}()
	})
	return r, nil
}

func (s *streams) output(f *os.File) (*os.File, error) {
	if !term.IsTerminal(int(f.Fd())) {
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.inside = append(s.inside, w)
	s.pipes = append(s.pipes, r)
	s.starters = append(s.starters, func() {
		s.copies.Go(func() {
			_, _ = io.Copy(f, r)
			r.Close() // if it was the caller's reader that ended: the program finds out as in any pipe
		})
	})
	return w, nil
}

// handedOver closes our copies of what the program has now.
func (s *streams) handedOver() {
	for _, f := range s.inside {
		f.Close()
	}
	s.inside = nil
}

// started begins to copy. With a terminal the caller's is set raw first: each key is the program's business.
func (s *streams) started(console *os.File) {
	for _, start := range s.starters {
		start()
	}
	if console == nil {
		return
	}
	s.console = newTerminal(console)
	interactive := s.config.Process.Interactive && s.io.In != nil
	if interactive && term.IsTerminal(int(s.io.In.Fd())) {
		if state, err := term.MakeRaw(int(s.io.In.Fd())); err == nil {
			s.raw = state
		}
	}
	s.resize() // it may have changed since the terminal was made
}

// follow copies between the terminals.
func (s *streams) follow() {
	console := s.console
	if s.config.Process.Interactive && s.io.In != nil {
		go func() {
			_, _ = io.Copy(console, s.io.In)
			if !term.IsTerminal(int(s.io.In.Fd())) {
				_, _ = console.Write([]byte{4}) // the end of a file reads as Ctrl-D
			}
		}()
	}
	out := s.io.Out
	s.copies.Go(func() {
		if out == nil {
			_, _ = io.Copy(io.Discard, console)
			return
		}
		_, _ = io.Copy(out, console)
		console.Close() // hangs up, if it was the caller's reader that ended
	})
}

// drainTime bounds the wait for output after the program's end: somebody outside the container may hold its pipe.
const drainTime = 2 * time.Second

// drain waits until all output has reached the caller.
func (s *streams) drain() {
	if s.console != nil {
		s.console.end()
	}
	all := make(chan struct{})
	go func() {
		s.copies.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(drainTime):
	}
}

// close gives the caller its terminal back.
func (s *streams) close() {
	s.handedOver()
	if s.raw != nil {
		_ = term.Restore(int(s.io.In.Fd()), s.raw)
		s.raw = nil
	}
	if s.console != nil {
		s.console.end()
		s.console.Close()
	}
	for _, f := range s.pipes {
		f.Close()
	}
}

// resize gives the container's terminal the size of the caller's, and says whether it has one.
func (s *streams) resize() bool {
	if size := terminalSize(s.io); size != nil && s.console != nil {
		_ = unix.IoctlSetWinsize(int(s.console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)})
	}
	return s.console != nil
}

// terminalSize is the size of the first of the caller's streams that is a terminal, or nil.
func terminalSize(io IO) *specs.Box {
	for _, f := range []*os.File{io.Out, io.In, io.Err} {
		if f == nil {
			continue
		}
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Row > 0 {
			return &specs.Box{Height: uint(ws.Row), Width: uint(ws.Col)}
		}
	}
	return nil
}
