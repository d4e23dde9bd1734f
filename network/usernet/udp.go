package usernet

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// silence is after how long two who exchange datagrams count as having parted: RFC 4787 wants two minutes at least.
const silence = 2 * time.Minute

// maxFlows is how many sockets those who exchange datagrams may take on the host.
const maxFlows = 4096

// flows counts them.
type flows struct {
	mu sync.Mutex
	n  int
}

func (f *flows) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n >= maxFlows {
		return false
	}
	f.n++
	return true
}

func (f *flows) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
}

// udpHandler gives the stack what to do with the first datagram to somewhere.
func (n *Network) udpHandler() func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	f := udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) bool { return n.connectUDP(r) })
	return func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		to := netip.AddrPortFrom(addrOf(id.LocalAddress), id.LocalPort)
		if to.Addr().IsMulticast() || to.Addr() == n.broadcast() {
			return true // to everybody, which is nobody here
		}
		if !n.policy.connect("udp", to).pass {
			n.tell(originOf(pkt), prohibited)
			return true
		}
		return f.HandlePacket(id, pkt)
	}
}

// broadcast is the last address of the network.
func (n *Network) broadcast() netip.Addr {
	p := n.config.Gateway4
	if !p.IsValid() {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// connectUDP makes the host's socket and joins the two until both are silent.
func (n *Network) connectUDP(r *udp.ForwarderRequest) bool {
	if !n.flows.begin() {
		return true
	}
	wq := new(waiter.Queue)
	ep, e := r.CreateEndpoint(wq)
	if e != nil {
		n.flows.end()
		return true
	}
	id := r.ID()
	go func() {
		defer n.flows.end()
		in := &udpInside{gonet.NewUDPConn(wq, ep), ep, wq}
		defer in.Close()
		o := n.udpOrigin(id)
		out, err := n.dialUDP(netip.AddrPortFrom(o.to, id.LocalPort))
		if err != nil {
			n.unreachable(o, err)
			return
		}
		defer out.Close()
		defer endWith(n.lifeOf(o.from), func() { out.Close(); in.Close() })()
		exchange(in, out, func(b []byte) bool { return n.policy.datagram(netip.AddrPortFrom(o.to, id.LocalPort), b) }, func(err error) {
			if errors.Is(err, unix.ECONNREFUSED) {
				n.tell(o, noPort)
			} else {
				n.unreachable(o, err)
			}
		})
	}()
	return true
}

func (n *Network) dialUDP(to netip.AddrPort) (*net.UDPConn, error) {
	var last error = unix.EHOSTUNREACH
	for _, a := range n.outside(to.Addr()) {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, to.Port())))
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, last
}

// exchange copies datagrams both ways until there has been none for a while, to the outside only those that pass. What the outside's kernel says of datagrams that
// did not arrive is passed to failed.
func exchange(in *udpInside, out *net.UDPConn, passes func([]byte) bool, failed func(error)) {
	raw, err := out.SyscallConn()
	if err != nil {
		return
	}
	var last atomic.Int64
	touch := func() { last.Store(time.Now().UnixNano()) }
	touch()
	// over says whether an error ends the exchange: the silence of one side does, if the other's is as long.
	over := func(err error) bool {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return time.Since(time.Unix(0, last.Load())) >= silence
		case transient(err):
			failed(err)
			return false
		}
		return true
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer in.Close()
		for {
			_ = out.SetReadDeadline(time.Now().Add(silence))
			err := readDatagram(raw, func(b []byte) {
				touch()
				_, _ = in.Write(b)
			})
			if err != nil && over(err) {
				return
			}
		}
	})
	both.Go(func() {
		defer out.Close()
		for {
			var sent error
			err := in.read(silence, func(b []byte) {
				touch()
				if passes(b) {
					_, sent = out.Write(b)
				}
			})
			if err == nil {
				err = sent
			}
			if err != nil && over(err) {
				return
			}
		}
	})
	both.Wait()
}

// readDatagram waits until there is one and gives it to f. Only then it takes a buffer: most wait.
func readDatagram(raw syscall.RawConn, f func([]byte)) error {
	var err error
	outer := raw.Read(func(fd uintptr) bool {
		buf := datagrams.Get().(*[maxDatagram]byte)
		defer datagrams.Put(buf)
		var n int
		for {
			if n, err = unix.Read(int(fd), buf[:]); err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			return false
		}
		if err == nil {
			f(buf[:n])
		}
		return true
	})
	return cmp.Or(outer, err)
}

// udpInside is the end of an exchange of datagrams in the stack.
type udpInside struct {
	*gonet.UDPConn
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// read waits until there is a datagram, for so long, and gives it to f.
func (u *udpInside) read(limit time.Duration, f func([]byte)) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	u.wq.EventRegister(&entry)
	defer u.wq.EventUnregister(&entry)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		done, err := u.readNow(f)
		if done || err != nil {
			return err
		}
		select {
		case <-ready:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

func (u *udpInside) readNow(f func([]byte)) (done bool, err error) {
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	w := tcpip.SliceWriter(buf[:])
	res, e := u.ep.Read(&w, tcpip.ReadOptions{})
	switch e.(type) {
	case nil:
		f(buf[:res.Count])
		return true, nil
	case *tcpip.ErrWouldBlock:
		return false, nil
	case *tcpip.ErrConnectionRefused: // the container says by ICMP that nobody is there
		return true, nil
	}
	return true, net.ErrClosed
}

// transient says whether an error is about one datagram only, an answer by ICMP for example.
func transient(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.ENOBUFS, unix.EPERM, unix.EACCES, unix.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// maxDatagram is the largest there can be.
const maxDatagram = 65535

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}
