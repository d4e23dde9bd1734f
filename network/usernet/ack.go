package usernet

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The stack acknowledges all that comes at once. What answers a short request carries an acknowledgement itself, and so the one
// before it, a packet of its own, is held for a moment, as kernels do (RFC 1122, 4.2.3.2).

// holdTime is the period of the clock that ends it: one is held for up to twice as long.
const holdTime = 2 * time.Millisecond

// holdPause is how many go at once after one that was held for nothing. Whoever sends a request in two pieces may wait for the
// acknowledgement of the first before the second goes (RFC 896), and would for each.
const holdPause = 16

// heldBytes is the most that a held one may acknowledge: whoever sends more at once waits for it.
const heldBytes = 2048

// acks is at most one held acknowledgement of a port's.
type acks struct {
	port *port

	mu      sync.Mutex
	flow    ackFlow // whose packet went last, or is held
	number  uint32  // what has been acknowledged of it
	pause   int     // how many are not to be held
	held    *stack.PacketBuffer
	aged    bool // the clock has seen it
	ticking bool
}

// ackFlow is a connection, as a packet to the container names it.
type ackFlow struct {
	from, to         tcpip.Address
	fromPort, toPort uint16
}

// hold takes note of a packet to the container and says whether it need not go now.
func (a *acks) hold(pkt *stack.PacketBuffer) bool {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize {
		return false
	}
	net := pkt.Network()
	flow := ackFlow{net.SourceAddress(), net.DestinationAddress(), h.SourcePort(), h.DestinationPort()}
	number := h.AckNumber()
	a.mu.Lock()
	defer a.mu.Unlock()
	if flow != a.flow { // one that goes between two of another has to wait no longer either
		a.send()
		a.flow, a.number, a.pause = flow, number, 0
		return false
	}
	covered := number - a.number
	again := a.drop() // this one says all that the held one says
	a.number = number
	const longest = header.TCPMinimumSize + 12 // with a timestamp, but no ranges: those tell of a loss
	if again || pkt.Data().Size() > 0 || h.Flags() != header.TCPFlagAck || len(h) > longest || covered == 0 || covered > heldBytes {
		return false
	}
	if a.pause > 0 {
		a.pause--
		return false
	}
	a.held, a.aged = pkt.IncRef(), false
	if !a.ticking {
		a.ticking = true
		time.AfterFunc(holdTime, a.tick)
	}
	return true
}

// send lets a held one go.
func (a *acks) send() {
	if a.held != nil {
		a.port.writePacket(a.held)
		a.drop()
	}
}

func (a *acks) drop() bool {
	if a.held == nil {
		return false
	}
	a.held.DecRef()
	a.held = nil
	return true
}

// tick lets go what it has seen before. To set a clock for each would cost as much as the packet does.
func (a *acks) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.held == nil:
		a.ticking = false
		return
	case a.aged:
		a.send()
		a.pause = holdPause
	default:
		a.aged = true
	}
	time.AfterFunc(holdTime, a.tick)
}
