package run

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is what signals are passed on to: an *ns.Process, or one at the other end of a socket.
type program interface {
	Signal(syscall.Signal) error
	Guard(apart bool) (release func(), err error)
}

// signals collects what is sent to hull while a container runs in the foreground.
type signals struct {
	caught chan os.Signal
	proxy  bool
	nohup  bool          // the caller has set SIGHUP to be ignored: the container may outlive it
	parent int           // pid of the caller
	ready  chan struct{} // closed when signals are collected
	// confined says that an execution gave the program an AppArmor profile, at which the kernel forgets the parent-death signal
	// (secureexec): it needs its guard at once.
	confined bool
}

// catchSignals begins to collect what people and shells send to end a program, before anything exists that it could
// leave half-made. Signals that the caller has set to be ignored stay so: a shell does it for a job in the background,
// nohup for one that is to stay. They stay caught after the end, so that the clean-up is not cut short.
func catchSignals(proxy bool) *signals {
	s := &signals{caught: make(chan os.Signal, 128), proxy: proxy, nohup: signal.Ignored(unix.SIGHUP), parent: os.Getppid(),
		ready: make(chan struct{})}
	// A reader that is gone is an error of the write, not the end of hull: the container has to be taken down. The
	// program itself gets the default again.
	signal.Ignore(unix.SIGPIPE)
	go func() { // it takes the runtime a change of threads each, and there is something else to do meanwhile
		defer close(s.ready)
		s.catch(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	}()
	return s
}

func (s *signals) catch(list ...syscall.Signal) {
	for _, n := range list {
		if !signal.Ignored(n) {
			signal.Notify(s.caught, n)
		}
	}
}

// catchAll adds the other signals that Docker forwards. Each costs the runtime two changes of thread, so a program that
// ends at once is not made to wait for them.
func (s *signals) catchAll(stop chan struct{}) {
	for n := syscall.Signal(1); n < 65; n++ {
		select {
		case <-stop:
			return
		default:
		}
		switch n {
		case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG:
			// Not to be caught; and of hull's own making (moby's list).
		case 32, 33: // the C library's own
		default:
			s.catch(n)
		}
	}
}

// settled is how long a program has run before it is worth the trouble to listen for everything.
const settled = 10 * time.Millisecond

// stays is how long one has run that is worth a guard of its own memory.
const stays = time.Second

// timeLimit is how long a program may run, 0 or less for ever, and how it ends then: with SIGKILL, or, if there is a grace,
// with a signal that asks for it, and SIGKILL after the grace.
type timeLimit struct {
	after, grace time.Duration
	signal       syscall.Signal
}

// forward passes signals to the program until stop is closed; resize takes a change of the caller's terminal, if it can. It
// ends the program when its time is up (the result is then true), and kills it when ctx ends, when the caller has ended, and
// at the third request in a row to end.
func (s *signals) forward(ctx context.Context, p program, resize func() bool, limit timeLimit, stop chan struct{}) bool {
	var timeUp <-chan time.Time
	if limit.after > 0 {
		timer := time.NewTimer(limit.after)
		defer timer.Stop()
		timeUp = timer.C
	}
	quiet := settled
	if s.confined {
		quiet = 0
	}
	begin := time.NewTimer(quiet)
	defer begin.Stop()
	var orphaned <-chan struct{}
	var longer <-chan time.Time
	release := func() {}
	defer func() { release() }()
	guard := func(apart bool) {
		if end, err := p.Guard(apart); err == nil {
			release()
			release = end
		}
	}
	insists, timedOut := 0, false
	for {
		select {
		case <-stop:
			return timedOut
		case <-begin.C:
			guard(false)
			timer := time.NewTimer(stays)
			defer timer.Stop()
			longer = timer.C
			orphaned = s.watchParent(stop)
			s.catchAll(stop)
			resize() // a change before that went by unnoticed
		case <-longer:
			guard(true)
		case <-timeUp:
			if timedOut || limit.grace <= 0 {
				limit.signal = unix.SIGKILL
			} else {
				timer := time.NewTimer(limit.grace)
				defer timer.Stop()
				timeUp = timer.C
			}
			timedOut = true
			_ = p.Signal(limit.signal)
		case <-orphaned:
			orphaned = nil
			_ = p.Signal(unix.SIGKILL)
		case <-ctx.Done():
			_ = p.Signal(unix.SIGKILL)
			ctx = context.Background()
		case sig := <-s.caught:
			n := sig.(syscall.Signal)
			if n == unix.SIGWINCH && resize() {
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
	if s.parent <= 1 || s.nohup {
		return nil
	}
	orphaned := make(chan struct{})
	fd, err := unix.PidfdOpen(s.parent, 0)
	if err != nil || os.Getppid() != s.parent { // it is gone already
		close(orphaned)
		return orphaned
	}
	go func() {
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
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
