package dns

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var errNoQuestion = errors.New("dns: the message is not one question")

// Upstream is who is asked for names that no table has: the host's own resolvers, as resolv.conf(5) names them at the moment.
// The questions are sent from the network that the process is in, so that a resolver on the host's loopback can be asked, and
// the routes of a VPN count. Its zero value reads /etc/resolv.conf.
type Upstream struct {
	// Path is read instead of /etc/resolv.conf.
	Path string

	mu      sync.Mutex
	changed time.Time
	servers []netip.AddrPort
}

const port = 53

// patience is how long a resolver has to answer.
const patience = 3 * time.Second

// Servers gives the host's resolvers in their order, read anew if the file has changed: a VPN may come and go. If none is
// named there is one on the host itself, resolv.conf(5).
func (u *Upstream) Servers() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	path := u.Path
	if path == "" {
		path = "/etc/resolv.conf"
	}
	local := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	st, err := os.Stat(path)
	if err != nil {
		return local
	}
	if st.ModTime().Equal(u.changed) {
		return u.servers
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return local
	}
	u.changed, u.servers = st.ModTime(), nil
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			u.servers = append(u.servers, netip.AddrPortFrom(a, port))
		}
	}
	if len(u.servers) == 0 {
		u.servers = local
	}
	return u.servers
}

// Ask passes a question on to one server after the other, by "udp" or "tcp", and gives the first answer with the number of the
// question. Messages are passed on as they are, whatever they mean. One that says that it failed or will not is left for the
// next, as resolvers of programs do too, and given if no other says more.
func Ask(servers []netip.AddrPort, query []byte, network string) ([]byte, error) {
	_, q, err := ParseQuery(query)
	if err != nil {
		return nil, err
	}
	var errs []error
	var poor []byte
	for _, s := range servers {
		answer, err := ask(s, query, q, network)
		switch {
		case err != nil:
			errs = append(errs, err)
		case answer[3]&15 == byte(dnsmessage.RCodeServerFailure) || answer[3]&15 == byte(dnsmessage.RCodeRefused):
			poor = answer
		default:
			return answer, nil
		}
	}
	if poor != nil {
		return poor, nil
	}
	return nil, errors.Join(errs...)
}

// ask asks with a number of its own, which somebody else would have to guess to answer in the server's place.
func ask(server netip.AddrPort, query []byte, q dnsmessage.Question, network string) ([]byte, error) {
	c, err := net.DialTimeout(network, server.String(), patience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	msg := bytes.Clone(query)
	_, _ = rand.Read(msg[:2]) // never fails
	if network == "tcp" {
		err = WriteMessage(c, msg)
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
		copy(answer, query[:2])
		return answer, nil
	}
}

func readAnswer(c net.Conn, network string) ([]byte, error) {
	if network == "tcp" {
		return ReadMessage(c)
	}
	buf := buffers.Get().(*[maxMessage]byte)
	defer buffers.Put(buf)
	n, err := c.Read(buf[:])
	return bytes.Clone(buf[:n]), err
}

// maxMessage is the longest there can be, in bytes: its length has 16 bits.
const maxMessage = 64 << 10

var buffers = sync.Pool{New: func() any { return new([maxMessage]byte) }}

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
	return err == nil && got.Type == q.Type && got.Class == q.Class && HostName(got.Name) == HostName(q.Name)
}

// ReadMessage reads a message of DNS over TCP, RFC 1035 4.2.2.
func ReadMessage(c io.Reader) ([]byte, error) { return readMessage(c, maxMessage) }

func readMessage(c io.Reader, most int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > most {
		return nil, fmt.Errorf("dns: a message of %d bytes is too long", n)
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(c, msg)
	return msg, err
}

// WriteMessage writes one, of less than 64 KiB.
func WriteMessage(c io.Writer, msg []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}
