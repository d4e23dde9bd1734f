package ns

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/ns/early"
)

// perform lays p out, carries it out in this very process, and gives its data.
func perform(t *testing.T, p *program) []byte {
	t.Helper()
	b := p.finish(0, -1)
	early.Perform(b.place(), 0, uintptr(b.head.NCalls), ^uintptr(0))
	data := b.head.Calls + b.head.NCalls*uint64(early.CallSize)
	return b.bytes()[data:]
}

func newProgram() *program { return &program{data: make([]byte, 8)} }

func word(data []byte, s slot) uint64 { return *(*uint64)(unsafe.Pointer(&data[s])) }

// TestProgram has a program read what it has written, through addresses that are only known once it is laid out.
func TestProgram(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	p := newProgram()
	pid, read, buf := p.slot(), p.slot(), p.bytes(make([]byte, 16))
	p.call("pid", "", unix.SYS_GETPID).into(pid)
	list := p.strs([]string{"one", "two"}) // argv: its words are addresses too
	p.call("write", "", unix.SYS_WRITE, num(fds[1]), p.str("hello"), num(5))
	iov := p.array([]arg{p.bytes([]byte(", world")), num(7)})
	p.call("writev", "", unix.SYS_WRITEV, num(fds[1]), iov, num(1))
	p.call("close", "", unix.SYS_CLOSE, num(fds[1]))
	p.call("read", "", unix.SYS_READ, num(fds[0]), buf, num(16)).into(read)
	copied := p.slot()
	p.call("dup", "", unix.SYS_FCNTL, num(fds[0]), num(unix.F_DUPFD_CLOEXEC), num(200)).into(copied)
	p.call("close", "", unix.SYS_CLOSE, copied.value()) // a word that an earlier call has filled
	data := perform(t, p)
	if got := word(data, pid); got != uint64(os.Getpid()) {
		t.Errorf("pid %d", got)
	}
	if n := word(data, read); n != 12 || string(data[buf.v:buf.v+n]) != "hello, world" {
		t.Errorf("read %d: %q", n, data[buf.v:buf.v+16])
	}
	if n := word(data, copied); n < 200 || unix.Close(int(n)) == nil {
		t.Errorf("descriptor %d was not closed", n)
	}
	first := word(data, slot(list.v))
	if at := uint64(uintptr(unsafe.Pointer(&data[0]))); first <= at || string(data[first-at:first-at+4]) != "one\x00" || word(data, slot(list.v+16)) != 0 {
		t.Error("the list of strings does not lead to them")
	}
}

// TestSkips goes every way around calls.
func TestSkips(t *testing.T) {
	const bad = 1 << 20 // no such descriptor
	for _, row := range []struct {
		name string
		one  func(*program) *call
		want string // which of the two calls that follow are performed
	}{
		{"on", func(p *program) *call { return p.call("", "", unix.SYS_GETPID) }, "12"},
		{"then skip", func(p *program) *call { return p.call("", "", unix.SYS_GETPID).thenSkip(1) }, "2"},
		{"then skip all", func(p *program) *call { return p.call("", "", unix.SYS_GETPID).thenSkip(2) }, ""},
		{"or skip, not needed", func(p *program) *call { return p.call("", "", unix.SYS_GETPID).orSkip(1) }, "12"},
		{"or skip", func(p *program) *call { return p.call("", "", unix.SYS_CLOSE, num(bad)).orSkip(1) }, "2"},
		{"or skip this error", func(p *program) *call {
			return p.call("", "", unix.SYS_CLOSE, num(bad)).orSkip(1, unix.EPERM, unix.EBADF)
		}, "2"},
		{"or go on", func(p *program) *call { return p.call("", "", unix.SYS_CLOSE, num(bad)).orGoOn() }, "12"},
		{"both", func(p *program) *call {
			return p.call("", "", unix.SYS_CLOSE, num(bad)).thenSkip(1).orGoOn(unix.EBADF)
		}, "12"},
		{"nonzero", func(p *program) *call { return p.call("", "", unix.SYS_GETPID).nonzero() }, "12"},
		{"zero where it counts", func(p *program) *call {
			return p.call("", "", unix.SYS_GETPGID, num(bad<<10)).nonzero().orSkip(1, unix.ESRCH, unix.EPIPE)
		}, "2"},
		{"zero is EPIPE", func(p *program) *call {
			return p.call("", "", unix.SYS_PRCTL, num(unix.PR_GET_TIMING)).nonzero().orSkip(1, unix.EPIPE)
		}, "2"},
	} {
		p := newProgram()
		row.one(p)
		var s [2]slot
		for i := range s {
			s[i] = p.slot()
			p.call("", "", unix.SYS_GETPID).into(s[i])
		}
		data, got := perform(t, p), ""
		for i := range s {
			if word(data, s[i]) != 0 {
				got += string(rune('1' + i))
			}
		}
		if got != row.want {
			t.Errorf("%s: performed %q, want %q", row.name, got, row.want)
		}
	}
}

// TestRelocation moves a finished program: it is the same, but for its addresses.
func TestRelocation(t *testing.T) {
	p := newProgram()
	s := p.slot()
	p.call("one", "", unix.SYS_WRITE, num(1), p.str("text"), s.value()).into(s)
	p.array([]arg{p.str("a"), num(7), p.str("b")})
	b := p.finish(1, 5)
	if b.head.NReloc != 5 || b.head.First != 1 || b.head.Socket != 5 || b.head.NCalls != 1 {
		t.Errorf("%+v", b.head)
	}
	two := append([]uint64(nil), b.mem...)
	move := func(mem []uint64) uint64 {
		h := (*early.Header)(unsafe.Pointer(&mem[0]))
		base := uintptr(unsafe.Pointer(&mem[0]))
		early.Relocate(base, h)
		return uint64(base)
	}
	x, y := move(b.mem), move(two)
	moved := 0
	for i := range two {
		if b.mem[i]-two[i] == x-y {
			moved++
		} else if b.mem[i] != two[i] {
			t.Errorf("word %d: %x and %x", i, b.mem[i], two[i])
		}
	}
	if moved != 5 {
		t.Errorf("%d words moved", moved)
	}
}

func TestErrorWords(t *testing.T) {
	p := newProgram()
	p.call("mount proc on", "/proc", unix.SYS_MOUNT)
	p.call("set umask", "", unix.SYS_UMASK)
	for i, want := range []string{"mount proc on /proc: operation not permitted", "set umask: operation not permitted", "container init: call 2 of 2: operation not permitted"} {
		if err := p.error(i, unix.EPERM); err.Error() != want || !errors.Is(err, unix.EPERM) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (&Process{birth: &birth{program: *p}}).reported(nil); !strings.Contains(err.Error(), "ended without a word") {
		t.Error(err)
	}
}
