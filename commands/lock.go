package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/lock"
	"github.com/hullrun/hull/registry"
)

func lockCommand(s *session) ([]*option, action) {
	var check bool
	flags := []*option{
		toggle(&check, "check", "change nothing; say which names mean something else by now (exit status 1)"),
	}
	return flags, func(ctx context.Context, args []string) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		h, err := s.host()
		if err != nil {
			return err
		}
		if h.Offline {
			return errors.New("lock: asks registries, which --offline forbids")
		}
		f, err := s.lockFile(h.Dir)
		if err != nil {
			return err
		}
		names, err := s.toLock(f, args)
		if err != nil {
			return err
		}
		client, err := h.Client()
		if err != nil {
			return err
		}
		if check {
			return s.checkLock(ctx, f, client, names)
		}
		return s.writeLock(ctx, f, client, names)
	}
}

// lockFile is the file that counts in a directory, or a new one there.
func (s *session) lockFile(dir string) (*lock.File, error) {
	if dir == "" {
		return nil, errors.New("lock: the working directory is gone")
	}
	path := lock.Find(dir, s.warn)
	if path == "" {
		path = filepath.Join(dir, lock.Name)
	}
	return lock.ReadOrNew(path)
}

// lockName is an image to be locked, and where its name stands, "" for the command line.
type lockName struct {
	registry.Reference
	where string
}

// toLock reads what the words of the command line name, each image once: files, images, or without words all that is locked.
func (s *session) toLock(f *lock.File, args []string) ([]lockName, error) {
	var names []lockName
	if len(args) == 0 {
		if len(f.Entries) == 0 {
			return nil, usageError("lock: nothing is locked yet: want a script, a Dockerfile, a compose file or an image's name")
		}
		args = slices.Sorted(maps.Keys(f.Entries))
	}
	add := func(image, where string) error {
		if registry.IsArchive(image) {
			return fmt.Errorf("lock %q: an archive has no name at a registry", image)
		}
		ref, err := registry.ParseReference(image)
		switch {
		case err != nil:
		case ref.Digest == "" && !slices.ContainsFunc(names, func(n lockName) bool { return n.Reference == ref }):
			names = append(names, lockName{ref, where})
		}
		return err
	}
	for _, arg := range args {
		uses, err := s.usesIn(arg)
		if errors.Is(err, errNoFile) {
			if err := add(arg, ""); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, u := range uses {
			where := fmt.Sprintf("%s:%d: ", arg, u.Line)
			if u.Why == "" && u.Image == "hello" {
				u.Why = "hello: made of hull itself"
			}
			if u.Why == "" {
				if err := add(u.Image, where); err != nil {
					u.Why = err.Error()
				}
			}
			if u.Why != "" {
				fmt.Fprintf(s.err, "%snot locked: %s\n", where, prose(u.Why))
			}
		}
	}
	return names, nil
}

// errNoFile says that a word must be an image's name.
var errNoFile = errors.New("no file")

// usesIn reads a file.
func (s *session) usesIn(path string) ([]lock.Use, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() || errors.Is(err, fs.ErrNotExist) {
		if path == "" || path[0] != '/' && path[0] != '.' {
			return nil, errNoFile
		}
		if err == nil {
			err = fmt.Errorf("lock %q: it is a directory; want a file or an image's name", path)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	data, err := given.ReadFile(path, given.Limit)
	if err != nil {
		return nil, err
	}
	switch text := string(data); lock.KindOf(path, text) {
	case lock.Dockerfile:
		return lock.ScanDockerfile(text), nil
	case lock.Compose:
		env, err := dotenv(filepath.Dir(path), text)
		return lock.ScanCompose(text, env), err
	default:
		return s.scriptUses(text), nil
	}
}

// dotenv reads the .env file of the project in a folder, if its compose file has variables. The caller's environment, which compose
// asks first, is left out: the same files are to give the same lock, wherever that is written.
func dotenv(folder, text string) (map[string]string, error) {
	path := filepath.Join(folder, ".env")
	if info, err := os.Stat(path); !strings.Contains(text, "$") || err != nil || info.IsDir() {
		return nil, nil
	}
	data, err := given.ReadFile(path, given.Limit)
	if err != nil {
		return nil, err
	}
	env, err := lock.ParseDotenv(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return env, nil
}

// writeLock looks each name up and writes what was found, even if another name was not.
func (s *session) writeLock(ctx context.Context, f *lock.File, client *registry.Client, names []lockName) error {
	var failed []error
	for _, n := range names {
		d, platforms, err := client.Platforms(ctx, n.Reference)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s%w", n.where, err))
			continue
		}
		before, known := f.Entries[n.String()]
		now := lock.Entry{Digest: d.Digest.String(), Platforms: platforms}
		f.Entries[n.String()] = now
		switch {
		case !known:
			fmt.Fprintf(s.out, "%s: %s\n", n.Familiar(), now.Digest)
		case before.Digest != now.Digest:
			fmt.Fprintf(s.out, "%s: %s, was %s\n", n.Familiar(), now.Digest, before.Digest)
		default:
			fmt.Fprintf(s.out, "%s: as before\n", n.Familiar())
		}
	}
	if ctx.Err() != nil {
		return &ExitError{Code: 130, Err: errors.New("lock: interrupted, nothing is written")}
	}
	if len(failed) < len(names) {
		if err := f.Write(); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// checkLock compares what is locked with what the registries have now. The status is 1 if that is not the same.
func (s *session) checkLock(ctx context.Context, f *lock.File, client *registry.Client, names []lockName) error {
	var failed []error
	differ := false
	for _, n := range names {
		entry, known := f.Entries[n.String()]
		if !known {
			fmt.Fprintf(s.out, "%s%s: not in %s\n", n.where, n.Familiar(), f.Path)
			differ = true
			continue
		}
		d, err := client.Head(ctx, n.Reference)
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("%s%w", n.where, err))
		case d.Digest.String() != entry.Digest:
			fmt.Fprintf(s.out, "%s%s: %s is locked, the registry has %s\n", n.where, n.Familiar(), entry.Digest, d.Digest)
			differ = true
		}
	}
	if len(failed) == 0 && differ {
		return &ExitError{Code: exitFailed}
	}
	return errors.Join(failed...)
}
