package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
)

// Settings is hull's configuration: what its files say together, see [Host.Settings].
type Settings struct {
	// Registries says how to reach registries, by host ("docker.io", "localhost:5000"); "*" stands for all without an
	// entry of their own.
	Registries map[string]RegistrySettings `json:"registries"`
	// Policy is that of one file. Those of several do not become one, see [Host.demands].
	Policy Policy `json:"policy"`

	policies []filedPolicy
	// Store is about the images on this disk.
	Store StoreSettings `json:"store"`
}

// RegistrySettings is about one registry.
type RegistrySettings struct {
	// Mirrors are base addresses that are asked in their order before the registry itself, [http[s]://]HOST[:PORT][/PATH]. {registry}
	// in a path is replaced by the registry's host, with "-" for the colon before a port. The mirrors of "*" must have it: the same
	// path means another image at another registry.
	Mirrors []string `json:"mirrors"`
	// HTTP allows plain http.
	HTTP bool `json:"http"`
}

// systemConfig is root's word. Its policy holds whatever other file is named.
const systemConfig = "/etc/hull/config.json"

// ConfigFiles are where the configuration is looked for: the file that $HULL_CONFIG names, and then no other; else
// /etc/hull/config.json, and after it hull/config.json in the user's configuration directory (XDG Base Directory
// Specification), whose words count where both speak. Root has the first alone, for sudo can leave it somebody else's HOME.
func ConfigFiles() []string {
	if file := os.Getenv("HULL_CONFIG"); file != "" {
		return []string{file}
	}
	files := []string{systemConfig}
	if os.Geteuid() != 0 {
		if dir, err := os.UserConfigDir(); err == nil {
			files = append(files, filepath.Join(dir, "hull/config.json"))
		}
	}
	return files
}

// Settings reads the configuration. A file that is not there is an empty one, unless somebody named it; one that says what
// hull does not know is an error, for it may well be a limit that is misspelt.
func (h *Host) Settings() (s Settings, err error) {
	files, named := ConfigFiles(), os.Getenv("HULL_CONFIG") != ""
	if h.ConfigFile != "" {
		files, named = []string{h.ConfigFile}, true
	}
	for _, file := range files {
		more, err := readSettings(file)
		if errors.Is(err, fs.ErrNotExist) && !named {
			continue
		}
		if err != nil {
			return Settings{}, fmt.Errorf("read configuration %q: %w", file, err)
		}
		s.join(more)
	}
	if named {
		more, err := readSettings(systemConfig)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Settings{}, fmt.Errorf("read configuration %q: %w", systemConfig, err)
		}
		s.policies = append(s.policies, more.policies...)
	}
	return s, nil
}

func readSettings(file string) (s Settings, err error) {
	data, err := given.ReadFile(file, given.Limit)
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, err
	}
	if _, err := d.Token(); err != io.EOF {
		return s, errors.New("there is something behind the closing brace")
	}
	if err := s.Policy.check(); err != nil {
		return s, err
	}
	if len(s.Policy) > 0 {
		s.policies = []filedPolicy{{file, s.Policy}}
	}
	all := s.Registries[registry.All]
	if all.HTTP {
		return s, errors.New(`registries: "*": "http" is for one registry, by its name`)
	}
	for _, mirror := range all.Mirrors {
		if !strings.Contains(mirror, registry.Placeholder) {
			return s, fmt.Errorf(`registries: "*": mirror %q: want %s in its path, for a name means another image at each registry`, mirror, registry.Placeholder)
		}
	}
	return s, nil
}

// StoreSettings is about the images on this disk.
type StoreSettings struct {
	// Budget bounds them.
	Budget Budget `json:"budget"`
}

// join adds what a file says that is read later.
func (s *Settings) join(more Settings) {
	if s.Registries == nil {
		s.Registries = map[string]RegistrySettings{}
	}
	maps.Copy(s.Registries, more.Registries)
	s.policies = append(s.policies, more.policies...)
	if more.Store.Budget != (Budget{}) {
		s.Store.Budget = more.Store.Budget
	}
}
