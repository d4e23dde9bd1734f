package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/network"
	"github.com/hullrun/hull/network/usernet"
)

// With --network pasta the program pasta(1) is the container's network, as podman has it: a device inside that has the
// addresses and routes of the host's, and connections of its own to wherever the container sends. It joins the container's
// namespaces, whose user namespace must be one of its own for that.
//
// Not all versions of pasta notice that a container has ended, so a process of hull's looks after it: that starts pasta, which
// goes into the background when all is ready, adopts it, and kills it when the container's first process ends, whoever has
// killed that. In the container's state pasta itself is the network's process: if it is killed, the next command starts it again.

// modePasta is the Mode of such a container.
const modePasta = "pasta"

// workPasta is the work of the process that looks after pasta, see helperEnv.
const workPasta = "pasta"

// pastaResolver is where pasta takes questions for the host's resolver: podman's address for that.
const pastaResolver = "169.254.1.1"

func (n *NetworkConfig) pasta() bool { return n.Mode == modePasta }

// pastaOption gives the value of an option that somebody has given pasta himself, in the form "-x VALUE" or "--long=VALUE".
func (n *NetworkConfig) pastaOption(names ...string) (value string, given bool) {
	for i, word := range n.Pasta {
		key, value, joined := strings.Cut(word, "=")
		if !slices.Contains(names, key) {
			continue
		}
		if !joined && i+1 < len(n.Pasta) {
			value = n.Pasta[i+1]
		}
		return value, true
	}
	return "", false
}

// checkPasta refuses wishes that pasta cannot fulfil.
func (n *NetworkConfig) checkPasta() error {
	if _, given := n.pastaOption("-f", "--foreground", "--netns", "--userns", "--netns-only", "--runas"); given {
		return fmt.Errorf("network %q: where and how pasta runs is hull's affair", strings.Join(append([]string{modePasta}, n.Pasta...), " "))
	}
	_, mapped := n.pastaOption("--map-gw")
	if !mapped && slices.ContainsFunc(n.AddHost, func(h HostEntry) bool { return h.IP == HostGateway }) {
		return fmt.Errorf("add-host %s: the host is out of reach with --network pasta\n--network pasta:--map-gw leads the gateway's address to the host", HostGateway)
	}
	return nil
}

// findPasta says what whoever has not installed pasta can do.
func findPasta() error {
	if _, err := exec.LookPath(modePasta); err != nil {
		return errors.New("network pasta: the program pasta is not installed\ninstall the package passt, or leave out --network pasta: hull has a network stack of its own")
	}
	return nil
}

// reservePasta finds ports of the host. The addresses are known when pasta has started.
func (s *start) reservePasta(ports []network.Port) error {
	if !s.world.Identity.UserNS {
		return errors.New("network pasta: root's containers need a user namespace for it, which pasta can enter\nadd --userns auto, or leave out --network pasta: root's network is a bridge")
	}
	ports, err := s.host.Networks().ChoosePorts(s.ID, ports)
	if err != nil {
		return err
	}
	end := NetworkEnd{Name: modePasta, Resolver: s.Config.Network.pastaDNS()}
	for _, p := range ports {
		end.Ports = append(end.Ports, publishedPort(p))
	}
	s.Ends = []NetworkEnd{end}
	return nil
}

// pastaDNS is the resolver that the container's resolv.conf names: "" for those that it asks itself, which are the ones that
// were asked for, or the host's if that has none on its own loopback.
func (n *NetworkConfig) pastaDNS() string {
	if len(n.DNS) > 0 {
		return ""
	}
	if address, given := n.pastaOption("--dns-forward"); given {
		return address
	}
	if servers, _, _ := readResolvConf("/etc/resolv.conf", true); len(servers) > 0 && !isLoopback(servers[0]) {
		return ""
	}
	return pastaResolver
}

// pastaWords are pasta's arguments. What podman gives it by default, and so hull, is left out where somebody says otherwise.
// The namespaces are the descriptors 0 and 1 of pasta, which may not look at what other processes have once it has given up
// its rights on the host.
func (n *NetworkConfig) pastaWords(ports []PublishedPort) []string {
	words := []string{"--config-net", "--quiet", "--no-netns-quit", "--userns", "/proc/self/fd/1", "--netns", "/proc/self/fd/0"}
	if os.Geteuid() == 0 {
		words = append(words, "--runas", "0:0") // else it is nobody, who may not enter
	}
	for _, way := range []struct{ protocol, short, long string }{{"tcp", "-t", "--tcp-ports"}, {"udp", "-u", "--udp-ports"}} {
		_, given := n.pastaOption(way.short, way.long)
		for _, p := range ports {
			if p.Protocol != way.protocol {
				continue
			}
			spec := fmt.Sprintf("%d:%d", p.HostPort, p.Port)
			if ip, _ := netip.ParseAddr(p.HostIP); ip.IsValid() && ip != netip.IPv4Unspecified() {
				spec = p.HostIP + "/" + spec
			}
			words, given = append(words, way.short, spec), true
		}
		if !given { // else all that anybody listens on inside
			words = append(words, way.short, "none")
		}
	}
	for _, unless := range [][]string{{"-T", "--tcp-ns", "none"}, {"-U", "--udp-ns", "none"}, {"--dns-forward", "", pastaResolver}} {
		if _, given := n.pastaOption(unless[:2]...); !given {
			words = append(words, unless[0], unless[2])
		}
	}
	options := slices.Clone(n.Pasta)
	if i := slices.Index(options, "--map-gw"); i >= 0 { // podman's word, which pasta does not know
		options = slices.Delete(options, i, i+1)
	} else if !slices.Contains(options, "--no-map-gw") {
		words = append(words, "--no-map-gw")
	}
	return append(words, options...)
}

// joinPasta starts pasta for the container, whose network is there when it returns without an error.
func (c *Container) joinPasta(end *NetworkEnd) error {
	pidfd, err := c.process()
	if err != nil {
		return err
	}
	target := os.NewFile(uintptr(pidfd), "container")
	defer target.Close()
	net, err := os.Open(netnsOf(c.Pid))
	if err != nil {
		return fmt.Errorf("network pasta: %w", err)
	}
	defer net.Close()
	user, err := os.Open(procFile(c.Pid, "ns/user"))
	if err != nil {
		return fmt.Errorf("network pasta: %w", err)
	}
	defer user.Close()
	a, err := startPastaHelper(c.Config.Network.pastaWords(end.Ports), net, user, target)
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return fmt.Errorf("network pasta: %w", err)
	}
	end.Helper, end.HelperStart = a.Pid, startTime(a.Pid)
	end.IP, end.IP6, end.Gateway = addressesOf(c.Pid)
	return nil
}

// startPastaHelper starts the process that looks after pasta, and gives what it answers. It leads a session of its own.
func startPastaHelper(words []string, net, user, target *os.File) (a usernet.Answer, err error) {
	answer, theirs, err := os.Pipe()
	if err != nil {
		return a, err
	}
	defer answer.Close()
	cmd := exec.Command("/proc/self/exe", words...)
	cmd.Args[0] = "hull-pasta"
	cmd.Env = append(os.Environ(), helperEnv+"="+workPasta)
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = net, user, []*os.File{theirs, target}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return a, err
	}
	_ = answer.SetReadDeadline(time.Now().Add(helperPatience))
	if err = json.NewDecoder(answer).Decode(&a); err != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // with a pasta that is not ready
		_ = cmd.Wait()
		return a, fmt.Errorf("it does not answer: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return a, nil
}

// helpPasta is all that the process does: descriptors 0 and 1 are the container's namespaces, 3 is where its answer goes, and
// 4 the container's first process.
func helpPasta(words []string) error {
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	answer := os.NewFile(3, "answer")
	pid, err := startPasta(words)
	a := usernet.Answer{Pid: pid}
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(answer).Encode(a)
	answer.Close()
	if err != nil {
		return err
	}
	pasta, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = unix.Poll([]unix.PollFd{{Fd: 4, Events: unix.POLLIN}, {Fd: int32(pasta), Events: unix.POLLIN}}, -1)
	}
	_ = unix.PidfdSendSignal(pasta, unix.SIGKILL, nil, 0)
	_, err = unix.Wait4(pid, nil, 0, nil)
	return os.NewSyscallError("wait4", err)
}

// startPasta returns when pasta is ready, which it says by going into the background, or with what it has said against it.
func startPasta(words []string) (pid int, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, os.NewSyscallError("prctl", err)
	}
	var said strings.Builder
	cmd := exec.Command(modePasta, words...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, &said
	if err := cmd.Run(); err != nil {
		if text := pastaSaid(said.String()); text != "" {
			err = errors.New(text)
		}
		return 0, err
	}
	// The children of the thread that leads the process: those that it has adopted.
	list, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if f := strings.Fields(string(list)); err == nil && len(f) == 1 {
		return strconv.Atoi(f[0])
	}
	return 0, fmt.Errorf("it has gone astray: children %q: %w", list, err)
}

// pastaSaid leaves out what pasta says of a system log that there is not.
func pastaSaid(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasSuffix(line, "to syslog") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
