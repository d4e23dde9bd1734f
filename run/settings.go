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
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
)

// Settings is hull's configuration: what its files say together, see [Host.Settings]. A start of an image that is here
// does not read them.
type Settings struct {
	// Registries says how to reach registries, by host ("docker.io", "localhost:5000"); "*" stands for all without an
	// entry of their own.
	Registries map[string]RegistrySettings `json:"registries"`
	// Store is about the images on this disk.
	Store StoreSettings `json:"store"`
	// Policy says, by the beginning of a full image name ("docker.io/library", "registry.test/team"), which key its
	// signature must be made with, or "reject". What the system's file says a user's file cannot change.
	Policy map[string]string `json:"policy"`
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

// StoreSettings is about the images on this disk.
type StoreSettings struct {
	// Budget bounds them.
	Budget Budget `json:"budget"`
}

// Budget is how much of the disk images may take. The zero value is no bound.
type Budget struct {
	Bytes int64 // at most so many; 0 is no bound
	Free  int64 // so many hundredths of the file system stay free; 0 is no bound
}

// ParseBudget reads a size ("20GB", powers of 1000; "20GiB", of 1024) or a share of the disk that stays free ("10% free").
func ParseBudget(s string) (b Budget, err error) {
	if share, ok := strings.CutSuffix(s, "% free"); ok {
		if b.Free, err = strconv.ParseInt(share, 10, 64); err == nil && b.Free > 0 && b.Free < 100 {
			return b, nil
		}
	} else if parse := units.FromHumanSize; s != "" {
		if strings.ContainsAny(s, "iI") {
			parse = units.RAMInBytes
		}
		if b.Bytes, err = parse(s); err == nil && b.Bytes > 0 {
			return b, nil
		}
	}
	return Budget{}, fmt.Errorf(`budget %q: want a size such as "20GB", or "10%% free"`, s)
}

// UnmarshalJSON reads what ParseBudget does.
func (b *Budget) UnmarshalJSON(data []byte) error {
	var s string
	err := json.Unmarshal(data, &s)
	if err == nil {
		*b, err = ParseBudget(s)
	}
	return err
}

// MarshalJSON writes what UnmarshalJSON reads.
func (b Budget) MarshalJSON() ([]byte, error) {
	switch {
	case b.Free > 0:
		return json.Marshal(fmt.Sprintf("%d%% free", b.Free))
	case b.Bytes > 0:
		return json.Marshal(fmt.Sprintf("%dB", b.Bytes))
	}
	return json.Marshal("")
}

// ConfigFiles are where the configuration is looked for: the file that $HULL_CONFIG names, and then no other; else
// /etc/hull/config.json, and after it hull/config.json in the user's configuration directory (XDG Base Directory
// Specification), whose words count where both speak. Root has the first alone, for sudo can leave it somebody else's HOME.
func ConfigFiles() []string {
	if file := os.Getenv("HULL_CONFIG"); file != "" {
		return []string{file}
	}
	files := []string{"/etc/hull/config.json"}
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

// join adds what a file says that is read later.
func (s *Settings) join(more Settings) {
	if s.Registries == nil {
		s.Registries = map[string]RegistrySettings{}
	}
	maps.Copy(s.Registries, more.Registries)
	if more.Store.Budget != (Budget{}) {
		s.Store.Budget = more.Store.Budget
	}
	if s.Policy == nil {
		s.Policy = map[string]string{}
	}
	for prefix, key := range more.Policy {
		if _, ruled := s.Policy[prefix]; !ruled {
			s.Policy[prefix] = key
		}
	}
}
