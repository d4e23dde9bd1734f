package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// Fetch says how an image is found.
type Fetch struct {
	Policy   PullPolicy // the zero value is PullMissing
	Platform string     // "os[/arch[/variant]]", "" for this machine's
	// Begin is called when something must be fetched, before the first event of Progress. Either may be nil.
	Begin    func(ref registry.Reference)
	Progress func(layers.Event)
}

// Pulled is what a pull brought.
type Pulled struct {
	*layers.Image
	// Ref is the full reference; it has no name for an archive that names none.
	Ref registry.Reference
	// Named is the digest that the name stands for: of the index, if there is one.
	Named string
	// Fresh is false if all was here already.
	Fresh bool
}

// Client talks to registries as the configuration files say.
func (h *Host) Client() (*registry.Client, error) {
	s, err := h.Settings()
	if err != nil {
		return nil, err
	}
	opt := registry.Options{ConfigDir: h.DockerConfig, Mirrors: map[string][]string{}, UserAgent: "hull", Log: func(format string, a ...any) { h.warn(format, a...) }}
	for host, r := range s.Registries {
		opt.Mirrors[host] = r.Mirrors
		if r.HTTP {
			opt.PlainHTTP = append(opt.PlainHTTP, host)
		}
	}
	return registry.New(opt), nil
}

// Image finds an image for a container: on this disk, where its policy allows that, else elsewhere. Its layers are
// unpacked when it returns.
func (h *Host) Image(ctx context.Context, name string, f Fetch) (*layers.Image, error) {
	if f.Policy != PullAlways && f.Policy != PullNewer && !registry.IsArchive(name) {
		img, err := h.local(ctx, name, f)
		if err == nil || !errors.Is(err, layers.ErrNotFound) {
			return img, err
		}
		if f.Policy == PullNever {
			//lint:ignore ST1005 Docker's words, which scripts look for
			return nil, fmt.Errorf("No such image: %s%w", name, errHidden{err})
		}
	}
	pulled, err := h.Pull(ctx, name, f)
	if err != nil && f.Policy == PullNewer {
		if img, here := h.local(ctx, name, f); here == nil {
			h.warn("%v: using the image that is here", err)
			return img, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return pulled.Image, nil
}

// local finds an image on this disk. One for another platform than was asked for is as good as none.
func (h *Host) local(ctx context.Context, name string, f Fetch) (*layers.Image, error) {
	img, err := h.Images.Lookup(name)
	if isHello(name) && (err != nil || img.Config.Config.Labels[helloLabel] != "" && !isCurrentHello(img)) {
		return h.addHello(ctx, f)
	}
	if err != nil {
		return nil, err
	}
	if f.Platform != "" {
		want, err := registry.ParsePlatform(f.Platform)
		if err != nil {
			return nil, err
		}
		if !img.Platform.Satisfies(v1.Platform{OS: want.OS, Architecture: want.Architecture, Variant: want.Variant}) {
			return nil, fmt.Errorf("image %q is for %s, not %s%w", name, img.Platform, want, errHidden{layers.ErrNotFound})
		}
	}
	return h.Images.Ready(ctx, img, layers.AddOptions{Progress: f.Progress})
}

// Pull brings an image from a registry or an archive into the store, unless the name still means the one that is here.
func (h *Host) Pull(ctx context.Context, name string, f Fetch) (*Pulled, error) {
	if registry.IsArchive(name) {
		return h.pullArchive(ctx, name, f)
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if isHello(name) {
		img, err := h.addHello(ctx, f)
		if err != nil {
			return nil, err
		}
		return &Pulled{Image: img, Ref: ref, Named: img.Digest}, nil
	}
	platform, err := parsePlatform(f.Platform)
	if err != nil {
		return nil, err
	}
	client, err := h.Client()
	if err != nil {
		return nil, err
	}
	if f.Begin != nil {
		f.Begin(ref)
	}
	if p := h.upToDate(ctx, client, ref, platform, f); p != nil {
		return p, nil
	}
	img, err := client.Pull(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	return h.add(ctx, ref, img, f)
}

// upToDate asks what the name stands for, and gives the image if that is here, ready to run. Whatever is in the way
// shows again, and better, when the image is fetched.
func (h *Host) upToDate(ctx context.Context, client *registry.Client, ref registry.Reference, platform *v1.Platform, f Fetch) *Pulled {
	here, err := h.Images.Lookup(ref.String())
	if err != nil || here.Layers == nil {
		return nil
	}
	there, err := client.Resolve(ctx, ref, platform)
	if err != nil || there.Digest.String() != here.Digest {
		return nil
	}
	return &Pulled{Image: here, Ref: ref, Named: there.Digest.String()}
}

func (h *Host) pullArchive(ctx context.Context, name string, f Fetch) (*Pulled, error) {
	platform, err := parsePlatform(f.Platform)
	if err != nil {
		return nil, err
	}
	img, refName, done, err := registry.Open(name, platform)
	if err != nil {
		return nil, err
	}
	defer done()
	var ref registry.Reference
	if refName != "" {
		if ref, err = registry.ParseReference(refName); err != nil {
			return nil, err
		}
	}
	return h.add(ctx, ref, img, f)
}

func (h *Host) add(ctx context.Context, ref registry.Reference, img v1.Image, f Fetch) (*Pulled, error) {
	name := ""
	if ref.Path != "" {
		name = ref.String()
	}
	before, _ := h.Images.Lookup(name)
	got, err := h.Images.Add(ctx, name, img, layers.AddOptions{Progress: f.Progress})
	if err != nil {
		return nil, err
	}
	named, err := registry.Named(img)
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: got, Ref: ref, Named: named.Digest.String(), Fresh: before == nil || before.Digest != got.Digest}, nil
}

func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		return nil, nil
	}
	return registry.ParsePlatform(s)
}

// Push uploads the image that name stands for on this disk to where its name says.
func (h *Host) Push(ctx context.Context, name string) (registry.Reference, v1.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return ref, nil, err
	}
	img, err := h.Images.Image(ref.String())
	if errors.Is(err, layers.ErrNotFound) {
		//lint:ignore ST1005 Docker's words, which scripts look for
		return ref, nil, fmt.Errorf("An image does not exist locally with the tag: %s%w", ref.Familiar(), errHidden{err})
	}
	if err != nil {
		return ref, nil, err
	}
	client, err := h.Client()
	if err != nil {
		return ref, nil, err
	}
	return ref, img, client.Push(ctx, ref, img)
}

// Tag gives the image src one more name.
func (h *Host) Tag(ctx context.Context, src, dst string) error {
	ref, err := registry.ParseReference(dst)
	if err != nil {
		return err
	}
	if _, err := h.local(ctx, src, Fetch{}); err != nil {
		return err
	}
	return h.Images.Tag(src, ref.String())
}

// fileStamp tells one build of a file from another.
func fileStamp(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d-%s", st.Size(), st.ModTime().UTC().Format(time.RFC3339Nano))
}
