package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/hullrun/hull/internal/given"
)

// login finds what to say to a registry: the first answer of
//
//	DOCKER_AUTH_CONFIG                     a whole config.json in the environment
//	config.json                            Docker's, in Options.ConfigDir
//	REGISTRY_AUTH_FILE                     podman's names for the same, of which the first that is a file counts
//	$XDG_RUNTIME_DIR/containers/auth.json
//	$XDG_CONFIG_HOME/containers/auth.json, else ~/.config/…
//
// and nothing if none knows the host. go-containerregistry's DefaultKeychain looks at the same places but takes the
// first file for the whole truth, so a config.json that only sets a table format would hide podman's logins. A file or
// helper that does not work is logged and passed over, as Docker does: most images need no login, and a registry that
// wants one says so.
func (c *Client) login(ctx context.Context, host, path string) (authn.Authenticator, error) {
	type found struct{ auth authn.Authenticator }
	done := make(chan found, 1)
	// A file may be a pipe, which takes no context.
	go func() { done <- found{c.findLogin(ctx, host, path)} }()
	select {
	case f := <-done:
		return f.auth, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Client) findLogin(ctx context.Context, host, path string) authn.Authenticator {
	for _, load := range c.loginSources() {
		cf, err := load()
		if err == nil && cf == nil {
			continue
		}
		var auth types.AuthConfig
		if err == nil {
			auth, err = c.lookup(ctx, cf, host, path)
		}
		if err != nil {
			c.opt.Log("login for %s: %v", host, err)
			continue
		}
		if auth.ServerAddress = ""; auth != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username:      auth.Username,
				Password:      auth.Password,
				Auth:          auth.Auth,
				IdentityToken: auth.IdentityToken,
				RegistryToken: auth.RegistryToken,
			})
		}
	}
	return authn.Anonymous
}

// loginSources load a config file each, or nil where there is none.
func (c *Client) loginSources() []func() (*configfile.ConfigFile, error) {
	return []func() (*configfile.ConfigFile, error){
		func() (*configfile.ConfigFile, error) {
			text := os.Getenv("DOCKER_AUTH_CONFIG")
			if text == "" {
				return nil, nil
			}
			cf, err := config.LoadFromReader(strings.NewReader(text))
			if err != nil {
				return nil, fmt.Errorf("read DOCKER_AUTH_CONFIG: %w", err)
			}
			return cf, nil
		},
		func() (*configfile.ConfigFile, error) {
			if c.opt.ConfigDir == "" {
				return nil, nil
			}
			return loadLogins(filepath.Join(c.opt.ConfigDir, config.ConfigFileName))
		},
		func() (*configfile.ConfigFile, error) {
			for _, file := range podmanFiles() {
				if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
					return loadLogins(file)
				}
			}
			return nil, nil
		},
	}
}

func podmanFiles() []string {
	files := []string{}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		files = append(files, file)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	return files
}

func loadLogins(file string) (*configfile.ConfigFile, error) {
	text, err := given.ReadFile(file, given.Limit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cf, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return cf, nil
}

// lookup asks one config file. A helper named for the host beats the one for all, and both beat what is written in the
// file; there a key may be the host, a URL of it, or (podman's) a host with the beginning of a path, the longest first.
func (c *Client) lookup(ctx context.Context, cf *configfile.ConfigFile, host, path string) (types.AuthConfig, error) {
	key := loginKey(host)
	helper, named := cf.CredentialHelpers[key]
	if !named {
		if helper, named = cf.CredentialHelpers[host]; named {
			key = host
		}
	}
	if !named {
		helper = cf.CredentialsStore
	}
	if helper != "" {
		auth, err := c.askHelper(ctx, helper, key)
		if err != nil || auth != (types.AuthConfig{}) {
			return auth, err
		}
	}
	for scope := host + "/" + path; scope != host; scope = scope[:strings.LastIndexByte(scope, '/')] {
		if auth, ok := cf.AuthConfigs[scope]; ok {
			return auth, nil
		}
	}
	for _, k := range []string{key, host} {
		auth, err := credentials.NewFileStore(cf).Get(k)
		if auth.ServerAddress = ""; err != nil || auth != (types.AuthConfig{}) {
			return auth, err
		}
	}
	return types.AuthConfig{}, nil
}

// loginKey is how Docker writes the host in config.json; the Hub's has a history.
func loginKey(host string) string {
	switch host {
	case defaultDomain, legacyDomain, "registry-1.docker.io":
		return authn.DefaultAuthKey
	}
	return host
}
