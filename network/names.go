package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Containers on networks that somebody has made find one another by name. Who answers is one process for all networks below
// Dir ([ServeNames]). It is in the host's network, from where it asks the host's resolvers, but its sockets are in those of
// the containers, on their loopback: no port of the host's is taken, where a server of its own may be, no firewall of the
// host's is in between, who asks is known by the socket, and a container on several networks has one to ask for all of them.
//
// The sockets are made by whoever starts the container and handed over. What is asked before they arrive waits in them.

// Resolver is where a container asks for names, Docker's address for that.
const Resolver = "127.0.0.11"

// namesSocket, in Dir, is where the process that answers takes sockets from.
const namesSocket = ".names"

// Asker is a container that asks for names.
type Asker struct {
	Container string
	// DNS are the resolvers to be asked for what is no container, none for the host's.
	DNS []netip.Addr
	// Process is its first process, a pidfd.
	Process *os.File `json:"-"`
}

// order is a message to the process, with an asker's sockets by UDP and TCP and its process; without for one that leaves.
type order struct {
	Asker
	Leaves bool `json:",omitempty"`
	Asks   bool `json:",omitempty"` // whether it may ask
}

// Answer lets a container ask for names, from now until it ends. It starts the process that answers if that is not there.
func (s *Networks) Answer(a Asker) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err = s.answer(a); err != nil {
		err = fmt.Errorf("names for container %.12s: %w", a.Container, err)
	}
	return err
}

func (s *Networks) answer(a Asker) error {
	sockets, err := openSockets(a.Process)
	if err != nil {
		return err
	}
	files := append(sockets, a.Process)
	defer func() {
		for _, f := range sockets {
			f.Close()
		}
	}()
	conn, err := s.dialNames()
	if err != nil {
		if err = s.startNames(); err == nil {
			conn, err = s.dialNames()
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(conn)
	return send(conn, order{Asker: a}, files...)
}

// Answered says whether the process that answers is there and has the container's sockets.
func (s *Networks) Answered(container string) bool {
	return s.ask(order{Asker: Asker{Container: container}, Asks: true}) == "1"
}

// leaveNames says that a container is gone, and waits for the end of the process if it was the last.
func (s *Networks) leaveNames(container string) {
	pid, _ := strconv.Atoi(s.ask(order{Asker: Asker{Container: container}, Leaves: true}))
	if pid == 0 {
		return
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil { // it ends at once, or somebody new has come meanwhile
		awaitEnd(fd, time.Second)
		unix.Close(fd)
	}
}

// awaitEnd waits until the process of a pidfd has ended, but not for longer than so.
func awaitEnd(pidfd int, limit time.Duration) {
	for end := time.Now().Add(limit); ; {
		left := max(0, time.Until(end))
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int((left+time.Millisecond-1)/time.Millisecond))
		if err != unix.EINTR { // which the runtime's own signals cause
			return
		}
	}
}

// ask sends an order that is answered, and gives the answer, "" for none.
func (s *Networks) ask(o order) string {
	conn, err := s.dialNames()
	if err != nil {
		return ""
	}
	defer unix.Close(conn)
	_ = unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if send(conn, o) != nil {
		return ""
	}
	var buf [20]byte
	for {
		n, err := unix.Read(conn, buf[:])
		if err != unix.EINTR { // no read with a time limit goes on by itself, signal(7)
			return string(buf[:max(n, 0)])
		}
	}
}

// address of the socket; a path of its own would often be too long.
func (s *Networks) address(dir *os.File) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), namesSocket)}
}

func (s *Networks) dialNames() (int, error) {
	dir, err := os.Open(s.Dir)
	if err != nil {
		return -1, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, s.address(dir)); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// startNames starts the process with a socket that listens already. The caller has the lock.
func (s *Networks) startNames() error {
	if s.StartNames == nil {
		return errors.New("nobody answers for names")
	}
	dir, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	listener := os.NewFile(uintptr(fd), namesSocket)
	defer listener.Close()
	_ = os.Remove(filepath.Join(s.Dir, namesSocket)) // of one that was killed
	if err := unix.Bind(fd, s.address(dir)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return s.StartNames(listener)
}

func send(conn int, o order, files ...*os.File) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(conn, data, rights, nil, unix.MSG_NOSIGNAL))
}

// openSockets makes a container's sockets by UDP and TCP. They have ports of their own: port 53 is for the container, which may
// be a name server itself, and rules lead there what it sends to port 53 of Resolver.
func openSockets(process *os.File) (files []*os.File, err error) {
	entered := false
	err = within(netns.NsHandle(process.Fd()), func() error {
		entered = true
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(Resolver)})
		if err != nil {
			return err
		}
		defer u.Close()
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(Resolver)})
		if err != nil {
			return err
		}
		defer l.Close()
		if err := lead(uint16(u.LocalAddr().(*net.UDPAddr).Port), uint16(l.Addr().(*net.TCPAddr).Port)); err != nil {
			return err
		}
		uf, err := u.File()
		if err != nil {
			return err
		}
		lf, err := l.File()
		if err != nil {
			uf.Close()
			return err
		}
		files = []*os.File{uf, lf}
		return nil
	})
	if !entered {
		err = fmt.Errorf("enter the container's network: %w: it has ended, or the kernel is older than 5.8", err)
	}
	return files, err
}

// lead writes the rules in the network namespace of the thread. They change ports without tracking connections, which would
// cost each packet of the container's: of questions after everybody else's rules, of answers before, so that these see port 53.
func lead(udp, tcp uint16) error {
	const name = bridgePrefix + "names"
	if err := commit(func(conn *nftables.Conn) { leadTo(conn, name, udp, tcp) }); err != nil {
		return fmt.Errorf("nftables: write table %s: %w", name, err)
	}
	return nil
}

func leadTo(conn *nftables.Conn, name string, udp, tcp uint16) {
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: name})
	chain := func(name string, priority *nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Table: table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: priority})
	}
	ask, answer := chain("ask", nftables.ChainPriorityRef(1000)), chain("answer", nftables.ChainPriorityRaw)
	conn.FlushTable(table)
	ip := netip.MustParseAddr(Resolver)
	whole := netip.PrefixFrom(ip, 32)
	for _, way := range []struct {
		protocol string
		port     uint16
		checksum uint32 // where it is in the header
	}{{"udp", udp, 6}, {"tcp", tcp, 16}} {
		write := func(offset uint32, to uint16) []expr.Any {
			return []expr.Any{
				&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
				&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2,
					CsumType: expr.CsumTypeInet, CsumOffset: way.checksum},
			}
		}
		question := append(destination(whole, true), port(way.protocol, 53)...)
		addRule(conn, ask, append(question, write(2, way.port)...))
		reply := append(source(whole), port(way.protocol, way.port)...)
		reply[len(reply)-2].(*expr.Payload).Offset = 0 // the source's port
		addRule(conn, answer, append(reply, write(0, 53)...))
	}
}

// Rename gives a container another name on its networks.
func (s *Networks) Rename(container, name string) error {
	if _, err := os.Stat(s.Dir); err != nil {
		return nil
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	list, err := s.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range list {
		if e := n.Endpoints[container]; e != nil {
			e.Name = name
			errs = append(errs, s.write(n))
		}
	}
	return errors.Join(errs...)
}
