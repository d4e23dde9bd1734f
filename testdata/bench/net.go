package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The bench's network namespace is the host. A cable leads from it to a peer in another one, with these addresses; the
// peer's server and the containers' have the port talkPort.
const (
	hostAddress = "198.51.100.1"
	peerAddress = "198.51.100.2"
	talkPort    = 5000
)

// neighbour is the network namespace at the other end of the host's cable, made when it is first needed.
func (b *bench) neighbour() (netns.NsHandle, error) {
	if b.peer != 0 {
		return b.peer, nil
	}
	if os.Getuid() != 0 {
		return 0, errors.New("this is not root")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil { // else dockerd closes the way for all others
		return 0, err
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		own, err := netns.Get()
		if err == nil {
			b.peer, err = netns.New()
		}
		if err == nil {
			err = cable(own, b.peer)
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", net.JoinHostPort(peerAddress, strconv.Itoa(talkPort)))
		}
		if made <- err; err == nil {
			_ = answer(l)
		}
	}()
	return b.peer, <-made
}

// cable makes the pair from the peer's side.
func cable(host, peer netns.NsHandle) error {
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "wire"})
	veth.PeerName, veth.PeerNamespace = "wire", netlink.NsFd(host)
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	there, err := netlink.NewHandleAt(host)
	if err != nil {
		return err
	}
	defer there.Close()
	here, err := netlink.NewHandleAt(peer)
	if err != nil {
		return err
	}
	defer here.Close()
	for _, end := range []struct {
		h       *netlink.Handle
		address string
	}{{here, peerAddress}, {there, hostAddress}} {
		link, err := end.h.LinkByName("wire")
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr(end.address + "/24")
		if err != nil {
			return err
		}
		if err := errors.Join(end.h.AddrAdd(link, address), end.h.LinkSetUp(link)); err != nil {
			return err
		}
	}
	// pasta and slirp4netns copy the host's way out.
	wire, err := there.LinkByName("wire")
	if err != nil {
		return err
	}
	return there.RouteAdd(&netlink.Route{LinkIndex: wire.Attrs().Index, Gw: net.ParseIP(peerAddress)})
}

// dialFromPeer connects to a port of the host's.
func (b *bench) dialFromPeer(port int) (*net.TCPConn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	dialed := make(chan result)
	go func() {
		runtime.LockOSThread() // for good
		if err := netns.Set(b.peer); err != nil {
			dialed <- result{nil, err}
			return
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(hostAddress, strconv.Itoa(port)), 5*time.Second)
		dialed <- result{c, err}
	}()
	r := <-dialed
	if r.err != nil {
		return nil, r.err
	}
	return r.c.(*net.TCPConn), nil
}

// talker is a contestant of the row net: a server in a container, at a published port.
type talker struct {
	name string
	port int
	got  map[string][]float64
}

// talks are what is measured of each.
var talks = []struct {
	name, unit string
	scale      float64
	measure    func(b *bench, t *talker) (spoken, error)
}{
	{"out, send", "Mbit/s", 8e-6, func(b *bench, t *talker) (spoken, error) { return b.outward(t, talkUp) }},
	{"out, receive", "Mbit/s", 8e-6, func(b *bench, t *talker) (spoken, error) { return b.outward(t, talkDown) }},
	{"out, round trips", "per s", 1, func(b *bench, t *talker) (spoken, error) { return b.outward(t, talkTrips) }},
	{"in, send", "Mbit/s", 8e-6, func(b *bench, t *talker) (spoken, error) { return b.inward(t, talkUp) }},
	{"in, receive", "Mbit/s", 8e-6, func(b *bench, t *talker) (spoken, error) { return b.inward(t, talkDown) }},
	{"in, round trips", "per s", 1, func(b *bench, t *talker) (spoken, error) { return b.inward(t, talkTrips) }},
}

func (b *bench) inward(t *talker, what byte) (spoken, error) {
	c, err := b.dialFromPeer(t.port)
	if err != nil {
		return spoken{}, err
	}
	return ask(c, what)
}

func (b *bench) outward(t *talker, what byte) (spoken, error) {
	c, err := b.dialFromPeer(t.port)
	if err != nil {
		return spoken{}, err
	}
	return askThrough(c, what, net.JoinHostPort(peerAddress, strconv.Itoa(talkPort)))
}

// talkRounds is how often each is measured.
const talkRounds = 7

// network measures throughput and round trips between a container and another machine.
func (b *bench) network() error {
	if _, err := b.neighbour(); err != nil {
		fmt.Printf("  not measured: %v\n", err)
		return nil
	}
	program, err := b.talkProgram()
	if err != nil {
		return err
	}
	for _, p := range b.people {
		list, end := b.talkers(p, program)
		b.listen(list)
		end()
		told := []goal{{"podman", 0.95, 1}, {"docker", 0.95, 1}}
		if p.name != "root" {
			told = []goal{{p.title("slirp4netns"), 1, 1.5}, {p.title("pasta"), 0, 1}}
		}
		b.tell(p, list, told)
	}
	return nil
}

// talkProgram is this program, where everybody may execute it.
func (b *bench) talkProgram() (string, error) {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	to := filepath.Join(b.work, "talk")
	return to, os.WriteFile(to, data, 0o755)
}

// talkers starts a container of each tool; end removes them.
func (b *bench) talkers(p person, program string) (list []*talker, end func()) {
	var ends []func()
	port := 5001
	if p.name != "root" {
		port = 5011
	}
	tools := b.networkTools(p)
	for _, t := range tools {
		tl := &talker{name: p.title(t.name), port: port + len(list), got: map[string][]float64{}}
		if t.name == "podman" && p.name != "root" {
			tl.name = p.title("slirp4netns") // which podman 4 uses, with a process of its own for ports
		}
		name := "talks" + strconv.Itoa(tl.port)
		err := b.startTalker(t, name, program, tl.port)
		ends = append(ends, func() { _, _ = b.do(t, t.remove(name)...) })
		if err != nil {
			b.miss("%s: %v", tl.name, err)
			continue
		}
		list = append(list, tl)
	}
	if p.name != "root" {
		tl := &talker{name: p.title("pasta"), port: port + len(list), got: map[string][]float64{}}
		stop, err := b.pasta(p, program, tl.port)
		if err != nil {
			b.miss("%s: %v", tl.name, err)
		} else {
			list, ends = append(list, tl), append(ends, stop)
		}
	}
	return list, func() {
		for _, f := range ends {
			f()
		}
	}
}

// startTalker starts a container whose server is at a port of the host's. It has no pipe, on which a peer's process for ports
// would let us wait for ever.
func (b *bench) startTalker(t *tool, name, program string, port int) error {
	errs := filepath.Join(t.p.home, name+".errors")
	start := append([]string{"sh", "-c", `exec "$@" </dev/null >/dev/null 2>"$0"`, errs}, t.argv("run", "-d", "--name", name,
		"-p", fmt.Sprintf("%d:%d", port, talkPort), "-v", program+":/talk:ro", "-e", talkEnv+"="+strconv.Itoa(talkPort), t.image, "/talk")...)
	if _, err := b.output(t.p, t.env, start...); err != nil {
		text, _ := os.ReadFile(errs)
		return fmt.Errorf("%w: %s", err, lastLines(string(text)))
	}
	return nil
}

// pasta runs the program in namespaces of pasta's, for podman 4 does not know it.
func (b *bench) pasta(p person, program string, port int) (stop func(), err error) {
	if _, err := exec.LookPath("pasta"); err != nil {
		return nil, errors.New("not installed")
	}
	cmd := exec.Command("pasta", "--config-net", "--no-map-gw", "-t", fmt.Sprintf("%d:%d", port, talkPort), "-u", "none", "-T", "none", "-U", "none", "--", program)
	cmd.Env = append(p.env(), talkEnv+"="+strconv.Itoa(talkPort))
	cmd.Dir = p.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	}, nil
}

// networkTools are those that can be had with the networks that they have by default.
func (b *bench) networkTools(p person) (list []*tool) {
	for _, t := range b.tools(p) {
		if t.name == "docker" {
			continue // the daemon of the other rows has no bridge
		}
		list = append(list, t)
	}
	if p.name == "root" {
		t, err := b.bridgedDocker(p)
		if err != nil {
			b.miss("docker: %v", err)
			return list
		}
		list = append(list, t)
	}
	return list
}

// bridgedDocker is docker with a daemon that has its bridge and rules.
func (b *bench) bridgedDocker(p person) (*tool, error) {
	if err := needDocker(); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.work, "docker-net")
	t := &tool{name: "docker", env: p.env(), image: b.registry + "/busybox", p: p, rm: []string{"rm", "-f"}}
	t.cli = []string{dockerCLI(), "-H", dockerSocket(dir)}
	if _, err := os.Stat(dir); err == nil {
		return t, nil
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	server, err := b.startDocker(dir, "--bip=172.31.255.1/24")
	if server != nil {
		running = append(running, server)
	}
	if err == nil {
		_, err = b.do(t, "pull", "-q", t.image)
	}
	return t, err
}

// listen measures all in turns. One that fails is left out.
func (b *bench) listen(list []*talker) {
	for _, t := range list {
		if err := b.serves(t); err != nil {
			b.miss("%s: it does not answer: %v", t.name, err)
		}
	}
	unpin, err := pin(true)
	if err != nil {
		b.miss("processors: %v", err)
		return
	}
	defer unpin()
	for i := range talkRounds {
		for _, what := range talks {
			for j := range list {
				t := list[(i+j)%len(list)]
				if b.broken(t.name) {
					continue
				}
				s, err := what.measure(b, t)
				if err != nil {
					b.miss("%s: %s: %v", t.name, what.name, err)
					continue
				}
				t.got[what.name] = append(t.got[what.name], what.scale*s.perSecond())
			}
		}
	}
}

// serves waits until a contestant answers.
func (b *bench) serves(t *talker) (err error) {
	for range 20 {
		var c *net.TCPConn
		if c, err = b.dialFromPeer(t.port); err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			word := []byte{talkTrips, 0}
			if _, err = c.Write(word); err == nil {
				_, err = io.ReadFull(c, word[:1])
			}
			if c.Close(); err == nil {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

// tell prints the medians, and how often each peer's go into hull's.
func (b *bench) tell(p person, list []*talker, goals []goal) {
	fmt.Printf("  %-18s", p.name)
	for _, t := range list {
		fmt.Printf(" %18s", t.name)
	}
	fmt.Println()
	for _, what := range talks {
		fmt.Printf("  %-18s", what.name)
		for _, t := range list {
			fmt.Printf(" %11.0f %-6s", median(t.got[what.name]), what.unit)
		}
		fmt.Println()
	}
	if len(list) == 0 || !strings.HasPrefix(list[0].name, "hull") {
		return
	}
	for _, g := range goals {
		i := slices.IndexFunc(list, func(t *talker) bool { return t.name == g.peer })
		for _, what := range talks {
			mine, theirs := median(list[0].got[what.name]), 0.0
			if i >= 0 {
				theirs = median(list[i].got[what.name])
			}
			if mine == 0 || theirs == 0 {
				fmt.Printf("  hull / %s, %s: not measured\n", g.peer, what.name)
				continue
			}
			fmt.Printf("  hull / %s, %s: %.2f  must ≥ %g, aim ≥ %g: %s\n", g.peer, what.name, mine/theirs, g.must, g.aim, goal{"", -g.must, -g.aim}.verdict(-mine/theirs))
		}
	}
}
