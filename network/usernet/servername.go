package usernet

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// errNotAllowed ends a connection that turns out not to be what was allowed.
var errNotAllowed = errors.New("not allowed")

// recordHandshake is the first byte of a TLS connection (RFC 8446 5.1).
const recordHandshake = 22

// checkServerName looks at the beginning of what the container sends. If that is TLS, the server's name in it has to be an
// allowed one: an address may serve many names. Where it is encrypted (ECH), the outer one is seen. What is not TLS passes, and so
// does all in ModeLog.
func (p *policy) checkServerName(in *inside, to netip.AddrPort) error {
	var first [1]byte
	if _, err := in.Read(first[:]); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if first[0] != recordHandshake {
		return nil
	}
	name, err := serverName(&begun{inside: in, first: bytes.NewReader(first[:])})
	if err != nil {
		name = ""
	}
	if !p.serverName(name, to) {
		return errNotAllowed
	}
	return nil
}

// serverName reads as much as a TLS server would need to know whom it is to be.
func serverName(c net.Conn) (name string, err error) {
	found := errors.New("found")
	err = tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name = h.ServerName
		return nil, found
	}}).Handshake()
	if !errors.Is(err, found) {
		return "", fmt.Errorf("no TLS hello: %w", err)
	}
	return name, nil
}

// begun is a connection whose first byte has been read.
type begun struct {
	*inside
	first *bytes.Reader
}

func (b *begun) Read(p []byte) (int, error) {
	if b.first.Len() > 0 {
		return b.first.Read(p)
	}
	return b.inside.Read(p)
}
