package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
)

// ManifestList is an index that is being put together on this disk, until it is pushed.
type ManifestList struct {
	Ref   registry.Reference
	Parts []registry.Part
}

// ErrNoManifestList is in the error about a list that is not here.
var ErrNoManifestList = errors.New("no such manifest list")

func (h *Host) manifestFile(ref registry.Reference) string {
	return filepath.Join(h.Root, "manifests", url.PathEscape(ref.String())+".json")
}

// ManifestList finds the list of that name; the error is [ErrNoManifestList] where there is none.
func (h *Host) ManifestList(ref registry.Reference) (*ManifestList, error) {
	data, err := given.ReadFile(h.manifestFile(ref), given.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return nil, fmt.Errorf("No such manifest: %s%w", ref.Familiar(), errHidden{ErrNoManifestList})
	}
	l := &ManifestList{}
	if err == nil {
		err = json.Unmarshal(data, l)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest list %q: %w", ref.Familiar(), err)
	}
	return l, nil
}

// SaveManifestList keeps a list under its name.
func (h *Host) SaveManifestList(l *ManifestList) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write manifest list %q: %w", l.Ref.Familiar(), err)
	}
	file := h.manifestFile(l.Ref)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write manifest list: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return fmt.Errorf("write manifest list: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write manifest list: %w", err)
	}
	return nil
}

// RemoveManifestList forgets a list.
func (h *Host) RemoveManifestList(ref registry.Reference) error {
	err := os.Remove(h.manifestFile(ref))
	if errors.Is(err, fs.ErrNotExist) {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return fmt.Errorf("No such manifest: %s%w", ref.Familiar(), errHidden{ErrNoManifestList})
	}
	return err
}

// Find gives the place of the part that a reference names: by the words that it was added by, or by its digest. It is -1 for
// none.
func (l *ManifestList) Find(ref registry.Reference) int {
	return slices.IndexFunc(l.Parts, func(p registry.Part) bool {
		return p.From == ref || ref.Digest != "" && p.Digest.String() == ref.Digest && p.From.Domain == ref.Domain && p.From.Path == ref.Path
	})
}

// Add takes in a part, in place of one that was added by the same words.
func (l *ManifestList) Add(p registry.Part) {
	if n := l.Find(p.From); n >= 0 {
		l.Parts[n] = p
		return
	}
	l.Parts = append(l.Parts, p)
}
