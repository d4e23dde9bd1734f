package usernet

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// MTU is that of the device in the container, in bytes: the largest whose Ethernet frame still fits the 64 KiB that the stack
// keeps in one piece. The fewer packets, the faster.
const MTU = 65520

// vnetSize is the size of struct virtio_net_hdr, which goes before each frame (linux/virtio_net.h).
const vnetSize = 10

// link is the stack's device, and the switch between its members: what one sends to the hardware address of another goes
// there as it came, in frames as large as the kernels make them; what is for the gateway's goes to the stack. It is an
// endpoint of its own because gVisor's fdbased knows one cable, and the header below for sockets only.
type link struct {
	network *Network
	mac     tcpip.LinkAddress
	rest    *rest // nil if the process is not the network's own

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
	ports      map[tcpip.LinkAddress]*port
}

// port is where a member's cable ends: a tap device with IFF_VNET_HDR, or a packet socket with PACKET_VNET_HDR, which read and
// write alike. Thanks to that header neither side computes checksums of TCP in software.
type port struct {
	link   *link
	member *member
	mac    tcpip.LinkAddress
	file   *os.File
	raw    syscall.RawConn
	acks   acks
}

func newLink(n *Network, mac tcpip.LinkAddress) *link {
	return &link{network: n, mac: mac, ports: map[tcpip.LinkAddress]*port{}}
}

// open takes the file of a member's device over and begins to read.
func (l *link) open(file *os.File, m *member) (*port, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &port{link: l, member: m, mac: tcpip.LinkAddress(m.Device.MAC), file: file, raw: raw}
	p.acks.port = p
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports[p.mac] != nil || p.mac == l.mac {
		return nil, fmt.Errorf("hardware address %s: another member has it", m.Device.MAC)
	}
	l.ports[p.mac] = p
	go p.read()
	return p, nil
}

// close takes the port away, and with it the device.
func (p *port) close() {
	p.link.mu.Lock()
	if p.link.ports[p.mac] == p {
		delete(p.link.ports, p.mac)
	}
	p.link.mu.Unlock()
	p.file.Close()
}

// closeAside is close, but a worker of the kernel's does what it takes, if the kernel has one for it (Linux 6.9): to take a tap
// device away it waits for all processors, twice, and nobody needs to wait with it whose process has ended. Descriptors that are on their way to a socket
// which is on its own way to itself are nobody's any more, and so they are for the worker to close (unix_gc in net/unix/garbage.c).
func (p *port) closeAside() {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(ends[0])
		defer unix.Close(ends[1])
		_ = p.raw.Control(func(fd uintptr) {
			_ = unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(int(fd), ends[1]), nil, 0)
		})
	}
	p.close()
}

// The methods of stack.LinkEndpoint and stack.GSOEndpoint.

func (l *link) MTU() uint32                             { return MTU }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (l *link) LinkAddress() tcpip.LinkAddress          { return l.mac }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) Close()                                  {}
func (l *link) Wait()                                   {}
func (l *link) GSOMaxSize() uint32                      { return 65535 - 120 } // less the longest headers: a frame's length has 16 bits
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Attach says who gets what is for the stack, nil for nobody.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

func (l *link) ParseHeader(pkt *stack.PacketBuffer) bool {
	h, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(h).Type()
	}
	return ok
}

// smallFrame is the size in bytes up to which a frame is copied, so that the buffer for a large one can be used again.
const smallFrame = 2048

// read takes frames in until the device goes.
func (p *port) read() {
	defer p.member.leave()
	var vnet [vnetSize]byte
	view := buffer.NewViewSize(buffer.MaxChunkSize)
	for {
		n, err := p.readFrame(vnet[:], view.AsSlice())
		if err == unix.EINTR || err == unix.ENETDOWN { // a packet socket tells that its device was set down
			continue
		}
		if err != nil || n < 0 {
			return
		}
		if n < header.EthernetMinimumSize {
			continue
		}
		p.link.rest.touch()
		if !p.pass(vnet[:], view.AsSlice()[:n]) {
			continue
		}
		var frame *buffer.View
		if n <= smallFrame {
			frame = buffer.NewViewWithData(view.AsSlice()[:n])
		} else {
			frame, view = view, buffer.NewViewSize(buffer.MaxChunkSize)
			frame.CapLength(n)
		}
		p.link.deliver(frame)
	}
}

func (l *link) deliver(frame *buffer.View) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
	defer pkt.DecRef()
	if !l.ParseHeader(pkt) {
		return
	}
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
	}
}

// readFrame gives the size of a frame, or -1 at the end.
func (p *port) readFrame(vnet, frame []byte) (n int, err error) {
	outer := p.raw.Read(func(fd uintptr) bool {
		n, err = readNow(fd, vnet, frame)
		return err != unix.EAGAIN
	})
	if outer != nil {
		return -1, outer
	}
	return n - vnetSize, err
}

// WritePackets gives devices frames. One that a device does not take is lost, as on a cable; TCP sends it again.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	list := pkts.AsSlice()
	for _, pkt := range list {
		if to := pkt.EgressRoute.RemoteLinkAddress; isGroup(to) {
			l.flood(nil, framed(pkt))
		} else if p := l.port(to); p != nil && !p.acks.hold(pkt) {
			p.writePacket(pkt)
		}
	}
	return len(list), nil
}

func (p *port) writePacket(pkt *stack.PacketBuffer) { p.writeFrame(framed(pkt)) }

// framed is what a device reads of a packet.
func framed(pkt *stack.PacketBuffer) [][]byte {
	vnet := make([]byte, vnetSize)
	offload(vnet, pkt)
	return append(append(make([][]byte, 0, 8), vnet), pkt.AsSlices()...)
}

func (p *port) writeFrame(pieces [][]byte) {
	_ = p.raw.Write(func(fd uintptr) bool {
		_, err := writeNow(fd, pieces...)
		return err != unix.EAGAIN
	})
}

// Of struct virtio_net_hdr.
const (
	vnetNeedsCsum = 1
	vnetTCPv4     = 1
	vnetTCPv6     = 4
)

// offload fills in a packet's struct virtio_net_hdr: where the kernel is to put the checksum if it ever needs one, and how
// long the segments would be.
func offload(vnet []byte, pkt *stack.PacketBuffer) {
	gso := &pkt.GSOOptions
	if gso.Type == stack.GSONone {
		return
	}
	binary.NativeEndian.PutUint16(vnet[2:], uint16(pkt.HeaderSize()))
	if gso.NeedsCsum {
		vnet[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(vnet[6:], header.EthernetMinimumSize+gso.L3HdrLen)
		binary.NativeEndian.PutUint16(vnet[8:], gso.CsumOffset)
	}
	if pkt.Data().Size() > int(gso.MSS) {
		vnet[1] = vnetTCPv4
		if gso.Type == stack.GSOTCPv6 {
			vnet[1] = vnetTCPv6
		}
		binary.NativeEndian.PutUint16(vnet[4:], gso.MSS)
	}
}
