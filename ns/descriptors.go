package ns

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ownFiles gives the child open files of its own: those that the parent has open for it by now, and no others. What else
// hull has open, or was given open by its caller, is of the host: the directory of the container, a lock, a volume. A path
// of the image's that leads to /proc/self/fd, as its working directory or behind a link, would lead there (CVE-2024-21626).
// Which they are is known when all is written, see closeOthers.
func (b *birth) ownFiles() error {
	b.shut = len(b.calls)
	return nil
}

// closeOthers puts the calls into the program that close all descriptors but those that the child needs. The first of them
// makes the child's table its own, up to the last that it needs.
func (b *birth) closeOthers() {
	if b.shut < 0 {
		return // the program has not come to that
	}
	var tail program
	shut := func(first, last, flags uint) {
		tail.call("close descriptors", "", unix.SYS_CLOSE_RANGE, num(first), num(last), num(flags))
	}
	needed := b.needed()
	shut(needed[len(needed)-1]+1, uint(^uint32(0)), unix.CLOSE_RANGE_UNSHARE)
	next := uint(0)
	for _, fd := range needed {
		if fd > next {
			shut(next, fd-1, 0)
		}
		next = fd + 1
	}
	b.calls = slices.Insert(b.calls, b.shut, tail.calls...)
	b.where = slices.Insert(b.where, b.shut, tail.where...)
	b.steps = slices.Insert(b.steps, b.shut, tail.steps...)
	if b.resume > b.shut {
		b.resume += len(tail.calls)
	}
}

// needed are the descriptors that the child works with, in order, and the standard ones, whose numbers it must not lose to
// another file.
func (b *birth) needed() []uint {
	list := []uint{0, 1, 2, uint(b.socket.v)}
	for _, f := range slices.Concat(b.files, []*os.File{b.Stdin, b.Stdout, b.Stderr, b.Join}) {
		if f != nil {
			list = append(list, uint(f.Fd()))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// stdio puts the three streams in their places, by way of high numbers, so that none is overwritten before its turn,
// and lets the exec close all others.
func (b *birth) stdio() error {
	if !b.spec.Process.Terminal {
		var fds [3]slot
		for i, f := range []*os.File{b.Stdin, b.Stdout, b.Stderr} {
			if f == nil {
				null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
				if err != nil {
					return err
				}
				b.keep(null)
				f = null
			}
			fds[i] = b.slot()
			b.call("copy stream", f.Name(), unix.SYS_FCNTL, num(f.Fd()), num(unix.F_DUPFD_CLOEXEC), num(10)).into(fds[i])
		}
		for i, fd := range fds {
			b.call("place stream", "", unix.SYS_DUP3, fd.value(), num(i), num(0))
		}
	}
	b.call("close descriptors", "", unix.SYS_CLOSE_RANGE, num(3), num(^uint32(0)), num(unix.CLOSE_RANGE_CLOEXEC))
	return nil
}
