package usernet

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// resolvConf is where the host's resolvers are named, resolv.conf(5).
const resolvConf = "/etc/resolv.conf"

// hostResolvers remembers them until the file changes: a VPN may come and go.
type hostResolvers struct {
	path string // instead of resolvConf

	mu      sync.Mutex
	changed time.Time
	servers []netip.AddrPort
}

// list gives the host's resolvers in their order. If none is named there is one on the host itself, resolv.conf(5).
func (h *hostResolvers) list() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	path := h.path
	if path == "" {
		path = resolvConf
	}
	local := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	st, err := os.Stat(path)
	if err != nil {
		return local
	}
	if st.ModTime().Equal(h.changed) {
		return h.servers
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return local
	}
	h.changed, h.servers = st.ModTime(), nil
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			h.servers = append(h.servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if len(h.servers) == 0 {
		h.servers = local
	}
	return h.servers
}

// forward asks the member's or else the host's resolvers one after the other, the way that the program asked, and gives the
// first answer.
func (r *resolver) forward(m *member, query []byte, q dnsmessage.Question, network string) ([]byte, error) {
	var servers []netip.AddrPort
	if m != nil {
		servers = m.DNS
	}
	if len(servers) == 0 {
		servers = r.host.list()
	}
	var errs []error
	for _, s := range servers {
		answer, err := askServer(s, query, q, network)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// askServer asks with a number of our own, which somebody else would have to guess to answer in its place.
func askServer(server netip.AddrPort, query []byte, q dnsmessage.Question, network string) ([]byte, error) {
	c, err := net.DialTimeout(network, server.String(), dnsTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(dnsTimeout))
	msg := append([]byte(nil), query...)
	if _, err := rand.Read(msg[:2]); err != nil {
		return nil, err
	}
	if network == "tcp" {
		err = writeMessage(c, msg)
	} else {
		_, err = c.Write(msg)
	}
	if err != nil {
		return nil, err
	}
	for {
		answer, err := readAnswer(c, network)
		if err != nil {
			return nil, err
		}
		if !isAnswer(answer, msg, q) {
			continue
		}
		binary.BigEndian.PutUint16(answer, binary.BigEndian.Uint16(query))
		return answer, nil
	}
}

func readAnswer(c net.Conn, network string) ([]byte, error) {
	if network == "tcp" {
		return readMessage(c)
	}
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	n, err := c.Read(buf[:])
	return append([]byte(nil), buf[:n]...), err
}

// isAnswer says whether a message is the answer to a question. Servers that understand nothing leave the question out.
func isAnswer(msg, query []byte, q dnsmessage.Question) bool {
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil || !head.Response || head.ID != binary.BigEndian.Uint16(query) {
		return false
	}
	got, err := p.Question()
	if err == dnsmessage.ErrSectionDone {
		return head.RCode != dnsmessage.RCodeSuccess
	}
	return err == nil && got.Type == q.Type && got.Class == q.Class && hostName(got.Name) == hostName(q.Name)
}
