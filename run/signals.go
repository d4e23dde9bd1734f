package run

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns"
)

// signals collects what is sent to hull while a container runs in the foreground.
type signals struct {
	caught chan os.Signal
	proxy  bool
	parent int // pidfd of the caller, or -1
}

// catchSignals begins to collect, before anything exists that a signal could leave half-made. Signals that the caller
// has set to be ignored stay so: a shell does it for a job in the background, nohup for one that is to stay.
func catchSignals(proxy bool) *signals {
	s := &signals{caught: make(chan os.Signal, 128), proxy: proxy, parent: -1}
	var list []os.Signal
	for n := syscall.Signal(1); n < 65; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG:
			// Not to be caught; and of hull's own making (moby's list).
		case 32, 33: // the C library's own
		default:
			if !signal.Ignored(n) {
				list = append(list, n)
			}
		}
	}
	nohup := signal.Ignored(unix.SIGHUP)
	signal.Notify(s.caught, list...)
	if ppid := os.Getppid(); ppid > 1 && !nohup {
		if fd, err := unix.PidfdOpen(ppid, 0); err == nil {
			s.parent = fd
		}
	}
	return s
}

func (s *signals) close() {
	signal.Stop(s.caught)
	if s.parent >= 0 {
		unix.Close(s.parent)
	}
}

// forward passes signals to the program until stop is closed. It kills the program when its time is up (the result
// is then true), when ctx ends, when the caller has ended, and at the third request in a row to end.
func (s *signals) forward(ctx context.Context, p *ns.Process, io *streams, limit time.Duration, stop chan struct{}) bool {
	orphaned := s.watchParent(stop)
	var timeUp <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeUp = timer.C
	}
	insists, timedOut := 0, false
	for {
		select {
		case <-stop:
			return timedOut
		case <-timeUp:
			timedOut = true
			_ = p.Signal(unix.SIGKILL)
		case <-orphaned:
			orphaned = nil
			_ = p.Signal(unix.SIGKILL)
		case <-ctx.Done():
			_ = p.Signal(unix.SIGKILL)
			ctx = context.Background()
		case sig := <-s.caught:
			n := sig.(syscall.Signal)
			if n == unix.SIGWINCH && io.console != nil {
				io.resize()
				continue
			}
			if n == unix.SIGINT || n == unix.SIGTERM {
				if insists++; insists > 2 {
					n = unix.SIGKILL
				}
			}
			if s.proxy || n == unix.SIGKILL {
				_ = p.Signal(n)
			}
		}
	}
}

// watchParent tells when the process that called hull ends: nobody would see the container's end, so it goes too.
func (s *signals) watchParent(stop chan struct{}) <-chan struct{} {
	if s.parent < 0 {
		return nil
	}
	orphaned := make(chan struct{})
	go func() {
		fds := []unix.PollFd{{Fd: int32(s.parent), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err == unix.EINTR {
				continue
			}
			break
		}
		select {
		case <-stop:
		default:
			close(orphaned)
		}
	}()
	return orphaned
}
