package network

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network/dns"
)

// nameServer is the process that answers.
type nameServer struct {
	networks *Networks
	names    *Names
	upstream dns.Upstream

	mu     sync.Mutex
	askers map[string]*asker
}

// asker is a container that may ask.
type asker struct {
	Asker
	udp net.PacketConn
	tcp net.Listener
}

// ServeNames is all that the process does which answers for the names on the networks below dir: it takes containers' sockets
// from listener until there are none left.
func ServeNames(dir string, listener *os.File) error {
	debug.SetGCPercent(50)
	networks := &Networks{Dir: dir}
	s := &nameServer{networks: networks, names: &Names{Networks: networks}, askers: map[string]*asker{}}
	l, err := net.FileListener(listener)
	if err != nil {
		return err
	}
	listener.Close()
	go networks.keepRules()
	for {
		c, err := l.Accept()
		if dns.Passing(err) { // a container may have a thousand questions open
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		s.take(c.(*net.UnixConn), l.(*net.UnixListener))
		c.Close()
	}
}

// take does what one message says.
func (s *nameServer) take(c *net.UnixConn, l *net.UnixListener) {
	buf, rights := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(3*4))
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	n, oob, _, _, err := c.ReadMsgUnix(buf, rights)
	if err != nil {
		return
	}
	var files []*os.File
	if messages, err := unix.ParseSocketControlMessage(rights[:oob]); err == nil && len(messages) == 1 {
		fds, _ := unix.ParseUnixRights(&messages[0])
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			_ = unix.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "asker"))
		}
	}
	var o order
	switch err = json.Unmarshal(buf[:n], &o); {
	case err == nil && o.Leaves:
		last, pid := s.drop(o.Container, nil), 0
		if last {
			pid = os.Getpid()
		}
		_, _ = c.Write([]byte(strconv.Itoa(pid)))
		if last {
			s.end(l)
		}
	case err == nil && o.Asks:
		s.mu.Lock()
		there := s.askers[o.Container] != nil
		s.mu.Unlock()
		_, _ = c.Write(strconv.AppendInt(nil, int64(map[bool]int{true: 1}[there]), 10))
	case err == nil && len(files) == 3:
		if s.add(o.Asker, files, l) == nil {
			return
		}
	}
	for _, f := range files {
		f.Close()
	}
}

// add takes a container on, with its sockets and its process.
func (s *nameServer) add(who Asker, files []*os.File, l *net.UnixListener) error {
	a := &asker{Asker: who}
	var err, err2 error
	a.udp, err = net.FilePacketConn(files[0])
	a.tcp, err2 = net.FileListener(files[1])
	files[0].Close()
	files[1].Close()
	a.Process = files[2]
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	s.mu.Lock()
	old := s.askers[a.Container]
	s.askers[a.Container] = a
	s.names.ended(a.Container, false)
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
	server := dns.NewServer(func(query []byte, network string, _ net.Addr) []byte { return s.resolve(a, query, network) })
	go server.ServeUDP(a.udp)
	go server.ServeTCP(a.tcp)
	go func() {
		await(a.Process)
		if s.drop(a.Container, a) {
			s.end(l)
		}
	}()
	return nil
}

// await waits until a process has ended, or its file is closed.
func await(process *os.File) {
	c, err := process.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

func (a *asker) close() {
	a.udp.Close()
	a.tcp.Close()
	a.Process.Close()
}

// drop lets go of a container, if it is the one that is meant, and says whether nobody is left.
func (s *nameServer) drop(container string, meant *asker) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.askers[container]
	if a == nil || meant != nil && a != meant {
		return meant == nil && len(s.askers) == 0
	}
	delete(s.askers, container)
	s.names.ended(container, true)
	a.close()
	return len(s.askers) == 0
}

// end ends the process if nobody is left and nobody is coming: with the lock nobody does.
func (s *nameServer) end(l *net.UnixListener) {
	lock, err := s.networks.lock()
	if err != nil {
		return
	}
	defer lock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := l.SyscallConn()
	if err != nil || len(s.askers) > 0 {
		return
	}
	waiting := false
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		waiting = n > 0 || err != nil
	})
	if waiting {
		return
	}
	_ = os.Remove(filepath.Join(s.networks.Dir, namesSocket))
	os.Exit(0)
}

// resolve answers a container's question: by the names on its networks, or by what others say.
func (s *nameServer) resolve(a *asker, query []byte, network string) []byte {
	names, shut := s.names.Table(a.Container)
	if answer := names.Answer(query); answer != nil {
		return answer
	}
	if shut {
		return dns.Failure(query, dnsmessage.RCodeNameError)
	}
	var servers []netip.AddrPort
	for _, ip := range a.DNS {
		servers = append(servers, netip.AddrPortFrom(ip, 53))
	}
	if len(servers) == 0 {
		servers = s.upstream.Servers()
	}
	answer, err := dns.Ask(servers, query, network)
	if err != nil {
		return dns.Failure(query, dnsmessage.RCodeServerFailure)
	}
	return answer
}
