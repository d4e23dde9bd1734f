package run

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hullrun/hull/layers"
)

// What a container takes from the host on request, to trust whom the host trusts and to tell the host's time: all of it is
// mounted, or in the environment, at each start anew. Nothing is written to the container's files, so that no image made of it
// has any of it.

// caBundles is where the distributions keep the certificates that they trust, in one file: those that crypto/x509 knows.
func caBundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // CentOS, RHEL 7
		"/etc/ssl/cert.pem",                                 // Alpine
	}
}

// Where the container finds the host's files: in its /dev, which is no part of an image, so that no place has to be made.
const (
	trustedCerts = "/dev/.ca-certificates.crt"
	localTime    = "/dev/.localtime"
)

// certVariables lead to a bundle: OpenSSL and Go, curl, git, Python's requests, Node.js.
func certVariables() []string {
	return []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}
}

// takeTrust adds to the world what is asked of the host.
func (s *start) takeTrust() error {
	c := &s.Config.Host
	s.HostEnv = nil
	defer func() { s.world.Env = s.HostEnv }()
	if !c.Certs && c.Timezone == "" {
		return nil
	}
	if slices.ContainsFunc(s.Mounts, func(m MountSpec) bool { return m.Target == "/dev" }) {
		return errors.New("host-certs, tz: the container has no /dev of its own to find them in")
	}
	if c.Certs {
		if err := s.takeCerts(); err != nil {
			return fmt.Errorf("host-certs: %w", err)
		}
	}
	if c.Timezone != "" {
		if err := s.takeTime(c.Timezone); err != nil {
			return fmt.Errorf("tz %q: %w", c.Timezone, err)
		}
	}
	return nil
}

// takeCerts shows the host's bundle in the place of those that the image has.
func (s *start) takeCerts() error {
	bundle := ""
	for _, p := range append([]string{os.Getenv("SSL_CERT_FILE")}, caBundles()...) {
		if st, err := os.Stat(p); p != "" && err == nil && st.Mode().IsRegular() {
			bundle = p
			break
		}
	}
	if bundle == "" {
		return fmt.Errorf("the host has no bundle of certificates at %s", strings.Join(caBundles(), ", "))
	}
	s.show(bundle, trustedCerts)
	for _, p := range caBundles() {
		if !s.mountedAround(p) && s.inImage(p) {
			s.show(bundle, p)
		}
	}
	for _, name := range certVariables() {
		s.HostEnv = append(s.HostEnv, name+"="+trustedCerts)
	}
	return nil
}

// takeTime shows a time zone of the host's, its own as "host" or "local". Where the image knows the zone too it is told the
// name, which all programs understand; elsewhere the C library and Go read the host's file. An image's link at /etc/localtime
// is left alone: what is mounted there would be UTC's, or whosever it leads to.
func (s *start) takeTime(zone string) error {
	const zones = "/usr/share/zoneinfo/"
	file := "/etc/localtime"
	if zone == "host" || zone == "local" {
		target, err := filepath.EvalSymlinks(file)
		if errors.Is(err, fs.ErrNotExist) {
			s.HostEnv = append(s.HostEnv, "TZ=UTC0") // as it is without one, localtime(5)
			return nil
		}
		if err != nil {
			return err
		}
		_, zone, _ = strings.Cut(target, zones)
	} else if file = filepath.Join(zones, zone); !filepath.IsLocal(zone) {
		return errors.New("want host, or a name such as Europe/Berlin")
	}
	if st, err := os.Stat(file); err != nil {
		return err
	} else if !st.Mode().IsRegular() {
		return errors.New("no time zone")
	}
	s.show(file, localTime)
	name := ":" + localTime
	if zone != "" && s.inImage(zones+zone) {
		name = zone
	}
	s.HostEnv = append(s.HostEnv, "TZ="+name)
	return nil
}

// inImage says whether the image has a file at a path, if by a link.
func (s *start) inImage(path string) bool {
	f, err := layers.OpenFile(s.host.Images.Dirs(s.image), path)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

// mountedAround says whether something was asked for in the tree below /etc that a path lies in. What is in a volume is not for
// us to cover, nor to add to, and a link of the image's may lead from anywhere in the tree into it.
func (s *start) mountedAround(path string) bool {
	tree := strings.Join(strings.SplitAfterN(path, "/", 4)[:3], "")
	return slices.ContainsFunc(s.Mounts, func(m MountSpec) bool {
		target := strings.TrimSuffix(m.Target, "/") + "/"
		return strings.HasPrefix(target, tree) || strings.HasPrefix(tree, target)
	})
}

// show binds a file of the host's, which cannot be written.
func (s *start) show(file, place string) {
	s.world.Mounts = append(s.world.Mounts, specs.Mount{Destination: place, Type: "bind", Source: file, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
}

// proxies are the variables that Docker's config.json has containers started with (docs.docker.com/engine/cli/proxy): those
// for the daemon that $DOCKER_HOST names, or the default ones; each in capitals and in small letters.
func (h *Host) proxies() ([]string, error) {
	dir := cmp.Or(h.DockerConfig, os.Getenv("DOCKER_CONFIG"))
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && len(data) == 0 {
		return nil, nil
	}
	var file struct {
		Proxies map[string]struct{ HTTPProxy, HTTPSProxy, FTPProxy, NoProxy, AllProxy string }
	}
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil {
		return nil, fmt.Errorf("proxies of %s: %w", path, err)
	}
	p, ok := file.Proxies[cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")]
	if !ok {
		p = file.Proxies["default"]
	}
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTPProxy}, {"HTTPS_PROXY", p.HTTPSProxy}, {"FTP_PROXY", p.FTPProxy}, {"NO_PROXY", p.NoProxy}, {"ALL_PROXY", p.AllProxy},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env, nil
}
