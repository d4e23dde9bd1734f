// Package run is the life of a container: from an image's name and somebody's wishes to an exit status, and all that is
// left behind afterwards.
//
// It is the one package that knows images (layers, registry), processes (ns) and limits (cgroups), and it turns what
// one says into what another needs: an image becomes a mount, wishes become an OCI specification, a group becomes a
// descriptor. Words of a command line or of an API are turned into a [Config] elsewhere.
package run

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// Host is the containers and images below one root directory, as the calling user may use them.
type Host struct {
	// Root is the directory that everything is kept in.
	Root string
	// Images are those on this disk.
	Images *layers.Store
	// Warn takes a line about something that is not as asked for but goes on; nil drops it.
	Warn func(string)
	// ConfigFile is hull's own configuration, "" for those of ConfigFiles; DockerConfig Docker's directory, "" for its default.
	ConfigFile, DockerConfig string

	// Offline never asks a registry: an image is on this disk, or an error.
	Offline bool
	// Dir is the absolute directory where hull.lock is looked for, see [lock.Find]; "" heeds none. Locked refuses images that
	// it lacks.
	Dir    string
	Locked bool
	// Verify, if not empty, are the keys by one of which every image must be signed that is fetched or that a container is made of.
	Verify []registry.Key

	rootless     bool
	rulesRenewed atomic.Bool
	sub          subIDs // of a user who is not root
	journalSize  int64  // journalMax, smaller for tests
}

// DefaultRoot is the root directory where none is named: /var/lib/hull for root, else hull in the user's data
// directory (XDG Base Directory Specification). Without HOME there is none, which is an error.
func DefaultRoot() (string, error) {
	if dir := os.Getenv("HULL_ROOT"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/hull", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hull"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a root directory: %w\nset HOME or XDG_DATA_HOME, or name a directory with --root or HULL_ROOT", err)
	}
	return filepath.Join(home, ".local/share/hull"), nil
}

// Open opens the root directory, "" for DefaultRoot, and makes it if need be.
func Open(root string) (*Host, error) {
	if root == "" {
		var err error
		if root, err = DefaultRoot(); err != nil {
			return nil, err
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	store, err := layers.Open(root)
	if err != nil {
		return nil, err
	}
	h := &Host{Root: root, Images: store, rootless: os.Geteuid() != 0}
	h.useSubIDs()
	return h, nil
}

// warn passes a line on, if anybody listens.
func (h *Host) warn(format string, args ...any) {
	if h.Warn != nil {
		h.Warn(fmt.Sprintf(format, args...))
	}
}

func (h *Host) containers() string { return filepath.Join(h.Root, "containers") }
