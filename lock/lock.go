// Package lock reads and writes hull.lock, the file beside somebody's sources that says which bytes the names of images
// stand for, and finds the names of images in the files that start containers: Dockerfiles, compose files, shell scripts.
//
// The file is text, for people who read what a change changes:
//
//	hull.lock 1
//
//	docker.io/library/busybox:1.36 sha256:3fbc…
//		linux/amd64 sha256:023f…
//		linux/arm64/v8 sha256:1cfa…
//
// The digest beside a name is that of its index, or of its manifest if it has no index; below stand the manifests for each
// platform. Names are full ones, sorted, and so are platforms: the same images make the same file.
package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hullrun/hull/internal/given"
	"github.com/hullrun/hull/registry"
)

// Name is what the file is called.
const Name = "hull.lock"

const (
	header = "hull.lock 1"
	// maxSize bounds the file, in bytes: some thousands of images.
	maxSize = 4 << 20
)

// Entry is what one name stands for.
type Entry struct {
	// Digest is that of the index, or of the manifest of an image without one.
	Digest string
	// Platforms are the manifests of images, by platform: "linux/arm64/v8".
	Platforms map[string]string
}

// Allows tells whether the digest of a manifest or an index is one that the entry names.
func (e Entry) Allows(digest string) bool {
	if digest == e.Digest {
		return true
	}
	for _, d := range e.Platforms {
		if d == digest {
			return true
		}
	}
	return false
}

// File is a hull.lock in memory.
type File struct {
	// Path is where it is, or will be.
	Path string
	// Entries are by full name, which has a tag and no digest: "docker.io/library/busybox:1.36".
	Entries map[string]Entry
}

// Find looks for the file in the directory dir, and then in those above it up to the root of the git work tree that dir is
// in; "" means that there is none. dir is absolute. One that a stranger has put into a folder where anybody may write
// does not count, and warn hears of it.
func Find(dir string, warn func(format string, a ...any)) string {
	found := ""
	for at := dir; ; at = filepath.Dir(at) {
		if path := filepath.Join(at, Name); found == "" && trusted(path, warn) {
			found = path
		}
		if found != "" && at == dir {
			return found
		}
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return found
		}
		if at == filepath.Dir(at) {
			return "" // what was found is of no work tree
		}
	}
}

// trusted tells whether there is a file, and whether it can be by somebody whom the caller trusts.
func trusted(path string, warn func(format string, a ...any)) bool {
	file, err := os.Lstat(path)
	if err != nil {
		return false
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode().Perm()&0o002 == 0 {
		return err == nil
	}
	st, ok := file.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		warn("%s: not heeded: it belongs to user %d, in a directory where anybody may write", path, st.Uid)
		return false
	}
	return true
}

// Read reads the file at path. An error about what is in it names the line.
func Read(path string) (*File, error) {
	data, err := given.ReadFile(path, maxSize)
	if err != nil {
		return nil, err
	}
	f := &File{Path: path}
	if err := f.parse(string(data)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// ReadOrNew is Read, or an empty file if there is none.
func ReadOrNew(path string) (*File, error) {
	f, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{Path: path, Entries: map[string]Entry{}}, nil
	}
	return f, err
}

func (f *File) parse(text string) error {
	f.Entries = map[string]Entry{}
	last := "" // the name that platforms belong to
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		var err error
		switch {
		case n == 1:
			err = parseHeader(line)
		case line == "":
		case line[0] == '\t' || line[0] == ' ':
			err = f.parsePlatform(last, strings.Fields(line))
		default:
			last, err = f.parseName(strings.Fields(line))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if n == 0 {
		return errors.New("line 1: it is empty, want " + header)
	}
	return nil
}

func parseHeader(line string) error {
	if version, ok := strings.CutPrefix(line, "hull.lock "); ok && line != header {
		return fmt.Errorf("version %q of the format is not known to this hull, which knows 1", version)
	}
	if line != header {
		return fmt.Errorf("%q: want %q", short(line), header)
	}
	return nil
}

func (f *File) parseName(words []string) (string, error) {
	if len(words) != 2 {
		return "", fmt.Errorf("%q: want NAME:TAG sha256:DIGEST", short(strings.Join(words, " ")))
	}
	ref, err := registry.ParseReference(words[0])
	if err != nil {
		return "", err
	}
	switch {
	case ref.String() != words[0] || ref.Digest != "":
		return "", fmt.Errorf("%q: want a full name with a tag and no digest, as in docker.io/library/busybox:1.36", short(words[0]))
	case !isDigest(words[1]):
		return "", fmt.Errorf("%q: want sha256: and 64 hexadecimal digits", short(words[1]))
	}
	if _, twice := f.Entries[words[0]]; twice {
		return "", fmt.Errorf("%s stands there twice", words[0])
	}
	f.Entries[words[0]] = Entry{Digest: words[1], Platforms: map[string]string{}}
	return words[0], nil
}

func (f *File) parsePlatform(name string, words []string) error {
	switch {
	case len(words) != 2:
		return fmt.Errorf("%q: want OS/ARCH[/VARIANT] sha256:DIGEST", short(strings.Join(words, " ")))
	case name == "":
		return fmt.Errorf("platform %q of no image", short(words[0]))
	case !isDigest(words[1]):
		return fmt.Errorf("%q: want sha256: and 64 hexadecimal digits", short(words[1]))
	}
	platforms := f.Entries[name].Platforms
	if platforms[words[0]] != "" {
		return fmt.Errorf("platform %q stands there twice", short(words[0]))
	}
	platforms[words[0]] = words[1]
	return nil
}

// short is what an error shows of a line.
func short(s string) string {
	if runes := []rune(s); len(runes) > 80 {
		return string(runes[:80]) + "…"
	}
	return s
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// String is the file's text.
func (f *File) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, header)
	for _, name := range slices.Sorted(maps.Keys(f.Entries)) {
		e := f.Entries[name]
		fmt.Fprintf(&b, "\n%s %s\n", name, e.Digest)
		for _, platform := range slices.Sorted(maps.Keys(e.Platforms)) {
			fmt.Fprintf(&b, "\t%s %s\n", platform, e.Platforms[platform])
		}
	}
	return b.String()
}

// Write puts the file in place, whole or not at all. What is there keeps its mode; a symbolic link stays one.
func (f *File) Write() error {
	path, mode := f.Path, fs.FileMode(0o644)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+Name+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	_, err = tmp.WriteString(f.String())
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}
