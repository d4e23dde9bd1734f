package commands

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/run"
)

// preferences are what a user has set once for all calls, in Docker's config.json. Logins in the same file are package
// registry's business.
type preferences struct {
	// DetachKeys are those of run, start, attach and exec, where nothing else is asked for.
	DetachKeys string `json:"detachKeys"`
	// PsFormat is the --format of ps, ImagesFormat that of images, likewise.
	PsFormat     string `json:"psFormat"`
	ImagesFormat string `json:"imagesFormat"`
}

// preferences reads them. A file that cannot be read is no reason not to run something: it is said, and passed over.
func (s *session) preferences() (p preferences) {
	dir := s.config
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return p
		}
		dir = filepath.Join(home, ".docker")
	}
	name := filepath.Join(dir, "config.json")
	data, err := given.ReadFile(name, given.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		return p
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		s.warn("%s: ignored: %v", name, err)
	}
	return p
}

// detachKeys are those that were asked for now, or when the container was made, or else the user's own.
func (s *session) detachKeys(c *run.Container, keys string) ([]byte, error) {
	if keys == "" {
		keys = c.Config.Lifetime.DetachKeys
	}
	if keys == "" {
		own, err := run.ParseDetachKeys(s.preferences().DetachKeys)
		if err == nil {
			return own, nil
		}
		s.warn("%v: ignored", err)
	}
	return run.ParseDetachKeys(keys)
}
