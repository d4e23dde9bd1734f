package usernet

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// cableEnd is a port whose device is a socket, and the socket's other end.
func cableEnd(t *testing.T) (p *port, other int) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(ends[0]), "device")
	t.Cleanup(func() { file.Close(); unix.Close(ends[1]) })
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p = &port{file: file, raw: raw}
	p.acks.port = p
	return p, ends[1]
}

// segment is what the stack sends a container on a connection that its port of the container's tells apart.
type segment struct {
	port    uint16
	number  uint32
	flags   header.TCPFlags
	data    string
	options []byte
}

func (s segment) packet() *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: 100, Payload: buffer.MakeWithData([]byte(s.data)),
	})
	tcp := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize + len(s.options)))
	tcp.Encode(&header.TCPFields{
		SrcPort: 80, DstPort: s.port, AckNum: s.number, Flags: s.flags, DataOffset: uint8(len(tcp)),
	})
	copy(tcp[header.TCPMinimumSize:], s.options)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(pkt.Size()), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 1}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 2}),
	})
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	return pkt
}

// arrived is the number that the next frame acknowledges, if there is one.
func arrived(t *testing.T, fd int) (number uint32, ok bool) {
	t.Helper()
	var b [200]byte
	n, err := unix.Read(fd, b[:])
	if err == unix.EAGAIN {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return header.TCP(b[vnetSize+header.IPv4MinimumSize : n]).AckNumber(), true
}

// TestHold tells of each packet whether it goes at once, and what went with it.
func TestHold(t *testing.T) {
	const ack, push = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh
	timestamp := []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	first := segment{1, 1000, ack, "", nil}
	for _, row := range []struct {
		name     string
		segments []segment
		want     []uint32 // what has gone before the clock is asked
		held     uint32   // what goes then
	}{
		{"the first of a connection", []segment{first}, []uint32{1000}, 0},
		{"few bytes", []segment{first, {1, 1001, ack, "", nil}}, []uint32{1000}, 1001},
		{"with a timestamp", []segment{first, {1, 1001, ack, "", timestamp}}, []uint32{1000}, 1001},
		{"over the numbers' end", []segment{{1, 1<<32 - 1, ack, "", nil}, {1, 1, ack, "", nil}}, []uint32{1<<32 - 1}, 1},
		{"then an answer", []segment{first, {1, 1001, ack, "", nil}, {1, 1001, push, "x", nil}}, []uint32{1000, 1001}, 0},
		{"data", []segment{first, {1, 1001, ack, "x", nil}}, []uint32{1000, 1001}, 0},
		{"then the end", []segment{first, {1, 1001, ack, "", nil}, {1, 1001, ack | header.TCPFlagFin, "", nil}}, []uint32{1000, 1001}, 0},
		{"every second", []segment{first, {1, 1001, ack, "", nil}, {1, 1002, ack, "", nil}, {1, 1003, ack, "", nil}}, []uint32{1000, 1002}, 1003},
		{"many bytes", []segment{first, {1, 1001 + heldBytes, ack, "", nil}}, []uint32{1000, 1001 + heldBytes}, 0},
		{"the same again", []segment{first, first}, []uint32{1000, 1000}, 0},
		{"ranges", []segment{first, {1, 1001, ack, "", append(append([]byte{}, timestamp...), make([]byte, 12)...)}}, []uint32{1000, 1001}, 0},
		{"another connection", []segment{first, {1, 1001, ack, "", nil}, {2, 5, ack, "", nil}}, []uint32{1000, 1001, 5}, 0},
		{"another and the first again", []segment{first, {2, 5, ack, "", nil}, {1, 1001, ack, "", nil}}, []uint32{1000, 5, 1001}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, other := cableEnd(t)
			p.acks.ticking = true // by the test
			for _, s := range row.segments {
				pkt := s.packet()
				if !p.acks.hold(pkt) {
					p.writePacket(pkt)
				}
				pkt.DecRef()
			}
			for _, want := range row.want {
				if got, ok := arrived(t, other); !ok || got != want {
					t.Errorf("%d %v, not %d", got, ok, want)
				}
			}
			if got, ok := arrived(t, other); ok {
				t.Error("too early:", got)
			}
			p.acks.mu.Lock()
			p.acks.aged = true
			p.acks.mu.Unlock()
			p.acks.tick()
			if got, ok := arrived(t, other); ok != (row.held != 0) || got != row.held {
				t.Errorf("held: %d %v, not %d", got, ok, row.held)
			}
		})
	}
}

// TestHeldGoes: what nobody answers goes all the same, and the clock stops. Those that come then go at once, for a while.
func TestHeldGoes(t *testing.T) {
	p, other := cableEnd(t)
	number := uint32(1000)
	next := func() (held bool) {
		number++
		pkt := segment{1, number, header.TCPFlagAck, "", nil}.packet()
		defer pkt.DecRef()
		return p.acks.hold(pkt)
	}
	if next() {
		t.Error("the first of a connection was held")
	}
	for range 2 {
		if !next() {
			t.Fatal(number, "not held")
		}
		for {
			if got, ok := arrived(t, other); ok {
				if got != number {
					t.Error(got)
				}
				break
			}
			time.Sleep(time.Millisecond)
		}
		for ticking := true; ticking; time.Sleep(time.Millisecond) {
			p.acks.mu.Lock()
			ticking = p.acks.ticking
			p.acks.mu.Unlock()
		}
		for range holdPause {
			if next() {
				t.Fatal(number, "held")
			}
		}
	}
}
