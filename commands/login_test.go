package commands

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPasswordInterrupted interrupts whoever is asked for a password before he could type: the terminal shows again what is typed,
// and goes on doing so.
func TestPasswordInterrupted(t *testing.T) {
	silence, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer silence.Close()
	for range 20 {
		master, slave := openTerminal(t)
		before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("interrupt")
		cancel(why)
		s := &session{in: slave, out: silence, err: silence}
		if err := s.askPassword(ctx, &loginOptions{}); !errors.Is(err, why) {
			t.Fatal(err)
		}
		for range 5 {
			after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			if *after != *before {
				t.Fatalf("%+v, not %+v", after, before)
			}
			time.Sleep(time.Millisecond)
		}
		slave.Close()
		master.Close()
	}
}

// TestPasswordTyped: a line is a password, whatever the terminal was set to.
func TestPasswordTyped(t *testing.T) {
	silence, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer silence.Close()
	for typed, want := range map[string]string{"hush\r": "hush", "a long one, of more than sixteen bytes \n": "a long one, of more than sixteen bytes ", "\r": ""} {
		master, slave := openTerminal(t)
		mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		mode.Lflag &^= unix.ICANON | unix.ISIG
		mode.Iflag &^= unix.ICRNL
		if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
			t.Fatal(err)
		}
		s, o := &session{in: slave, out: silence, err: silence}, &loginOptions{}
		go func() {
			for { // typed ahead it would be read in the old mode
				now, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
				if err != nil || now.Lflag&unix.ECHO == 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			_, _ = master.WriteString(typed)
		}()
		err = s.askPassword(t.Context(), o)
		if o.password != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", typed, o.password, err)
		}
		if after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || *after != *mode {
			t.Errorf("%+v, not %+v: %v", after, mode, err)
		}
	}
}
