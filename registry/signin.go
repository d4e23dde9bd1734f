package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// KeptLogin says where [Client.Login] has put a password: with a credential helper, or else readable in a file.
type KeptLogin struct{ Helper, File string }

// ParseHost reads the host that somebody logs in to: HOST[:PORT], or an address of which only that counts. "" is the Hub.
func ParseHost(s string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", legacyDomain, "registry-1.docker.io":
		host = defaultDomain
	}
	if err := checkDomain(host); err != nil {
		return "", fmt.Errorf("registry %q: %w", s, err)
	}
	return host, nil
}

// Login asks a registry (a host of [ParseHost]) whether it knows user by that password, and then keeps both as Docker
// does: with the credential helper that config.json names for the host or for all; where there is no login yet, with
// one that is installed (pass, secretservice); else in config.json itself. Where a helper exists the file never has the
// password, not even an old one.
func (c *Client) Login(ctx context.Context, host, user, password string) (KeptLogin, error) {
	err := c.verifyLogin(ctx, host, authn.FromConfig(authn.AuthConfig{Username: user, Password: password}))
	if err != nil {
		return KeptLogin{}, fmt.Errorf("log in to %q: %w", host, explain(err))
	}
	kept, err := c.keepLogin(ctx, loginKey(host), user, password)
	if err != nil {
		return KeptLogin{}, fmt.Errorf("keep login for %q: %w", host, err)
	}
	return kept, nil
}

// LoginAgain tries the login that is kept for a registry, and says whether there was one.
func (c *Client) LoginAgain(ctx context.Context, host string) (found bool, err error) {
	auth, err := c.login(ctx, host, "")
	if err != nil || auth == authn.Anonymous {
		return false, err
	}
	if err := c.verifyLogin(ctx, host, auth); err != nil {
		return true, fmt.Errorf("log in to %q: %w", host, explain(err))
	}
	return true, nil
}

// verifyLogin gets /v2/, which a registry answers only to those it knows.
func (c *Client) verifyLogin(ctx context.Context, host string, auth authn.Authenticator) error {
	ep := endpoint{host: host}
	reg, err := c.registry(ep)
	if err != nil {
		return err
	}
	rt, err := transport.NewWithContext(ctx, reg, auth, c.roundTripper(c.retry), nil)
	if err != nil {
		return err
	}
	// Whichever scheme was answered takes the place of this one.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+ep.address()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, bufferSize)
	if err == io.EOF {
		err = nil
	}
	return err
}

var errNoConfigDir = errors.New("there is no HOME; name a directory with --config or DOCKER_CONFIG")

// keepLogin stores a login that is good.
func (c *Client) keepLogin(ctx context.Context, key, user, password string) (KeptLogin, error) {
	f, unlock, err := c.openLogins()
	if err != nil {
		return KeptLogin{}, err
	}
	defer unlock()
	if f.store == "" && len(f.auths) == 0 && len(f.helpers) == 0 {
		f.store = credentials.DetectDefaultStore("")
	}
	entry, kept := loginEntry{Auth: encodeLogin(user, password)}, KeptLogin{File: f.path}
	if helper := f.helper(key); helper != "" {
		creds := &helpers.Credentials{ServerURL: key, Username: user, Secret: password}
		if err := client.Store(c.helperProgram(ctx, helper), creds); err != nil {
			return KeptLogin{}, fmt.Errorf("docker-credential-%s: %w", helper, err)
		}
		entry, kept = loginEntry{}, KeptLogin{Helper: helper}
	}
	if err := f.put(key, entry); err != nil {
		return KeptLogin{}, err
	}
	return kept, f.save()
}

// Logout forgets the login for a registry. It is no error if there is none.
func (c *Client) Logout(ctx context.Context, host string) error {
	f, unlock, err := c.openLogins()
	if err != nil {
		return fmt.Errorf("log out of %q: %w", host, err)
	}
	defer unlock()
	found := false
	for _, key := range loginKeys(host) {
		if _, ok := f.auths[key]; ok {
			delete(f.auths, key)
			found = true
		}
	}
	// A helper may know of a login that the file does not mention.
	key := loginKey(host)
	if helper := f.helper(key); helper != "" {
		if err = client.Erase(c.helperProgram(ctx, helper), key); !found {
			err = nil // there was none: helpers differ in what they say to that
		}
	}
	if found {
		err = errors.Join(err, f.save())
	}
	if err != nil {
		return fmt.Errorf("log out of %q: %w", host, err)
	}
	return nil
}

// loginKeys are all spellings under which tools have written a host.
func loginKeys(host string) []string {
	key := loginKey(host)
	keys := []string{key}
	for _, k := range []string{host, "http://" + host, "https://" + host} {
		if k != key {
			keys = append(keys, k)
		}
	}
	return keys
}

// openLogins locks and reads config.json.
func (c *Client) openLogins() (*loginFile, func(), error) {
	if c.opt.ConfigDir == "" {
		return nil, nil, errNoConfigDir
	}
	unlock, err := lockLogins(c.opt.ConfigDir)
	if err != nil {
		return nil, nil, err
	}
	f, err := readLoginFile(filepath.Join(c.opt.ConfigDir, config.ConfigFileName))
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return f, unlock, nil
}
