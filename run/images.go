package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
)

// Fetch says how an image is found.
type Fetch struct {
	Policy   PullPolicy // the zero value is PullMissing
	Platform string     // "os[/arch[/variant]]", "" for this machine's
	// All keeps an image's index and what it has for other platforms, too, so that a push gives all of it.
	All bool
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
	// Signers are the keys by which it is signed, of those that were wanted.
	Signers []registry.Key
}

// Client talks to registries as the configuration files say.
func (h *Host) Client() (*registry.Client, error) {
	opt, err := h.ClientOptions()
	if err != nil {
		return nil, err
	}
	return registry.New(opt), nil
}

// ClientOptions are what [Host.Client] makes a client with.
func (h *Host) ClientOptions() (registry.Options, error) {
	s, err := h.Settings()
	if err != nil {
		return registry.Options{}, err
	}
	opt := registry.Options{ConfigDir: h.DockerConfig, Mirrors: map[string][]string{}, UserAgent: "hull", Log: func(format string, a ...any) { h.warn(format, a...) }}
	for host, r := range s.Registries {
		opt.Mirrors[host] = r.Mirrors
		if r.HTTP {
			opt.PlainHTTP = append(opt.PlainHTTP, host)
		}
	}
	return opt, nil
}

// Image finds an image for a container: on this disk, where its policy allows that, else elsewhere. Its layers are
// unpacked when it returns.
func (h *Host) Image(ctx context.Context, name string, f Fetch) (*layers.Image, error) {
	p, err := h.pin(name)
	if err != nil {
		return nil, err
	}
	if f.Policy != PullAlways && f.Policy != PullNewer && !registry.IsArchive(name) {
		img, err := h.local(ctx, name, f, p)
		if err == nil || !errors.Is(err, layers.ErrNotFound) {
			return img, err
		}
		if f.Policy == PullNever && errors.Is(err, errOtherThanLocked) {
			return nil, err
		}
		if f.Policy == PullNever {
			//lint:ignore ST1005 Docker's words, which scripts look for
			return nil, fmt.Errorf("No such image: %s%w", name, errHidden{err})
		}
	}
	pulled, err := h.Pull(ctx, name, f)
	if err != nil && f.Policy == PullNewer {
		if img, here := h.local(ctx, name, f, p); here == nil {
			h.warn("%v: using the image that is here", err)
			return img, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return pulled.Image, nil
}

// local finds an image on this disk that a container may be made of, and unpacks it.
func (h *Host) local(ctx context.Context, name string, f Fetch, p *pin) (*layers.Image, error) {
	img, err := h.here(ctx, name, f, p)
	if err != nil {
		return nil, err
	}
	if err := h.trust(ctx, name, img); err != nil {
		return nil, err
	}
	return h.Images.Ready(ctx, img, layers.AddOptions{Progress: f.Progress})
}

// here finds an image on this disk. One for another platform than was asked for, or with another digest than p has, if
// that is not nil, is as good as none.
func (h *Host) here(ctx context.Context, name string, f Fetch, p *pin) (*layers.Image, error) {
	img, err := h.Images.Lookup(name)
	if isHello(name) && (err != nil || img.Config.Config.Labels[helloLabel] != "" && !isCurrentHello(img)) {
		p, err := h.Pull(ctx, helloName, f)
		if err != nil {
			return nil, err
		}
		return p.Image, nil
	}
	if p != nil && (err == nil || errors.Is(err, layers.ErrNotFound)) {
		img, err = h.pinned(p, img)
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
	return img, nil
}

// Pull brings an image from a registry or an archive into the store, unless the name still means the one that is here.
func (h *Host) Pull(ctx context.Context, name string, f Fetch) (*Pulled, error) {
	p, err := h.pull(ctx, name, f)
	if err == nil {
		h.notePull(p)
	}
	h.KeepBudget() // after one that the disk had no room for, too
	return p, err
}

func (h *Host) pull(ctx context.Context, name string, f Fetch) (*Pulled, error) {
	p, err := h.pin(name)
	if err != nil {
		return nil, err
	}
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
	if h.Offline {
		return h.pullOffline(ctx, name, ref, f, p)
	}
	if p != nil && !f.All {
		if img := h.pinnedHere(ctx, name, f, p); img != nil {
			return &Pulled{Image: img, Ref: ref, Named: p.Digest}, nil
		}
	}
	return h.pullFrom(ctx, ref, f, p)
}

// pullFrom asks the registry: for the bytes that p names, if that is not nil, which get ref's name all the same.
func (h *Host) pullFrom(ctx context.Context, ref registry.Reference, f Fetch, p *pin) (*Pulled, error) {
	platform, err := parsePlatform(f.Platform)
	if err != nil {
		return nil, err
	}
	wanted, err := h.demands(ref)
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", ref.Familiar(), err)
	}
	client, err := h.Client()
	if err != nil {
		return nil, err
	}
	if f.Begin != nil {
		f.Begin(ref)
	}
	from := ref
	if p != nil {
		from.Digest = p.Digest
	} else if !f.All {
		if here := h.upToDate(ctx, client, ref, platform, wanted); here != nil {
			return here, nil
		}
	}
	var img v1.Image
	var index v1.ImageIndex
	if f.All {
		img, index, err = client.PullAll(ctx, from, platform)
	} else {
		img, err = client.Pull(ctx, from, platform)
	}
	if err == nil {
		err = p.check(ref, img)
	}
	if err != nil {
		return nil, err
	}
	return h.add(ctx, ref, img, index, wanted, f)
}

// pullOffline gives the image that is here.
func (h *Host) pullOffline(ctx context.Context, name string, ref registry.Reference, f Fetch, p *pin) (*Pulled, error) {
	img, err := h.local(ctx, name, f, p)
	if errors.Is(err, errOtherThanLocked) {
		return nil, fmt.Errorf("pull %q: --offline forbids to ask the registry: %w", name, err)
	}
	if errors.Is(err, layers.ErrNotFound) {
		return nil, fmt.Errorf("pull %q: not on this disk, and --offline forbids to ask the registry%w", name, errHidden{err})
	}
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: img, Ref: ref, Named: img.Digest}, nil
}

// upToDate asks what the name stands for, and gives the image if that is here, ready to run and signed as is wanted. Whatever
// is in the way shows again, and better, when the image is fetched.
func (h *Host) upToDate(ctx context.Context, client *registry.Client, ref registry.Reference, platform *v1.Platform, wanted []demand) *Pulled {
	here, err := h.Images.Lookup(ref.String())
	if err != nil || here.Layers == nil || !h.Images.Complete(here) {
		return nil
	}
	there, err := client.Resolve(ctx, ref, platform)
	if err != nil || there.Digest.String() != here.Digest {
		return nil
	}
	verified, err := h.Images.Verified(here.Digest)
	if err != nil {
		return nil
	}
	p := &Pulled{Image: here, Ref: ref, Named: there.Digest.String()}
	for _, d := range wanted {
		key, known := d.noted(verified)
		if !known {
			return nil
		}
		p.Signers = append(p.Signers, key)
	}
	return p
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
	wanted, err := h.demands(ref)
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", name, err)
	}
	return h.add(ctx, ref, img, nil, wanted, f)
}

// add verifies an image and adds it under its name, "" for the zero reference.
func (h *Host) add(ctx context.Context, ref registry.Reference, img v1.Image, index v1.ImageIndex, wanted []demand, f Fetch) (*Pulled, error) {
	name := ""
	if ref.Path != "" {
		name = ref.String()
	}
	signers, err := h.verify(ctx, img, wanted)
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", imageWord(ref), err)
	}
	before, _ := h.Images.Lookup(name)
	got, err := h.Images.Add(ctx, name, img, layers.AddOptions{Progress: f.Progress, Index: index})
	if err != nil {
		return nil, err
	}
	if err := h.noteVerified(got, signers); err != nil {
		return nil, err
	}
	named, err := registry.Named(img)
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: got, Ref: ref, Named: named.Digest.String(), Fresh: before == nil || before.Digest != got.Digest, Signers: signers}, nil
}

func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		return nil, nil
	}
	return registry.ParsePlatform(s)
}

// Tag gives the image src one more name.
func (h *Host) Tag(ctx context.Context, src, dst string) error {
	ref, err := registry.ParseReference(dst)
	if err != nil {
		return err
	}
	img, err := h.here(ctx, src, Fetch{}, nil)
	if err != nil {
		return err
	}
	if err := h.Images.Tag(src, ref.String()); err != nil {
		return err
	}
	h.note(Event{Type: "image", Action: "tag", ID: img.ID, Attributes: map[string]string{"name": ref.Familiar()}})
	return nil
}

// Untag takes names away from the image src, or all that it has if there are none. The image stays.
func (h *Host) Untag(src string, names ...string) error {
	img, err := h.Images.Lookup(src)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		list, err := h.Images.List()
		if err != nil {
			return err
		}
		for _, other := range list {
			if other.ID == img.ID && other.Name != "" {
				names = append(names, other.Name)
			}
		}
	}
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return err
		}
		if other, err := h.Images.Lookup(ref.String()); err == nil && other.ID != img.ID {
			return fmt.Errorf("untag %q: it is the name of another image", name)
		}
		if err := h.Images.Untag(ref.String()); err != nil {
			return err
		}
		h.note(Event{Type: "image", Action: "untag", ID: img.ID, Attributes: map[string]string{"name": ref.Familiar()}})
	}
	return nil
}

// notePull notes that an image came, under its name if it has one.
func (h *Host) notePull(p *Pulled) {
	id, name := p.ID, p.ID
	if p.Ref.Path != "" {
		id, name = p.Ref.Familiar(), bare(p.Ref)
	}
	a := mergeLabels(p.Config.Config.Labels, nil)
	a["name"] = name
	h.note(Event{Type: "image", Action: "pull", ID: id, Attributes: a})
}

// bare is a reference's familiar name without tag and digest.
func bare(ref registry.Reference) string {
	ref.Tag, ref.Digest = "", ""
	return ref.Familiar()
}

// RemoveImage takes a name away, and the image if that was its last, as [layers.Store.Remove] does. An image that containers
// were made from stays without a name, and only with force; else the error names one of them.
func (h *Host) RemoveImage(name string, force bool) ([]layers.RemovedLine, error) {
	alone, err := h.HoldImages(true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, layers.ErrNotFound // no root directory, no image
	}
	if err != nil {
		return nil, err
	}
	defer alone.Close()
	users, err := h.ImageUsers()
	if err != nil {
		return nil, err
	}
	return h.removeImage(name, force, users)
}

// removeImage is RemoveImage for somebody who holds the images alone. users are the containers of each image.
func (h *Host) removeImage(name string, force bool, users map[string][]*Container) ([]layers.RemovedLine, error) {
	img, err := h.Images.Lookup(name)
	if err != nil {
		return nil, err
	}
	if err := removable(img, name, force, users[img.ID]); err != nil {
		return nil, err
	}
	lines, err := h.Images.Remove(name, force, slices.Collect(maps.Keys(users))...)
	h.noteRemoved(lines, func(string) string { return img.ID }, func(id string) bool { return id == img.ID })
	if errors.Is(err, layers.ErrInUse) && len(users[img.ID]) > 0 {
		_, short, _ := strings.Cut(img.ID, ":")
		return lines, fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s%w",
			name, ShortID(users[img.ID][0].ID), ShortID(short), errHidden{err})
	}
	return lines, err
}

// removable says, in Docker's words, why an image that was asked for by its ID must not go.
func removable(img *layers.Image, name string, force bool, users []*Container) error {
	if ref, err := registry.ParseReference(name); err == nil && ref.String() == img.Name {
		return nil // it loses a name, see layers.Store.Remove
	}
	_, id, _ := strings.Cut(img.ID, ":")
	for _, c := range users {
		if c.Status.Alive() {
			return fmt.Errorf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", ShortID(id), ShortID(c.ID))
		}
	}
	if !force && len(users) > 0 {
		return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", ShortID(id), ShortID(users[0].ID))
	}
	return nil
}

// noteRemoved notes what is gone, and makes the names familiar ones. id tells what a full name stood for,
// isImage an image's ID from a layer's.
func (h *Host) noteRemoved(lines []layers.RemovedLine, id func(name string) string, isImage func(id string) bool) {
	for i, l := range lines {
		switch {
		case l.Untagged != "":
			if ref, err := registry.ParseReference(l.Untagged); err == nil {
				lines[i].Untagged = ref.Familiar()
			}
			h.note(Event{Type: "image", Action: "untag", ID: id(l.Untagged), Attributes: map[string]string{"name": lines[i].Untagged}})
		case isImage(l.Deleted):
			h.note(Event{Type: "image", Action: "delete", ID: l.Deleted, Attributes: map[string]string{"name": l.Deleted}})
		}
	}
}

// ImageUsers are the containers made from each image, or that have it mounted, by the image's ID.
func (h *Host) ImageUsers() (map[string][]*Container, error) {
	containers, err := h.List()
	if err != nil {
		return nil, err
	}
	users := map[string][]*Container{}
	for _, c := range containers {
		users[c.ImageID] = append(users[c.ImageID], c)
		for _, m := range c.Mounts {
			if m.Image != "" && !slices.Contains(users[m.Image], c) {
				users[m.Image] = append(users[m.Image], c)
			}
		}
	}
	return users, nil
}

// fileStamp tells one build of a file from another.
func fileStamp(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d-%s", st.Size(), st.ModTime().UTC().Format(time.RFC3339Nano))
}
