package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// ImportConfig is what is wished of an image made of a file system's tar.
type ImportConfig struct {
	// Ref is its name, "" for none.
	Ref string
	// Message is the line in its history.
	Message string
	// Changes are Dockerfile instructions that make its configuration, as in CommitConfig.
	Changes []string
	// Platform is what the files are for, "os[/arch[/variant]]"; "" is this machine's.
	Platform string
}

// Import makes an image of a tar with one layer, which it becomes.
func (h *Host) Import(ctx context.Context, tar io.Reader, wish ImportConfig) (*layers.Image, error) {
	opt := layers.CommitOptions{Comment: wish.Message}
	var err error
	if opt.Created, err = imageTime(); err != nil {
		return nil, err
	}
	if wish.Ref != "" {
		if opt.Name, err = newName(wish.Ref); err != nil {
			return nil, err
		}
	}
	if err := h.mayImport(opt.Name); err != nil {
		return nil, fmt.Errorf("import %q: %w", wish.Ref, err)
	}
	platform := &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if wish.Platform != "" {
		if platform, err = registry.ParsePlatform(wish.Platform); err != nil {
			return nil, err
		}
	}
	if err := changeConfig(&opt.Config, wish.Changes); err != nil {
		return nil, err
	}
	img, err := h.Images.Import(ctx, tar, *platform, opt)
	h.KeepBudget()
	if err != nil {
		return nil, err
	}
	h.note(Event{Type: "image", Action: "import", ID: img.ID, Attributes: map[string]string{"name": img.ID}})
	return img, nil
}

// mayImport is an error for a name, "" for none, of which images must be signed: what is made here never is.
func (h *Host) mayImport(name string) error {
	var ref registry.Reference
	if name != "" {
		var err error
		if ref, err = registry.ParseReference(name); err != nil {
			return err
		}
	}
	wanted, err := h.demands(ref)
	if err == nil && len(wanted) > 0 {
		err = fmt.Errorf("an image of that name must be signed by %s, and one that is made here is not", keyNames(wanted[0].keys))
	}
	return err
}

// newName is the full name for an image that is being made.
func newName(name string) (string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fmt.Errorf("image name %q: a digest cannot be given, it is what comes out", name)
	}
	return ref.String(), nil
}

// imageTime is when an image says that it was made: now, or the time of sourceDate.
func imageTime() (time.Time, error) {
	t, err := sourceDate()
	if err == nil && t.IsZero() {
		t = time.Now()
	}
	return t, err
}

// sourceDate is SOURCE_DATE_EPOCH (seconds since 1970, by the specification of reproducible-builds.org), by which the same
// input makes the same image at any time and place; the zero time if that is not set.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0), nil
}
