package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority is a CA of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for a server on loopback or for a client.
func (a *authority) issue(t testing.TB, usage x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"registry.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func (a *authority) serve(t testing.TB, clients *x509.CertPool) *testRegistry {
	t.Helper()
	cert, key := a.issue(t, x509.ExtKeyUsageServerAuth)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return startRegistry(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		if clients != nil {
			s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
		}
		s.EnableHTTP2 = true
		s.StartTLS()
	})
}

func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	img := makeImage(t, hostHere(), 300_000)
	certs := t.TempDir()

	// A CA in certs.d.
	reg := ca.serve(t, nil)
	reg.Client().Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	img.put(t, reg, "x", "v1")
	if _, err := pulled(t.Context(), newTestClient(t, Options{}), reg.ref(t, "x:v1")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("an unknown CA: %v", err)
	}
	writeFile(t, filepath.Join(certs, reg.host, "ca.crt"), string(ca.pem), 0o644)
	c := newTestClient(t, Options{CertDirs: []string{t.TempDir(), certs}})
	got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, img)
	if fromDir := newTestClient(t, Options{CertDirs: []string{t.TempDir()}}); fromDir.hasCerts(reg.host) {
		t.Error("certificates of another folder")
	}

	// A client certificate. It is for this host only.
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	strict := ca.serve(t, pool)
	cert, key := ca.issue(t, x509.ExtKeyUsageClientAuth)
	pair, _ := tls.X509KeyPair(cert, key)
	inner := strict.Client().Transport.(*http.Transport).TLSClientConfig
	inner.InsecureSkipVerify, inner.Certificates = true, []tls.Certificate{pair}
	img.put(t, strict, "x", "v1")
	dir := filepath.Join(certs, strict.host)
	writeFile(t, dir+"/ca.crt", string(ca.pem), 0o644)
	if _, err := pulled(t.Context(), newTestClient(t, Options{CertDirs: []string{certs}}), strict.ref(t, "x:v1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a client certificate: %v", err)
	}
	writeFile(t, dir+"/me.cert", string(cert), 0o644)
	if _, err := pulled(t.Context(), newTestClient(t, Options{CertDirs: []string{certs}}), strict.ref(t, "x:v1")); err == nil || !strings.Contains(err.Error(), "me.cert has no .key") {
		t.Errorf("a certificate without its key: %v", err)
	}
	writeFile(t, dir+"/me.key", string(key), 0o600)
	if got, err = pulled(t.Context(), newTestClient(t, Options{CertDirs: []string{certs}}), strict.ref(t, "x:v1")); err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, img)

	for file, text := range map[string]string{"other.key": "has no .cert", "bad.crt": "holds no certificate"} {
		dir := filepath.Join(t.TempDir(), "certs")
		writeFile(t, filepath.Join(dir, reg.host, file), "nonsense", 0o644)
		if _, err := pulled(t.Context(), newTestClient(t, Options{CertDirs: []string{dir}}), reg.ref(t, "x:v1")); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestDefaultCertDirs finds certs.d in the Docker config directory.
func TestDefaultCertDirs(t *testing.T) {
	clean(t)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	c := New(Options{})
	if len(c.opt.CertDirs) != 2 || c.opt.CertDirs[0] != dir+"/certs.d" || c.opt.CertDirs[1] != "/etc/docker/certs.d" {
		t.Errorf("CertDirs = %v", c.opt.CertDirs)
	}
}

// TestLoopbackTLS reaches a registry on loopback that speaks TLS with a certificate of the system's, where the first
// attempt is plain.
func TestLoopbackTLS(t *testing.T) {
	ca := newAuthority(t)
	reg := ca.serve(t, nil)
	reg.Client().Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	img := makeImage(t, hostHere(), 1000)
	img.put(t, reg, "x", "v1")
	c := newTestClient(t, Options{})
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	c.transports[""] = c.newTransport(&tls.Config{RootCAs: pool})
	got, err := pulled(t.Context(), c, reg.ref(t, "x:v1"))
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, got, img)
}

// TestPlainHTTP lets clear text pass to loopback and to whom it was allowed, and to nobody else: not to a private network,
// which go-containerregistry trusts, not by a redirect.
func TestPlainHTTP(t *testing.T) {
	reg := newRegistry(t)
	makeImage(t, hostHere(), 1000).put(t, reg, "x", "v1")
	dialReg := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, reg.host)
	}
	for _, tt := range []struct {
		host string
		opt  Options
		ok   bool
	}{
		{host: "registry.test:5000"},
		{host: "10.0.0.1:5000"},
		{host: "192.168.1.1:5000"},
		{host: "x.localhost:5000"},
		{host: "localhost.test:5000"},
		{host: "localhost:5000", ok: true},
		{host: "127.0.0.2:5000", ok: true},
		{host: "[::1]:5000", ok: true},
		{host: "registry.test:5000", opt: Options{PlainHTTP: []string{"registry.test:5000"}}, ok: true},
		{host: "registry.test:5000", opt: Options{PlainHTTP: []string{"registry.test"}}, ok: true},
		{host: "10.0.0.1:5000", opt: Options{PlainHTTP: []string{"10.0.0.1:5000"}}, ok: true},
		{host: "registry.test:5000", opt: Options{PlainHTTP: []string{"registry.test:5001", "test"}}},
		// A mirror written with http:// asks for it by that.
		{host: "hub.test", opt: Options{Mirrors: map[string][]string{"hub.test": {"http://mirror.test:5000"}}}, ok: true},
		{host: "hub.test", opt: Options{Mirrors: map[string][]string{"hub.test": {"mirror.test:5000"}}}},
	} {
		c := newTestClient(t, tt.opt)
		c.dial = dialReg
		ref, err := ParseReference(tt.host + "/x:v1")
		if err != nil {
			t.Fatal(err)
		}
		_, err = pulled(t.Context(), c, ref)
		if tt.ok && err != nil {
			t.Errorf("%s: %v", tt.host, err)
		}
		if !tt.ok && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", tt.host, err)
		}
		if tt.host == "10.0.0.1:5000" && !tt.ok && !strings.Contains(err.Error(), "plain http to 10.0.0.1:5000 is not allowed") {
			t.Errorf("%s: the error does not say why: %v", tt.host, err)
		}
	}

	reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "http://storage.test/x", http.StatusFound)
			return true
		}
		return false
	})
	c := newTestClient(t, Options{})
	if _, err := pulled(t.Context(), c, reg.ref(t, "x:v1")); err == nil || !strings.Contains(err.Error(), "plain http to storage.test is not allowed") {
		t.Errorf("redirected to clear text: %v", err)
	}
}

// TestProxy sends everything but loopback through the proxy of the environment.
func TestProxy(t *testing.T) {
	reg := newRegistry(t)
	img := makeImage(t, hostHere(), 1000)
	img.put(t, reg, "x", "v1")
	var hosts []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts = append(hosts, r.URL.Host)
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		r.RequestURI = ""
		reg.Config.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		clean(t)
		t.Setenv(name, proxy.URL)
		c := New(Options{PlainHTTP: []string{"registry.test"}, Log: logTo(t), CertDirs: []string{t.TempDir()}})
		c.retry.base = time.Millisecond
		hosts = nil
		ref, _ := ParseReference("registry.test/x:v1")
		// https has no answer from this proxy (it knows no CONNECT), so plain http is what remains.
		got, err := pulled(t.Context(), c, ref)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkLayers(t, got, img)
		if len(hosts) < 3 || hosts[len(hosts)-1] != "registry.test" {
			t.Errorf("%s: the proxy was asked for %v", name, hosts)
		}
		hosts = nil
		if _, err := c.Pull(t.Context(), reg.ref(t, "x:v1"), nil); err != nil || len(hosts) > 0 {
			t.Errorf("%s: loopback went through the proxy: %v, %v", name, hosts, err)
		}
		os.Unsetenv(name)
	}
}

func TestMirrors(t *testing.T) {
	hub, mirror, broken := newRegistry(t), newRegistry(t), newRegistry(t)
	img := makeImage(t, hostHere(), 500_000)
	img.put(t, hub, "library/x", "v1")
	img.put(t, mirror, "proxy/library/x", "v1")
	broken.guard(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	var lines []string
	options := Options{
		Mirrors:   map[string][]string{"registry.test": {"nonsense://x", broken.URL, "http://" + mirror.host + "/proxy/"}},
		PlainHTTP: []string{"registry.test"},
		Log:       func(format string, a ...any) { lines = append(lines, format) },
	}
	newClient := func() *Client {
		c := newTestClient(t, options)
		c.retry.attempts = 2
		c.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "registry.test:") {
				addr = hub.host
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return c
	}
	ref, _ := ParseReference("registry.test/library/x:v1")
	pull := func() {
		t.Helper()
		got, err := pulled(t.Context(), newClient(), ref)
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, got, img)
	}
	hub.guard(nil)
	pull()
	if hub.count("") > 0 {
		t.Errorf("the registry was asked though a mirror had it: %v", hub.log)
	}
	if len(lines) < 2 {
		t.Errorf("mirrors that do not work were passed over in silence")
	}

	// The mirror has the manifest, but its layer breaks off for good in the middle: the registry finishes it.
	layer := img.manifest.Layers[0]
	mirror.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(img.layers[0])))
		if r.Header.Get("Range") == "" {
			w.Write(img.layers[0][:200_000])
			w.(http.Flusher).Flush()
		}
		reset(w)
		return true
	})
	hub.guard(nil)
	pull()
	if hub.count("GET /v2/library/x/blobs/"+layer.Digest.String()) != 1 || hub.count("GET /v2/library/x/manifests") != 0 {
		t.Errorf("the registry was asked for %v", hub.log)
	}

	// Nobody has it: the registry's answer counts.
	none, _ := ParseReference("registry.test/library/none")
	if _, err := newClient().Pull(t.Context(), none, nil); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "registry.test") {
		t.Errorf("an image that nobody has: %v", err)
	}
}

// TestMirrorLogin: a login for a registry stays there. A mirror that asks for one, or passes on to itself, gets its own or none.
func TestMirrorLogin(t *testing.T) {
	hub, mirror := newRegistry(t), newRegistry(t)
	img := makeImage(t, hostHere(), 1000)
	img.put(t, hub, "x", "v1")
	img.put(t, mirror, "x", "v1")
	var mu sync.Mutex
	seen := map[string][]string{} // users by server
	guard := func(name string, reg *testRegistry) {
		reg.guard(func(w http.ResponseWriter, r *http.Request) bool {
			user, _, ok := r.BasicAuth()
			mu.Lock()
			if header := r.Header.Get("Authorization"); header != "" && !slices.Contains(seen[name], user) {
				seen[name] = append(seen[name], user)
			}
			mu.Unlock()
			if !ok || name == "mirror" && user != "for-the-mirror" {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			return false
		})
	}
	guard("hub", hub)
	guard("mirror", mirror)
	dir := t.TempDir()
	newClient := func() *Client {
		return newTestClient(t, Options{ConfigDir: dir, Mirrors: map[string][]string{hub.host: {"http://" + mirror.host}}})
	}
	if _, err := newClient().keepLogin(t.Context(), hub.host, "for-the-hub", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := pulled(t.Context(), newClient(), hub.ref(t, "x:v1")); err != nil {
		t.Fatal(err)
	}
	if len(seen["mirror"]) != 0 || !slices.Equal(seen["hub"], []string{"for-the-hub"}) {
		t.Errorf("logins seen: %v", seen)
	}
	// With a login of its own the mirror serves, and the registry is asked for nothing.
	if _, err := newClient().keepLogin(t.Context(), mirror.host, "for-the-mirror", "secret"); err != nil {
		t.Fatal(err)
	}
	seen = map[string][]string{}
	if _, err := pulled(t.Context(), newClient(), hub.ref(t, "x:v1")); err != nil {
		t.Fatal(err)
	}
	if len(seen["hub"]) != 0 || !slices.Equal(seen["mirror"], []string{"for-the-mirror"}) {
		t.Errorf("logins seen: %v", seen)
	}
}

// TestMirrorsOfAll: "*" is for registries that have no list of their own, each below a path of its own.
func TestMirrorsOfAll(t *testing.T) {
	c := New(Options{Mirrors: map[string][]string{All: {"m.test/of/{registry}", "n.test:5000/{registry}"}, "own.test": {"o.test"}, "none.test": {}}})
	for domain, want := range map[string]string{
		"docker.io": "m.test/of/docker.io/ n.test:5000/docker.io/ docker.io/", "Big.test:5000": "m.test/of/big.test-5000/ n.test:5000/big.test-5000/ Big.test:5000/",
		"own.test": "o.test/ own.test/", "none.test": "none.test/",
	} {
		var got []string
		for _, ep := range c.endpoints(Reference{Domain: domain, Path: "x"}) {
			got = append(got, ep.host+"/"+ep.prefix)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", domain, s, want)
		}
	}
}

func TestParseMirror(t *testing.T) {
	for in, want := range map[string]endpoint{
		"https://m.test":       {host: "m.test", mirror: true},
		"m.test:5000":          {host: "m.test:5000", mirror: true},
		"http://m.test/a/b/":   {host: "m.test", prefix: "a/b/", mirror: true},
		"https://[::1]:1/x":    {host: "[::1]:1", prefix: "x/", mirror: true},
		"ftp://m.test":         {},
		"https://":             {},
		"https://u:p@m.test":   {},
		"https://m.test?x=y":   {},
		"https://m.test/../x":  {},
		"https://m.test/UPPER": {},
	} {
		got, err := parseMirror(in)
		if got != want || (err == nil) != want.mirror {
			t.Errorf("parseMirror(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
}
