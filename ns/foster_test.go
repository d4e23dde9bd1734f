package ns

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heir is what the parent of a detached program becomes: it says what it has of this world, and how its child ends.
func heir(args []string) error {
	list := openFds()
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), "out")
	sid, _ := unix.Getsid(0)
	null, _ := os.Readlink("/proc/self/fd/0")
	wd, _ := os.Getwd()
	fmt.Fprintln(out, len(list), sid == os.Getpid(), null, wd, statusLine("SigBlk:"), os.Getenv("LAST"))
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
	fmt.Fprintln(out, pid, status.Signal(), err)
	return nil
}

func statusLine(name string) string {
	for _, l := range lines("/proc/self/status") {
		if rest, ok := strings.CutPrefix(l, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// TestDetach: a program whose parent becomes another program.
func TestDetach(t *testing.T) {
	before := names("/proc/self/fd")
	b := newBox(t, "sleep")
	b.Detach = true
	if !b.CanDetach() {
		t.Fatal("cannot detach")
	}
	attached := 0
	b.Attach = func(int) error { attached = b.Parent(); return nil }
	p, _ := b.start()
	parent := b.Parent()
	if parent == 0 || attached != parent || parentOf(p.Pid) != parent || parentOf(parent) != os.Getpid() || p.WaitPid() != parent {
		t.Errorf("the program %d has the parent %d, and that has %d: want %d and %d", p.Pid, parentOf(p.Pid), parentOf(parent), parent, os.Getpid())
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd())
	if err := p.HandOver([]string{"heir", itoa(fd)}, []string{verbEnv + "=heir", "LAST=word"}, []int{fd}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(r, "1 true /dev/null / 0000000000000000 word"); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil { // it runs
		t.Error(err)
	}
	if err := waitFor(r, fmt.Sprint(p.Pid, " killed <nil>")); err != nil {
		t.Error(err)
	}
	r.Close()
	for _, fd := range names("/proc/self/fd") {
		if to, err := os.Readlink("/proc/self/fd/" + fd); err == nil && !slices.Contains(before, fd) && strings.HasPrefix(to, "socket:") {
			t.Errorf("descriptor %s is left: %s", fd, to)
		}
	}
}

// TestFosterDismissed: a program that is given up takes its parent along, before its start and after.
func TestFosterDismissed(t *testing.T) {
	for _, start := range []bool{false, true} {
		b := newBox(t, "sleep")
		b.Detach = true
		before := len(names("/proc/self/fd"))
		p, err := b.Create()
		if err != nil {
			t.Fatal(err)
		}
		pid, parent := p.Pid, b.Parent()
		if start {
			if err := p.Start(); err != nil {
				t.Error(err)
			}
		}
		if _, err := p.Wait(); err != nil { // without a signal: the parent sends it
			t.Error(err)
		}
		for _, n := range []int{pid, parent} {
			if err := unix.Kill(n, 0); err != unix.ESRCH {
				t.Errorf("process %d of %d and %d: %v", n, parent, pid, err)
			}
		}
		if after := len(names("/proc/self/fd")); after > before {
			t.Errorf("%d descriptors are open, before %d", after, before)
		}
	}
}

// TestFosterInterrupted: a parent that comes late to its wait, or begins it once more as after a stop, waits for the same as
// at first: what belongs to the child's birth is closed by then.
func TestFosterInterrupted(t *testing.T) {
	b := newBox(t, "sleep")
	b.Detach = true
	p, _ := b.start()
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		if err := unix.Kill(b.Parent(), sig); err != nil {
			t.Fatal(err)
		}
		for try := 0; strings.HasPrefix(statOf(b.Parent()), "T") != (sig == unix.SIGSTOP); try++ {
			if try == 1000 {
				t.Fatalf("after signal %d it is %s", sig, statOf(b.Parent()))
			}
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if err := p.HandOver([]string{"heir", "0"}, []string{verbEnv + "=exit"}, nil); err != nil {
		t.Error(err)
	}
}

// statOf is what /proc/PID/stat says from the state on.
func statOf(pid int) string {
	data, _ := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(data), ") ")
	return rest
}

// TestFosterKilled: if somebody kills the parent, the program ends, and who hands over hears of it.
func TestFosterKilled(t *testing.T) {
	b := newBox(t, "sleep")
	b.Detach = true
	p, out := b.start()
	if err := unix.Kill(b.Parent(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if n, err := out.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("the program lives on: %d, %v", n, err)
	}
	if err := p.HandOver([]string{"heir"}, nil, nil); err == nil || !strings.Contains(err.Error(), "was it killed?") {
		t.Error(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestFosterless: where the kernel makes no such child, the reason is that of the child.
func TestFosterless(t *testing.T) {
	b := newBox(t, "sleep")
	b.Detach = true
	b.Cgroup = b.file("no group")
	before := len(names("/proc/self/fd"))
	if _, err := b.Create(); err == nil || !strings.Contains(err.Error(), "create namespaces: ") {
		t.Error(err)
	}
	if after := len(names("/proc/self/fd")); after > before {
		t.Errorf("%d descriptors are open, before %d", after, before)
	}
}

// TestHandOverFails: what cannot be executed leaves the program with nobody, and it ends.
func TestHandOverFails(t *testing.T) {
	b := newBox(t, "sleep")
	b.Detach = true
	p, out := b.start()
	long := strings.Repeat("x", 1<<20) // longer than an argument may be, execve(2)
	if err := p.HandOver([]string{"heir", long}, nil, nil); err == nil || !strings.Contains(err.Error(), "execute /proc/self/exe: argument list too long") {
		t.Error(err)
	}
	if n, err := out.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("the program lives on: %d, %v", n, err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}
