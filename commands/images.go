package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hullrun/hull/layers"
	"github.com/hullrun/hull/registry"
	"github.com/hullrun/hull/run"
)

// host opens what is below the root directory.
func (s *session) host() (*run.Host, error) {
	h, err := run.Open(s.root)
	if err != nil {
		return nil, err
	}
	h.DockerConfig = s.config
	h.Offline = asked(s.offline, "HULL_OFFLINE")
	h.Locked = asked(s.locked, "HULL_LOCKED")
	if h.Dir, err = os.Getwd(); err != nil && h.Locked {
		return nil, fmt.Errorf("--locked: where am I? %w", err)
	}
	h.Warn = func(line string) { s.warn("%s", line) }
	for _, name := range s.verify {
		key, err := registry.ReadKey(name)
		if err != nil {
			return nil, err
		}
		h.Verify = append(h.Verify, key)
	}
	return h, nil
}

// noSuchImage is an image that is not here in the words that scripts look for; any other error stays.
func noSuchImage(name string, err error) error {
	if errors.Is(err, layers.ErrNotFound) {
		return noSuch{"image", name, err}
	}
	return err
}

// noSuch says that something is not here, in the words that scripts look for.
type noSuch struct {
	kind, name string
	cause      error
}

func (e noSuch) Error() string { return "No such " + e.kind + ": " + e.name }
func (e noSuch) Unwrap() error { return e.cause }

// shortImage is an image ID as lists show it.
func shortImage(id string, whole bool) string {
	if whole {
		return id
	}
	return shortDigest(id)
}

// imageRow is one name of an image. Without a name both its parts are "<none>".
type imageRow struct {
	*layers.Image
	repository, tag string
	containers      int
	// What its layers and blobs share with other images', and have alone; "N/A" where nobody has asked.
	shared, unique string
}

const none = "<none>"

// imageRows gives all images that list does, the newest first.
func imageRows(h *run.Host, list func() ([]*layers.Image, error)) ([]imageRow, error) {
	images, err := list()
	if err != nil {
		return nil, err
	}
	users, err := h.ImageUsers()
	if err != nil {
		return nil, err
	}
	rows := make([]imageRow, len(images))
	for i, img := range images {
		rows[i] = imageRow{img, none, none, len(users[img.ID]), "N/A", "N/A"}
		if ref, err := registry.ParseReference(img.Name); err == nil && img.Name != "" {
			rows[i].repository, rows[i].tag = repositoryOf(ref), cmp.Or(ref.Tag, none)
		}
	}
	slices.SortStableFunc(rows, func(a, b imageRow) int { return b.Created.Compare(a.Created) })
	return rows, nil
}

// repositoryOf is a reference's familiar name without tag and digest.
func repositoryOf(ref registry.Reference) string {
	ref.Tag, ref.Digest = "", ""
	return ref.Familiar()
}

func imageListing(whole, digests bool) listing[imageRow] {
	now := time.Now()
	shown := "Repository Tag ID CreatedSince Size"
	if digests {
		shown = "Repository Tag Digest ID CreatedSince Size"
	}
	size := func(r imageRow) string { return diskSize(r.Size) }
	return listing[imageRow]{
		shown: shown, quiet: "ID",
		columns: []column[imageRow]{
			{"Repository", "REPOSITORY", func(r imageRow) string { return r.repository }},
			{"Tag", "TAG", func(r imageRow) string { return r.tag }},
			{"Digest", "DIGEST", func(r imageRow) string { return r.Digest }},
			{"ID", "IMAGE ID", func(r imageRow) string { return shortImage(r.ID, whole) }},
			{"CreatedSince", "CREATED", func(r imageRow) string { return ago(r.Created, now) }},
			{"CreatedAt", "CREATED AT", func(r imageRow) string { return timestamp(r.Created) }},
			{"Size", "SIZE", size}, {"VirtualSize", "SIZE", size},
			{"Containers", "CONTAINERS", func(r imageRow) string { return fmt.Sprint(r.containers) }},
			{"SharedSize", "SHARED SIZE", func(r imageRow) string { return r.shared }},
			{"UniqueSize", "UNIQUE SIZE", func(r imageRow) string { return r.unique }},
		},
	}
}

func imagesCommand(s *session) ([]*option, action) {
	var l listFlags
	var all, digests, whole, tree bool
	flags := append(l.options(),
		toggle(&all, "all,a", "show all images (those without a name are shown anyway)"),
		toggle(&digests, "digests", "show digests"), toggle(&whole, "no-trunc", "show whole IDs"),
		toggle(&tree, "tree", "show images with all their names, and what they are"))
	return flags, func(_ context.Context, args []string) error {
		if tree && (l.quiet || l.format != "" || digests || whole) {
			return errors.New("--tree cannot be combined with --quiet, --format, --digests or --no-trunc")
		}
		if l.format == "" && !l.quiet && !digests {
			l.format = s.preferences().ImagesFormat
		}
		h, err := s.host()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			l.all = append(l.all, "reference="+args[0])
		}
		f, err := parseFilters(l.all, "dangling", "label", "before", "since", "reference", "until")
		if err != nil {
			return err
		}
		list := h.Images.Brief
		if f["label"] != nil {
			list = h.Images.List
		}
		rows, err := imageRows(h, list)
		if err != nil {
			return err
		}
		if rows, err = filterImages(h, rows, f); err != nil {
			return err
		}
		if tree {
			return s.printTree(imageTree(h, rows))
		}
		listing := imageListing(whole, digests)
		return listing.print(s.out, l.format, l.quiet, rows)
	}
}

// filterImages keeps the rows that all filters let pass.
func filterImages(h *run.Host, rows []imageRow, f filters) ([]imageRow, error) {
	passes := []func(imageRow) bool{
		func(r imageRow) bool { return f.match("reference", r.matches) },
	}
	if f["label"] != nil {
		passes = append(passes, func(r imageRow) bool { return f.matchLabels(r.Config.Config.Labels) })
	}
	for _, value := range f["dangling"] {
		want, err := parseBoolFilter("dangling", value)
		if err != nil {
			return nil, err
		}
		passes = append(passes, func(r imageRow) bool { return (r.Name == "") == want })
	}
	for _, key := range []string{"before", "since", "until"} {
		pass, err := imageAge(h, key, f[key])
		if err != nil {
			return nil, err
		}
		passes = append(passes, pass)
	}
	return slices.DeleteFunc(rows, func(r imageRow) bool {
		return slices.ContainsFunc(passes, func(pass func(imageRow) bool) bool { return !pass(r) })
	}), nil
}

// imageAge compares the age of images: before and since name another image, until a time. Several values are alternatives.
func imageAge(h *run.Host, key string, values []string) (func(imageRow) bool, error) {
	var times []time.Time
	for _, value := range values {
		t, err := run.ParseTime(value, time.Now())
		if key != "until" {
			var img *layers.Image
			if img, err = h.Images.Lookup(value); err == nil {
				t = img.Created
			}
		}
		if err != nil {
			return nil, fmt.Errorf("filter %q: %w", key+"="+value, noSuchImage(value, err))
		}
		times = append(times, t)
	}
	return func(r imageRow) bool {
		return len(times) == 0 || slices.ContainsFunc(times, func(t time.Time) bool {
			if key == "since" {
				return r.Created.After(t)
			}
			return r.Created.Before(t)
		})
	}, nil
}

// matches tells whether a pattern of path.Match fits the image's name, short or full, with its tag or without.
func (r imageRow) matches(pattern string) bool {
	full, _, _ := strings.Cut(r.Name, "@")
	fullRepository := strings.TrimSuffix(full, ":"+r.tag)
	for _, name := range []string{r.repository, r.repository + ":" + r.tag, fullRepository, full} {
		if ok, err := path.Match(pattern, name); ok && err == nil && r.Name != "" {
			return true
		}
	}
	return false
}
