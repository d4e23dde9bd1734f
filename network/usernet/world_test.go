package usernet

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network/dns"
)

// roleEnv says what a re-executed test binary is: "tests" runs them in a network namespace of their own, whose root it is,
// and "helper" is Help.
const roleEnv = "USERNET_TEST_ROLE"

// TestMain has all tests run where they see nothing of the machine's network: there they are the host.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "helper":
		if err := Help(testNames); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "tests":
		if err := makeWorld(); err != nil {
			fmt.Fprintln(os.Stderr, "make the world of the tests:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case "copy": // TestShrink's
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"=tests")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the death signal comes when this thread ends
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	} else if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		fmt.Println("skipped: the kernel lets this user make no namespaces:", err)
		os.Exit(0)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Who is in the world of the tests. All are addresses of one device, and where none of them is, nobody answers.
var (
	serverA  = netip.MustParseAddr("198.51.100.1")
	serverB  = netip.MustParseAddr("198.51.100.2")
	server6  = netip.MustParseAddr("2001:db8::1")
	intranet = netip.MustParseAddr("10.77.0.1")
	metadata = netip.MustParseAddr("169.254.169.254")
	silent   = netip.MustParseAddr("198.51.100.99")
	noRoute  = netip.MustParseAddr("192.0.2.1")   // no route at all
	barred   = netip.MustParseAddr("203.0.113.1") // an unreachable route
	client   = netip.MustParseAddr("198.51.100.7")
)

func makeWorld() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	hosts := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "hosts"}}
	if err := netlink.LinkAdd(hosts); err != nil {
		// A kernel without dummy devices has veth at least.
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "hosts"}, PeerName: "peer"}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
	}
	l, err := netlink.LinkByName("hosts")
	if err != nil {
		return err
	}
	for _, a := range []netip.Addr{serverA, serverB, server6, intranet, metadata, client} {
		bits := map[bool]int{true: 24, false: 64}[a.Is4()]
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits))}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: silent.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.PrefixFrom(barred, 32)), Type: unix.RTN_UNREACHABLE})
}

// box is a container: a network namespace that a thread is in.
type box struct {
	t    testing.TB
	work chan func()
}

func newBox(t testing.TB) *box {
	t.Helper()
	b := &box{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range b.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal("unshare:", err)
	}
	t.Cleanup(func() { close(b.work) })
	return b
}

// do calls f in the container. Sockets that it makes belong there.
func (b *box) do(f func()) {
	done := make(chan struct{})
	b.work <- func() { defer close(done); f() }
	<-done
}

func (b *box) dial(network string, to netip.AddrPort) (c net.Conn, err error) {
	b.do(func() { c, err = (&net.Dialer{Timeout: 10 * time.Second}).Dial(network, to.String()) })
	return c, err
}

func (b *box) listen(network, address string) net.Listener {
	b.t.Helper()
	var l net.Listener
	var err error
	b.do(func() { l, err = net.Listen(network, address) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	return l
}

func testDevice() Device {
	return Device{
		Name: "eth0", MAC: net.HardwareAddr{0x02, 0x42, 10, 0, 2, 100},
		IPv4: netip.MustParsePrefix("10.0.2.100/24"), Gateway4: netip.MustParseAddr("10.0.2.2"),
		IPv6: netip.MustParsePrefix("fd00:a00:2::100/64"), Gateway6: netip.MustParseAddr("fd00:a00:2::2"),
	}
}

// plug is Plug in the container.
func (b *box) plug(d Device) *os.File {
	b.t.Helper()
	var cable *os.File
	var err error
	b.do(func() { cable, err = Plug(d) })
	if err != nil {
		b.t.Fatal(err)
	}
	return cable
}

// testNet is the configuration c with the addresses of testDevice's network.
func testNet(c Config) Config {
	c.Gateway4, c.Gateway6 = netip.MustParsePrefix("10.0.2.2/24"), netip.MustParsePrefix("fd00:a00:2::2/64")
	return c
}

// testNames is the Names of the tests: the member "web" has two.
func testNames(string) *dns.Table {
	d := otherDevice()
	return dns.NewTable([]dns.Host{{Names: []string{"web", "w"}, Addresses: []netip.Addr{d.IPv4.Addr(), d.IPv6.Addr()}}})
}

// connected is a container with a network that is served by this process.
func connected(t testing.TB, c Config, m ...Member) (*box, *Network) {
	t.Helper()
	b, n := newBox(t), opened(t, c)
	join(t, n, b, append(m, Member{})[0])
	return b, n
}

func opened(t testing.TB, c Config) *Network {
	t.Helper()
	n, err := Open(testNet(c), testNames)
	if err != nil {
		t.Fatal(err)
	}
	n.policy.mine = nil // here the host has everybody's addresses
	t.Cleanup(n.Close)
	return n
}

// join makes a container a member.
func join(t testing.TB, n *Network, b *box, c Member) *member {
	t.Helper()
	if c.Device.Name == "" {
		c.Device = testDevice()
	}
	m, err := n.add(c)
	if err == nil {
		err = m.plug(b.plug(c.Device))
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// otherDevice is that of a second member.
func otherDevice() Device {
	d := testDevice()
	d.MAC = net.HardwareAddr{0x02, 0x42, 10, 0, 2, 101}
	d.IPv4, d.IPv6 = netip.MustParsePrefix("10.0.2.101/24"), netip.MustParsePrefix("fd00:a00:2::101/64")
	return d
}

// serveTCP has f speak with each who connects to an address of the world, and gives where that is.
func serveTCP(t testing.TB, at netip.Addr, port int, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(at.String(), fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				f(c.(*net.TCPConn))
			})
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echoAll(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// zone is a DNS server: names and what they answer with. The lookups that reach it are counted.
type zone struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
	alias map[string]string
	ttl   uint32
	// aliasTTL is that of aliases, 0 for ttl.
	aliasTTL uint32
	asked    map[string]int
	tcp      atomic.Int64
}

func (z *zone) set(name string, addrs ...netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.names == nil {
		z.names = map[string][]netip.Addr{}
	}
	z.names[name] = addrs
}

func (z *zone) answer(query []byte) []byte {
	head, q, err := dns.ParseQuery(query)
	if err != nil {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	name := dns.HostName(q.Name)
	if z.asked == nil {
		z.asked = map[string]int{}
	}
	z.asked[name]++
	head.Response, head.RecursionAvailable = true, true
	owner := q.Name
	if to := z.alias[name]; to != "" {
		name = to
	}
	if _, ok := z.names[name]; !ok {
		head.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, head)
	_ = b.StartQuestions()
	_ = b.Question(q)
	_ = b.StartAnswers()
	if z.alias[dns.HostName(q.Name)] != "" {
		to := dnsmessage.MustNewName(name + ".")
		_ = b.CNAMEResource(dnsmessage.ResourceHeader{Name: owner, Class: q.Class, TTL: cmp.Or(z.aliasTTL, z.ttl)}, dnsmessage.CNAMEResource{CNAME: to})
		owner = to
	}
	for _, a := range z.names[name] {
		h := dnsmessage.ResourceHeader{Name: owner, Class: q.Class, TTL: z.ttl}
		if a.Is4() && q.Type == dnsmessage.TypeA {
			_ = b.AResource(h, dnsmessage.AResource{A: a.As4()})
		} else if a.Is6() && q.Type == dnsmessage.TypeAAAA {
			_ = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	msg, _ := b.Finish()
	return msg
}

// serveDNS serves a zone on a loopback address of the host, as systemd's stub does, by UDP and TCP.
func serveDNS(t testing.TB, z *zone) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.53:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(z.answer(buf[:n]), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			z.tcp.Add(1)
			if query, err := dns.ReadMessage(c); err == nil {
				_ = dns.WriteMessage(c, z.answer(query))
			}
			c.Close()
		}
	}()
	return at
}

// lookup asks a resolver from inside, and gives the addresses and the code.
func (b *box) lookup(network, name string, kind dnsmessage.Type, server netip.AddrPort) ([]netip.Addr, dnsmessage.RCode, error) {
	c, err := b.dial(network, server)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	builder := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77, RecursionDesired: true})
	_ = builder.StartQuestions()
	_ = builder.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET})
	query, err := builder.Finish()
	if err != nil {
		return nil, 0, err
	}
	var msg []byte
	if network == "tcp" {
		if err := dns.WriteMessage(c, query); err != nil {
			return nil, 0, err
		}
		msg, err = dns.ReadMessage(c)
	} else {
		if _, err := c.Write(query); err != nil {
			return nil, 0, err
		}
		msg = make([]byte, 4096)
		var n int
		n, err = c.Read(msg)
		msg = msg[:n]
	}
	if err != nil {
		return nil, 0, err
	}
	if binary.BigEndian.Uint16(msg) != 77 {
		return nil, 0, fmt.Errorf("another number: %d", binary.BigEndian.Uint16(msg))
	}
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		return nil, 0, err
	}
	var list []netip.Addr
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(r.A))
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(r.AAAA))
		}
	}
	return list, m.RCode, nil
}

// gateway is the resolver in the container's network.
func gateway() netip.AddrPort { return netip.AddrPortFrom(testDevice().Gateway4, dnsPort) }

// leftDevices says which network devices are here beside those of the world.
func leftDevices(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if n := l.Attrs().Name; n != "lo" && n != "hosts" && n != "peer" && !strings.HasPrefix(l.Type(), "sit") {
			names = append(names, n)
		}
	}
	return names
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
