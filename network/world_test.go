package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// world is a few network namespaces: a host, on which the test's own thread is, a neighbour behind a wire, and containers.
type world struct {
	t         *testing.T
	s         *Networks
	host      netns.NsHandle
	neighbour netns.NsHandle
	was       map[string]string // the host's settings, see clean
}

// newWorld makes a host 198.51.100.1 and 2001:db8::1 and a neighbour .2 on the same wire, whose only route is that wire.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // and never unlocks: the thread ends with the test
	w := &world{t: t, s: &Networks{Dir: filepath.Join(t.TempDir(), "networks"), Warn: func(s string) { t.Log(s) }}}
	w.neighbour = newNamespace(t)
	w.host = newNamespace(t)
	probe(t)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wire"}, PeerName: "wire", PeerNamespace: netlink.NsFd(w.neighbour)}))
	up(t, "wire", "198.51.100.1/24", "2001:db8::1/64")
	w.in(w.neighbour, func() { up(t, "wire", "198.51.100.2/24", "2001:db8::2/64") })
	w.was = settings(t)
	return w
}

// probe skips the test on a kernel that lacks what a network is made of.
func probe(t *testing.T) {
	t.Helper()
	n := &Network{ID: strings.Repeat("0", 64)}
	s := &Networks{Dir: t.TempDir()}
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Interface()}})
	if err == nil {
		err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe"}, PeerName: "probe2"})
	}
	if err == nil {
		err = s.apply(n)
	}
	if errors.Is(needs(err, "these"), ErrUnavailable) {
		t.Skipf("needs bridge, veth and nftables in the kernel: %v", err)
	}
	must(t, err) // what is broken in hull hides no test
	must(t, removeLink("probe", 0))
	n.Driver = "bridge"
	must(t, s.lower(n))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newNamespace makes a network namespace and leaves the thread in it.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	h, err := netns.Get()
	must(t, err)
	t.Cleanup(func() { h.Close() })
	up(t, "lo")
	return h
}

func up(t *testing.T, name string, addresses ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	for _, a := range addresses {
		n, err := netlink.ParseIPNet(a)
		must(t, err)
		addr := &netlink.Addr{IPNet: n}
		if n.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		must(t, netlink.AddrAdd(link, addr))
	}
}

// in runs f in another namespace.
func (w *world) in(ns netns.NsHandle, f func()) {
	w.t.Helper()
	must(w.t, netns.Set(ns))
	defer func() { must(w.t, netns.Set(w.host)) }()
	f()
}

// run is t.Run for a test that is on the host as well: it has a goroutine of its own, and so a thread.
func (w *world) run(name string, f func(t *testing.T)) {
	w.t.Helper()
	w.t.Run(name, func(t *testing.T) {
		runtime.LockOSThread() // and never unlocks
		must(t, netns.Set(w.host))
		f(t)
	})
}

// container makes a namespace and attaches it.
func (w *world) container(e *Endpoint) netns.NsHandle {
	w.t.Helper()
	must(w.t, w.s.Reserve(context.Background(), e))
	ns := newNamespace(w.t)
	must(w.t, netns.Set(w.host))
	must(w.t, w.s.Attach(context.Background(), fmt.Sprintf("/proc/self/fd/%d", ns), e))
	return ns
}

func id(name string) string { return name + strings.Repeat("0", 64-len(name)) }

// serve answers every TCP connection to an address in ns with who it comes from and then what it hears.
func (w *world) serve(ns netns.NsHandle, network, addr string) {
	w.t.Helper()
	w.in(ns, func() {
		l, err := net.Listen(network, addr)
		must(w.t, err)
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					fmt.Fprintln(c, host)
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	})
}

// dial says from where a server sees connections from ns, or the error.
func (w *world) dial(ns netns.NsHandle, addr string) (from string, err error) {
	w.t.Helper()
	return w.dialFor(500*time.Millisecond, ns, addr)
}

func (w *world) dialFor(patience time.Duration, ns netns.NsHandle, addr string) (from string, err error) {
	w.t.Helper()
	w.in(ns, func() {
		var c net.Conn
		if c, err = (&net.Dialer{Timeout: patience}).Dial("tcp", addr); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 100)
		n, e := c.Read(b)
		from, err = strings.TrimSpace(string(b[:n])), e
	})
	return from, err
}

// insist is dial for what has to be answered: one connection, with the patience that a busy machine takes.
func (w *world) insist(ns netns.NsHandle, addr string) (from string, err error) {
	w.t.Helper()
	return w.dialFor(5*time.Second, ns, addr)
}

func (w *world) reaches(ns netns.NsHandle, addr, from string) {
	w.t.Helper()
	got, err := w.insist(ns, addr)
	if err != nil || got != from {
		w.t.Errorf("%s: seen as %q, %v, want %q", addr, got, err, from)
	}
}

func (w *world) barred(ns netns.NsHandle, addr string) {
	w.t.Helper()
	if got, err := w.dial(ns, addr); err == nil {
		w.t.Errorf("%s: reached, seen as %s", addr, got)
	}
}

// clean fails if anything of hull's is left on the host.
func (w *world) clean() {
	w.t.Helper()
	links, err := netlink.LinkList()
	must(w.t, err)
	for _, l := range links {
		if n := l.Attrs().Name; strings.HasPrefix(n, bridgePrefix) || strings.HasPrefix(n, "hv") {
			w.t.Errorf("interface %s is left", n)
		}
	}
	conn, err := nftables.New()
	must(w.t, err)
	tables, err := conn.ListTables()
	must(w.t, err)
	for _, tab := range tables {
		if strings.HasPrefix(tab.Name, bridgePrefix) {
			w.t.Errorf("table %s is left", tab.Name)
		}
	}
	for path, value := range settings(w.t) {
		was, known := w.was[path]
		if !known { // an interface that has come since
			was = w.was[filepath.Join(filepath.Dir(filepath.Dir(path)), "default", filepath.Base(path))]
		}
		if value != was {
			w.t.Errorf("%s is %s, was %s", path, value, was)
		}
	}
}

// settings are those of the host's interfaces that hull changes, by their paths.
func settings(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, name := range []string{"forwarding", "force_forwarding", "accept_ra", "route_localnet"} {
		paths, err := filepath.Glob(sysctlPath("ipv[46]", "*", name))
		must(t, err)
		for _, p := range paths {
			data, err := os.ReadFile(p)
			must(t, err)
			values[p] = strings.TrimSpace(string(data))
		}
	}
	return values
}
