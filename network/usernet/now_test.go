package usernet

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// What is written in pieces, more than usual and some of them empty, is read in pieces; nobody waits.
func TestNow(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	r, w := uintptr(ends[0]), uintptr(ends[1])
	var pieces [][]byte
	var all []byte
	for i := range 20 {
		piece := bytes.Repeat([]byte{'a' + byte(i)}, i%5)
		pieces, all = append(pieces, piece), append(all, piece...)
	}
	if n, err := writeNow(w, pieces...); n != len(all) || err != nil {
		t.Fatalf("wrote %d, %v, want %d", n, err, len(all))
	}
	head, tail := make([]byte, 3), make([]byte, 100)
	n, err := readNow(r, head, tail)
	if got := append(head, tail...)[:max(n, 0)]; !bytes.Equal(got, all) || err != nil {
		t.Errorf("read %q, %v, want %q", got, err, all)
	}
	if _, err := readNow(r, head); err != unix.EAGAIN {
		t.Errorf("read of nothing: %v, want EAGAIN", err)
	}
	unix.Close(ends[0])
	if _, err := writeNow(w, all); err != unix.EPIPE {
		t.Errorf("write to nobody: %v, want EPIPE", err)
	}
}
