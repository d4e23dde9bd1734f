package registry

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Options say where logins, certificates and mirrors are. The zero value is what Docker does.
type Options struct {
	// ConfigDir is the Docker config directory, with config.json and certs.d; "" means $DOCKER_CONFIG, else ~/.docker.
	ConfigDir string
	// Mirrors are, per registry as in [Reference.Domain] ("docker.io"), asked in order before the registry itself for
	// everything that is pulled by [Client.Pull], [Client.Head] and [Client.Resolve]. Each is [http[s]://]HOST[:PORT][/PREFIX];
	// https is meant where nothing is said, and a prefix is put before the repository's path. Those of [All] are asked for
	// registries that have none. [Placeholder] in a prefix becomes the registry's host.
	Mirrors map[string][]string
	// PlainHTTP lists the hosts, HOST or HOST:PORT, that may be talked to without TLS if TLS does not answer. Loopback
	// addresses and mirrors written with http:// need no entry.
	PlainHTTP []string
	// Insecure lists the hosts, as in [Reference.Domain], that may be talked to without TLS, and with TLS whoever answers.
	Insecure []string
	// CertDirs hold a folder HOST[:PORT] per registry with *.crt (more CAs) and pairs *.cert, *.key (client
	// certificates); nil means certs.d in the config directory and /etc/docker/certs.d.
	CertDirs []string
	// UserAgent is sent with each request, "" means "hull".
	UserAgent string
	// Log gets a line for what the user may like to know but that is no error: a retry, a mirror passed over, a login
	// that could not be read. nil drops them. It may be called from several goroutines.
	Log func(format string, a ...any)
}

const (
	// All is the key of mirrors for any registry.
	All = "*"
	// Placeholder in a mirror's path is the host of the registry in question, in lower case and with "-" for a colon.
	Placeholder = "{registry}"
)

// Client talks to registries. It is safe for use by several goroutines, remembers tokens and connections between calls,
// and holds nothing that must be closed. Make one with [New].
type Client struct {
	opt   Options
	retry retryPolicy
	proxy func(*url.URL) (*url.URL, error)
	// dial is net.Dialer's; a test puts a resolver of its own here.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu sync.Mutex
	// transports hold one *http.Transport per host with certificates of its own, and under "" the one for all others. A
	// client certificate is thus shown to its own host only, wherever a redirect leads.
	transports map[string]*http.Transport
	sessions   map[sessionKey]*session
	// limitTold are the hosts whose rate limit was spoken of.
	limitTold map[string]bool

	helperPatience time.Duration // how long a credential helper may take
}

// New makes a client. It reads the proxy settings from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, ALL_PROXY and
// their lower-case forms) and touches neither disk nor network.
func New(opt Options) *Client {
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	if opt.UserAgent == "" {
		opt.UserAgent = "hull"
	}
	if opt.ConfigDir == "" {
		opt.ConfigDir = defaultConfigDir()
	}
	if opt.CertDirs == nil {
		opt.CertDirs = defaultCertDirs(opt.ConfigDir)
	}
	return &Client{
		opt:        opt,
		retry:      defaultRetry(),
		proxy:      proxyFromEnvironment(),
		dial:       (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		transports: map[string]*http.Transport{},
		sessions:   map[sessionKey]*session{},
		limitTold:  map[string]bool{},

		helperPatience: helperPatience,
	}
}

// defaultConfigDir is "" where there is neither DOCKER_CONFIG nor a home; then there are no logins.
func defaultConfigDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

func defaultCertDirs(configDir string) []string {
	dirs := []string{"/etc/docker/certs.d"}
	if configDir != "" {
		dirs = append([]string{filepath.Join(configDir, "certs.d")}, dirs...)
	}
	return dirs
}

// roundTripper is the ground below authentication: retries, then the rules about plain http, then a connection.
func (c *Client) roundTripper(policy retryPolicy) http.RoundTripper {
	return transport.NewUserAgent(&retryTransport{inner: wire{c}, policy: policy, log: c.opt.Log}, c.opt.UserAgent)
}

// plainAllowed tells whether host, HOST[:PORT], may be talked to in clear.
func (c *Client) plainAllowed(host string) bool {
	if isLoopback(host) {
		return true
	}
	for _, allowed := range slices.Concat(c.opt.PlainHTTP, c.opt.Insecure) {
		if allowed == host || allowed == hostName(host) {
			return true
		}
	}
	for _, mirrors := range c.opt.Mirrors {
		for _, m := range mirrors {
			if rest, ok := strings.CutPrefix(m, "http://"); ok && strings.TrimSuffix(cutPath(rest), "/") == host {
				return true
			}
		}
	}
	return false
}

func cutPath(s string) string {
	host, _, _ := strings.Cut(s, "/")
	return host
}

// hostName is host without its port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// isLoopback is meant literally: 127.0.0.0/8, ::1 and the name localhost. A name that merely resolves to such an address
// does not count, because whoever answers for the name decides what it resolves to.
func isLoopback(host string) bool {
	name := hostName(host)
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
