package run

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/run/monitor"
)

// TestLeaveKeys types text in pieces; the keys are a and b.
func TestLeaveKeys(t *testing.T) {
	for _, row := range []struct {
		typed []string
		out   string
		leave bool
	}{
		{[]string{"xyz"}, "xyz", false},
		{[]string{"xab"}, "x", true},
		{[]string{"a", "b"}, "", true},
		{[]string{"a", "x"}, "ax", false},
		{[]string{"aab"}, "a", true},
		{[]string{"a", "a", "a", "x"}, "aaax", false},
		{[]string{"a"}, "", false}, // held back until it is clear
		{[]string{"xabc"}, "x", true},
	} {
		k := leaveKeys{want: []byte("ab")}
		out, left := "", false
		for _, typed := range row.typed {
			b, leave := k.filter([]byte(typed))
			out, left = out+string(b), left || leave
		}
		if out != row.out || left != row.leave {
			t.Errorf("%q: %q and %v, want %q and %v", row.typed, out, left, row.out, row.leave)
		}
	}
	none := leaveKeys{}
	if b, leave := none.filter([]byte("ab")); string(b) != "ab" || leave {
		t.Error("without keys nothing is held back")
	}
}

// TestDeafClient: a container can be removed whose output nobody takes who is tethered to it.
func TestDeafClient(t *testing.T) {
	config := verbConfig(t, "flood")
	config.Process.TTY = true
	c := create(t, testHost(t), config)
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	a := &attachment{fd: ours, options: AttachOptions{Stdout: true}, tethered: true}
	if err := a.hello(); err != nil {
		t.Fatal(err)
	}
	if err := c.start(context.Background(), theirs); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	eventually(t, "the flood rests", func() bool {
		before, err := readStat(c.Pid)
		time.Sleep(50 * time.Millisecond)
		after, _ := readStat(c.Pid)
		return err == nil && after.user+after.system == before.user+before.system && after.state == 'S'
	})
	if err := c.Remove(RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestLastWordUnread: a monitor's last word arrives even if the monitor has not read all that was sent to it.
func TestLastWordUnread(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	a := &attachment{fd: ours, left: make(chan struct{})}
	if err := a.send(monitor.KindSize, []byte{0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	for _, message := range [][]byte{append([]byte{monitor.KindStdout}, "bye"...), exitMessage(Result{Code: 7})} {
		if err := unix.Send(int(theirs.Fd()), message, 0); err != nil {
			t.Fatal(err)
		}
	}
	theirs.Close()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a.io.Out = out
	res, ended := a.listen()
	if text, err := os.ReadFile(out.Name()); !ended || res.Code != 7 || string(text) != "bye" || err != nil {
		t.Errorf("%+v, ended %v, printed %q, %v", res, ended, text, err)
	}
}
