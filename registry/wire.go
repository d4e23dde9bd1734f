package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/hullrun/hull/internal/given"
)

const (
	dialTimeout = 15 * time.Second
	keepAlive   = 30 * time.Second
)

// wire sends a request over the network, by the transport that its host's certificates ask for. It is the one place
// that all traffic passes, redirects and token servers too, so the rule about plain http stands here.
type wire struct{ c *Client }

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !w.c.plainAllowed(req.URL.Host) {
		return nil, fmt.Errorf("plain http to %s is not allowed; it must be asked for by name", req.URL.Host)
	}
	t, err := w.c.transport(req.URL.Host)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func (c *Client) transport(host string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.transports[host]; t != nil {
		return t, nil
	}
	tlsConfig, err := hostTLS(c.opt.CertDirs, host)
	if err != nil {
		return nil, err
	}
	if slices.Contains(c.opt.Insecure, host) {
		if tlsConfig == nil {
			tlsConfig = &tls.Config{}
		}
		tlsConfig.InsecureSkipVerify = true
	}
	key := host
	if tlsConfig == nil {
		key = ""
	}
	if c.transports[key] == nil {
		c.transports[key] = c.newTransport(tlsConfig)
	}
	// A host without certificates is remembered, too: certs.d is looked at once a host.
	c.transports[host] = c.transports[key]
	return c.transports[key], nil
}

// newTransport keeps net/http's small read buffer: a body read into a buffer larger than that goes from the socket
// straight to it. Response bodies come as the registry has them (DisableCompression), for a digest covers those bytes.
func (c *Client) newTransport(tlsConfig *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 func(req *http.Request) (*url.URL, error) { return c.proxy(req.URL) },
		DialContext:           c.dial,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   dialTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       keepAlive,
		MaxIdleConnsPerHost:   16,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
		WriteBufferSize:       bufferSize,
	}
}

// proxyFromEnvironment adds to net/http's rules what curl and Docker know: ALL_PROXY, for what has no proxy of its own.
// Loopback is never proxied.
func proxyFromEnvironment() func(*url.URL) (*url.URL, error) {
	cfg := httpproxy.FromEnvironment()
	all := os.Getenv("ALL_PROXY")
	if all == "" {
		all = os.Getenv("all_proxy")
	}
	if cfg.HTTPProxy == "" {
		cfg.HTTPProxy = all
	}
	if cfg.HTTPSProxy == "" {
		cfg.HTTPSProxy = all
	}
	return cfg.ProxyFunc()
}

// hasCerts tells whether somebody put certificates for host into certs.d, which says that it speaks TLS.
func (c *Client) hasCerts(host string) bool {
	for _, dir := range c.opt.CertDirs {
		if _, err := os.Stat(filepath.Join(dir, host)); err == nil {
			return true
		}
	}
	return false
}

// hostTLS reads Docker's certs.d: in DIR/HOST[:PORT], every *.crt is a CA that is trusted besides the system's, and
// every *.cert a client certificate whose key is the *.key of the same name. nil means that no folder says anything. See
// https://docs.docker.com/engine/security/certificates/.
func hostTLS(dirs []string, host string) (*tls.Config, error) {
	var cfg *tls.Config
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		if cfg == nil {
			cfg = &tls.Config{}
		}
		for _, e := range entries {
			if err := addCertificate(cfg, filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("read certificates: %w", err)
			}
		}
	}
	return cfg, nil
}

func addCertificate(cfg *tls.Config, file string) error {
	switch filepath.Ext(file) {
	case ".crt":
		pem, err := given.ReadFile(file, given.Limit)
		if err != nil {
			return err
		}
		if cfg.RootCAs == nil {
			if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
				return err
			}
		}
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", file)
		}
	case ".cert":
		pair, err := keyPair(file, strings.TrimSuffix(file, ".cert")+".key")
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s has no .key beside it (a CA's name ends in .crt)", file)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		cfg.Certificates = append(cfg.Certificates, pair)
	case ".key":
		if _, err := os.Stat(strings.TrimSuffix(file, ".key") + ".cert"); err != nil {
			return fmt.Errorf("%s has no .cert beside it", file)
		}
	}
	return nil
}

// keyPair is tls.LoadX509KeyPair for files that may be anything.
func keyPair(certificate, key string) (tls.Certificate, error) {
	public, err := given.ReadFile(certificate, given.Limit)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := given.ReadFile(key, given.Limit)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(public, private)
}
